/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long vCPUs are held while a page is made read-only and writable again, and how long it takes until the last
 * of them is about to run the guest again:
 *  - by the number of vCPUs and what they do;
 *  - by the size of the guest;
 *  - by the number of slots.
 * In the last two, two vCPUs run.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#include "round.h"

/* A change costs no more than half as much again as the same by hand; not twice as much in a guest that is a
 * thousand times larger; and not twice as much among 32,000 slots. */
#define HAND_LIMIT 1.5
#define SIZE_LIMIT 2.0
#define SLOTS_LIMIT 2.0
/* It is no dearer than what QEMU does, but for noise; and vCPUs that are outside cost a look at each. What inhibit does
 * more grows with the guest. From INHIBIT_SIZE on that is several times the blackout, so that no noise hides it: there
 * the limit is to be below inhibit, and nothing else. In smaller guests, as where vCPUs are compared, a busy machine
 * can change who is first; and among many slots of a page each, inhibit has the same to do. */
#define INHIBIT_LIMIT 1.5
#define INHIBIT_LIMIT_LARGE 1.0
#define INHIBIT_SIZE GIB
#define OUTSIDE_LIMIT 3.0

enum { MAX_ROUNDS = 6, FEW_VCPUS = 2 };

struct rounds {
	struct bench *b;
	const char *section;
	struct round *round[MAX_ROUNDS];
	int n;
};

static void say_skipped(struct bench *b, const char *section)
{
	result_note(b, section, "no KVM here: not measured");
	b->skipped = true;
}

static void add_round(struct rounds *rs, const struct layout *l, int vcpus)
{
	struct round *r = round_new(rs->b->kvm, l, vcpus);
	char text[96];

	if (r) {
		rs->round[rs->n++] = r;
		return;
	}
	snprintf(text, sizeof(text), "too little memory for the slots of %s",
		 size_text(layout_size(l)));
	result_note(rs->b, rs->section, text);
}

static void free_rounds(struct rounds *rs)
{
	for (int i = 0; i < rs->n; i++)
		round_free(rs->round[i]);
	pin_end();
}

/* Where the scheduler puts the threads matters much: let each take its turn many times. */
static void take_turns(struct rounds *rs, int turns, int cycles)
{
	for (int turn = 0; turn < turns; turn++) {
		for (int i = 0; i < rs->n; i++)
			round_turn(rs->round[i], CREW_RUNNING, cycles);
	}
}

static void ratio(struct rounds *rs, const char *what, const char *at, double value, double limit)
{
	char text[96];

	snprintf(text, sizeof(text), "%s, %s", what, at);
	result_ratio(rs->b, rs->section, text, value, limit);
}

/* With two running vCPUs. @at: what the rounds differ by, as a number, and as text. @limit: of gpamap / inhibit.
 * Returns the median of ours. */
static double report_running(struct rounds *rs, struct round *r, uint64_t at, const char *text,
			     double limit)
{
	double median[NR_ROUND_RIVALS];

	for (int i = 0; i < NR_ROUND_RIVALS; i++)
		median[i] = result_row(rs->b, rs->section, round_rival_name(i), at, "us",
				       &r->state[CREW_RUNNING].blackout[i]);
	ratio(rs, "gpamap / by hand", text, median[ROUND_OURS] / median[ROUND_BY_HAND], HAND_LIMIT);
	ratio(rs, "gpamap / inhibit", text, median[ROUND_OURS] / median[ROUND_INHIBIT], limit);
	return median[ROUND_OURS];
}

static double slowest_to_fastest(const double *median, int n)
{
	double least = median[0], most = median[0];

	for (int i = 1; i < n; i++) {
		if (median[i] < least)
			least = median[i];
		if (median[i] > most)
			most = median[i];
	}
	return most / least;
}

void bench_blackout_size(struct bench *b)
{
	static const uint64_t all[MAX_ROUNDS] = {64 * MIB, 256 * MIB, GIB,
						 4 * GIB,  16 * GIB,  64 * GIB};
	static const uint64_t few[MAX_ROUNDS] = {64 * MIB, 2 * GIB, 64 * GIB};
	const uint64_t *sizes = b->quick ? few : all;
	struct rounds rs = {.b = b, .section = "blackout-size"};
	double median[MAX_ROUNDS] = {0};

	if (b->kvm < 0)
		return say_skipped(b, rs.section);
	pin_begin();
	for (int i = 0; i < MAX_ROUNDS && sizes[i]; i++)
		add_round(&rs, &(struct layout){.size = sizes[i]}, FEW_VCPUS);
	take_turns(&rs, b->quick ? 10 : 40, 5);
	for (int i = 0; i < rs.n; i++) {
		uint64_t size = rs.round[i]->layout.size;

		median[i] =
			report_running(&rs, rs.round[i], size, size_text(size),
				       size < INHIBIT_SIZE ? INHIBIT_LIMIT : INHIBIT_LIMIT_LARGE);
	}
	if (rs.n)
		result_ratio(b, rs.section, "gpamap: slowest size / fastest size",
			     slowest_to_fastest(median, rs.n), SIZE_LIMIT);
	free_rounds(&rs);
}

