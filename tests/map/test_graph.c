/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random graphs of containers and aliases, deep ones and doubled ones among them, against a look-up page by page:
 * each page is what the look-up says, pages that an edit changes are in its windows (RG3), and neither marking nor
 * flattening takes more than it may, however many ways there are.
 *
 * The look-up remembers what it has found at each page of each region: so it is quick where ways are many, too. It reads
 * the regions' own state; that edits bring about the right state is tested in test_oracle.c.
 *
 * GPAMAP_TEST_SEED: seed. GPAMAP_TEST_GRAPHS: graphs.
 */
#include "fixture.h"
#include "map/mark.h"

#define DEFAULT_GRAPHS 600
#define REGIONS 110 /* of a graph; the first is the root of space 0, the second that of space 1 */
#define PAGES 48    /* of each space that are looked at */
#define MEMO_PAGES 128 /* of each region for which it is remembered what was found */

#define QUESTIONS_MOST \
	(4 * (GM_FLATTEN_LOOKS + GM_FLATTEN_LOOKS_PER_REGION * REGIONS + 2 * PAGES) / 64)

struct found {
	struct gpamap_region *region; /* NULL: nothing */
	uint64_t page;		      /* of it */
	bool readonly;
	uint64_t group;
};

static struct env env;
static struct gpamap_region *region[REGIONS];
static int nr_regions;
static int lowest; /* of the tower */
static struct found memo[REGIONS][MEMO_PAGES];
static bool known[REGIONS][MEMO_PAGES];
static struct found before[SPACES][PAGES];
static unsigned long asked;
static unsigned long flattened, too_many, too_deep, cycles, wide;
static uint64_t rng;

static uint64_t rnd(uint64_t n)
{
	uint64_t x;

	rng += UINT64_C(0x9e3779b97f4a7c15);
	x = rng;
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return x % n;
}

static bool chance(unsigned one_in)
{
	return rnd(one_in) == 0;
}

/* ---------------------------------------------------------------------------- look-up --- */

static int index_of(const struct gpamap_region *r)
{
	for (int i = 0; i < nr_regions; i++) {
		if (region[i] == r)
			return i;
	}
	fail_msg("an unknown region");
	return -1;
}

static struct found look_up(int i, uint64_t page);

static bool in_front(const struct gpamap_region *a, const struct gpamap_region *b)
{
	return a->now.priority != b->now.priority ? a->now.priority > b->now.priority
						  : a->now.seq > b->now.seq;
}

/* The children of region @i from the foremost on, until one shows something. */
static struct found look_into(int i, uint64_t page)
{
	const struct gpamap_region *last = NULL;
	struct found ret = {0};

	while (!ret.region) {
		int best = -1;

		for (int k = 0; k < nr_regions; k++) {
			if (region[k]->now.parent == region[i] &&
			    (!last || in_front(last, region[k])) &&
			    (best < 0 || in_front(region[k], region[best])))
				best = k;
		}
		if (best < 0)
			break;
		last = region[best];
		if (page >= last->now.offset / PAGE)
			ret = look_up(best, page - last->now.offset / PAGE);
	}
	return ret;
}

static struct found look_up_anew(int i, uint64_t page)
{
	struct gpamap_region *r = region[i];
	struct found ret = {0};

	if (!r->now.enabled || page > (r->now.size - 1) / PAGE)
		return ret;
	if (r->kind == GPAMAP_CONTAINER)
		ret = look_into(i, page);
	else if (r->kind == GPAMAP_ALIAS)
		ret = look_up(index_of(r->target), page + r->now.target_offset / PAGE);
	else
		ret = (struct found){.region = r, .page = page};
	if (!ret.region)
		return ret;
	ret.readonly = ret.readonly || r->now.readonly;
	if (r->unmergeable)
		ret.group = r->serial;
	return ret;
}

static struct found look_up(int i, uint64_t page)
{
	if (page >= MEMO_PAGES)
		return look_up_anew(i, page);
	if (!known[i][page]) {
		memo[i][page] = look_up_anew(i, page);
		known[i][page] = true;
	}
	return memo[i][page];
}

static bool same(struct found a, struct found b)
{
	return a.region == b.region &&
	       (!a.region || (a.page == b.page && a.readonly == b.readonly && a.group == b.group));
}

/* --------------------------------------------------------------------------- comparisons --- */

