/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random transactions of random edits, on the tree and on the plain mappings of two address spaces, against
 * the simple model: every edit answers as the model says, every byte that is looked at is what the model
 * says, flattening the windows gives what flattening everything gives (RG3), an aborted transaction leaves
 * what was before, failing allocations change nothing, and regions are released when the model has no reason
 * for them any more.
 *
 * GPAMAP_TEST_SEED: seed. GPAMAP_TEST_TXNS: transactions.
 */
#include "oracle.h"

#define DEFAULT_TXNS 110000

static struct model before;
static bool open_txn;
static bool released[MODEL_REGIONS];
static unsigned long committed, aborted, refused, failed_allocs;

/* ------------------------------------------------------------------------------ random --- */

static int pick(void)
{
	for (;;) {
		int i = (int)rnd(MODEL_REGIONS);

		if (now.r[i].used)
			return i;
	}
}

static int pick_kind(enum gpamap_kind kind)
{
	int i = pick();

	for (int tries = 0; tries < 8 && now.r[i].kind != kind; tries++)
		i = pick();
	return i;
}

/* One that @fits, if it's easily found. */
static int pick_that(bool (*fits)(const struct mregion *r))
{
	int i = pick();

	for (int tries = 0; tries < 8 && !fits(&now.r[i]); tries++)
		i = pick();
	return i;
}

static bool has_no_place(const struct mregion *r)
{
	return r->parent < 0;
}

static bool is_resizable(const struct mregion *r)
{
	return r->max_size != 0;
}

static uint64_t random_size(enum gpamap_kind kind)
{
	if (chance(40) && kind != GPAMAP_RAM && kind != GPAMAP_ROM_DEVICE)
		return UINT64_MAX;
	if (kind == GPAMAP_MMIO && chance(2))
		return 1 + rnd(pages(4));
	return pages(1 + rnd(chance(3) ? 40 : 8));
}

static uint64_t random_offset(int parent, enum gpamap_kind child)
{
	uint64_t base = parent < MODEL_SPACES ? model_base((unsigned)parent) : 0;
	uint64_t odd = child == GPAMAP_MMIO && chance(2) ? rnd(PAGE / GRANULE) * GRANULE : 0;

	if (chance(200))
		return pages(rnd(64)) - pages(32);
	if (chance(100))
		return base + 1 + rnd(PAGE);
	return base + pages(rnd(parent < MODEL_SPACES ? 60 : 24)) + odd;
}

static uint64_t random_hva(void)
{
	return pages(0x100 + rnd(0x1000000));
}

/* ------------------------------------------------------------------------------- edits --- */

enum verb {
	ADD,
	REMOVE,
	MOVE,
	PRIORITY,
	RESIZE,
	ENABLED,
	READONLY,
	REBACK,
	TARGET_OFFSET,
	ROM_MODE,
	LOG,
	MAP,
	MAP_REGION,
	UNMAP,
	PROTECT,
	VERBS
};

struct op {
	enum verb verb;
	int a, b;
	uint64_t x;
	int priority;
	bool on;
	unsigned space, page, n;
	enum gpamap_prot prot;
};

static int by_model(const struct op *o)
{
	struct model *m = &now;

	switch (o->verb) {
	case ADD:
		return model_add(m, o->b, o->x, o->a, o->priority);
	case REMOVE:
		return model_remove(m, o->a);
	case MOVE:
		return model_move(m, o->a, o->x);
	case PRIORITY:
		return model_priority(m, o->a, o->priority);
	case RESIZE:
		return model_resize(m, o->a, o->x);
	case ENABLED:
		return model_enabled(m, o->a, o->on);
	case READONLY:
		return model_readonly(m, o->a, o->on);
	case REBACK:
		return model_reback(m, o->a, o->x);
	case TARGET_OFFSET:
		return model_target_offset(m, o->a, o->x);
	case ROM_MODE:
		return model_rom_mode(m, o->a, o->on);
	case LOG:
		return model_log(m, o->a, o->on);
	case MAP:
		return model_map(m, o->space, o->page, o->n, o->x, o->prot);
	case MAP_REGION:
		return model_map_region(m, o->space, o->page, o->n, o->a, o->x, o->prot);
	case UNMAP:
		return model_unmap(m, o->space, o->page, o->n);
	default:
		return model_protect(m, o->space, o->page, o->n, o->prot);
	}
}

