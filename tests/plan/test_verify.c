/* SPDX-License-Identifier: BSD-3-Clause */
/* The verifier must refuse what is wrong, and say why: each rule, met by a plan that breaks it. */
#include "spoil.h"

static void expect_refusal(struct world *w, const struct gm_plan *plan, const char *words)
{
	assert_int_equal(verify_copy(w, plan), -EINVAL);
	if (!strstr(w->msg.text, words))
		fail_msg("\"%s\", but not: %s", words, w->msg.text);
}

/* A copy of the world's plan, and in it the operation shown as @text. */
static struct gm_op *op_in(struct copy *bad, const struct world *w, const char *text)
{
	copy_plan(bad, &w->plan);
	return &bad->plan.ops[op_of(&bad->plan, text)];
}

/* The world's plan, with the operation shown as @text in another phase, or (0) not at all. */
static const struct gm_plan *with_phase(struct copy *bad, const struct world *w, const char *text,
					int phase)
{
	size_t i;

	copy_plan(bad, &w->plan);
	i = op_of(&bad->plan, text);
	if (phase)
		change_phase(&bad->plan, i, (enum gm_phase)phase);
	else
		take_op(&bad->plan, i);
	return &bad->plan;
}

/* Each rule is the one that speaks. */
static void test_reasons_of_the_kernel(void **state)
{
	struct world *w = *state;
	struct copy bad;

	make_all_kinds(w);
	op_in(&bad, w, "E+110:4#12")->to.id = 0;
	expect_refusal(w, &bad.plan, "V1: operation 1: the id is in use");
	bad.plan.ops[1].to.id = 0x10000;
	expect_refusal(w, &bad.plan, "V1: operation 1: the id is too large");
	op_in(&bad, w, "E+110:4#12")->to.gpa = pages(43, 1);
	expect_refusal(w, &bad.plan, "V1: operation 1: it overlaps another");
	bad.plan.ops[1].to.gpa.last--;
	expect_refusal(w, &bad.plan, "whole pages");
	op_in(&bad, w, "E+110:4#12")->to.hva = UINT64_MAX - PAGE + 1;
	expect_refusal(w, &bad.plan, "misaligned or wraps");
	op_in(&bad, w, "C+76:4g#6")->to.flags |= GM_SLOT_LOG;
	expect_refusal(w, &bad.plan, "guest_memfd goes with no other flag");
	op_in(&bad, w, "E~30:4l#2")->to.flags = 0;
	expect_refusal(w, &bad.plan, "nothing changes");
	op_in(&bad, w, "C90>92:4#7")->to.gpa = pages(90, 4);
	expect_refusal(w, &bad.plan, "it is there already");
	world_reject(w);
}

