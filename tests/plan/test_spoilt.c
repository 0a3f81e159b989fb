/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verifier must refuse what is wrong: good plans are spoilt in every way there is, and each is to be seen. Good
 * plans passing is what the other tests of the planner show.
 */
#include "random_edits.h"
#include "spoil.h"

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
	FROM_REGION,
	OTHER_SIDE,
	TO_EARLY,
	TO_LATE,
	CREATE_FIRST,
	DECISIVE,
	DECISIVE_FIRST,
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
	case FROM_REGION:
		/* Whose release callback would be another one's. */
		from->region++;
		break;
	default:
		return false;
	}
	return true;
}

/* Does what is created in the critical part need anything that leaves there: addresses, an id, pages of a file? */
static bool needs_room(const struct gm_plan *plan, const struct gm_slot *to)
{
	uint64_t last = to->gmem_offset + (to->gpa.last - to->gpa.first);

	for (size_t i = plan->nr_early; i < plan->nr_early + plan->nr_critical; i++) {
		const struct gm_op *op = &plan->ops[i];
		const struct gm_slot *s = &op->from;

		if (op->kind != GM_OP_DELETE && op->kind != GM_OP_MOVE)
			continue;
		if (s->space == to->space && (gm_range_overlap(s->gpa, to->gpa) || s->id == to->id))
			return true;
		if ((s->flags & to->flags & GM_SLOT_GUEST_MEMFD) && s->gmem_fd == to->gmem_fd &&
		    s->gmem_offset <= last &&
		    to->gmem_offset <= s->gmem_offset + (s->gpa.last - s->gpa.first))
			return true;
	}
	return false;
}

static bool spoil_decisive(struct gm_plan *plan, size_t i, enum spoil how)
{
	struct gm_op op = plan->ops[i];

	switch (how) {
	case DECISIVE:
		/* The flag alone. What is not decisive, but could be the last, does no harm if it's called so. */
		if (i || (!plan->decisive && !plan->nr_critical))
			return false;
		plan->decisive = !plan->decisive;
		return true;
	case DECISIVE_FIRST:
		if (!plan->decisive || i + 1 != plan->nr_early || !i)
			return false;
		take_op(plan, i);
		put_op(plan, 0, op);
		return true;
	default:
		return false;
	}
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
		if (op.phase != GM_CRITICAL || op.kind != GM_OP_CREATE || !needs_room(plan, &op.to))
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
	return spoil_to(plan, i, how) || spoil_from(plan, i, how) || spoil_order(plan, i, how) ||
	       spoil_decisive(plan, i, how);
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

static void test_every_kind_spoilt(void **state)
{
	size_t seen[NR_SPOILS] = {0};

	make_all_kinds(*state);
	spoil_all(*state, seen);
	for (int how = 0; how < DECISIVE_FIRST; how++)
		assert_true(seen[how] > 0);
	world_reject(*state);
	world_teardown(state);
	world_setup(state);
	make_decisive(*state);
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
			if (world_make(&r.w)) {
				world_reject(&r.w);
				end_edits(&r, false);
				continue;
			}
			spoil_all(&r.w, seen);
			world_accept(&r.w);
			end_edits(&r, true);
		}
		world_destroy(&r.w);
	}
	for (int how = 0; how < NR_SPOILS; how++) {
		assert_true(seen[how] > 0);
		sum += seen[how];
	}
	printf("%zu plans spoilt\n", sum);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(test_every_kind_spoilt),
		cmocka_unit_test(test_random_plans_spoilt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
