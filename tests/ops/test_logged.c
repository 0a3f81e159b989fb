/* SPDX-License-Identifier: BSD-3-Clause */
/* Which slots log a part of a region, against a look at all slots. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../base/counting.h"
#include "ops/logged.h"

#define NR_SPACES 2
#define NR_REGIONS 5
#define MOST_SLOTS 300
#define OFFSETS 200 /* of each region; a page is 1 here */

struct env {
	struct counting c;
	struct gpamap_region region[NR_REGIONS];
	struct gm_slots slots[NR_SPACES];
	struct gm_logged logged;
};

static struct gm_slot random_slot(struct env *e, uint64_t gpa)
{
	uint64_t first = random_below(OFFSETS), n = 1 + random_below(OFFSETS - first);

	if (random_below(3))
		n = 1 + n % 8;
	return (struct gm_slot){
		.gpa = {gpa, gpa + n - 1},
		.region = &e->region[random_below(NR_REGIONS)],
		.offset = first,
		.flags = random_below(3) ? GM_SLOT_LOG : GM_SLOT_READONLY,
	};
}

/* Some slots go, some come. */
static void change(struct env *e, unsigned space)
{
	struct gm_tree *t = &e->slots[space].tree;
	struct gm_stale stale;

	for (uint64_t k = random_below(40); k > 0; k--) {
		uint64_t gpa = random_below(MOST_SLOTS) * OFFSETS;
		struct gm_slot slot = random_slot(e, gpa);

		if (gm_tree_remove(t, gpa, 0))
			assert_int_equal(gm_tree_insert(t, slot.gpa, 0, &slot), 0);
	}
	gm_tree_commit(t, &stale);
	gm_stale_free(&stale);
}

static void setup(struct env *e)
{
	memset(e, 0, sizeof(*e));
	counting_init(&e->c);
	for (unsigned i = 0; i < NR_REGIONS; i++) {
		e->region[i].serial = 7 + 3 * i;
		atomic_init(&e->region[i].refs, 1);
	}
	for (unsigned i = 0; i < NR_SPACES; i++)
		gm_tree_init(&e->slots[i].tree, &gm_slot_type, &e->c.alloc);
	gm_logged_init(&e->logged, &e->c.alloc);
}

static void teardown(struct env *e)
{
	gm_logged_destroy(&e->logged);
	for (unsigned i = 0; i < NR_SPACES; i++)
		gm_tree_destroy(&e->slots[i].tree);
	for (unsigned i = 0; i < NR_REGIONS; i++)
		assert_int_equal(atomic_load(&e->region[i].refs), 1);
	assert_int_equal(e->c.live, 0);
}

/* --------------------------------------------------------------------------- all of them --- */

struct found {
	const struct gm_slot *slot[2 * MOST_SLOTS];
	size_t n;
	size_t stop_at; /* return an error at this one, from 1 */
};

static int note(void *arg, const struct gm_slot *slot)
{
	struct found *f = arg;

	assert_true(f->n < 2 * MOST_SLOTS);
	f->slot[f->n++] = slot;
	return f->n == f->stop_at ? -EIO : 0;
}

static bool was_found(const struct found *f, const struct gm_slot *slot)
{
	size_t times = 0;

	for (size_t i = 0; i < f->n; i++)
		times += f->slot[i] == slot;
	assert_true(times <= 1);
	return times;
}

static bool is_asked_for(const struct gm_slot *s, const struct gpamap_region *r,
			 struct gm_range offsets)
{
	return s->region == r && (s->flags & GM_SLOT_LOG) && s->offset <= offsets.last &&
	       s->offset + (s->gpa.last - s->gpa.first) >= offsets.first;
}

static void check(struct env *e, const struct gpamap_region *r, struct gm_range offsets)
{
	struct gm_range all = {0, UINT64_MAX};
	static struct found f, some;
	size_t n = 0;

	f = (struct found){.n = 0};
	assert_int_equal(gm_logged_each(&e->logged, r, offsets, note, &f), 0);
	for (unsigned i = 0; i < NR_SPACES; i++) {
		gm_tree_for_each (node, e->slots[i].tree.base, all) {
			const struct gm_slot *s = gm_slot_of(node);

			assert_int_equal(was_found(&f, s), is_asked_for(s, r, offsets));
			n += is_asked_for(s, r, offsets);
		}
	}
	assert_int_equal(f.n, n);
	if (!n)
		return;
	some = (struct found){.stop_at = 1 + random_below(n)};
	assert_int_equal(gm_logged_each(&e->logged, r, offsets, note, &some), -EIO);
	assert_int_equal(some.n, some.stop_at);
}

static void random_tables(void **state)
{
	struct gpamap_region stranger = {.serial = 8};
	struct env e;

	(void)state;
	setup(&e);
	for (unsigned round = 0; round < 400; round++) {
		if (round)
			change(&e, (unsigned)random_below(NR_SPACES));
		assert_int_equal(gm_logged_follow(&e.logged, e.slots, NR_SPACES), 0);
		for (unsigned k = 0; k < 20; k++) {
			uint64_t first = random_below(OFFSETS);
			struct gm_range offsets = {first, first + random_below(OFFSETS - first)};

			if (k == 0)
				offsets = (struct gm_range){0, UINT64_MAX};
			check(&e, &e.region[random_below(NR_REGIONS)], offsets);
			check(&e, &stranger, offsets);
		}
	}
	teardown(&e);
}

/* Nothing is made where nothing has changed, and nothing is believed that could not be made. */
static void made_when_needed(void **state)
{
	struct gm_range all = {0, UINT64_MAX};
	struct gm_stale stale;
	struct env e;
	size_t calls;

	(void)state;
	setup(&e);
	for (unsigned i = 0; i < 20; i++)
		change(&e, i % NR_SPACES);
	for (size_t nth = 1; nth < 4; nth++) {
		counting_fail(&e.c, nth, true);
		assert_int_equal(gm_logged_follow(&e.logged, e.slots, NR_SPACES), -ENOMEM);
	}
	counting_fail(&e.c, 0, false);
	assert_int_equal(gm_logged_follow(&e.logged, e.slots, NR_SPACES), 0);
	check(&e, &e.region[1], all);
	calls = e.c.calls;
	/* Behind its back: it does not look, unless the table is another. */
	gm_tree_for_each (node, e.slots[0].tree.base, all)
		gm_slot_of(node)->flags &= ~(uint32_t)GM_SLOT_LOG;
	assert_int_equal(gm_logged_follow(&e.logged, e.slots, NR_SPACES), 0);
	assert_int_equal(e.c.calls, calls);
	gm_tree_commit(&e.slots[0].tree, &stale);
	gm_stale_free(&stale);
	assert_int_equal(gm_logged_follow(&e.logged, e.slots, NR_SPACES), 0);
	check(&e, &e.region[1], all);
	teardown(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_tables),
		cmocka_unit_test(made_when_needed),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
