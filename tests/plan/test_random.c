/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random changes, many in sequence. Every plan goes through the verifier, and is compared, page by page, with
 * an oracle that knows nothing of either: the table, the phase of each operation and the reason for it, and that a
 * refusal, for want of slots or for a page of a guest_memfd that would show twice, is true.
 */
#include "oracle.h"
#include "show.h"

#define WORLDS 1200
#define ROUNDS 110
#define LEFT_MAX 16

/* Where the kernel has what it should not, or has not what it should: each commit looks there. */
struct left {
	struct gm_range r[LEFT_MAX];
	unsigned space[LEFT_MAX];
	unsigned n;
	bool broken; /* not only where no view has anything */
};

struct statistics {
	size_t plans, critical, moves, merged, full, twice, no_memory, left, rejected;
	size_t decisive, shared, early, late, late_moves, wide;
};

static struct statistics stats;

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

/* Operations of one space. */
struct tally {
	int64_t created[2], deleted[2]; /* [1]: critical by a reason */
	int64_t for_room[2];		/* critical without one: creates, deletes */
	int64_t moves, unpaid;
};

/* The reasons of operation @i; 0: it need not be critical. */
static unsigned why_critical(const struct random_world *r, struct oracle *o, size_t i)
{
	const struct gm_op *op = &r->w.plan.ops[i];

	switch (op->kind) {
	case GM_OP_CREATE:
		return why_create(r, o, &op->to);
	case GM_OP_DELETE:
		return why_delete(r, o, &op->from);
	case GM_OP_MOVE:
		return why_create(r, o, &op->to) | why_delete(r, o, &op->from);
	default:
		return r->w.in.one_instant ? WHY_INSTANT : 0;
	}
}

static void count_op(const struct random_world *r, struct oracle *o, size_t i, struct tally *t)
{
	const struct gm_op *op = &r->w.plan.ops[i];
	unsigned why = why_critical(r, o, i);
	bool create = op->kind == GM_OP_CREATE;

	if (op->kind == GM_OP_MOVE) {
		t->moves++;
		t->unpaid += !move_pays(r, o, op);
	} else if (op->kind != GM_OP_FLAGS) {
		(create ? t->created : t->deleted)[why != 0]++;
		t->for_room[!create] += !why && op->phase == GM_CRITICAL;
	}
}

/* How many more than there's room for? */
static int64_t beyond(int64_t n, int64_t room)
{
	return n > room ? n - room : 0;
}

/* What is critical for want of room is no more than what there is no room for. */
static void check_room(const struct oracle *o, unsigned space, const struct tally *t)
{
	int64_t room = o->room[space], in_all = t->created[0] + t->created[1] - t->deleted[1];

	assert_int_equal(t->for_room[0], beyond(t->created[0], room));
	assert_int_equal(t->for_room[1], beyond(in_all, room));
	/* A move that does not pay stands for one such create. */
	if (t->unpaid) {
		assert_true(t->created[0] + t->unpaid > room ||
			    t->created[0] + t->created[1] + t->unpaid - t->deleted[1] > room);
		stats.late_moves++;
	}
}

/* What is not critical has a right to be where it is, whatever else there is. */
static void check_rights(const struct random_world *r, struct oracle *o, size_t i, bool last)
{
	const struct gm_op *op = &r->w.plan.ops[i];
	unsigned why = why_critical(r, o, i);

	/* Where slots are merged more goes than the oracle knows. */
	if (last)
		assert_int_equal(why, WHY_DECISIVE);
	else if (op->phase != GM_CRITICAL)
		assert_int_equal(why, 0);
	if (op->kind == GM_OP_MOVE)
		assert_int_equal(op->phase, GM_CRITICAL);
	if (op->phase == GM_EARLY && !last)
		assert_true(op->kind == GM_OP_CREATE ||
			    (op->kind == GM_OP_FLAGS && (op->to.flags & GM_SLOT_LOG)));
	if (op->phase == GM_LATE)
		assert_true(op->kind == GM_OP_DELETE ||
			    (op->kind == GM_OP_FLAGS && !(op->to.flags & GM_SLOT_LOG)));
	stats.shared += (why & WHY_SHARED) != 0;
}

/* One decisive operation and nothing else that is critical: then the gate is not shut. Otherwise it is. */
static void check_decisive(const struct random_world *r, struct oracle *o, size_t critical,
			   unsigned why)
{
	const struct gm_plan *plan = &r->w.plan;
	bool decisive = critical == 1 && why == WHY_DECISIVE;

	(void)o;
	assert_int_equal(plan->decisive, decisive);
	assert_int_equal(plan->nr_critical, decisive ? 0 : critical);
	stats.decisive += decisive;
}

