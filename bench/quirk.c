/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a commit costs the guest after it has returned: KVM on x86 drops all that it has mapped of the guest when a slot
 * goes, unless that quirk is disabled (GPAMAP_ZAP_SLOT_ONLY). A vCPU writes to one page after the other of 64 MiB; its
 * progress is measured after a commit that protects a page elsewhere, and with no commit.
 */
#include <err.h>
#include <errno.h>
#include <gpamap.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "guest.h"

#define SWEEP_AT (2 * MIB)
#define SWEEP_SIZE (64 * MIB)
/* Protected and unprotected; the guest never touches it. */
#define CHANGED_AT (1 * MIB)
#define INTERVAL_US 10000
/* An emulated processor makes its TLB small when it is flushed, and large again in this time. */
#define SETTLE_US 100000
/* A vCPU that has not gone over all its memory by then is lost; a busy machine is not that slow. */
#define LOST_US 60e6

struct rig {
	const char *name;
	struct guest guest;
	struct gpamap *map;
	struct gpamap_vcpu *vcpu;
	pthread_t thread;
	atomic_bool stop;
	struct series undisturbed, after, blackout, took;
};

static void *run(void *opaque)
{
	struct rig *r = opaque;
	struct kvm_run *run = r->guest.vcpu[0].run;

	while (!atomic_load(&r->stop)) {
		if (gpamap_vcpu_run(r->vcpu) != -EINTR)
			errx(1, "the vCPU left by itself: exit %u", run->exit_reason);
	}
	return NULL;
}

/* False: KVM can't do what the flags ask for. */
static bool rig_init(struct rig *r, int kvm, const char *name, unsigned flags)
{
	struct gpamap_options options = {.kick_signal = SIGUSR1, .flags = flags};
	struct gpamap_txn *txn;
	int e;

	*r = (struct rig){.name = name};
	guest_init(&r->guest, kvm, SWEEP_AT + SWEEP_SIZE, 1);
	e = gpamap_new_kvm(r->guest.fd, &options, &r->map);
	if (e == -ENOTSUP && flags) {
		guest_destroy(&r->guest);
		return false;
	}
	check(e, "map");
	/* Small pages, as of a guest that is logged, swapped or merged. */
	if (madvise(r->guest.memory, r->guest.size, MADV_NOHUGEPAGE) && errno != EINVAL)
		err(1, "madvise");
	check(gpamap_begin(r->map, &txn), "begin");
	check(gpamap_map_pages(txn, 0, 0, r->guest.size, r->guest.memory, GPAMAP_RW), "map");
	check(gpamap_commit(txn, NULL, NULL), "commit");
	guest_sweep(&r->guest, SWEEP_AT, PAGE, SWEEP_SIZE / PAGE);
	guest_reset(&r->guest);
	check(gpamap_vcpu_attach(r->map, r->guest.vcpu[0].fd, r->guest.vcpu[0].run, 0, &r->vcpu),
	      "attach");
	return true;
}

static void rig_destroy(struct rig *r)
{
	gpamap_vcpu_detach(r->vcpu);
	gpamap_free(r->map);
	guest_destroy(&r->guest);
	series_free(&r->undisturbed);
	series_free(&r->after);
	series_free(&r->blackout);
	series_free(&r->took);
}

static void start(struct rig *r)
{
	atomic_store(&r->stop, false);
	pin_free_thread(&r->thread, run, r);
}

