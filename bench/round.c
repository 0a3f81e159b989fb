/* SPDX-License-Identifier: BSD-3-Clause */
/* Blackouts of all rivals with one guest. */
#include "round.h"

#include <err.h>
#include <stdlib.h>

/* inhibit can take long where the guest is large: a whole cycle at least, and then not much longer than this. */
#define INHIBIT_US 1e5

/* They have the time between two changes. */
static void let_vcpus_run(void)
{
	sleep_us(200);
}

const char *round_rival_name(enum round_rival rival)
{
	static const char *const names[NR_ROUND_RIVALS] = {"gpamap", "by hand", "inhibit", "floor"};

	return names[rival];
}

static void add(struct round_series *s, enum round_rival rival, struct took took)
{
	series_add(&s->blackout[rival], took.blackout);
	if (took.back > 0)
		series_add(&s->back[rival], took.back);
}

static unsigned any_page(const struct round *r)
{
	return r->layout.pages ? (unsigned)rand() % r->layout.pages : 0;
}

/* @s may be NULL, here and below: nothing is noted. */
static void turn_ours(struct round *r, enum crew_state state, int cycles, struct round_series *s)
{
	unsigned page = 0;

	crew_start(&r->ours.crew, state);
	let_vcpus_run();
	for (int i = 0; i < 2 * cycles; i++) {
		struct took took;

		if (i % 2 == 0)
			page = any_page(r);
		took = ours_change(&r->ours, page, i % 2 == 0 ? PAGE_READONLY : PAGE_PLAIN);
		if (s)
			add(s, ROUND_OURS, took);
		let_vcpus_run();
	}
	crew_stop(&r->ours.crew);
}

/* Commits @first to @end of the tape. */
static void replay(struct round *r, size_t first, size_t end, bool held, struct round_series *s)
{
	for (size_t i = first; i < end; i++) {
		struct took took = hand_replay(&r->hand, &r->ours.tape, i, held);

		if (s)
			add(s, held ? ROUND_BY_HAND : ROUND_FLOOR, took);
		let_vcpus_run();
	}
}

/* What ours has done once more: the first half by hand, if there is somebody to hold, the rest as the floor. */
static void turn_hand(struct round *r, enum crew_state state, struct round_series *s)
{
	size_t n = r->ours.tape.nr_ends, half = state == CREW_OUTSIDE ? 0 : n / 2;

	if (half) {
		crew_start(&r->hand.crew, state);
		let_vcpus_run();
		replay(r, 0, half, true, s);
		crew_stop(&r->hand.crew);
	}
	replay(r, half, n, false, s ? &r->state[0] : NULL);
	tape_clear(&r->ours.tape);
}

static void turn_inhibit(struct round *r, enum crew_state state, int cycles, struct round_series *s)
{
	double end = now_us() + INHIBIT_US;
	unsigned page = 0;

	crew_start(&r->inhibit.crew, state);
	let_vcpus_run();
	for (int i = 0; i < 2 * cycles; i++) {
		if (i >= 2 && i % 2 == 0 && now_us() > end)
			break;
		if (i % 2 == 0)
			page = any_page(r);
		add(s, ROUND_INHIBIT,
		    inhibit_change(&r->inhibit, page, i % 2 == 0 ? PAGE_READONLY : PAGE_PLAIN));
		let_vcpus_run();
	}
	crew_stop(&r->inhibit.crew);
}

void round_turn(struct round *r, enum crew_state state, int cycles)
{
	struct round_series *s = &r->state[state];

	turn_ours(r, state, cycles, s);
	turn_hand(r, state, s);
	turn_inhibit(r, state, cycles, s);
}

bool round_can(const struct round *r, enum crew_state state)
{
	return state != CREW_HALTED || r->ours.guest.can_halt;
}

struct round *round_new(int kvm, const struct layout *l, int vcpus)
{
	struct round *r = aligned_alloc(_Alignof(struct round), sizeof(*r));

	if (!r)
		err(1, "round");
	*r = (struct round){.layout = *l, .vcpus = vcpus};
	if (inhibit_init(&r->inhibit, kvm, l, vcpus)) {
		free(r);
		return NULL;
	}
	ours_init(&r->ours, kvm, l, vcpus);
	hand_init(&r->hand, kvm, l, vcpus);
	replay(r, 0, r->ours.tape.nr_ends, false, NULL);
	tape_clear(&r->ours.tape);
	guest_reset(&r->hand.guest);
	/* The first split happens once. */
	turn_ours(r, CREW_RUNNING, 2, NULL);
	turn_hand(r, CREW_RUNNING, NULL);
	return r;
}

void round_free(struct round *r)
{
	for (int i = 0; i < r->vcpus; i++) {
		if (!guest_count(&r->ours.guest, i) || !guest_count(&r->hand.guest, i))
			errx(1, "vCPU %d has never run", i);
	}
	ours_destroy(&r->ours);
	hand_destroy(&r->hand);
	inhibit_destroy(&r->inhibit);
	for (int s = 0; s < NR_CREW_STATES; s++) {
		for (int i = 0; i < NR_ROUND_RIVALS; i++) {
			series_free(&r->state[s].blackout[i]);
			series_free(&r->state[s].back[i]);
		}
	}
	free(r);
}
