/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VM on real KVM with a map over it, for tests of the library as its users have it: this folder sees the
 * public header and nothing else.
 *
 * Guest memory is VM_PAGES pages, mapped at 0 page by page, of the host's page size. Every vCPU runs the same few
 * instructions (guest.c has them, and is all that is to be written for another processor):
 *
 *     again:  count = count + 1       in the vCPU's own page
 *             saw = watched word      a word that the test chooses, of which the guest keeps what it read
 *             door = count            MMIO if the vCPU is to exit each time, else in its own page
 *
 * So the guest judges: it must go on counting, must see a word that the map has at that time, and must never leave
 * for anything but its door. A vCPU that fails in this ends its thread, and vcpu_stop() fails the test.
 */
#ifndef TEST_KVM_VM_H
#define TEST_KVM_VM_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <gpamap.h>

/* Guest memory, in pages. */
enum {
	PAGE_CODE = 1,
	PAGE_TABLES = 2, /* what the processor needs, 3 of them */
	PAGE_OWN = 8,	 /* one for each vCPU */
	VM_VCPUS = 32,
	PAGE_TEST = 64, /* from here on the tests may change the map */
	VM_PAGES = 128,
	PAGE_DOOR = 256, /* no memory */
};

/* A signal with an empty handler, and one for the application that the test plays. */
#define KICK_SIGNAL SIGUSR1
#define APP_SIGNAL SIGUSR2

/* For commits that must not and must run out of time. */
#define LONG_MS 30000
#define SHORT_MS 100

#define ok(call) assert_int_equal((call), 0)

struct stream {
	bool running;
	unsigned page;
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong commits;
	atomic_int err;
};

struct vm {
	int kvm;
	int fd;
	size_t run_size;
	size_t page; /* bytes */
	uint8_t *memory;
	uint8_t *other; /* the same pages once more, see vm_flip() */
	struct gpamap *map;
	struct vcpu *vcpus[VM_VCPUS];
	struct stream stream;
};

/* What guest code may run as. How its accesses reach the host's memory differs with the processor and with KVM. */
enum mode { USER, SUPERVISOR };

enum program {
	/* As above. */
	LOOP,
	/* Copies a word from the door to the watched word, in one instruction where the processor has such a one:
	 * KVM itself then stores to the watched word. See vm_can_copy(). */
	COPY,
};

struct vcpu {
	struct vm *vm;
	unsigned id;
	int fd;
	struct kvm_run *run;
	struct gpamap_vcpu *gate; /* NULL: not attached */
	pthread_t thread;
	bool running;
	atomic_int tid;
	atomic_bool stop;
	atomic_int err; /* with which it ended; 0: it runs, or was stopped */
	atomic_int
		bad_exit; /* an exit that must not be, and ended it; 0: none. May be -1 for a wrong ring */
	atomic_ullong bad_gpa;
	atomic_ulong rings;  /* exits at the door */
	uint64_t rung;	     /* what the last one said */
	atomic_ulong eintrs; /* runs that ended with -EINTR, with immediate_exit set by the test */
	atomic_ulong kicked_out; /* runs that ended with -EINTR without that */
	/* To be set before vcpu_start(), or left alone: */
	int (*once)(struct vcpu *v);	 /* 0 or a negative errno; NULL: gpamap_vcpu_run() */
	void (*on_ring)(struct vcpu *v); /* the exit's handler */
	/* All of its MMIO, in the door's place; false: an exit that must not be */
	bool (*on_mmio)(struct vcpu *v);
	void (*on_eintr)(struct vcpu *v); /* where it counts as one of eintrs */
	void *opaque;
};

/* ------------------------------------------------------------------------------ the machine --- */

/* Can VMs be made and guests run here? If not, it prints why: return 77 then. */
bool vm_available(void);

/* Has the processor an instruction for COPY? */
bool vm_can_copy(void);

/* How many address spaces have VMs here? */
unsigned vm_spaces(void);

