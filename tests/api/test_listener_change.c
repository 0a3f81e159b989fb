/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What listeners are told of a change, against what gpamap_lookup() tells before and after it, page by page; and a
 * mirror of the map that a listener keeps by the changes alone.
 */
#include "gpamap-listener.h"
#include "script.h"

#define PLAIN 7
#define SPACES 2

/* ----------------------------------------------------------------------------- oracle --- */

/* What stands at each page, by a look-up. Kind 0: nothing. */
struct picture {
	struct gpamap_segment page[SPACES][WORLD_PAGES];
};

static uint8_t *plain;
static struct vm *told_vm;
static struct picture mirror; /* by changes alone */
static struct picture before; /* as the last prepare found it */
static struct picture want;   /* what that prepare said that it will be */
static size_t nr_told;	      /* ranges */
static unsigned nr_changes;

static struct gpamap_segment page_of(const struct gpamap_segment *s, uint64_t gpa)
{
	struct gpamap_segment page = *s;

	page.gpa = gpa;
	page.size = PAGE;
	page.offset += gpa - s->gpa;
	if (s->hva)
		page.hva = (uint8_t *)s->hva + (gpa - s->gpa);
	return page;
}

/* By one of the ways to look something up. */
static void take(struct picture *p, const struct gpamap_change *change, bool after)
{
	memset(p, 0, sizeof(*p));
	for (unsigned space = 0; space < SPACES; space++) {
		for (uint64_t i = 0; i < WORLD_PAGES; i++) {
			uint64_t gpa = i * PAGE;
			struct gpamap_segment s;
			int err;

			if (!change)
				err = gpamap_lookup(told_vm->map, space, gpa, &s);
			else if (after)
				err = gpamap_change_after(change, space, gpa, &s);
			else
				err = gpamap_change_before(change, space, gpa, &s);
			assert_true(!err || err == -ENOENT);
			if (!err && s.gpa <= gpa)
				p->page[space][i] = page_of(&s, gpa);
		}
	}
}

static bool same_page(const struct gpamap_segment *a, const struct gpamap_segment *b)
{
	return a->kind == b->kind && a->prot == b->prot && a->log == b->log && a->hva == b->hva &&
	       a->offset == b->offset;
}

static void check_same(const struct picture *a, const struct picture *b)
{
	for (unsigned space = 0; space < SPACES; space++) {
		for (unsigned i = 0; i < WORLD_PAGES; i++) {
			if (!same_page(&a->page[space][i], &b->page[space][i]))
				fail_msg("page %u of space %u differs", i, space);
		}
	}
}

/* The piece on one side of a range, against the pages there. */
static void check_side(const struct gpamap_changed *r, const struct gpamap_segment *side,
		       const struct gpamap_segment *pages)
{
	if (side->kind) {
		assert_int_equal(side->gpa, r->gpa);
		assert_int_equal(side->size, r->size);
	}
	for (uint64_t gpa = r->gpa; gpa < r->gpa + r->size; gpa += PAGE) {
		struct gpamap_segment none = {0};
		struct gpamap_segment page = side->kind ? page_of(side, gpa) : none;

		assert_true(same_page(&page, &pages[gpa / PAGE]));
	}
}

/* Every page that differs is in one range, and no other is. */
static void check_ranges(const struct gpamap_change *change)
{
	bool in[SPACES][WORLD_PAGES] = {{false}};
	uint64_t end = 0;
	unsigned space = 0;

	for (size_t i = 0; i < gpamap_change_count(change); i++) {
		const struct gpamap_changed *r = gpamap_change_range(change, i);

		assert_non_null(r);
		assert_true(r->space > space || r->gpa >= end);
		space = r->space;
		end = r->gpa + r->size;
		assert_true(space < SPACES && end <= WORLD_PAGES * PAGE && r->size);
		check_side(r, &r->before, before.page[space]);
		check_side(r, &r->after, want.page[space]);
		for (uint64_t gpa = r->gpa; gpa < end; gpa += PAGE)
			in[space][gpa / PAGE] = true;
	}
	assert_null(gpamap_change_range(change, gpamap_change_count(change)));
	for (space = 0; space < SPACES; space++) {
		for (unsigned i = 0; i < WORLD_PAGES; i++)
			assert_int_equal(in[space][i],
					 !same_page(&before.page[space][i], &want.page[space][i]));
	}
}

static int prepare(void *opaque, const struct gpamap_change *change)
{
	struct gpamap_segment s;
	struct picture now;

	(void)opaque;
	take(&before, change, false);
	take(&want, change, true);
	check_same(&before, &mirror);
	/* When a listener is added, all is new to it. */
	if (nr_changes) {
		take(&now, NULL, false);
		check_same(&before, &now);
	}
	check_ranges(change);
	assert_int_equal(gpamap_change_before(change, SPACES, 0, &s), -ENXIO);
	assert_int_equal(gpamap_change_after(change, SPACES, 0, &s), -ENXIO);
	nr_changes++;
	return 0;
}