static int by_library(const struct op *o)
{
	struct gm_map *m = &env.map;
	struct gpamap_region *a = ptr[o->a];
	uint64_t gpa = model_base(o->space) + pages(o->page), size = pages(o->n);
	struct gm_msg *msg = &env.msg;

	switch (o->verb) {
	case ADD:
		return gm_edit_add(m, ptr[o->b], o->x, a, o->priority, msg);
	case REMOVE:
		return gm_edit_remove(m, a, msg);
	case MOVE:
		return gm_edit_move(m, a, o->x, msg);
	case PRIORITY:
		return gm_edit_priority(m, a, o->priority, msg);
	case RESIZE:
		return gm_edit_resize(m, a, o->x, msg);
	case ENABLED:
		return gm_edit_enabled(m, a, o->on, msg);
	case READONLY:
		return gm_edit_readonly(m, a, o->on, msg);
	case REBACK:
		return gm_edit_reback(m, a, (void *)(uintptr_t)o->x, msg);
	case TARGET_OFFSET:
		return gm_edit_target_offset(m, a, o->x, msg);
	case ROM_MODE:
		return gm_edit_rom_mode(m, a, o->on, msg);
	case LOG:
		return gm_edit_log(m, a, o->on, msg);
	case MAP:
		return gm_ranges_map(m, o->space, gpa, size, (void *)(uintptr_t)o->x, o->prot, msg);
	case MAP_REGION:
		return gm_ranges_map_region(m, o->space, gpa, size, a, o->x, o->prot, msg);
	case UNMAP:
		return gm_ranges_unmap(m, o->space, gpa, size, msg);
	default:
		return gm_ranges_protect(m, o->space, gpa, size, o->prot, msg);
	}
}

static void choose_place(struct op *o)
{
	o->b = pick_kind(GPAMAP_CONTAINER);
	if (chance(3))
		o->b = (int)rnd(SPACES);
	if (o->verb == MOVE)
		o->b = now.r[o->a].parent >= 0 ? now.r[o->a].parent : 0;
	o->x = random_offset(o->b, now.r[o->a].kind);
}

static struct op random_op(void)
{
	/* Some verbs are more common than others: regions shall mostly have a place. */
	static const enum verb verbs[] = {ADD,	  ADD, ADD,	   REMOVE, MOVE,
					  RESIZE, MAP, MAP_REGION, PROTECT};
	static const enum gpamap_kind kinds[VERBS] = {
		[REBACK] = GPAMAP_RAM,		[TARGET_OFFSET] = GPAMAP_ALIAS,
		[ROM_MODE] = GPAMAP_ROM_DEVICE, [LOG] = GPAMAP_RAM,
		[MAP_REGION] = GPAMAP_RAM,
	};
	struct op o = {
		.verb = chance(2) ? (enum verb)rnd(VERBS)
				  : verbs[rnd(sizeof(verbs) / sizeof(*verbs))],
		.priority = (int)rnd(3) - 1,
		/* Plain mappings hide the tree: they shall be common in one space only. */
		.space = !chance(8),
		.page = (unsigned)rnd(MODEL_PAGES),
		.prot = (enum gpamap_prot)(GPAMAP_RW + rnd(3)),
	};

	o.a = kinds[o.verb] ? pick_kind(kinds[o.verb]) : pick();
	if (o.verb == ADD && !chance(10))
		o.a = pick_that(has_no_place);
	if (o.verb == RESIZE && !chance(10))
		o.a = pick_that(is_resizable);
	o.on = !chance(o.verb == ENABLED ? 4 : 2);
	o.n = 1 + (unsigned)rnd(chance(3) && o.verb != MAP_REGION ? MODEL_PAGES : 4);
	if (o.n > MODEL_PAGES - o.page)
		o.n = MODEL_PAGES - o.page;
	if (o.verb == ADD || o.verb == MOVE)
		choose_place(&o);
	else if (o.verb == RESIZE)
		o.x = chance(20) ? rnd(PAGE) : random_size(now.r[o.a].kind);
	else if (o.verb == REBACK || o.verb == MAP)
		o.x = random_hva();
	else if (o.verb == TARGET_OFFSET || o.verb == MAP_REGION)
		o.x = pages(rnd(o.verb == MAP_REGION ? 8 : 24)) + (chance(50) ? 1 : 0);
	return o;
}

