/* SPDX-License-Identifier: BSD-3-Clause */
/* How a vCPU is brought out of KVM_RUN, and what KVM_RUN does although it is not to run. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fact.h"
#include "kvm.h"

/* Of 100 us and more. */
#define LONG_TRIES 100000u

#define FACT(name, program, watched, rings)                                                    \
	static void name##_in(struct vcpu *v, struct outcome *o);                              \
	static void name(struct outcome *o)                                                    \
	{                                                                                      \
		struct kvm k;                                                                  \
		struct vcpu v;                                                                 \
                                                                                               \
		if (guest_missing) {                                                           \
			not_here(o, "%s", guest_missing);                                      \
			return;                                                                \
		}                                                                              \
		if ((program) == COPY && !guest_has_copy) {                                    \
			not_here(o, "the processor has no instruction from memory to memory"); \
			return;                                                                \
		}                                                                              \
		kvm_open(&k);                                                                  \
		vcpu_open(&v, &k);                                                             \
		vcpu_set(&v, USER, program, watched, rings);                                   \
		name##_in(&v, o);                                                              \
		vcpu_close(&v);                                                                \
		kvm_close(&k);                                                                 \
	}                                                                                      \
	static void name##_in(struct vcpu *v, struct outcome *o)

static int run_at_once(struct vcpu *v)
{
	int err;

	v->run->immediate_exit = 1;
	err = vcpu_run(v);
	v->run->immediate_exit = 0;
	return err;
}

FACT(at_once, LOOP, TEST, true)
{
	expect_errno(o, "KVM_RUN", run_at_once(v), EINTR);
	expect(o, !vcpu_count(v), "the guest has run");
	expect(o, vcpu_round(v) && vcpu_count(v) == 1, "it does not run after that");
	expect_errno(o, "KVM_RUN, later", run_at_once(v), EINTR);
	expect(o, vcpu_count(v) == 1, "the guest has run, later");
}

FACT(signal_is_lost, LOOP, TEST, true)
{
	pthread_kill(pthread_self(), KICK_SIGNAL);
	expect(o, vcpu_round(v), "KVM_RUN knows of it");
}

FACT(signal_ends, LOOP, TEST, false)
{
	spin_start(v);
	for (unsigned n = 1; n < 10; n++) {
		spin_await(v, 1);
		pthread_kill(v->thread, KICK_SIGNAL);
		/* It may have come between two of them: see the fact before this. */
		for (unsigned i = 1; atomic_load(&v->eintrs) < n; i++) {
			if (!(i % 1000))
				pthread_kill(v->thread, KICK_SIGNAL);
			sleep_us(100);
			expect(o, i < LONG_TRIES && !atomic_load(&v->over), "no EINTR comes: %s",
			       v->why);
			if (o->verdict != HOLDS)
				return;
		}
	}
	expect(o, !atomic_load(&v->holes), "another exit came");
}

/* Someone else sets it, without a signal. */
FACT(not_from_inside, LOOP, TEST, false)
{
	spin_start(v);
	spin_await(v, 1);
	pthread_mutex_lock(&v->lock);
	v->run->immediate_exit = 1;
	pthread_mutex_unlock(&v->lock);
	spin_await(v, 2000);
	expect(o, !atomic_load(&v->eintrs), "it ends");
}

FACT(reason_is_stale, LOOP, TEST, true)
{
	expect(o, vcpu_round(v), "the guest does not run");
	expect_errno(o, "KVM_RUN", run_at_once(v), EINTR);
	expect(o, v->run->exit_reason != KVM_EXIT_INTR, "KVM_EXIT_INTR");
	measured(o, "it says: %s", exit_name(v->run->exit_reason));
}

static void answer(struct vcpu *v, struct outcome *o, uint64_t value)
{
	expect_errno(o, "KVM_RUN", vcpu_run(v), 0);
	expect(o, vcpu_is_at(v, DOOR, false), "no load at the door");
	memcpy(v->run->mmio.data, &value, sizeof(value));
}

FACT(finishes, LOAD, TEST, true)
{
	answer(v, o, 77);
	expect_errno(o, "KVM_RUN to finish", run_at_once(v), EINTR);
	expect(o, guest_got(v) == 77, "the instruction is not finished");
	expect(o, !vcpu_count(v), "the guest has run on");
}

FACT(finishes_in_memory, COPY, TEST, true)
{
	answer(v, o, 78);
	expect_errno(o, "KVM_RUN to finish", run_at_once(v), EINTR);
	expect(o, *test_word(v->k, 0, 0) == 78, "nothing was stored");
}

/* ---------------------------------------------------------------------------- who waits for whom --- */

struct waiter {
	struct vcpu *v;
	pthread_t thread;
	atomic_int tid;
	atomic_int err;
	atomic_bool done;
};

static void *wait_for_vcpu(void *opaque)
{
	struct waiter *w = opaque;

	atomic_store(&w->tid, (int)syscall(SYS_gettid));
	atomic_store(&w->err, guest_vcpu_ioctl(w->v));
	atomic_store(&w->done, true);
	return NULL;
}

/* As in /proc: 'R', 'S', 'D' ... 0: it is gone. */
static char state_of(int tid)
{
	char path[64], text[256] = "", *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	p = fgets(text, sizeof(text), f);
	fclose(f);
	p = p ? strrchr(p, ')') : NULL;
	return p && strlen(p) > 2 ? p[2] : 0;
}

FACT(ioctl_waits, LOOP, TEST, false)
{
	struct waiter w = {.v = v};
	char state = 'R';

	spin_start(v);
	spin_await(v, 1);
	need(!pthread_create(&w.thread, NULL, wait_for_vcpu, &w));
	while (!atomic_load(&w.done) && state == 'R') {
		sleep_us(500);
		state = atomic_load(&w.tid) ? state_of(atomic_load(&w.tid)) : 'R';
	}
	pthread_kill(w.thread, KICK_SIGNAL);
	spin_await(v, 200);
	expect(o, !atomic_load(&w.done), "it returns");
	spin_hold(v);
	pthread_join(w.thread, NULL);
	spin_release(v);
	expect_errno(o, "then", atomic_load(&w.err), 0);
	measured(o, "state %c", state);
}

const struct fact kick_facts[] = {
	{"K50", "immediate_exit set before KVM_RUN: EINTR, and the guest does not run", true,
	 at_once},
	{"K51", "A signal between two KVM_RUNs is lost without immediate_exit", false,
	 signal_is_lost},
	{"K52", "A signal during KVM_RUN ends it with EINTR", true, signal_ends},
	{"K53", "immediate_exit set during KVM_RUN, without a signal, does not end it", false,
	 not_from_inside},
	{"K54", "EINTR is in errno only: exit_reason may be that of an exit before", false,
	 reason_is_stale},
	{"K55", "KVM_RUN with immediate_exit finishes the load that was an exit", false, finishes},
	{"K56", "... and stores to guest memory, if that is what it was about (x86)", false,
	 finishes_in_memory},
	{"K57",
	 "Another ioctl of a vCPU waits while KVM_RUN runs, and no signal with a handler ends that",
	 true, ioctl_waits},
	{0},
};
