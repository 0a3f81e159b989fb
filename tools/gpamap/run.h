/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One run: one strategy under one hazard in one mode, for a while. A crew of threads runs the vCPUs;
 * the thread that owns the run edits the map.
 */
#ifndef TORTURE_RUN_H
#define TORTURE_RUN_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "arena.h"
#include "edits.h"
#include "port.h"

#define KICK_SIGNAL SIGUSR1

struct run;

/* What a commit did. */
struct applied {
	bool gate_shut;
	bool blackout;	    /* blackout_us is valid */
	double blackout_us; /* see the strategies for what it is measured from and to */
};

/* A way to bring changes to the hypervisor. Functions return 0 or -errno, and on failure may leave a
 * message in run->message. */
struct strategy {
	const char *name;
	/* Make the map as run->arena says. vCPUs don't run yet. */
	int (*start)(struct run *r);
	/* Undo start. pre: no vCPU runs. */
	void (*stop)(struct run *r);
	/* Commit @changes, which run->arena has not seen yet, and note them there. */
	int (*apply)(struct run *r, const struct change *changes, unsigned count,
		     struct applied *ret);
	/* Fetch and clear: bit i is page i of the arena. */
	int (*fetch_dirty)(struct run *r, uint64_t *bitmap);
	/* Run a vCPU until an exit, on a thread of the crew. */
	int (*run_vcpu)(struct run *r, unsigned vcpu);
	/* An ioctl that may get at guest memory, of a device of the VM or, for PORT_VM, of the VM itself. Not from within
	 * run_vcpu. Where somebody must be named who is inside, it is @vcpu. What it returned, or -errno. */
	int (*ioctl)(struct run *r, unsigned vcpu, int device, unsigned long request, void *arg);
	/* Slot ioctls since start. */
	uint64_t (*slot_ioctls)(struct run *r);
};

extern const struct strategy strategy_naive, strategy_inhibit, strategy_gpamap;

/* What is counted, for one run or summed over many. */
struct tally {
	uint64_t commits;
	uint64_t failed; /* commits that failed */
	uint64_t guest_ops;
	uint64_t spurious_exits;
	uint64_t expected_exits;  /* of guests that ask, or look at places on show that are empty */
	uint64_t internal_errors; /* shutdowns included */
	uint64_t shutdowns;
	uint64_t lost_stores;
	uint64_t wrong_reads;
	uint64_t lost_dirty;
	uint64_t asks;	   /* of changed pages, see ask.h */
	uint64_t looks;	   /* at two pages on show */
	uint64_t mixes;	   /* of generations that they have found */
	uint64_t messages; /* asked for by the driver of an ITS, see its.h */
	uint64_t lost_interrupts;
	uint64_t stray_interrupts;
	uint64_t saves; /* of the ITS's tables */
	uint64_t lost_saves;
	uint64_t gate_shut;
	uint64_t slot_ioctls;
	double seconds;
};

/* A vCPU and its thread. */
struct runner {
	struct run *run;
	unsigned index;
	pthread_t thread;
	bool started;
	bool parked; /* under crew.lock, as done */
	bool done;   /* the guest rang the doorbell, or the thread gave up */
	bool rang;
	int error; /* why it gave up, or 0 */
	/* The thread's own until it is done. */
	uint64_t spurious;
	uint64_t expected;
	uint64_t errors;
	uint64_t shutdowns;
};

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t change; /* of anything under the lock */
	unsigned pauses;
	atomic_bool quit;
	struct runner *runner;
};

/* A thread that saves the tables of an ITS. */
struct saver {
	int device;
	pthread_t thread;
	bool started;
	atomic_bool stop;
	/* The thread's own until it has ended. */
	uint64_t saves;
	uint64_t lost;
};

struct dirty_judge {
	uint64_t *bitmap; /* of the arena's pages */
	uint64_t *seen;	  /* a generation for each of them, after the last fetch */
	uint64_t *now;
	uint64_t lost;
};

struct run {
	const struct port *port;
	const struct strategy *strategy;
	enum mode mode;
	enum hazard hazard;
	unsigned vcpus;
	uint32_t max_slots; /* for gpamap; 0: no limit */
	bool one_instant;   /* gpamap commits with GPAMAP_COMMIT_ONE_INSTANT */
	struct arena arena;
	struct port_vm *vm;
	struct saver its;
	void *state; /* the strategy's */
	struct editor editor;
	struct crew crew;
	struct dirty_judge dirty;
	char message[200];
};

/* The crew (crew.c). Stop: tell the guests to ring, wait, and join the threads. */
int crew_start(struct run *r);
void crew_stop(struct run *r);
/* Between these two no vCPU runs: each is out of KVM_RUN, with what it stored written and marked. */
void crew_pause(struct run *r);
void crew_resume(struct run *r);

/* What guests are told (tell.c), so that they find out whether a change has arrived: around each commit. */
void tell_begin(struct run *r);
void tell_end(struct run *r, const struct change *changes, unsigned n);
/* Is this an exit that a guest which asks may meet? */
bool tell_expects(const struct run *r, unsigned vcpu, uint64_t gpa, bool store);

/* The hazard `its` (its.c). Lay out what its guests and KVM share; pre: arena_init(). */
void its_init(struct run *r);
/* Is this exit a load that asks for a message? Then it is sent, and the load answered. */
bool its_serve(struct run *r, unsigned vcpu, struct kvm_run *k);
/* Begin and end to save the tables. */
int its_start(struct run *r);
void its_stop(struct run *r);
/* Add what the guests counted, and how often tables could not be saved. pre: both have ended. */
void its_judge(const struct run *r, struct tally *t);

/* The judge of dirty pages (dirty.c). A page that the guest wrote between the end of one fetch and the
 * begin of the next must be in the next. */
int dirty_init(struct run *r);
void dirty_destroy(struct run *r);
/* Logging has been turned on. */
void dirty_begin(struct run *r);
/* Fetch and judge. */
int dirty_check(struct run *r);

/* The judge of memory (judge.c): what the guests counted, and what memory says. pre: crew stopped. */
void judge_run(struct run *r, struct tally *t);
/* A vCPU died in the middle of a step and begins anew: count the stores it lost, and let its control
 * block agree with memory again. On the vCPU's thread. */
void judge_reset(struct run *r, unsigned vcpu);
bool tally_violated(const struct tally *t);
void tally_add(struct tally *to, const struct tally *t);

uint64_t now_ns(void);

#endif