/* Opens a VM with all its memory mapped, and a map with these flags. */
void vm_open(struct vm *vm, unsigned flags);
/* The same with so many address spaces; all but the first are empty. */
void vm_open_spaces(struct vm *vm, unsigned flags, unsigned spaces);
/* The same with any options; kick_signal and the message's are set here. */
void vm_open_options(struct vm *vm, struct gpamap_options opt);
/* Stops the vCPUs that still run, then all goes. */
void vm_close(struct vm *vm);

/* Guest-physical address of a page, and its size in bytes. */
uint64_t vm_gpa(const struct vm *vm, unsigned page);

/* ------------------------------------------------------------------------------------ vCPUs --- */

/* An id can be used once in the life of a VM. Attached, by the calling thread. */
struct vcpu *vcpu_new(struct vm *vm, unsigned id);
/* The same, not attached. */
struct vcpu *vcpu_new_raw(struct vm *vm, unsigned id);
/* Detach and close it. It must not run. */
void vcpu_free(struct vcpu *v);

/* Where it begins, and what it watches: the first word of @page. */
void vcpu_set(struct vcpu *v, enum mode mode, enum program program, unsigned page, bool rings);
/* The same with words at any address: what it watches, and the door. Then vcpu->on_mmio has to answer. */
void vcpu_set_at(struct vcpu *v, enum mode mode, enum program program, uint64_t watched,
		 uint64_t door);
/* Let it run in a thread of its own. */
void vcpu_start(struct vcpu *v);
/* Let its thread do one step: one run and what follows from it. False: it is over. */
bool vcpu_step(struct vcpu *v);
/* Bring the thread to its end, and check that all went well for the guest. */
void vcpu_stop(struct vcpu *v);
/* KVM_RUN with no gate: a vcpu->once for probes. */
int vcpu_run_raw(struct vcpu *v);

/* By the guest's own account. */
uint64_t vcpu_count(const struct vcpu *v);
uint64_t vcpu_saw(const struct vcpu *v);
/* Wait until it has gone around @n times more. */
void vcpu_await(struct vcpu *v, uint64_t n);
/* What a thread of this process does, as in /proc: 'R', 'S', 'D' ... */
char thread_state(int tid);

/* -------------------------------------------------------------------------------- the map --- */

struct gpamap_txn *vm_begin(struct vm *vm);
/* Let @page show the other memory: other host address, so a slot has to be deleted and created, which shuts the
 * gate. Returns the word that the guest then sees. */
uint64_t vm_flip(struct vm *vm, struct gpamap_txn *txn, unsigned page);
/* What the first word of @page is now, by the map. */
uint64_t vm_word(struct vm *vm, unsigned page);
/* The same, as one transaction; 0 or the commit's errno, with which it is aborted. For any thread. */
int vm_flip_page(struct vm *vm, unsigned page, struct gpamap_commit_report *ret);
/* Commit with time enough; it must succeed. */
void vm_commit(struct gpamap_txn *txn, unsigned flags, struct gpamap_commit_report *ret);
struct gpamap_stats vm_stats(struct vm *vm);
/* A slot of the application's own, one page at @page, with a log: as the ioctl takes it, and made. The page is for the
 * test to choose, beyond VM_PAGES. */
struct kvm_userspace_memory_region vm_own_region(const struct vm *vm, uint32_t slot, unsigned page);
void vm_add_own_slot(struct vm *vm, uint32_t slot, unsigned page);

/* ------------------------------------------------------------------------ stream of commits --- */

/* A thread that flips a page all the time. */
void stream_start(struct vm *vm, unsigned page);
/* Wait until @n more have been done. */
void stream_await(struct vm *vm, unsigned long n);
void stream_stop(struct vm *vm);

/* ------------------------------------------------------------------------------------ time --- */

/* From here on the program has this long; then it says what it was doing, and fails. */
void watchdog(unsigned seconds);
/* What it is doing now. */
void step(const char *what);
/* For conditions without an event to wait for. */
void sleep_ms(unsigned ms);
#define wait_until(condition)        \
	do {                         \
		while (!(condition)) \
			sleep_ms(1); \
	} while (0)
void wait_sem(void *sem);

#endif
