/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random changes, many in sequence. Every plan goes through the verifier, and is compared, page by page, with
 * an oracle that knows nothing of either: the table, that nothing is done without need, and that a
 * refusal for want of slots is true.
 */
#include "random_edits.h"
#include "show.h"

#define WORLDS 1000
#define ROUNDS 110

/* What the oracle says of one page. */
struct page {
	bool backed;	   /* in the next view */
	struct gm_seg seg; /* as seen from the page's first byte */
	bool goes,
		comes; /* with slots that can't stay; with memory that they leave, or that is new */
	bool stray;
};

struct oracle {
	struct page page[SPACES][PAGES_MAX + 1];
	uint32_t least[SPACES]; /* slots that the view can't do without */
};

struct statistics {
	size_t plans, critical, moves, merged, full, no_memory, strays, rejected;
};

static struct statistics stats;

/* ----------------------------------------------------------------------------- oracle --- */

static uint32_t slot_flags(const struct gm_seg *s)
{
	uint32_t flags = 0;

	if (s->kind == GM_SEG_ROMD || (s->flags & GM_SEG_READONLY))
		flags |= GM_SLOT_READONLY;
	if (s->flags & GM_SEG_GUEST_MEMFD)
		flags |= GM_SLOT_GUEST_MEMFD;
	return flags ? flags : s->flags & GM_SEG_LOG ? GM_SLOT_LOG : 0;
}

/* Could @b, @by bytes further on than @a, be in one slot with it? */
static bool goes_on(const struct gm_seg *a, const struct gm_seg *b, uint64_t by)
{
	return slot_flags(a) == slot_flags(b) && a->region == b->region && a->group == b->group &&
	       a->hva + by == b->hva && a->offset + by == b->offset && a->gmem_fd == b->gmem_fd &&
	       a->gmem_offset + (a->flags & GM_SEG_GUEST_MEMFD ? by : 0) == b->gmem_offset;
}

/* The memory of the page at @gpa, if all of it is; in pieces perhaps, where a device was. */
static bool look_at_page(const struct random_world *r, unsigned space, uint64_t gpa,
			 struct gm_seg *ret)
{
	uint64_t last = gpa + (PAGE - 1), at = gpa;

	for (;;) {
		const struct gm_node *n =
			gm_tree_first(r->w.views[space].root, (struct gm_range){at, at});
		struct gm_seg seg;

		if (!n || !gm_seg_backed(gm_seg_of(n)))
			return false;
		seg = gm_seg_advance(gm_seg_of(n), n->range.first, at);
		if (at == gpa)
			*ret = seg;
		else if (!goes_on(ret, &seg, at - gpa))
			return false;
		if (n->range.last >= last)
			return true;
		at = n->range.last + 1;
	}
}

static uint64_t page_gpa(const struct random_world *r, unsigned p)
{
	return (r->base + p) * PAGE;
}

static void look_at_pages(const struct random_world *r, struct oracle *o, unsigned space)
{
	uint64_t block = r->w.in.max_slot_size;

	for (unsigned p = 0; p < r->nr; p++) {
		struct page *page = &o->page[space][p], *before = p ? page - 1 : NULL;
		uint64_t gpa = page_gpa(r, p);

		page->backed = look_at_page(r, space, gpa, &page->seg);
		if (!page->backed)
			continue;
		if (!before || !before->backed || gpa % block == 0 ||
		    !goes_on(&before->seg, &page->seg, PAGE))
			o->least[space]++;
	}
}

static unsigned page_of(const struct random_world *r, uint64_t gpa)
{
	return (unsigned)(gpa / PAGE - r->base);
}

