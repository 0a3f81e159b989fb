/* SPDX-License-Identifier: BSD-3-Clause */
/* One cell: a VM of its own, a crew on its vCPUs, and edits until the time is over. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "torture.h"

/* Between two commits, so that the guest gets on, too. */
#define MIN_PAUSE_US 30u
#define MAX_PAUSE_US 150u
#define PROGRESS_NS 200000000u
/* So many commits that fail end a cell early. */
#define MAX_FAILED 100u

/* One step of a cell: a commit, and what follows from it. */
static int do_commit(struct run *r, struct result *res, struct tally *t)
{
	struct change changes[MAX_CHANGES];
	bool logged = r->arena.state.log;
	struct applied applied;
	unsigned n = editor_next(&r->editor, changes);
	int ret = 0;

	/* What is not fetched before logging ends is forgotten. */
	if (changes[0].kind == CHANGE_LOG && logged)
		ret = dirty_check(r);
	if (changes[0].kind == CHANGE_SHOW)
		arena_number(&r->arena, changes[0].value);
	if (ret)
		return ret;
	tell_begin(r);
	ret = r->strategy->apply(r, changes, n, &applied);
	/* A commit of the library that failed has changed nothing, which is told then (P3). */
	tell_end(r, changes, n);
	if (ret)
		return ret;
	t->commits++;
	t->gate_shut += applied.gate_shut;
	if (applied.blackout)
		ret = samples_add(&res->blackout_us, applied.blackout_us);
	if (!ret && r->arena.state.log) {
		if (!logged)
			dirty_begin(r);
		else if (!editor_random(&r->editor, 8))
			ret = dirty_check(r);
	}
	return ret;
}

static void progress(const struct run *r, const struct result *res, const struct tally *t)
{
	uint64_t commits = res->total.commits + t->commits;

	fprintf(stderr, "\r\033[K%-8s %-10s %-10s %8llu commits", r->strategy->name,
		hazard_names[r->hazard], mode_names[r->mode], (unsigned long long)commits);
}

static void pause_a_little(struct run *r)
{
	unsigned us = MIN_PAUSE_US + editor_random(&r->editor, MAX_PAUSE_US - MIN_PAUSE_US);
	const struct timespec t = {.tv_nsec = us * 1000L};

	nanosleep(&t, NULL);
}

/* A commit of the library that fails changes nothing and is a violation; in the other strategies nothing
 * is undone, so it is the end. */
static int note_failure(struct run *r, struct result *res, struct tally *t, int error)
{
	if (r->strategy != &strategy_gpamap)
		return error;
	if (!res->message[0])
		snprintf(res->message, sizeof(res->message), "%s: %s", r->message,
			 strerror(-error));
	return ++t->failed < MAX_FAILED ? 0 : -ECANCELED;
}

static int edit_loop(struct run *r, double seconds, struct result *res, struct tally *t)
{
	uint64_t begin = now_ns(), now = begin, shown = begin;
	uint64_t end = begin + (uint64_t)(seconds * 1e9);
	bool tty = isatty(STDERR_FILENO);
	int ret = 0;

	while (!ret && now < end) {
		ret = do_commit(r, res, t);
		if (ret)
			ret = note_failure(r, res, t, ret);
		pause_a_little(r);
		now = now_ns();
		if (tty && now - shown > PROGRESS_NS) {
			progress(r, res, t);
			shown = now;
		}
	}
	t->seconds = (double)(now_ns() - begin) / 1e9;
	return ret == -ECANCELED ? 0 : ret;
}

/* pre: the strategy has started. */
static int run_started(struct run *r, double seconds, struct result *res, struct tally *t)
{
	int ret = dirty_init(r), error = 0;

	if (ret)
		return ret;
	ret = crew_start(r);
	if (!ret) {
		ret = its_start(r);
		if (!ret)
			ret = edit_loop(r, seconds, res, t);
		its_stop(r);
		crew_stop(r);
		t->slot_ioctls = r->strategy->slot_ioctls(r);
		judge_run(r, t);
		error = r->crew.runner[0].error;
	}
	free(r->crew.runner);
	dirty_destroy(r);
	/* A vCPU that KVM refuses to run from the start is a failure of the host. */
	return ret || t->guest_ops ? ret : error;
}

static int run_vm(struct run *r, double seconds, struct result *res, struct tally *t)
{
	int ret = port_vm_new(r->port, &r->arena, r->vcpus, r->mode, &r->vm);

	if (ret)
		return ret;
	if (r->hazard == HAZARD_ITS)
		r->its.device = r->port->its_new(r->vm, &r->arena);
	ret = r->its.device < 0 ? r->its.device : r->strategy->start(r);
	if (!ret) {
		ret = run_started(r, seconds, res, t);
		r->strategy->stop(r);
	}
	r->port->vm_free(r->vm);
	return ret;
}

int cell_run(const struct options *o, const struct port *port, double seconds, struct cell *cell,
	     struct result *res)
{
	struct run r = {
		.port = port,
		.strategy = res->strategy,
		.mode = cell->mode,
		.hazard = cell->hazard,
		.vcpus = o->vcpus,
		.max_slots = o->max_slots,
		.one_instant = options_one_instant(o),
	};
	unsigned windows = arena_windows(cell->hazard, o->vcpus);
	/* Same edits for each strategy, others in each cell. */
	uint64_t seed = o->seed + UINT64_C(0x100000001) * (cell->hazard * MODE_COUNT + cell->mode);
	int ret = arena_init(&r.arena, windows, o->vcpus, o->memory, cell->hazard,
			     o->edit == EDIT_INSTANT);

	if (!ret) {
		if (r.hazard == HAZARD_ITS)
			its_init(&r);
		editor_init(&r.editor, o->edit, &r.arena, seed);
		ret = run_vm(&r, seconds, res, &cell->tally);
		arena_destroy(&r.arena);
	}
	if (ret)
		fprintf(stderr, "gpamap torture: %s, %s in %s mode, seed %" PRIu64 ": %s%s%s\n",
			res->strategy->name, hazard_names[cell->hazard], mode_names[cell->mode],
			o->seed, strerror(-ret), r.message[0] ? ": " : "", r.message);
	return ret;
}
