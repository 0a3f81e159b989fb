/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verifier must refuse what is wrong: good plans are spoilt in every way there is, and each is to be seen. Good
 * plans passing is what the other tests of the planner show.
 */
#include "random_edits.h"
#include "show.h"

static int setup(void **state)
{
	struct world *w = malloc(sizeof(*w));

	world_init(w, NO_LIMIT, NO_LIMIT);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	world_destroy(*state);
	free(*state);
	return 0;
}

/* ------------------------------------------------------------------------------ spoiling --- */

struct copy {
	struct gm_plan plan;
	struct gm_op ops[256];
};

static void copy_plan(struct copy *to, const struct gm_plan *from)
{
	assert_true(from->n < 255);
	to->plan = *from;
	if (from->n)
		memcpy(to->ops, from->ops, from->n * sizeof(to->ops[0]));
	to->plan.ops = to->ops;
}

static size_t *counter(struct gm_plan *plan, enum gm_phase phase)
{
	return phase == GM_EARLY      ? &plan->nr_early
	       : phase == GM_CRITICAL ? &plan->nr_critical
				      : &plan->nr_late;
}

static void take_op(struct gm_plan *plan, size_t i)
{
	--*counter(plan, plan->ops[i].phase);
	plan->n--;
	memmove(&plan->ops[i], &plan->ops[i + 1], (plan->n - i) * sizeof(plan->ops[0]));
}

static void put_op(struct gm_plan *plan, size_t i, struct gm_op op)
{
	memmove(&plan->ops[i + 1], &plan->ops[i], (plan->n - i) * sizeof(plan->ops[0]));
	plan->ops[i] = op;
	plan->n++;
	++*counter(plan, op.phase);
}

/* Where phase @phase begins, or, with @end, ends. */
static size_t bound(struct gm_plan *plan, enum gm_phase phase, bool end)
{
	size_t at = 0;

	for (enum gm_phase p = GM_EARLY; p < phase + end; p++)
		at += *counter(plan, p);
	return at;
}

static void change_phase(struct gm_plan *plan, size_t i, enum gm_phase phase)
{
	struct gm_op op = plan->ops[i];
	bool later = phase > op.phase;

	take_op(plan, i);
	op.phase = phase;
	put_op(plan, bound(plan, phase, !later), op);
}

enum spoil {
	DROP,
	TWICE,
	TO_HVA,
	TO_LOG,
	TO_READONLY,
	TO_GPA,
	TO_SHRINK,
	TO_ID,
	TO_SPACE,
	TO_GMEM,
	FROM_HVA,
	FROM_GPA,
	FROM_ID,
	FROM_FLAGS,
	FROM_MISSING,
	OTHER_SIDE,
	TO_EARLY,
	TO_LATE,
	CREATE_FIRST,
	NR_SPOILS
};

static bool spoil_to(struct gm_plan *plan, size_t i, enum spoil how)
{
	struct gm_slot *to = &plan->ops[i].to;

	if (plan->ops[i].kind == GM_OP_DELETE)
		return false;
	switch (how) {
	case TO_HVA:
		to->hva += PAGE;
		return true;
	case TO_LOG:
		to->flags ^= GM_SLOT_LOG;
		return true;
	case TO_READONLY:
		to->flags ^= GM_SLOT_READONLY;
		return true;
	case TO_GPA:
		to->gpa.first ^= UINT64_C(1) << 50;
		to->gpa.last ^= UINT64_C(1) << 50;
		return true;
	case TO_SHRINK:
		to->gpa.last -= PAGE;
		return to->gpa.last > to->gpa.first && to->gpa.last != UINT64_MAX;
	case TO_ID:
		to->id ^= 1;
		/* A create may have any id that is free. */
		return plan->ops[i].kind != GM_OP_CREATE;
	case TO_SPACE:
		to->space ^= 1;
		return true;
	case TO_GMEM:
		if (to->flags & GM_SLOT_GUEST_MEMFD)
			to->gmem_offset += PAGE;
		else
			to->flags |= GM_SLOT_GUEST_MEMFD;
		return true;
	default:
		return false;
	}
}

static bool spoil_from(struct gm_plan *plan, size_t i, enum spoil how)
{
	struct gm_slot *from = &plan->ops[i].from;

	if (plan->ops[i].kind == GM_OP_CREATE)
		return false;
	switch (how) {
	case FROM_HVA:
		from->hva += PAGE;
		break;
	case FROM_GPA:
		from->gpa.first -= PAGE;
		break;
	case FROM_ID:
		from->id ^= 256;
		break;
	case FROM_FLAGS:
		from->flags ^= GM_SLOT_LOG;
		break;
	case FROM_MISSING:
		from->missing = true;
		break;
	default:
		return false;
	}
	return true;
}