static void stop(struct rig *r)
{
	atomic_store(&r->stop, true);
	__atomic_store_n(&r->guest.vcpu[0].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(r->thread, SIGUSR1);
	pthread_join(r->thread, NULL);
	r->guest.vcpu[0].run->immediate_exit = 0;
}

/* Until the guest has all its memory mapped, and is at its best. */
static void settle(struct rig *r)
{
	uint64_t end = guest_count(&r->guest, 0) + 2 * SWEEP_SIZE / PAGE;
	double lost = now_us() + LOST_US;

	while (guest_count(&r->guest, 0) < end) {
		if (now_us() > lost)
			errx(1, "the vCPU does not get on");
		sleep_us(500);
	}
	sleep_us(SETTLE_US);
}

/* How many pages the guest writes to in 10 ms from now on; a longer sleep is taken into account. */
static double progress(struct rig *r)
{
	uint64_t before = guest_count(&r->guest, 0);
	double start_us = now_us();

	sleep_us(INTERVAL_US);
	return (double)(guest_count(&r->guest, 0) - before) * INTERVAL_US / (now_us() - start_us);
}

static void change(struct rig *r, bool readonly)
{
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;
	double start_us;

	check(gpamap_begin(r->map, &txn), "begin");
	check(gpamap_protect_pages(txn, 0, CHANGED_AT, PAGE, readonly ? GPAMAP_RO : GPAMAP_RW),
	      "protect");
	start_us = now_us();
	check(gpamap_commit(txn, NULL, &report), "commit");
	series_add(&r->took, now_us() - start_us);
	series_add(&r->blackout, (double)report.blackout_ns / 1e3);
	if (!report.gate_shut)
		errx(1, "the page was protected, and the gate did not shut");
}

static void turn(struct rig *r, int cycles, bool measured)
{
	start(r);
	for (int i = 0; i < 2 * cycles; i++) {
		double n;

		settle(r);
		n = progress(r);
		if (measured)
			series_add(&r->undisturbed, n);
		change(r, i % 2 == 0);
		n = progress(r);
		if (measured)
			series_add(&r->after, n);
	}
	stop(r);
	/* The first split of the large slot is another matter. */
	if (!measured) {
		series_free(&r->blackout);
		series_free(&r->took);
	}
}

static double row(struct bench *b, struct rig *r, const char *what, const char *unit,
		  struct series *s)
{
	char text[96];

	snprintf(text, sizeof(text), "%s, %s", r->name, what);
	return result_row(b, "quirk", text, SWEEP_SIZE, unit, s);
}

static void report(struct bench *b, struct rig *rigs, int n)
{
	double after[2];
	char text[96];

	for (int i = 0; i < n; i++) {
		double undisturbed = row(b, &rigs[i], "no commit", "pages", &rigs[i].undisturbed);

		after[i] = row(b, &rigs[i], "after a commit", "pages", &rigs[i].after);
		row(b, &rigs[i], "blackout", "us", &rigs[i].blackout);
		row(b, &rigs[i], "the commit", "us", &rigs[i].took);
		snprintf(text, sizeof(text), "%s: after a commit / no commit", rigs[i].name);
		result_ratio(b, "quirk", text, after[i] / undisturbed, 0);
	}
	if (n == 2)
		result_ratio(b, "quirk", "after a commit: zap slot only / zap all",
			     after[1] / after[0], 0);
}

void bench_quirk(struct bench *b)
{
	struct rig rigs[2];
	int n = 1;

	if (b->kvm < 0) {
		result_note(b, "quirk", "no KVM here: not measured");
		b->skipped = true;
		return;
	}
	pin_begin();
	rig_init(&rigs[0], b->kvm, "zap all", 0);
	if (rig_init(&rigs[1], b->kvm, "zap slot only", GPAMAP_ZAP_SLOT_ONLY))
		n = 2;
	else
		result_note(b, "quirk", "KVM can't zap a slot only here, so that was not measured");
	for (int i = 0; i < n; i++)
		turn(&rigs[i], 1, false);
	for (int i = 0; i < (b->quick ? 2 : 10); i++) {
		for (int k = 0; k < n; k++)
			turn(&rigs[k], b->quick ? 2 : 4, true);
	}
	report(b, rigs, n);
	for (int i = 0; i < n; i++)
		rig_destroy(&rigs[i]);
	pin_end();
}