/* Can the kernel keep slot @s, but for LOG on or off as a whole? */
static bool can_stay(const struct random_world *r, const struct oracle *o, const struct gm_slot *s)
{
	unsigned first = page_of(r, s->gpa.first), last = page_of(r, s->gpa.last);
	const struct page *page = o->page[s->space];

	if (s->missing)
		return false;
	for (unsigned p = first; p <= last; p++) {
		const struct gm_seg *seg = &page[p].seg;

		if (!page[p].backed || seg->hva != s->hva + (p - first) * PAGE ||
		    ((slot_flags(seg) ^ s->flags) & ~(uint32_t)GM_SLOT_LOG))
			return false;
		if ((s->flags & GM_SLOT_GUEST_MEMFD) &&
		    (seg->gmem_fd != s->gmem_fd ||
		     seg->gmem_offset != s->gmem_offset + (p - first) * PAGE))
			return false;
		if (p > first && !goes_on(&page[p - 1].seg, seg, PAGE))
			return false;
	}
	return !(s->flags & GM_SLOT_LOG) ||
	       (page[first].seg.region == s->region && page[first].seg.offset == s->offset);
}

static void ask_oracle(const struct random_world *r, struct oracle *o)
{
	struct gm_range all = {0, UINT64_MAX};

	memset(o, 0, sizeof(*o));
	for (unsigned space = 0; space < SPACES; space++) {
		look_at_pages(r, o, space);
		for (unsigned p = 0; p < r->nr; p++)
			o->page[space][p].comes = o->page[space][p].backed;
		gm_tree_for_each (n, r->w.slots[space].tree.base, all) {
			const struct gm_slot *s = gm_slot_of(n);
			bool stays = can_stay(r, o, s);

			for (uint64_t p = page_of(r, s->gpa.first); p <= page_of(r, s->gpa.last);
			     p++) {
				if (stays)
					o->page[space][p].comes = false;
				else if (!s->missing)
					o->page[space][p].goes = true;
			}
		}
	}
	for (size_t i = 0; i < r->w.nr_strays; i++) {
		const struct gm_slot *s = &r->w.strays[i];

		for (unsigned p = page_of(r, s->gpa.first); p <= page_of(r, s->gpa.last); p++)
			o->page[s->space][p].stray = true;
	}
}

/* ----------------------------------------------------------------------------- checks --- */

/* The next table says of every page just what the view says, and no id is there twice. */
static void check_table(const struct random_world *r, const struct oracle *o, unsigned space)
{
	const struct gm_slots *slots = &r->w.slots[space];
	unsigned backed = 0, covered = 0;
	bool seen[512] = {false};
	size_t count = 0;

	for (unsigned p = 0; p < r->nr; p++)
		backed += o->page[space][p].backed;
	gm_tree_for_each (n, slots->tree.root, ((struct gm_range){0, UINT64_MAX})) {
		const struct gm_slot *s = gm_slot_of(n);
		unsigned first = page_of(r, s->gpa.first);

		assert_int_equal(n->range.first, s->gpa.first);
		assert_int_equal(n->range.last, s->gpa.last);
		assert_int_equal(s->space, space);
		assert_false(s->missing);
		assert_false(seen[s->id]);
		seen[s->id] = true;
		assert_true(slots->ids.taken[s->id / 64] >> s->id % 64 & 1);
		assert_false(slots->ids.reserved[s->id / 64] >> s->id % 64 & 1);
		for (unsigned p = first; p <= page_of(r, s->gpa.last); p++, covered++) {
			const struct gm_seg *seg = &o->page[space][p].seg;

			assert_true(o->page[space][p].backed);
			assert_ptr_equal(s->region, seg->region);
			assert_int_equal(s->offset + (p - first) * PAGE, seg->offset);
			assert_int_equal(s->hva + (p - first) * PAGE, seg->hva);
			assert_int_equal(s->group, seg->group);
			assert_int_equal(s->flags, slot_flags(seg));
		}
		count++;
	}
	assert_int_equal(covered, backed);
	assert_int_equal(count, slots->tree.count);
}

static bool any_page(const struct random_world *r, const struct oracle *o, const struct gm_slot *s,
		     bool goes)
{
	for (unsigned p = page_of(r, s->gpa.first); p <= page_of(r, s->gpa.last); p++) {
		const struct page *page = &o->page[s->space][p];

		if (goes ? page->goes || page->stray : page->comes)
			return true;
	}
	return false;
}