void bench_blackout_slots(struct bench *b)
{
	static const unsigned all[MAX_ROUNDS] = {10, 100, 1000, 10000, 32000};
	static const unsigned few[MAX_ROUNDS] = {10, 4000};
	const unsigned *slots = b->quick ? few : all;
	struct rounds rs = {.b = b, .section = "blackout-slots"};
	double median[MAX_ROUNDS] = {0};

	if (b->kvm < 0)
		return say_skipped(b, rs.section);
	pin_begin();
	srand(1);
	for (int i = 0; i < MAX_ROUNDS && slots[i]; i++)
		add_round(&rs, &(struct layout){.pages = slots[i] - 1}, FEW_VCPUS);
	take_turns(&rs, b->quick ? 10 : 40, 5);
	for (int i = 0; i < rs.n; i++) {
		unsigned n = rs.round[i]->layout.pages + 1;
		char text[32];

		snprintf(text, sizeof(text), "%u slots", n);
		median[i] = report_running(&rs, rs.round[i], n, text, 0);
	}
	if (rs.n)
		result_ratio(b, rs.section, "gpamap: slowest number / fastest number",
			     slowest_to_fastest(median, rs.n), SLOTS_LIMIT);
	free_rounds(&rs);
}

/* ------------------------------------------------------------------- by the number of vCPUs --- */

/* The medians of ours, and of the others. */
struct medians {
	double blackout[NR_CREW_STATES][NR_ROUND_RIVALS];
	double back[NR_CREW_STATES][NR_ROUND_RIVALS];
};

static double row(struct rounds *rs, const char *section, enum round_rival rival,
		  enum crew_state state, int vcpus, struct series *s)
{
	char what[64];

	if (!s->n)
		return 0;
	if (rival == ROUND_FLOOR)
		snprintf(what, sizeof(what), "%s", round_rival_name(rival));
	else
		snprintf(what, sizeof(what), "%s, %s", round_rival_name(rival),
			 crew_state_name(state));
	return result_row(rs->b, section, what, (uint64_t)vcpus, "us", s);
}

static void report_states(struct rounds *rs, struct round *r, struct medians *m)
{
	for (int state = 0; state < NR_CREW_STATES; state++) {
		for (int i = 0; i < NR_ROUND_RIVALS; i++)
			m->blackout[state][i] = row(rs, rs->section, i, state, r->vcpus,
						    &r->state[state].blackout[i]);
	}
}

static void report_back(struct rounds *rs, struct round *r, struct medians *m)
{
	for (int state = 0; state < NR_CREW_STATES; state++) {
		for (int i = 0; i < NR_ROUND_RIVALS; i++)
			m->back[state][i] =
				row(rs, "back-vcpus", i, state, r->vcpus, &r->state[state].back[i]);
	}
}

static void report_ratios(struct rounds *rs, struct round *r, const struct medians *m)
{
	for (int state = 0; state < NR_CREW_STATES; state++) {
		const double *blackout = m->blackout[state], *back = m->back[state];
		char at[32];

		if (!blackout[ROUND_OURS])
			continue;
		snprintf(at, sizeof(at), "%d %s", r->vcpus, crew_state_name(state));
		ratio(rs, "gpamap / inhibit", at, blackout[ROUND_OURS] / blackout[ROUND_INHIBIT],
		      INHIBIT_LIMIT);
		if (blackout[ROUND_BY_HAND])
			ratio(rs, "gpamap / by hand", at,
			      blackout[ROUND_OURS] / blackout[ROUND_BY_HAND], 0);
		if (back[ROUND_OURS])
			ratio(rs, "until the last is back: gpamap / inhibit", at,
			      back[ROUND_OURS] / back[ROUND_INHIBIT], 0);
	}
}

static void report_vcpus(struct rounds *rs)
{
	static struct medians m[MAX_ROUNDS];
	int last = rs->n - 1;

	for (int i = 0; i < rs->n; i++)
		report_states(rs, rs->round[i], &m[i]);
	for (int i = 0; i < rs->n; i++)
		report_back(rs, rs->round[i], &m[i]);
	for (int i = 0; i < rs->n; i++)
		report_ratios(rs, rs->round[i], &m[i]);
	ratio(rs, "gpamap, outside", "most vCPUs / one vCPU",
	      m[last].blackout[CREW_OUTSIDE][ROUND_OURS] / m[0].blackout[CREW_OUTSIDE][ROUND_OURS],
	      OUTSIDE_LIMIT);
	if (!round_can(rs->round[0], CREW_HALTED))
		result_note(rs->b, rs->section,
			    "no interrupt controller in the kernel: halted was not measured");
}

/* Many that run on few processors take long to come back. */
static int cycles(const struct round *r, enum crew_state state)
{
	return state == CREW_RUNNING && r->vcpus > 4 ? 2 : 4;
}

void bench_blackout_vcpus(struct bench *b)
{
	static const int all[MAX_ROUNDS] = {1, 2, 4, 8, 16}, few[MAX_ROUNDS] = {1, 4, 16};
	const int *vcpus = b->quick ? few : all;
	struct rounds rs = {.b = b, .section = "blackout-vcpus"};

	if (b->kvm < 0)
		return say_skipped(b, rs.section);
	pin_begin();
	for (int i = 0; i < MAX_ROUNDS && vcpus[i]; i++)
		add_round(&rs, &(struct layout){.size = 64 * MIB}, vcpus[i]);
	for (int turn = 0; turn < (b->quick ? 8 : 40); turn++) {
		for (int i = 0; i < rs.n; i++) {
			struct round *r = rs.round[i];

			for (int state = 0; state < NR_CREW_STATES; state++) {
				if (round_can(r, state))
					round_turn(r, state, cycles(r, state));
			}
		}
	}
	if (rs.n)
		report_vcpus(&rs);
	free_rounds(&rs);
}
