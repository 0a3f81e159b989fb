/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pc.h - a virtual machine that boots Linux, as a program sees it that makes one, and as its parts see each other.
 *
 * pc_new() -> pc_start() -> pc_wait() -> pc_free(). What fails gives a negative errno, and says why in a pc_error.
 */
#ifndef PC_H
#define PC_H

#include <gpamap.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus.h"
#include "error.h"
#include "memory.h"

struct pc;
struct pc_serial;

/* Brings a vCPU's thread out of KVM_RUN: the map's kick signal, unless its options name another. */
#define PC_KICK_SIGNAL SIGUSR1

/* What the machine is to be. All zero is not enough: it needs a kernel, memory and a vCPU. */
struct pc_options {
	const char *kernel; /* files */
	const char *initrd; /* NULL: none */
	const char *append; /* the kernel's command line; NULL: "" */
	uint64_t memory;    /* bytes */
	unsigned cpus;
	bool no_pv_eoi; /* x86: each end of an interrupt is an exit; KVM's way without one is not offered to the guest */
	struct gpamap_options map;
	/* What the guest writes to its serial line; NULL: to standard output. Called by vCPU threads, by one at a time. */
	void (*output)(void *opaque, const void *bytes, size_t count);
	/* Show the guest @size bytes of RAM at @gpa, which are @offset bytes into @fd, and at @host in this process. Called for
	 * each range before there are vCPUs; pc->vm and pc->map are there. 0 or a negative errno. NULL: a RAM region each. */
	int (*map_ram)(void *opaque, struct pc *pc, uint64_t gpa, uint64_t size, int fd,
		       uint64_t offset, void *host);
	/* Sees each MMIO exit before it is answered; on the vCPU's thread. NULL: nobody does. */
	void (*mmio)(void *opaque, const struct kvm_run *run);
	void *opaque; /* given to all of these */
};

/* How a machine ends. */
enum pc_ending {
	PC_RUNS,
	PC_POWER_OFF,	 /* by the guest */
	PC_RESET,	 /* by the guest; machines don't start again by themselves */
	PC_TRIPLE_FAULT, /* of the guest, which may have meant it as a reset */
	PC_QUIT,	 /* by pc_quit() */
	PC_ERROR,	 /* something that it can't go on from */
};

struct pc_end {
	enum pc_ending how;
	int vcpu;	      /* whose exit it was; -1: nobody's */
	uint32_t exit_reason; /* KVM_EXIT_...; of PC_ERROR: 0 if KVM_RUN itself failed */
	struct pc_error why;  /* in words */
};

struct pc_vcpu {
	struct pc *pc;
	unsigned id;
	int fd;
	struct kvm_run *run;
	struct gpamap_vcpu *gate; /* what the map knows of it */
	pthread_t thread;
	bool started,
		parked; /* parked: it waits outside of KVM_RUN, or has ended. Under the lock */
	/* MMIO exits where the map has nothing, or nothing that may be written: a guest that finds its RAM here. */
	_Atomic uint64_t strays;
};

struct pc {
	struct pc_options options;
	struct pc_error error; /* of what has just failed */
	int kvm, vm;
	int kick_signal;
	struct gpamap *map;
	struct pc_ram ram;
	struct pc_ports ports;
	struct pc_serial *serial; /* the console's */
	struct pc_vcpu *vcpus;	  /* options.cpus of them */
	size_t run_size;	  /* of each kvm_run */
	void *arch;		  /* what arch.h's functions keep */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned pauses;	/* pc_pause() without its pc_resume() */
	_Atomic bool attention; /* a vCPU has to look at these before it goes on */
	struct pc_end end;
};

/* Make it all: the VM, its memory with the kernel in it, its devices and vCPUs. */
int pc_new(const struct pc_options *options, struct pc **ret, struct pc_error *error);
/* Let the vCPUs run, in threads of their own. */
int pc_start(struct pc *pc);
/* Wait until the machine has ended and no vCPU runs any more. The result is the pc's. */
const struct pc_end *pc_wait(struct pc *pc);
/* What is left of it. Ends it if it runs. NULL is fine. */
void pc_free(struct pc *pc);

/* End it, from any thread. The first end is the one that counts. */
void pc_quit(struct pc *pc);

/* All vCPUs leave KVM_RUN and wait, until as many pc_resume(). From any thread but a vCPU's own. When an exit has been
 * answered, KVM completes the guest's instruction in the next KVM_RUN: after the pause. */
void pc_pause(struct pc *pc);
void pc_resume(struct pc *pc);

/* Send a vCPU's thread the kick signal, and nothing else: the guest must not notice. */
void pc_kick(struct pc *pc, unsigned vcpu);

/* Type on the serial line. Waits until the guest has taken all, or the machine has ended. */
void pc_type(struct pc *pc, const void *bytes, size_t count);

#endif