/* Nothing is critical that need not be, and nothing goes that could stay. */
static void check_need(const struct random_world *r, struct oracle *o)
{
	const struct gm_plan *plan = &r->w.plan;
	struct tally t[SPACES] = {0};
	size_t critical = 0;
	unsigned last_why = 0;

	for (size_t i = 0; i < plan->n; i++) {
		const struct gm_op *op = &plan->ops[i];
		unsigned space = op->kind == GM_OP_DELETE ? op->from.space : op->to.space;
		unsigned why = why_critical(r, o, i);

		if (op->kind == GM_OP_DELETE || op->kind == GM_OP_MOVE)
			assert_false(can_stay(r, o, &op->from));
		count_op(r, o, i, &t[space]);
		if (why || op->phase == GM_CRITICAL) {
			critical++;
			last_why = op->kind == GM_OP_MOVE ? 0 : why;
		}
	}
	for (unsigned space = 0; space < SPACES; space++)
		check_room(o, space, &t[space]);
	check_decisive(r, o, critical, last_why);
}

static bool is_wide(const struct random_world *r, const struct gm_slot *s)
{
	return s->gpa.first / r->w.in.max_slot_size != s->gpa.last / r->w.in.max_slot_size;
}

/* Slots are larger than they should be only where there would be too many otherwise. Those that are larger already can't
 * be merged with what is beside them, as they are. */
static void check_wide(const struct random_world *r, const struct oracle *o)
{
	const struct gm_plan *plan = &r->w.plan;
	bool before[SPACES] = {false};

	for (size_t i = 0; i < r->w.nr_kernel; i++)
		before[r->w.kernel[i].space] |= is_wide(r, &r->w.kernel[i]);
	for (size_t i = 0; i < plan->n; i++) {
		const struct gm_slot *s = &plan->ops[i].to;

		if (plan->ops[i].kind != GM_OP_CREATE || !is_wide(r, s))
			continue;
		assert_true(before[s->space] ||
			    o->least_cut[s->space] + 2 * o->fixed[s->space] > capacity(&r->w));
		stats.wide++;
	}
}

static void check_plan(const struct random_world *r, struct oracle *o)
{
	const struct gm_plan *plan = &r->w.plan;

	assert_false(shown_twice(o));
	for (unsigned space = 0; space < SPACES; space++)
		check_table(r, o, space);
	for (size_t i = 0; i < plan->n; i++) {
		check_rights(r, o, i, plan->decisive && i + 1 == plan->nr_early);
		stats.moves += plan->ops[i].kind == GM_OP_MOVE;
	}
	check_wide(r, o);
	/* Where slots are merged more goes than must. */
	if (plan->merged)
		assert_false(r->roomy || plan->decisive);
	else
		check_need(r, o);
	stats.critical += plan->nr_critical > 0;
	stats.early += plan->nr_early;
	stats.late += plan->nr_late;
	stats.merged += plan->merged;
}

/* Slots of a guest_memfd are not merged: where one stands, there may be one more on each side. */
static void check_full(const struct random_world *r, const struct oracle *o)
{
	bool full = false;

	for (unsigned space = 0; space < SPACES; space++)
		full |= o->least[space] + 2 * o->fixed[space] > capacity(&r->w);
	assert_true(full);
	stats.full++;
}