static bool is_stray(const struct random_world *r, const struct gm_slot *s)
{
	for (size_t i = 0; i < r->w.nr_strays; i++) {
		if (r->w.strays[i].space == s->space && r->w.strays[i].id == s->id)
			return true;
	}
	return false;
}

/* Nothing is critical that need not be, and nothing goes that could stay. */
static void check_need(const struct random_world *r, const struct oracle *o)
{
	const struct gm_plan *plan = &r->w.plan;

	for (size_t i = 0; i < plan->n; i++) {
		const struct gm_op *op = &plan->ops[i];
		bool from_hit, to_hit;

		if (op->kind == GM_OP_FLAGS) {
			assert_true(op->phase != GM_CRITICAL || r->w.in.one_instant);
			continue;
		}
		if (op->kind != GM_OP_CREATE && !is_stray(r, &op->from))
			assert_false(can_stay(r, o, &op->from));
		if (op->phase != GM_CRITICAL || r->w.in.one_instant)
			continue;
		from_hit = op->kind != GM_OP_CREATE && any_page(r, o, &op->from, false);
		to_hit = op->kind != GM_OP_DELETE && any_page(r, o, &op->to, true);
		if (op->kind == GM_OP_DELETE)
			assert_true(from_hit || (op->from.flags & GM_SLOT_LOG) ||
				    is_stray(r, &op->from));
		else
			assert_true(from_hit || to_hit || (op->from.flags & GM_SLOT_LOG));
	}
}

static void check_plan(const struct random_world *r, const struct oracle *o)
{
	for (unsigned space = 0; space < SPACES; space++)
		check_table(r, o, space);
	if (r->roomy) {
		assert_int_equal(r->w.plan.merged, 0);
		check_need(r, o);
	}
	for (size_t i = 0; i < r->w.plan.n; i++)
		stats.moves += r->w.plan.ops[i].kind == GM_OP_MOVE;
	stats.critical += r->w.plan.nr_critical > 0;
	stats.merged += r->w.plan.merged;
}

/* Slots of guest_memfd are not merged, so with them a view may need more than the least. */
static void check_full(const struct random_world *r, const struct oracle *o)
{
	bool full = r->has_gmem;

	for (unsigned space = 0; space < SPACES; space++)
		full |= o->least[space] > capacity(&r->w);
	assert_true(full);
	stats.full++;
}

/* ---------------------------------------------------------------------------- unchanged --- */

struct snapshot {
	const struct gm_node *root[SPACES];
	uint32_t nr_taken[SPACES];
	uint64_t taken[SPACES][8];
};

static void take_snapshot(const struct random_world *r, struct snapshot *s)
{
	memset(s, 0, sizeof(*s));
	for (unsigned i = 0; i < SPACES; i++) {
		const struct gm_ids *ids = &r->w.slots[i].ids;

		s->root[i] = r->w.slots[i].tree.root;
		s->nr_taken[i] = ids->nr_taken;
		memcpy(s->taken[i], ids->taken, (ids->limit + 63) / 64 * 8);
	}
}

static void check_unchanged(const struct random_world *r, const struct snapshot *before)
{
	struct snapshot now;

	take_snapshot(r, &now);
	assert_memory_equal(&now, before, sizeof(now));
	for (unsigned i = 0; i < SPACES; i++)
		assert_false(gm_tree_edited(&r->w.slots[i].tree));
}

/* ------------------------------------------------------------------------------- rounds --- */