static void applied(void *opaque, const struct gpamap_change *change)
{
	struct picture now;

	(void)opaque;
	nr_told = gpamap_change_count(change);
	for (size_t i = 0; i < nr_told; i++) {
		const struct gpamap_changed *r = gpamap_change_range(change, i);

		for (uint64_t gpa = r->gpa; gpa < r->gpa + r->size; gpa += PAGE) {
			struct gpamap_segment none = {0};

			mirror.page[r->space][gpa / PAGE] =
				r->after.kind ? page_of(&r->after, gpa) : none;
		}
	}
	take(&now, NULL, false);
	check_same(&now, &want);
	check_same(&now, &mirror);
}

static struct gpamap_listener *listen_to(struct vm *vm)
{
	static const struct gpamap_listener_desc desc = {
		.name = "mirror", .prepare = prepare, .applied = applied};
	struct gpamap_listener *l;

	told_vm = vm;
	nr_changes = 0;
	memset(&mirror, 0, sizeof(mirror));
	ok(gpamap_listener_add(vm->map, &desc, &l));
	assert_int_equal(nr_changes, 1);
	return l;
}

/* Every sort of change; and a listener that comes after each. */
static void every_step(void **state)
{
	(void)state;
	for (size_t from = 0; from < STEPS; from++) {
		struct script s;
		struct gpamap_listener *l;

		script_open(&s, from);
		l = listen_to(&s.vm);
		for (size_t i = from; i < STEPS; i++) {
			script_commit(&s, i);
			assert_int_equal(nr_changes, 2 + i - from);
			assert_true(nr_told > 0);
		}
		gpamap_listener_remove(l);
		script_close(&s);
	}
}

/* ------------------------------------------------------------------------------ random --- */

#define REGIONS 4

struct play {
	struct vm vm;
	struct random random;
	struct gpamap_region *region[REGIONS]; /* two of RAM, an alias, a device */
	uint8_t *hva[2][2];
};

static uint64_t below(struct play *p, uint64_t n)
{
	return random_below(&p->random, n);
}

static void play_open(struct play *p)
{
	static const struct gpamap_mmio_ops ops = {NULL, NULL};
	struct gpamap_options opt = {.spaces = SPACES};
	struct gpamap_sim_options sim = {.spaces = SPACES};
	struct gpamap_region_desc alias = {
		.kind = GPAMAP_ALIAS, .size = 8 * PAGE, .target_offset = 2 * PAGE};
	struct gpamap_region_desc device = {.kind = GPAMAP_MMIO, .size = 3 * PAGE, .ops = &ops};

	vm_open(&p->vm, &sim, &opt);
	p->random = random_new("listener change", 1);
	for (unsigned i = 0; i < 2; i++) {
		p->hva[i][0] = mem_new(8 + i, 16);
		p->hva[i][1] = mem_again(8 + i, 16);
		p->region[i] = vm_ram(&p->vm, p->hva[i][0], 12, 16);
	}
	alias.target = p->region[0];
	p->region[2] = vm_region(&p->vm, &alias);
	p->region[3] = vm_region(&p->vm, &device);
}

static void play_close(struct play *p)
{
	for (unsigned i = 0; i < REGIONS; i++)
		gpamap_region_put(p->region[i]);
	vm_close(&p->vm);
}

/* Some are refused, which is as good. */
static void edit_region(struct play *p, struct gpamap_txn *txn)
{
	unsigned i = (unsigned)below(p, REGIONS);
	struct gpamap_region *r = p->region[i];

	switch (below(p, 8)) {
	case 0:
		gpamap_add(txn, gpamap_root(p->vm.map, (unsigned)below(p, SPACES)),
			   below(p, 64) * PAGE, r, (int)below(p, 3));
		break;
	case 1:
		gpamap_remove(txn, r);
		break;
	case 2:
		gpamap_move(txn, r, below(p, 64) * PAGE);
		break;
	case 3:
		gpamap_set_enabled(txn, r, below(p, 2));
		break;
	case 4:
		gpamap_set_readonly(txn, r, below(p, 2));
		break;
	case 5:
		gpamap_resize(txn, r, (1 + below(p, 16)) * PAGE);
		break;
	case 6:
		if (i < 2)
			gpamap_reback(txn, r, p->hva[i][below(p, 2)]);
		break;
	case 7:
		gpamap_set_log(txn, r, below(p, 2));
		break;
	}
}