static bool spoil_order(struct gm_plan *plan, size_t i, enum spoil how)
{
	struct gm_op op = plan->ops[i];

	switch (how) {
	case DROP:
		take_op(plan, i);
		return true;
	case TWICE:
		put_op(plan, i, op);
		return true;
	case OTHER_SIDE:
		if (op.phase == GM_CRITICAL)
			return false;
		change_phase(plan, i, op.phase == GM_EARLY ? GM_LATE : GM_EARLY);
		return true;
	case TO_EARLY:
	case TO_LATE:
		if (op.phase != GM_CRITICAL)
			return false;
		change_phase(plan, i, how == TO_EARLY ? GM_EARLY : GM_LATE);
		return true;
	case CREATE_FIRST:
		if (op.phase != GM_CRITICAL || op.kind != GM_OP_CREATE)
			return false;
		take_op(plan, i);
		put_op(plan, bound(plan, GM_CRITICAL, false), op);
		return true;
	default:
		return false;
	}
}

/* False: operation @i can't be spoilt that way. */
static bool spoil(struct gm_plan *plan, size_t i, enum spoil how)
{
	return spoil_to(plan, i, how) || spoil_from(plan, i, how) || spoil_order(plan, i, how);
}

static int verify_copy(struct world *w, const struct gm_plan *plan)
{
	struct gm_plan good = w->plan;
	int err;

	w->plan = *plan;
	w->msg.text[0] = '\0';
	err = world_verify(w);
	w->plan = good;
	return err;
}

/* Every operation of the world's plan, in every way. pre: nothing in it is critical without need. */
static void spoil_all(struct world *w, size_t seen[NR_SPOILS])
{
	struct copy bad;

	for (size_t i = 0; i < w->plan.n; i++) {
		for (int how = 0; how < NR_SPOILS; how++) {
			copy_plan(&bad, &w->plan);
			if (!spoil(&bad.plan, i, (enum spoil)how))
				continue;
			if (verify_copy(w, &bad.plan) != -EINVAL)
				fail_msg("operation %zu spoilt by %d is not seen", i, how);
			assert_int_not_equal(w->msg.text[0], 0);
			seen[how]++;
		}
	}
}

/* --------------------------------------------------------------------------------- tests --- */

/* A plan with every kind of operation in every phase where it may be. */
static void make_all_kinds(struct world *w)
{
	map_pages(w, 0, 10, 0, 0, 0);
	map_pages(w, 20, 4, 1, 0, 0);
	map_pages(w, 30, 4, 2, 0, 0);
	map_pages(w, 40, 4, 3, 0, GM_SEG_LOG);
	map_pages(w, 50, 4, 4, 0, 0);
	map_pages(w, 70, 4, 5, 0, GM_SEG_GUEST_MEMFD);
	map_pages(w, 80, 4, 0, 80, GM_SEG_LOG);
	map_pages(w, 90, 4, 1, 90, 0);
	map_pages(w, 100, 4, 1, 200, 0);
	map_pages(w, 120, 4, 2, 120, GM_SEG_LOG);
	world_commit(w);
	map_pages(w, 3, 2, 0, 3, GM_SEG_READONLY);
	unmap_pages(w, 20, 4);
	map_pages(w, 30, 4, 2, 0, GM_SEG_LOG);
	map_pages(w, 40, 4, 3, 0, 0);
	unmap_pages(w, 50, 4);
	map_pages(w, 60, 4, 4, 0, 0);
	unmap_pages(w, 70, 4);
	map_pages(w, 76, 4, 5, 0, GM_SEG_GUEST_MEMFD);
	unmap_pages(w, 80, 4);
	unmap_pages(w, 90, 4);
	map_pages(w, 92, 4, 1, 90, 0);
	map_pages(w, 100, 4, 1, 300, 0);
	map_pages(w, 110, 4, 3, 110, 0);
	unmap_pages(w, 120, 4);
	map_pages(w, 122, 4, 2, 120, GM_SEG_LOG);
	expect_plan(w, "E+76:4g#10 E+110:4#11 E~30:4l#2 "
		       "C-0:10#0 C-80:4l#6 C-100:4#8 C90>92:4#7 C120>122:4l#9 "
		       "C+0:3#0 C+3:2r#6 C+5:5#8 C+100:4#12 "
		       "L50>60:4#4 L-20:4#1 L-70:4g#5 L~40:4#3");
}

static void test_every_kind_spoilt(void **state)
{
	size_t seen[NR_SPOILS] = {0};

	make_all_kinds(*state);
	spoil_all(*state, seen);
	for (int how = 0; how < NR_SPOILS; how++)
		assert_true(seen[how] > 0);
	world_reject(*state);
}