/* Let each of its allocations fail, one after the other: nothing may change. */
static int with_failures(const struct op *o)
{
	env.mem.for_good = chance(2);
	for (size_t n = 1;; n++) {
		int err;

		env.msg.text[0] = '\0';
		fail_nth(&env, n);
		err = by_library(o);
		if (env.mem.calls < n) {
			fail_nth(&env, 0);
			return err;
		}
		fail_nth(&env, 0);
		/* An array that can't grow as it likes makes do with less, so success is no fault. */
		if (err != -ENOMEM)
			return err;
		failed_allocs++;
		assert_true(env.msg.text[0]);
		check_all();
	}
}

static void edit(void)
{
	struct op o = random_op();
	int got, want;

	env.msg.text[0] = '\0';
	got = chance(250) ? with_failures(&o) : by_library(&o);
	want = by_model(&o);
	if (got != want)
		fail_msg("verb %d on %d: %d (%s), not %d", o.verb, o.a, got, env.msg.text, want);
	assert_int_equal(got != 0, env.msg.text[0] != '\0');
}

/* ----------------------------------------------------------------------- life and death --- */

static void on_release(void *opaque)
{
	bool *flag = opaque;

	assert_false(*flag);
	*flag = true;
}

static void bury(void)
{
	bool had[MODEL_REGIONS];

	for (int i = 0; i < MODEL_REGIONS; i++)
		had[i] = now.r[i].used;
	model_bury(&now, open_txn ? &before : NULL);
	reap(&env);
	for (int i = 0; i < MODEL_REGIONS; i++) {
		if (released[i] != (had[i] && !now.r[i].used))
			fail_msg("region %d was%s released", i, released[i] ? "" : " not");
		released[i] = false;
	}
}

static void new_alias(struct mregion *r, struct gpamap_region_desc *d)
{
	r->target = pick();
	/* Regions that show in several places are what marking has most to do with. */
	if (chance(2))
		r->target = now.r[pick_kind(GPAMAP_ALIAS)].target;
	if (r->target < 0 || !now.r[r->target].used)
		r->target = pick();
	r->target_offset = pages(rnd(24));
	if (r->target < MODEL_SPACES && r->size != UINT64_MAX)
		r->target_offset = model_base((unsigned)r->target) + pages(rnd(24));
	if (r->size == UINT64_MAX)
		r->target_offset = 0;
	d->target = ptr[r->target];
	d->target_offset = r->target_offset;
}

static void new_memory(struct mregion *r, struct gpamap_region_desc *d)
{
	r->hva = random_hva();
	d->hva = (void *)(uintptr_t)r->hva;
	r->rom_mode = r->kind == GPAMAP_ROM_DEVICE;
	if (r->kind != GPAMAP_RAM || r->readonly || !chance(12))
		return;
	r->guest_memfd = true;
	r->gmem_offset = pages(rnd(100));
	d->flags |= GPAMAP_GUEST_MEMFD;
	d->guest_memfd = 7;
	d->guest_memfd_offset = r->gmem_offset;
}

static void new_region(void)
{
	struct gpamap_region_desc d = {.name = "random", .release = on_release};
	struct mregion r = {
		.used = true, .handle = true, .enabled = true, .parent = -1, .target = -1};
	int i = MODEL_SPACES + (int)rnd(MODEL_REGIONS - MODEL_SPACES);

	if (now.r[i].used)
		return;
	r.kind = d.kind = chance(4) ? GPAMAP_ALIAS : (enum gpamap_kind)(GPAMAP_CONTAINER + rnd(5));
	r.size = d.size = random_size(r.kind);
	r.readonly = chance(10);
	r.unmergeable = chance(10);
	d.flags = (r.readonly ? GPAMAP_READONLY : 0) | (r.unmergeable ? GPAMAP_UNMERGEABLE : 0);
	if (r.size != UINT64_MAX && chance(2))
		r.max_size = d.max_size = r.size + pages(rnd(20));
	d.opaque = &released[i];
	if (r.kind == GPAMAP_ALIAS)
		new_alias(&r, &d);
	if (r.kind == GPAMAP_RAM || r.kind == GPAMAP_ROM_DEVICE)
		new_memory(&r, &d);
	ok(&env, gm_region_new(&env.map, &d, &env.msg, &ptr[i]));
	now.r[i] = before.r[i] = r;
}