/* As after an undo that failed: the kernel lacks slots of the table, and has others. */
static void wreck(struct random_world *r)
{
	struct world *w = &r->w;
	size_t count[SPACES] = {0};
	struct gm_slot s = {.gpa = random_range(r), .region = &w->regions[0], .gmem_fd = -1};

	for (unsigned n = below(3); n > 0 && w->nr_kernel; n--) {
		struct gm_slot lost = w->kernel[below((unsigned)w->nr_kernel)];
		const struct gm_node *node =
			gm_tree_find(w->slots[lost.space].tree.base, lost.gpa.first, 0);

		if (is_stray(r, &lost))
			continue;
		gm_slot_of(node)->missing = true;
		kernel_remove(w, &lost);
		s.id = lost.id;
		s.space = lost.space;
	}
	if (s.id == 0)
		s.id = below(w->slots[0].ids.limit);
	s.hva = region_hva(0);
	for (size_t i = 0; i < w->nr_kernel; i++) {
		const struct gm_slot *k = &w->kernel[i];

		count[k->space]++;
		if (k->space == s.space && (k->id == s.id || gm_range_overlap(k->gpa, s.gpa)))
			return;
	}
	if (count[s.space] >= capacity(w) ||
	    (w->slots[s.space].ids.reserved[s.id / 64] >> s.id % 64 & 1))
		return;
	kernel_add(w, &s);
	must(gm_array_reserve(&w->heap.alloc, (void **)&w->strays, &w->strays_room,
			      w->nr_strays + 1, sizeof(s)));
	w->strays[w->nr_strays++] = s;
	stats.strays++;
}

static void add_missing_windows(struct random_world *r)
{
	for (unsigned i = 0; i < SPACES; i++) {
		gm_tree_for_each (n, r->w.slots[i].tree.base, ((struct gm_range){0, UINT64_MAX})) {
			if (gm_slot_of(n)->missing)
				window(&r->w, i, n->range);
		}
	}
}

/* Let each allocation fail once: nothing changes. The last call is the one that succeeds. */
static int make_without_memory(struct random_world *r, const struct snapshot *before)
{
	struct heap *heap = &r->w.heap;
	int err;

	for (size_t nth = 1;; nth++) {
		size_t end = heap->calls + nth;

		heap->fail = end;
		err = world_make(&r->w);
		heap->fail = 0;
		if (heap->calls < end)
			return err;
		/* An array may do with less room than it asked for. */
		if (!err)
			gm_plan_reject(&r->w.plan, &r->w.in);
		else
			assert_true(err == -ENOMEM || err == -ENOSPC);
		assert_true(!err || r->w.plan.n == 0);
		check_unchanged(r, before);
		stats.no_memory++;
	}
}

static void round_of(struct random_world *r)
{
	struct snapshot before;
	struct oracle o;
	int err;

	for (unsigned n = 1 + below(below(4) ? 2 : 8); n > 0; n--)
		random_edit(r);
	if (below(25) == 0)
		wreck(r);
	add_missing_windows(r);
	r->w.in.one_instant = below(12) == 0;
	take_snapshot(r, &before);
	ask_oracle(r, &o);
	err = below(40) ? world_make(&r->w) : make_without_memory(r, &before);
	stats.plans++;
	if (err) {
		assert_int_equal(err, -ENOSPC);
		check_full(r, &o);
		check_unchanged(r, &before);
		world_reject(&r->w);
		return;
	}
	check_plan(r, &o);
	if (below(5) == 0) {
		world_reject(&r->w);
		check_unchanged(r, &before);
		stats.rejected++;
		return;
	}
	world_accept(&r->w);
	for (unsigned i = 0; i < SPACES; i++)
		assert_int_equal(r->w.slots[i].ids.nr_taken, r->w.slots[i].tree.count);
}

static void test_random(void **state)
{
	(void)state;
	random_seed();
	for (unsigned i = 0; i < WORLDS; i++) {
		struct random_world r;

		random_world_init(&r);
		for (unsigned k = 0; k < ROUNDS; k++)
			round_of(&r);
		world_destroy(&r.w);
	}
	printf("%zu plans: %zu critical, %zu moves, %zu merged, %zu rejected, %zu full, %zu "
	       "strays, "
	       "%zu allocations failed\n",
	       stats.plans, stats.critical, stats.moves, stats.merged, stats.rejected, stats.full,
	       stats.strays, stats.no_memory);
	/* All that there is to test has been met. */
	assert_true(stats.plans >= 100000 && stats.critical > 10000 && stats.moves > 1000);
	assert_true(stats.merged > 200 && stats.full > 500 && stats.strays > 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