static void test_random_plans_spoilt(void **state)
{
	size_t seen[NR_SPOILS] = {0}, sum = 0;

	(void)state;
	random_seed();
	for (unsigned i = 0; i < 100; i++) {
		struct random_world r;

		random_world_init(&r);
		/* Where slots run short more is critical than must be. */
		for (unsigned k = 0; k < 40 && r.roomy; k++) {
			for (unsigned n = 1 + below(5); n > 0; n--)
				random_edit(&r);
			must(world_make(&r.w));
			spoil_all(&r.w, seen);
			world_accept(&r.w);
		}
		world_destroy(&r.w);
	}
	for (int how = 0; how < NR_SPOILS; how++) {
		assert_true(seen[how] > 0);
		sum += seen[how];
	}
	printf("%zu plans spoilt\n", sum);
}

static void expect_refusal(struct world *w, const struct gm_plan *plan, const char *words)
{
	assert_int_equal(verify_copy(w, plan), -EINVAL);
	if (!strstr(w->msg.text, words))
		fail_msg("\"%s\", but not: %s", words, w->msg.text);
}

/* Each rule is the one that speaks. */
static void test_reasons_of_the_kernel(void **state)
{
	struct world *w = *state;
	struct copy bad;

	make_all_kinds(w);
	copy_plan(&bad, &w->plan);
	bad.plan.ops[1].to.id = 0;
	expect_refusal(w, &bad.plan, "V1: operation 1: the id is in use");
	bad.plan.ops[1].to.id = 0x10000;
	expect_refusal(w, &bad.plan, "V1: operation 1: the id is too large");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[1].to.gpa = pages(43, 1);
	expect_refusal(w, &bad.plan, "V1: operation 1: it overlaps another");
	bad.plan.ops[1].to.gpa.last--;
	expect_refusal(w, &bad.plan, "whole pages");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[1].to.hva = UINT64_MAX - PAGE + 1;
	expect_refusal(w, &bad.plan, "misaligned or wraps");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[0].to.flags |= GM_SLOT_LOG;
	expect_refusal(w, &bad.plan, "guest_memfd goes with no other flag");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[2].to.flags = 0;
	expect_refusal(w, &bad.plan, "nothing changes");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[12].to.gpa = bad.plan.ops[12].from.gpa;
	expect_refusal(w, &bad.plan, "it is there already");
	world_reject(w);
}

static void test_reasons_on_the_way(void **state)
{
	struct world *w = *state;
	struct copy bad;

	make_all_kinds(w);
	copy_plan(&bad, &w->plan);
	bad.plan.ops[7].to.flags = 0;
	expect_refusal(w, &bad.plan, "V2: operation 7, 0x78000: unread dirty bits are lost");
	copy_plan(&bad, &w->plan);
	change_phase(&bad.plan, 6, GM_LATE);
	expect_refusal(w, &bad.plan, "a page that stays backed loses its slot");
	copy_plan(&bad, &w->plan);
	change_phase(&bad.plan, 13, GM_EARLY);
	expect_refusal(w, &bad.plan, "not for this phase");
	copy_plan(&bad, &w->plan);
	take_op(&bad.plan, 9);
	expect_refusal(w, &bad.plan, "0x3000: unbacked when the gate opens");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[9].to.hva += PAGE;
	expect_refusal(w, &bad.plan, "0x3000: other memory when the gate opens");
	copy_plan(&bad, &w->plan);
	bad.plan.nr_late++;
	expect_refusal(w, &bad.plan, "don't add up");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[0].phase = GM_LATE;
	expect_refusal(w, &bad.plan, "out of phase");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[0].kind = 0;
	bad.plan.ops[0].from = w->kernel[0];
	expect_refusal(w, &bad.plan, "unknown operation");
	world_reject(w);
}

static void test_reasons_at_the_end(void **state)
{
	struct world *w = *state;
	struct copy bad;

	make_all_kinds(w);
	copy_plan(&bad, &w->plan);
	take_op(&bad.plan, 1);
	expect_refusal(w, &bad.plan, "V3: space 0, 0x6e000: memory without a slot");
	copy_plan(&bad, &w->plan);
	take_op(&bad.plan, 13);
	expect_refusal(w, &bad.plan, "V3: space 0, 0x14000: a slot without memory");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[1].to.flags = GM_SLOT_LOG;
	expect_refusal(w, &bad.plan, "V3: space 0, 0x6e000: LOG is wrong");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[1].to.hva += PAGE;
	expect_refusal(w, &bad.plan, "V3: space 0, 0x6e000: a slot shows other memory");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[1].to.gpa.last += PAGE;
	expect_refusal(w, &bad.plan, "a slot goes beyond its memory");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[1].to.gpa.first -= PAGE;
	expect_refusal(w, &bad.plan, "V3: space 0, 0x6d000: a slot without memory");
	world_reject(w);
}