static void check_refusal(const struct random_world *r, const struct oracle *o, int err)
{
	if (err == -EBUSY) {
		assert_true(shown_twice(o));
		stats.twice++;
		return;
	}
	assert_int_equal(err, -ENOSPC);
	check_full(r, o);
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

static bool is_left(const struct left *left, const struct gm_slot *s)
{
	for (unsigned i = 0; i < left->n; i++) {
		if (left->space[i] == s->space && gm_range_overlap(left->r[i], s->gpa))
			return true;
	}
	return false;
}

static void note_left(struct left *left, const struct gm_slot *s)
{
	left->r[left->n] = s->gpa;
	left->space[left->n++] = s->space;
}

/* Could the kernel have @s beside what it has? */
static bool fits(const struct random_world *r, const struct gm_slot *s)
{
	uint64_t size = s->gpa.last - s->gpa.first, block = r->w.in.max_slot_size;
	size_t count = 0;

	for (size_t i = 0; i < r->w.nr_kernel; i++) {
		const struct gm_slot *k = &r->w.kernel[i];
		struct gm_range a = {s->gmem_offset, s->gmem_offset + size};
		struct gm_range b = {k->gmem_offset, k->gmem_offset + (k->gpa.last - k->gpa.first)};

		count += k->space == s->space;
		if (k->space == s->space && gm_range_overlap(k->gpa, s->gpa))
			return false;
		if ((s->flags & k->flags & GM_SLOT_GUEST_MEMFD) && s->gmem_fd == k->gmem_fd &&
		    gm_range_overlap(a, b))
			return false;
	}
	return count < capacity(&r->w) && s->gpa.first / block == s->gpa.last / block;
}

static struct gm_slot random_slot(struct random_world *r)
{
	struct gm_slot s = {.gpa = random_range(r), .space = below(4) == 0, .gmem_fd = -1};
	unsigned region = below(r->has_gmem ? NR_REGIONS : FIRST_GMEM);

	s.offset = below(3) ? s.gpa.first - r->base * PAGE : below(8) * PAGE;
	s.region = &r->w.regions[region];
	s.hva = s.region->now.hva + s.offset;
	if (region >= FIRST_GMEM) {
		s.flags = GM_SLOT_GUEST_MEMFD;
		s.gmem_fd = FIRST_FD;
		s.gmem_offset = s.offset + (region > FIRST_GMEM ? 4 * PAGE : 0);
	} else if (below(4) == 0) {
		s.flags = below(2) ? GM_SLOT_LOG : GM_SLOT_READONLY;
	}
	return s;
}

/* A slot that a late delete or an undo has left: where no view has anything, unless the map is broken. */
static void leave_over(struct random_world *r, struct left *left)
{
	struct gm_slot s = random_slot(r);
	bool hides = gm_tree_first(r->w.views[s.space].root, s.gpa);

	if (left->n == LEFT_MAX || !fits(r, &s) || (hides && below(2)) ||
	    !gm_ids_take(&r->w.slots[s.space].ids, &s.id))
		return;
	gm_ids_put(&r->w.slots[s.space].ids, s.id);
	slot_left_over(&r->w, &s);
	note_left(left, &s);
	left->broken |= hides;
	stats.left++;
}

static void lose(struct random_world *r, struct left *left)
{
	struct gm_slot s;

	if (left->n == LEFT_MAX || !r->w.nr_kernel)
		return;
	s = r->w.kernel[below((unsigned)r->w.nr_kernel)];
	if (is_left(left, &s))
		return;
	note_left(left, &s);
	slot_lost(&r->w, &s);
	left->broken = true;
}

/* As after operations that failed: the kernel, and so the table, have other slots than the views say. */
static void wreck(struct random_world *r, struct left *left)
{
	for (unsigned n = below(4) ? 0 : below(3); n > 0; n--)
		lose(r, left);
	for (unsigned n = 1 + below(3); n > 0; n--)
		leave_over(r, left);
}

static void add_windows(struct random_world *r, const struct left *left)
{
	for (unsigned i = 0; i < left->n; i++)
		window(&r->w, left->space[i], left->r[i]);
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
			assert_true(err == -ENOMEM || err == -ENOSPC || err == -EBUSY);
		assert_true(!err || r->w.plan.n == 0);
		check_unchanged(r, before);
		stats.no_memory++;
	}
}

static int make(struct random_world *r, const struct left *left, struct oracle *o,
		const struct snapshot *before)
{
	int err;

	add_windows(r, left);
	r->w.in.one_instant = below(12) == 0 || (left->broken && below(2));
	ask_oracle(r, o);
	err = below(40) ? world_make(&r->w) : make_without_memory(r, before);
	stats.plans++;
	return err;
}

static void round_of(struct random_world *r, struct left *left)
{
	struct snapshot before;
	struct oracle o;
	int err;

	if (below(25) == 0)
		wreck(r, left);
	for (unsigned n = 1 + below(below(4) ? 2 : 8); n > 0; n--)
		random_edit(r);
	take_snapshot(r, &before);
	err = make(r, left, &o, &before);
	if (err)
		check_refusal(r, &o, err);
	else
		check_plan(r, &o);
	if (err || below(5) == 0) {
		if (err)
			check_unchanged(r, &before);
		world_reject(&r->w);
		check_unchanged(r, &before);
		stats.rejected += !err;
		end_edits(r, false);
		return;
	}
	world_accept(&r->w);
	end_edits(r, true);
	*left = (struct left){0};
	for (unsigned i = 0; i < SPACES; i++)
		assert_int_equal(r->w.slots[i].ids.nr_taken, r->w.slots[i].tree.count);
}

static void test_random(void **state)
{
	(void)state;
	random_seed();
	for (unsigned i = 0; i < WORLDS; i++) {
		struct random_world r;
		struct left left = {0};

		random_world_init(&r);
		for (unsigned k = 0; k < ROUNDS; k++)
			round_of(&r, &left);
		world_destroy(&r.w);
	}
	printf("%zu plans: %zu critical, %zu decisive, %zu early and %zu late operations, %zu "
	       "moves, "
	       "%zu plans with moves for want of room, %zu merged, %zu operations that share pages "
	       "of a guest_memfd, %zu rejected, %zu full, %zu shown twice, %zu left over, "
	       "%zu allocations failed, %zu slots larger for want of room\n",
	       stats.plans, stats.critical, stats.decisive, stats.early, stats.late, stats.moves,
	       stats.late_moves, stats.merged, stats.shared, stats.rejected, stats.full,
	       stats.twice, stats.left, stats.no_memory, stats.wide);
	/* All that there is to test has been met. */
	assert_true(stats.plans >= 100000 && stats.critical > 20000 && stats.moves > 1000);
	assert_true(stats.early > 15000 && stats.late > 5000 && stats.decisive > 2000);
	assert_true(stats.merged > 200 && stats.full > 1000 && stats.late_moves > 30);
	assert_true(stats.shared > 5000 && stats.twice > 100 && stats.left > 1000);
	assert_true(stats.wide > 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