static void compare(const struct gm_node *view, unsigned space)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		struct found want = look_up((int)space, page);
		struct gm_range r = {page * PAGE, page * PAGE + PAGE - 1};
		const struct gm_node *n = gm_tree_first(view, r);
		struct gm_seg s;

		if (!n != !want.region)
			fail_msg("page %llu of %u: %s", (unsigned long long)page, space,
				 n ? "should be nothing" : "is missing");
		if (!n)
			continue;
		assert_true(gm_range_within(r, n->range));
		s = gm_seg_advance(gm_seg_of(n), n->range.first, r.first);
		assert_ptr_equal(s.region, want.region);
		assert_int_equal(s.offset, want.page * PAGE);
		assert_int_equal(s.group, want.group);
		assert_int_equal(s.kind == GM_SEG_RAM && want.readonly,
				 (s.flags & GM_SEG_READONLY) != 0);
	}
}

static bool has(const struct gm_windows *w, struct gm_range r)
{
	for (size_t i = 0; i < w->n; i++) {
		if (gm_range_within(r, w->r[i]))
			return true;
	}
	return false;
}

/* RG3. pre: normalised. */
static void check_windows(unsigned space)
{
	const struct gm_windows *w = &env.map.spaces[space].windows;

	for (uint64_t page = 0; page < PAGES; page++) {
		if (!same(before[space][page], look_up((int)space, page)) &&
		    !has(w, (struct gm_range){page * PAGE, page * PAGE + PAGE - 1}))
			fail_msg("page %llu of %u differs, and is in no window",
				 (unsigned long long)page, space);
	}
}

static bool count_questions(void *opaque)
{
	(void)opaque;
	asked++;
	return false;
}

/* True: it could be flattened. */
static bool flatten_and_compare(unsigned space)
{
	int err;

	asked = 0;
	err = flatten_windows(&env, space);
	assert_true(asked <= QUESTIONS_MOST);
	check_windows(space);
	wide += env.map.spaces[space].windows.n > 2 * PAGES;
	if (!err) {
		compare(env.view[space].root, space);
		flattened++;
		return true;
	}
	assert_int_equal(err, -E2BIG);
	too_deep += strstr(env.msg.text, "regions deep") != NULL;
	too_many += strstr(env.msg.text, "too many places") != NULL;
	return false;
}

/* ------------------------------------------------------------------------------- graphs --- */

static void keep(struct gpamap_region *r)
{
	assert_true(nr_regions < REGIONS);
	region[nr_regions++] = r;
}

static unsigned random_flags(void)
{
	return (chance(12) ? GPAMAP_READONLY : 0) | (chance(12) ? GPAMAP_UNMERGEABLE : 0);
}

static void new_box(uint64_t size)
{
	keep(MAKE(&env, .kind = GPAMAP_CONTAINER, .name = "box", .size = size,
		  .max_size = size == GPAMAP_SIZE_MAX ? 0 : 2 * size, .flags = random_flags()));
}

static void new_alias(struct gpamap_region *target, uint64_t size, uint64_t offset)
{
	keep(MAKE(&env, .kind = GPAMAP_ALIAS, .name = "alias", .size = size, .target = target,
		  .target_offset = offset, .flags = random_flags()));
}

static void new_leaf(void)
{
	uint64_t size = (1 + rnd(3)) * PAGE;

	if (chance(2))
		keep(MAKE(&env, .kind = GPAMAP_MMIO, .name = "device", .size = size,
			  .flags = random_flags()));
	else
		keep(MAKE(&env, .kind = GPAMAP_RAM, .name = "ram", .size = size,
			  .max_size = 8 * PAGE, .flags = random_flags(),
			  .hva = (void *)(uintptr_t)(rnd(1000) * 64 * PAGE + PAGE)));
}

/* Some regions of each kind; aliases of any of those before. */
static void scatter(int n)
{
	while (n-- && nr_regions < REGIONS) {
		uint64_t size = chance(8) ? GPAMAP_SIZE_MAX : (1 + rnd(12)) * PAGE;

		if (chance(3))
			new_leaf();
		else if (chance(2))
			new_box(size);
		else
			new_alias(region[rnd((uint64_t)nr_regions)], size,
				  size == GPAMAP_SIZE_MAX ? 0 : rnd(6) * PAGE);
	}
}

/* Each box shows the one below twice. They lie on each other, overlap, or lie side by side: then a tower of more than
 * some levels shows too much. */
static void raise_tower(int levels)
{
	struct gpamap_region *below = region[nr_regions - 1];
	uint64_t how = rnd(4);

	lowest = nr_regions - 1;

	for (; levels && nr_regions + 3 <= REGIONS; levels--) {
		uint64_t size = below->now.size, apart;

		if (size > UINT64_MAX / 4)
			break;
		apart = how == 0 ? 0 : how == 1 ? size : rnd(4) * PAGE;
		new_box(size + apart + (how == 3 ? PAGE : 0));
		for (int i = 0; i < 2; i++) {
			struct gpamap_region *b = region[nr_regions - 1 - i];

			new_alias(below, size, 0);
			ok(&env, gm_edit_add(&env.map, b, i ? apart : 0, region[nr_regions - 1],
					     (int)rnd(2), &env.msg));
		}
		below = region[nr_regions - 3];
	}
	if (!below->now.parent && below->kind == GPAMAP_CONTAINER && chance(2))
		gm_edit_add(&env.map, region[rnd(SPACES)], rnd(4) * PAGE, below, 0, &env.msg);
}