static void test_limits(void **state)
{
	struct world *w = *state;

	make_all_kinds(w);
	w->in.max_slot_size = 4 * PAGE;
	expect_refusal(w, &w->plan, "V3: space 0, 0x3000: a slot is too large");
	w->in.max_slot_size = UINT64_C(1) << 30;
	w->slots[0].ids.max_taken = 11;
	expect_refusal(w, &w->plan, "V1: operation 1: there are too many");
	w->slots[0].ids.max_taken = 9;
	expect_refusal(w, &w->plan, "old slot 9: there are too many");
	w->slots[0].ids.max_taken = NO_LIMIT;
	must(verify_copy(w, &w->plan));
	w->in.nr_spaces = 1;
	must(verify_copy(w, &w->plan));
	w->in.page_size = 4 * PAGE;
	assert_int_equal(verify_copy(w, &w->plan), -EINVAL);
	w->in.page_size = PAGE;
	w->in.nr_spaces = SPACES;
	world_reject(w);
}

static void test_old_slots(void **state)
{
	struct world *w = *state;
	struct gm_slot good;

	make_all_kinds(w);
	good = w->kernel[1];
	w->kernel[1].id = w->kernel[2].id;
	expect_refusal(w, &w->plan, "the id is in use");
	w->kernel[1] = good;
	w->kernel[1].gpa.last = w->kernel[2].gpa.first + PAGE - 1;
	expect_refusal(w, &w->plan, "it overlaps another");
	w->kernel[1] = good;
	w->kernel[1].space = SPACES;
	expect_refusal(w, &w->plan, "there is no such address space");
	w->kernel[1] = good;
	world_reject(w);
}

static void test_log_lost(void **state)
{
	struct world *w = *state;
	struct copy bad;

	map_pages(w, 0, 4, 0, 0, GM_SEG_LOG);
	world_commit(w);
	unmap_pages(w, 0, 4);
	expect_plan(w, "C-0:4l#0");
	copy_plan(&bad, &w->plan);
	change_phase(&bad.plan, 0, GM_LATE);
	expect_refusal(w, &bad.plan, "V2: operation 0, 0x0: unread dirty bits are lost");
	world_reject(w);
}

static void test_guest_memfd_in_place(void **state)
{
	struct world *w = *state;
	struct copy bad;

	map_pages(w, 0, 4, 0, 0, GM_SEG_GUEST_MEMFD);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 4, 0, 0, GM_SEG_GUEST_MEMFD);
	expect_plan(w, "E+8:4g#1 L-0:4g#0");
	copy_plan(&bad, &w->plan);
	take_op(&bad.plan, 1);
	bad.plan.ops[0].kind = GM_OP_MOVE;
	bad.plan.ops[0].from = w->kernel[0];
	bad.plan.ops[0].to.id = 0;
	expect_refusal(w, &bad.plan, "a guest_memfd slot can't change");
	bad.plan.ops[0].kind = GM_OP_FLAGS;
	expect_refusal(w, &bad.plan, "a guest_memfd slot can't change");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[1].from.gmem_fd++;
	expect_refusal(w, &bad.plan, "there is no such slot");
	world_reject(w);
}

static void test_no_memory(void **state)
{
	struct world *w = *state;
	struct gm_verify_input in = {
		.alloc = &w->heap.alloc,
		.page_size = PAGE,
		.max_slot_size = w->in.max_slot_size,
		.nr_spaces = SPACES,
		.max_slots = NO_LIMIT,
		.views = w->roots,
	};
	int err;

	make_all_kinds(w);
	in.old = w->kernel;
	in.nr_old = w->nr_kernel;
	for (size_t nth = 1;; nth++) {
		size_t live = w->heap.live, end = w->heap.calls + nth;

		w->heap.fail = end;
		err = gm_plan_verify(&w->plan, &in, &w->msg);
		w->heap.fail = 0;
		assert_int_equal(w->heap.live, live);
		if (w->heap.calls < end)
			break;
		assert_int_equal(err, -ENOMEM);
	}
	must(err);
	world_reject(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_kind_spoilt, setup, teardown),
		cmocka_unit_test(test_random_plans_spoilt),
		cmocka_unit_test_setup_teardown(test_reasons_of_the_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reasons_on_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reasons_at_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guest_memfd_in_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