static void put_handle(void)
{
	int i = pick();

	if (i < MODEL_SPACES || !now.r[i].handle)
		return;
	now.r[i].handle = before.r[i].handle = false;
	gm_region_unref(ptr[i]);
	bury();
}

static void get_handle(void)
{
	int i = pick();

	if (now.r[i].handle)
		return;
	now.r[i].handle = before.r[i].handle = true;
	gm_region_ref(ptr[i]);
}

/* ------------------------------------------------------------------------ transactions --- */

/* Flatten, now and then with each allocation failing in turn. */
static int flatten_again(unsigned space)
{
	bool faults = chance(400);
	int err = -ENOMEM;

	env.mem.for_good = chance(2);
	for (size_t n = 1; faults && err == -ENOMEM; n++) {
		fail_nth(&env, n);
		err = flatten_windows(&env, space);
		fail_nth(&env, 0);
		if (err == -ENOMEM) {
			failed_allocs++;
			gm_tree_abort(&env.view[space]);
		}
	}
	return faults ? err : flatten_windows(&env, space);
}

/* True: the transaction can be committed. */
static bool check_space(unsigned space)
{
	struct gm_tree *view = &env.view[space];
	struct gm_tree all;
	int err = flatten_again(space);

	assert_int_equal(flatten_all(&env, space, &all), err);
	if (!err) {
		compare_view(view->root, space);
		assert_true(same_view(view->root, all.root));
		check_segments(view->root);
	}
	gm_tree_destroy(&all);
	if (err)
		assert_int_equal(err, -EPERM);
	return !err;
}

static void end_txn(bool keep)
{
	for (unsigned s = 0; s < SPACES; s++) {
		if (keep)
			end_view(&env.view[s]);
		else
			gm_tree_abort(&env.view[s]);
	}
	if (keep) {
		gm_edits_commit(&env.map);
		committed++;
	} else {
		gm_edits_abort(&env.map);
		now = before;
		aborted++;
	}
	for (int i = 0; i < MODEL_REGIONS; i++)
		now.r[i].touched = false;
	open_txn = false;
	assert_null(env.map.touched);
	bury();
}

/* After an abort: flattening everything gives what the committed views have. */
static void check_unchanged(void)
{
	for (unsigned s = 0; s < SPACES; s++) {
		struct gm_tree all;

		ok(&env, flatten_all(&env, s, &all));
		assert_true(same_view(env.view[s].root, all.root));
		gm_tree_destroy(&all);
		assert_int_equal(env.map.spaces[s].windows.n, 0);
	}
}

static void transaction(void)
{
	bool can = true, keep;

	if (chance(2))
		new_region();
	before = now;
	open_txn = true;
	for (uint64_t n = 1 + rnd(chance(4) ? 12 : 4); n; n--) {
		edit();
		if (chance(12))
			new_region();
		if (chance(6))
			put_handle();
		if (chance(24))
			get_handle();
	}
	for (unsigned s = 0; s < SPACES; s++)
		can = check_space(s) && can;
	refused += !can;
	keep = can && !chance(4);
	end_txn(keep);
	if (!keep)
		check_unchanged();
	if (chance(32)) {
		check_places();
		check_pieces();
	}
}

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
	const char *s = getenv(variable);

	return s && *s ? strtoull(s, NULL, 0) : otherwise;
}

static void random_transactions(void **state)
{
	uint64_t seed = number_of("GPAMAP_TEST_SEED", UINT64_C(20240229));
	uint64_t n = number_of("GPAMAP_TEST_TXNS", DEFAULT_TXNS);

	(void)state;
	rng = seed;
	printf("GPAMAP_TEST_SEED=%llu GPAMAP_TEST_TXNS=%llu\n", (unsigned long long)seed,
	       (unsigned long long)n);
	env_init(&env);
	model_init(&now);
	for (unsigned s = 0; s < SPACES; s++)
		ptr[s] = root(&env, s);
	for (uint64_t i = 0; i < n; i++)
		transaction();
	printf("%lu committed, %lu aborted (%lu of them couldn't be flattened), %lu allocations "
	       "failed\n",
	       committed, aborted, refused, failed_allocs);
	assert_true(n < 1000 || (committed && aborted && refused && failed_allocs));
	for (int i = MODEL_SPACES; i < MODEL_REGIONS; i++) {
		if (now.r[i].used && now.r[i].handle)
			gm_region_unref(ptr[i]);
	}
	env_destroy(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(random_transactions)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