static void edit_range(struct play *p, struct gpamap_txn *txn)
{
	unsigned space = (unsigned)below(p, SPACES);
	uint64_t first = below(p, WORLD_PAGES - 16), n = 1 + below(p, 16);
	enum gpamap_prot prot = (enum gpamap_prot)(GPAMAP_RW + below(p, 3));

	switch (below(p, 4)) {
	case 0:
		/* Often the same as before. */
		gpamap_map_pages(txn, space, first * PAGE, n * PAGE,
				 plain + (first + 8 * below(p, 2)) * PAGE, prot);
		break;
	case 1:
		gpamap_map_region(txn, space, first * PAGE, n * PAGE, p->region[0], PAGE, prot);
		break;
	case 2:
		gpamap_unmap_pages(txn, space, first * PAGE, n * PAGE);
		break;
	case 3:
		gpamap_protect_pages(txn, space, first * PAGE, n * PAGE, prot);
		break;
	}
}

static void at_random(void **state)
{
	struct gpamap_listener *l;
	struct play p;
	unsigned told = 0;

	(void)state;
	play_open(&p);
	l = listen_to(&p.vm);
	for (unsigned i = 0; i < 400; i++) {
		struct gpamap_txn *txn = vm_begin(&p.vm);
		uint64_t edits = 1 + below(&p, 6);

		while (edits--)
			(below(&p, 2) ? edit_region : edit_range)(&p, txn);
		nr_told = 0;
		ok_txn(txn, gpamap_commit(txn, NULL, NULL));
		told += nr_told > 0;
		/* Also where nothing was told. */
		take(&before, NULL, false);
		check_same(&before, &mirror);
	}
	assert_true(told > 100);
	gpamap_listener_remove(l);
	play_close(&p);
}

/* ------------------------------------------------------------------------ single changes --- */

static struct gpamap_changed last[8];
static size_t nr_last;

static int keep(void *opaque, const struct gpamap_change *change)
{
	(void)opaque;
	nr_last = gpamap_change_count(change);
	for (size_t i = 0; i < nr_last && i < ARRAY_SIZE(last); i++)
		last[i] = *gpamap_change_range(change, i);
	return 0;
}

static void commit_one(struct vm *vm, struct gpamap_txn *txn)
{
	nr_last = 0;
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	assert_int_equal(nr_last, 1);
	assert_int_equal(last[0].space, 0);
	(void)vm;
}

/* What is large, what is no page, and what looks the same but is another device. */
static void devices(void **state)
{
	static const struct gpamap_mmio_ops ops = {NULL, NULL};
	struct gpamap_listener_desc desc = {.name = "keep", .prepare = keep};
	struct gpamap_region_desc wide = {
		.kind = GPAMAP_MMIO, .size = GPAMAP_SIZE_MAX, .ops = &ops};
	struct gpamap_region_desc uart = {.kind = GPAMAP_MMIO, .size = 8, .ops = &ops};
	struct gpamap_region *root, *w, *u, *other;
	struct gpamap_listener *l;
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	ok(gpamap_listener_add(vm.map, &desc, &l));
	assert_int_equal(nr_last, 0);
	root = gpamap_root(vm.map, 0);
	w = vm_region(&vm, &wide);
	u = vm_region(&vm, &uart);
	other = vm_region(&vm, &uart);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_add(txn, root, 0, w, 0));
	commit_one(&vm, txn);
	assert_int_equal(last[0].gpa, 0);
	assert_true(last[0].size == GPAMAP_SIZE_MAX);
	assert_int_equal(last[0].before.kind, 0);
	assert_int_equal(last[0].after.kind, GPAMAP_MMIO);
	/* Above it, of a few bytes. */
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_add(txn, root, 0x3f8, u, 1));
	commit_one(&vm, txn);
	assert_int_equal(last[0].gpa, 0x3f8);
	assert_int_equal(last[0].size, 8);
	assert_int_equal(last[0].before.offset, 0x3f8);
	assert_int_equal(last[0].after.offset, 0);
	/* Another one in its place. */
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, u));
	ok_txn(txn, gpamap_add(txn, root, 0x3f8, other, 1));
	commit_one(&vm, txn);
	assert_int_equal(last[0].gpa, 0x3f8);
	assert_true(same_page(&last[0].before, &last[0].after));
	gpamap_listener_remove(l);
	gpamap_region_put(w);
	gpamap_region_put(u);
	gpamap_region_put(other);
	vm_close(&vm);
}

static int group_setup(void **state)
{
	plain = mem_new(PLAIN, WORLD_PAGES);
	return script_record(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_step),
		cmocka_unit_test(at_random),
		cmocka_unit_test(devices),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