static void test_reasons_on_the_way(void **state)
{
	struct world *w = *state;
	struct copy bad;

	make_all_kinds(w);
	op_in(&bad, w, "C120>122:4l#9")->to.flags = 0;
	expect_refusal(w, &bad.plan, "0x78000: unread dirty bits are lost");
	/* Under what stays. */
	with_phase(&bad, w, "C-0:10#0", GM_LATE);
	take_op(&bad.plan, op_of(&bad.plan, "C+0:3#0"));
	take_op(&bad.plan, op_of(&bad.plan, "C+3:2r#4"));
	take_op(&bad.plan, op_of(&bad.plan, "C+5:5#5"));
	expect_refusal(w, &bad.plan, "covers what should be seen");
	expect_refusal(w, with_phase(&bad, w, "L-20:4#1", GM_EARLY), "not for this phase");
	expect_refusal(w, with_phase(&bad, w, "E~30:4l#2", GM_LATE), "not for this phase");
	expect_refusal(w, with_phase(&bad, w, "L~40:4#3", GM_EARLY), "not for this phase");
	expect_refusal(w, with_phase(&bad, w, "C+3:2r#4", 0),
		       "0x3000: unbacked when the gate opens");
	op_in(&bad, w, "C+3:2r#4")->to.hva += PAGE;
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

/* What can't be taken back is not early, and what must be done is not late. */
static void test_reasons_of_the_phases(void **state)
{
	struct world *w = *state;
	struct copy bad;

	make_all_kinds(w);
	expect_refusal(w, with_phase(&bad, w, "C+130:4#10", GM_EARLY), "V1");
	bad.plan.ops[op_of(&bad.plan, "E+130:4#10")].to.id = 77;
	expect_refusal(w, &bad.plan, "0x82000: early over something that guests may notice");
	expect_refusal(w, with_phase(&bad, w, "C-50:4#4", GM_LATE), "V1");
	bad.plan.ops[op_of(&bad.plan, "C+3:2r#4")].to.id = 77;
	expect_refusal(w, &bad.plan, "0x32000: late, and its memory may be freed before");
	with_phase(&bad, w, "C-140:4#10", GM_LATE);
	bad.plan.ops[op_of(&bad.plan, "C+130:4#10")].to.id = 77;
	expect_refusal(w, &bad.plan, "0x8c000: late, and covers what should be seen");
	with_phase(&bad, w, "C-80:4l#6", GM_LATE);
	bad.plan.ops[op_of(&bad.plan, "C+76:4g#6")].to.id = 77;
	expect_refusal(w, &bad.plan, "0x50000: unread dirty bits are lost");
	expect_refusal(w, with_phase(&bad, w, "C90>92:4#7", GM_EARLY), "not for this phase");
	expect_refusal(w, with_phase(&bad, w, "C90>92:4#7", GM_LATE), "not for this phase");
	world_reject(w);
}

/* By the region it could be late; but that has got other memory. */
static void test_rebacked(void **state)
{
	struct world *w = *state;

	make_all_kinds(w);
	must(verify_copy(w, &w->plan));
	w->regions[1].now.hva += PAGE;
	expect_refusal(w, &w->plan, "0x14000: late, and its memory may be freed before");
	w->regions[1].now.hva -= PAGE;
	world_reject(w);
}

static void test_decisive(void **state)
{
	struct world *w = *state;
	struct copy bad;

	make_decisive(w);
	copy_plan(&bad, &w->plan);
	bad.plan.decisive = false;
	expect_refusal(w, &bad.plan, "V2: operation 2, 0x0: it is not for this phase");
	copy_plan(&bad, &w->plan);
	take_op(&bad.plan, 2);
	put_op(&bad.plan, 0, w->plan.ops[2]);
	expect_refusal(w, &bad.plan, "V2: operation 0, 0x0: it is not for this phase");
	expect_refusal(w, with_phase(&bad, w, "L-20:4#1", GM_CRITICAL),
		       "decisive, with 3 early and 1 critical operations");
	copy_plan(&bad, &w->plan);
	take_op(&bad.plan, 2);
	expect_refusal(w, &bad.plan, "V2: operation 1, 0x1e000: it can't be decisive");
	/* It may be behind the gate, of course, or be called so although it isn't. */
	with_phase(&bad, w, "E-0:4#0", GM_CRITICAL);
	bad.plan.decisive = false;
	must(verify_copy(w, &bad.plan));
	world_reject(w);
	map_pages(w, 40, 4, 3, 0, 0);
	expect_plan(w, "E+40:4#3");
	copy_plan(&bad, &w->plan);
	bad.plan.decisive = true;
	must(verify_copy(w, &bad.plan));
	take_op(&bad.plan, 0);
	expect_refusal(w, &bad.plan, "decisive, with 0 early");
	world_reject(w);
	/* Memory that stays can't go even so. */
	map_pages(w, 0, 4, 0, 0, GM_SEG_READONLY);
	expect_plan(w, "C-0:4#0 C+0:4r#0");
	with_phase(&bad, w, "C-0:4#0", GM_EARLY);
	change_phase(&bad.plan, 1, GM_LATE);
	bad.plan.decisive = true;
	expect_refusal(w, &bad.plan,
		       "V2: operation 0, 0x0: a page that stays backed loses its slot");
	world_reject(w);
}

/* A page of a guest_memfd is in one slot at a time. */
static void test_bound_twice(void **state)
{
	struct world *w = *state;
	struct copy bad;
	struct gm_op *op;

	map_gmem(w, 0, 0, 4, 0, 0);
	map_gmem(w, 1, 0, 4, 0, 8);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_gmem(w, 1, 8, 4, 1, 3);
	expect_plan(w, "C-0:4g#0 C+8:4gs#1");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[0] = w->plan.ops[1];
	bad.plan.ops[1] = w->plan.ops[0];
	expect_refusal(w, &bad.plan, "V1: operation 0: its pages of a guest_memfd are in another");
	expect_refusal(w, with_phase(&bad, w, "C+8:4gs#1", GM_EARLY),
		       "V1: operation 0: its pages of a guest_memfd are in another");
	expect_refusal(w, with_phase(&bad, w, "C-0:4g#0", GM_LATE),
		       "V1: operation 0: its pages of a guest_memfd are in another");
	/* Not only with what goes. */
	op = op_in(&bad, w, "C+8:4gs#1");
	op->to.gmem_offset = 11 * PAGE;
	expect_refusal(w, &bad.plan, "V1: operation 1: its pages of a guest_memfd are in another");
	op->to.gmem_offset = 5 * PAGE;
	expect_refusal(w, &bad.plan, "V1: operation 1: its pages of a guest_memfd are in another");
	op->to.gmem_offset = 12 * PAGE;
	expect_refusal(w, &bad.plan, "V3");
	op->to.gmem_offset = 4 * PAGE;
	expect_refusal(w, &bad.plan, "V3");
	op->to.gmem_offset = 8 * PAGE;
	op->to.gmem_fd++;
	expect_refusal(w, &bad.plan, "V3");
	/* Nor could a kernel have begun so. */
	w->kernel[0].gmem_offset = 9 * PAGE;
	expect_refusal(w, &w->plan, "old slot 1: its pages of a guest_memfd are in another");
	w->kernel[0].gmem_offset = 0;
	must(verify_copy(w, &w->plan));
	world_reject(w);
}

static void test_reasons_at_the_end(void **state)
{
	struct world *w = *state;
	struct copy bad;
	struct gm_op *op;

	make_all_kinds(w);
	expect_refusal(w, with_phase(&bad, w, "E+110:4#12", 0),
		       "V3: space 0, 0x6e000: memory without a slot");
	expect_refusal(w, with_phase(&bad, w, "L-20:4#1", 0),
		       "V3: space 0, 0x14000: a slot without memory");
	op = op_in(&bad, w, "E+110:4#12");
	op->to.flags = GM_SLOT_LOG;
	expect_refusal(w, &bad.plan, "V3: space 0, 0x6e000: LOG is wrong");
	op = op_in(&bad, w, "E+110:4#12");
	op->to.hva += PAGE;
	expect_refusal(w, &bad.plan, "V3: space 0, 0x6e000: a slot shows other memory");
	op = op_in(&bad, w, "E+110:4#12");
	op->to.gpa.last += PAGE;
	expect_refusal(w, &bad.plan, "a slot goes beyond its memory");
	op = op_in(&bad, w, "E+110:4#12");
	op->to.gpa.first -= PAGE;
	expect_refusal(w, &bad.plan, "V3: space 0, 0x6d000: a slot without memory");
	world_reject(w);
}

static void test_limits(void **state)
{
	struct world *w = *state;

	make_all_kinds(w);
	w->in.most_slot_size = 4 * PAGE;
	expect_refusal(w, &w->plan, "V3: space 0, 0x3000: a slot is too large");
	w->in.most_slot_size = UINT64_C(1) << 30;
	w->slots[0].ids.max_taken = 12;
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
	expect_plan(w, "C-0:4g#0 C+8:4g#0");
	copy_plan(&bad, &w->plan);
	take_op(&bad.plan, 0);
	bad.plan.ops[0].kind = GM_OP_MOVE;
	bad.plan.ops[0].from = w->kernel[0];
	expect_refusal(w, &bad.plan, "a guest_memfd slot can't change");
	bad.plan.ops[0].kind = GM_OP_FLAGS;
	expect_refusal(w, &bad.plan, "a guest_memfd slot can't change");
	copy_plan(&bad, &w->plan);
	bad.plan.ops[0].from.gmem_fd++;
	expect_refusal(w, &bad.plan, "there is no such slot");
	world_reject(w);
}

static void test_no_memory(void **state)
{
	struct world *w = *state;
	struct gm_verify_input in = {
		.alloc = &w->heap.alloc,
		.page_size = PAGE,
		.most_slot_size = w->in.most_slot_size,
		.nr_spaces = SPACES,
		.max_slots = NO_LIMIT,
		.old_views = w->old_roots,
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
		world_test(test_reasons_of_the_kernel),
		world_test(test_reasons_on_the_way),
		world_test(test_reasons_of_the_phases),
		world_test(test_rebacked),
		world_test(test_decisive),
		world_test(test_bound_twice),
		world_test(test_reasons_at_the_end),
		world_test(test_limits),
		world_test(test_old_slots),
		world_test(test_log_lost),
		world_test(test_guest_memfd_in_place),
		world_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