/* -------------------------------------------------------------------------------- edits --- */

static void add(struct gpamap_region *r)
{
	struct gpamap_region *to = region[chance(3) ? rnd(SPACES) : rnd((uint64_t)nr_regions)];
	int err;

	for (int i = 0; i < 8 && to->kind != GPAMAP_CONTAINER; i++)
		to = region[rnd((uint64_t)nr_regions)];
	if (r->now.parent)
		return;
	err = gm_edit_add(&env.map, to, rnd(16) * PAGE, r, (int)rnd(3), &env.msg);
	cycles += err == -ELOOP;
}

/* Refusals are tested elsewhere. */
static void edit(void)
{
	struct gpamap_region *r = region[chance(4) ? (uint64_t)lowest : rnd((uint64_t)nr_regions)];
	struct gm_map *m = &env.map;

	switch (rnd(9)) {
	case 0:
	case 1:
	case 2:
		add(r);
		break;
	case 3:
		gm_edit_remove(m, r, &env.msg);
		break;
	case 4:
		gm_edit_move(m, r, rnd(16) * PAGE, &env.msg);
		break;
	case 5:
		gm_edit_priority(m, r, (int)rnd(3), &env.msg);
		break;
	case 6:
		gm_edit_enabled(m, r, !chance(3), &env.msg);
		break;
	case 7:
		gm_edit_readonly(m, r, chance(2), &env.msg);
		break;
	default:
		if (r->kind == GPAMAP_ALIAS && chance(2))
			gm_edit_target_offset(m, r, rnd(6) * PAGE, &env.msg);
		else
			gm_edit_resize(m, r, (1 + rnd(8)) * PAGE, &env.msg);
	}
}

static void remember(void)
{
	memset(known, 0, sizeof(known));
	for (unsigned s = 0; s < SPACES; s++) {
		for (uint64_t page = 0; page < PAGES; page++)
			before[s][page] = look_up((int)s, page);
	}
}

static void transaction(bool build)
{
	bool can = true;

	remember();
	if (build) {
		scatter(6 + (int)rnd(10));
		raise_tower((int)rnd(chance(3) ? 31 : 6));
		scatter(8);
		for (int i = 0; i < nr_regions; i++)
			add(region[i]);
	}
	for (uint64_t n = 1 + rnd(3); n; n--)
		edit();
	memset(known, 0, sizeof(known));
	for (unsigned s = 0; s < SPACES; s++)
		can = flatten_and_compare(s) && can;
	if (can && !chance(5)) {
		for (unsigned s = 0; s < SPACES; s++)
			end_view(&env.view[s]);
		gm_edits_commit(&env.map);
	} else {
		for (unsigned s = 0; s < SPACES; s++)
			gm_tree_abort(&env.view[s]);
		gm_edits_abort(&env.map);
	}
}

static void graph(void)
{
	static const struct gm_flatten_limits limits = {.give_up = count_questions};

	env_init(&env);
	env.limits = &limits;
	nr_regions = 0;
	for (unsigned s = 0; s < SPACES; s++)
		keep(root(&env, s));
	for (int i = 0; i < 12; i++)
		transaction(i == 0);
	/* What a verb or a run holds meanwhile. */
	assert_true(env.mem.peak < (size_t)96 << 20);
	for (int i = SPACES; i < nr_regions; i++)
		put(region[i]);
	env_destroy(&env);
}

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
	const char *s = getenv(variable);

	return s && *s ? strtoull(s, NULL, 0) : otherwise;
}

static void random_graphs(void **state)
{
	uint64_t n = number_of("GPAMAP_TEST_GRAPHS", DEFAULT_GRAPHS);

	(void)state;
	rng = number_of("GPAMAP_TEST_SEED", UINT64_C(20240229));
	printf("GPAMAP_TEST_SEED=%llu GPAMAP_TEST_GRAPHS=%llu\n", (unsigned long long)rng,
	       (unsigned long long)n);
	for (uint64_t i = 0; i < n; i++)
		graph();
	printf("%lu flattened, %lu too deep, %lu show too much, %lu cycles, %lu with many "
	       "windows\n",
	       flattened, too_deep, too_many, cycles, wide);
	assert_true(n < DEFAULT_GRAPHS || (flattened && too_many && cycles && wide));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(random_graphs)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
