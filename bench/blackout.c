/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long two running vCPUs are held while a page in the middle of memory is made read-only and writable
 * again, for guests of 64 MiB to 64 GiB: gpamap, the floor and inhibit, in turns.
 */
#include <err.h>
#include <errno.h>
#include <gpamap.h>
#include <stdio.h>
#include <stdlib.h>

#include "rival.h"

/* A cycle costs no more than half as much again as the floor; and not twice as much in a guest that is a
 * thousand times larger. */
#define FLOOR_LIMIT 1.5
#define SIZE_LIMIT 2.0

enum { MAX_SIZES = 6, CYCLES = 5 /* in a turn */ };

struct round {
	struct ours ours;
	struct hand floor;
	struct hand inhibit;
	struct series ours_us;
	struct series floor_us;
	struct series inhibit_us;
};

/* The floor does what ours has recorded. */
static void replay(struct round *r, struct series *us)
{
	for (size_t i = 0; i < r->ours.tape.nr_ends; i++) {
		double blackout = hand_replay(&r->floor, &r->ours.tape, i);

		if (us)
			series_add(us, blackout);
		rival_pause();
	}
	tape_clear(&r->ours.tape);
}

static void turn_ours(struct round *r, int cycles, struct series *us)
{
	ours_start(&r->ours);
	rival_pause();
	for (int i = 0; i < 2 * cycles; i++) {
		double blackout = ours_change(&r->ours, i % 2 == 0);

		if (blackout <= 0)
			errx(1, "the page was protected, and the gate did not shut");
		if (us)
			series_add(us, blackout);
		rival_pause();
	}
	ours_stop(&r->ours);
}

static void turn_floor(struct round *r, struct series *us)
{
	hand_start(&r->floor);
	rival_pause();
	replay(r, us);
	hand_stop(&r->floor);
}

/* It can take long where the guest is large: a whole cycle at least, and then not much longer than 0.1 s. */
static void turn_inhibit(struct round *r)
{
	double end = now_us() + 1e5;

	hand_start(&r->inhibit);
	rival_pause();
	for (int i = 0; i < 2 * CYCLES; i++) {
		if (i >= 2 && i % 2 == 0 && now_us() > end)
			break;
		series_add(&r->inhibit_us, hand_whole_slots(&r->inhibit, i % 2 == 0));
		rival_pause();
	}
	hand_stop(&r->inhibit);
}

/* False: the host has not enough memory for the slots. */
static bool round_init(struct round *r, struct bench *b, uint64_t size)
{
	int err;

	*r = (struct round){0};
	hand_init(&r->inhibit, b->kvm, size, true);
	err = guest_slot(&r->inhibit.guest, 0, 0, 0, size);
	if (err) {
		hand_destroy(&r->inhibit);
		if (err == -ENOMEM)
			return false;
		check(err, "slot");
	}
	guest_reset(&r->inhibit.guest);
	ours_init(&r->ours, b->kvm, size);
	hand_init(&r->floor, b->kvm, size, false);
	replay(r, NULL);
	guest_reset(&r->floor.guest);
	/* The first split happens once. */
	turn_ours(r, 2, NULL);
	turn_floor(r, NULL);
	return true;
}

static void round_destroy(struct round *r)
{
	for (int i = 0; i < NR_VCPUS; i++) {
		if (!guest_count(&r->ours.guest, i) || !guest_count(&r->floor.guest, i) ||
		    !guest_count(&r->inhibit.guest, i))
			errx(1, "vCPU %d has never run", i);
	}
	ours_destroy(&r->ours);
	hand_destroy(&r->floor);
	hand_destroy(&r->inhibit);
	series_free(&r->ours_us);
	series_free(&r->floor_us);
	series_free(&r->inhibit_us);
}

/* Returns the median of ours. */
static double report(struct bench *b, struct round *r)
{
	uint64_t size = r->ours.guest.size;
	double ours = result_row(b, "blackout", "gpamap", size, "us", &r->ours_us);
	double floor = result_row(b, "blackout", "floor", size, "us", &r->floor_us);
	double inhibit = result_row(b, "blackout", "inhibit", size, "us", &r->inhibit_us);
	char what[64];

	snprintf(what, sizeof(what), "gpamap / floor, %s", size_text(size));
	result_ratio(b, "blackout", what, ours / floor, FLOOR_LIMIT);
	snprintf(what, sizeof(what), "gpamap / inhibit, %s", size_text(size));
	result_ratio(b, "blackout", what, ours / inhibit, 1.0);
	return ours;
}

static void report_all(struct bench *b, struct round *rounds, int n)
{
	double least = 0, most = 0;

	for (int i = 0; i < n; i++) {
		double median = report(b, &rounds[i]);

		if (i == 0 || median < least)
			least = median;
		if (median > most)
			most = median;
	}
	result_ratio(b, "blackout", "gpamap: slowest size / fastest size", most / least,
		     SIZE_LIMIT);
}

/* Returns how many of the sizes there is memory for. */
static int init_all(struct bench *b, struct round *rounds, const uint64_t *sizes)
{
	char text[96];
	int n = 0;

	for (int i = 0; i < MAX_SIZES && sizes[i]; i++) {
		if (round_init(&rounds[n], b, sizes[i])) {
			n++;
			continue;
		}
		snprintf(text, sizeof(text), "too little memory for the slots of %s",
			 size_text(sizes[i]));
		result_note(b, "blackout", text);
	}
	return n;
}

void bench_blackout(struct bench *b)
{
	static const uint64_t all[MAX_SIZES] = {64 * MIB, 256 * MIB, GIB,
						4 * GIB,  16 * GIB,  64 * GIB};
	static const uint64_t few[MAX_SIZES] = {64 * MIB, 2 * GIB, 64 * GIB};
	struct round *rounds;
	int n;

	if (b->kvm < 0) {
		result_note(b, "blackout", "no KVM here: not measured");
		b->skipped = true;
		return;
	}
	rounds = calloc(MAX_SIZES, sizeof(*rounds));
	if (!rounds)
		err(1, "rounds");
	n = init_all(b, rounds, b->quick ? few : all);
	/* Where the scheduler puts the threads matters more than anything else: let each take its turn
	 * many times. */
	for (int turn = 0; turn < (b->quick ? 15 : 60); turn++) {
		for (int i = 0; i < n; i++) {
			turn_ours(&rounds[i], CYCLES, &rounds[i].ours_us);
			turn_floor(&rounds[i], &rounds[i].floor_us);
			turn_inhibit(&rounds[i]);
		}
	}
	if (n)
		report_all(b, rounds, n);
	for (int i = 0; i < n; i++)
		round_destroy(&rounds[i]);
	free(rounds);
}
