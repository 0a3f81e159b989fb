/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VM made by ioctls alone. These tests are about kernels, so there is nothing of the library in them.
 *
 * Addresses are counted in pages of the host. Slot SLOT_LOW (code, tables, a page of the guest's own) is there from
 * the beginning; slot SLOT_TEST is what the facts are about. Its guest-physical place is TEST.
 */
#ifndef TEST_KERNEL_KVM_H
#define TEST_KERNEL_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	PAGE_CODE = 1,
	PAGE_TABLES = 2, /* 3 of them */
	PAGE_OWN = 8,
	LOW_PAGES = 16,
	TEST = 64,
	TEST_PAGES = 4,
	BESIDE = TEST + TEST_PAGES,
	FREE = 128, /* no memory; tests may put some there */
	DOOR = 256, /* never memory */
	MEMORY_PAGES = 64,
	MEMORY_TEST = 32, /* where in the memory the page of TEST is */
};
enum { SLOT_LOW, SLOT_TEST, SLOT_OTHER };

/* A guest that has not come around once in this time will not. Much longer than one round takes in a test bed. */
#define STUCK_SECONDS 10

/* A signal with an empty handler. */
#define KICK_SIGNAL SIGUSR1

struct kvm {
	int sys;
	int fd;
	uint64_t page; /* bytes */
	uint8_t *memory;
	uint32_t nr_slots;
	uint32_t nr_spaces;
	unsigned long nr_vcpus; /* made so far */
};

/* Why there are no VMs here; NULL: there are. */
const char *kvm_missing(void);
/* With SLOT_LOW, and with SLOT_TEST as slot_put_test() makes it. */
void kvm_open(struct kvm *k);
void kvm_close(struct kvm *k);
/* Of the VM. */
int kvm_capability(const struct kvm *k, long number);
/* An ioctl's errno; 0: success. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

/* ------------------------------------------------------------------------------------ slots --- */

int slot_set(const struct kvm *k, struct kvm_userspace_memory_region r);
/* @n pages from @first of the memory at page @at. */
struct kvm_userspace_memory_region slot(const struct kvm *k, uint32_t id, uint64_t at, uint64_t n,
					uint64_t first);
int slot_put(const struct kvm *k, uint32_t id, uint64_t at, uint64_t n, uint64_t first);
/* SLOT_TEST at page @at. */
int slot_put_test(const struct kvm *k, uint32_t flags, uint64_t at);
int slot_delete(const struct kvm *k, uint32_t id);
/* Is there a slot at page @at? Another can't be made there. */
bool slot_at(const struct kvm *k, uint64_t at);
/* The log of a slot of at most 64 pages. */
int slot_log(const struct kvm *k, uint32_t id, uint64_t *ret);

/* A word of the own page, and of SLOT_TEST's memory. */
_Atomic uint64_t *own_word(const struct kvm *k, unsigned word);
_Atomic uint64_t *test_word(const struct kvm *k, unsigned page, unsigned word);

/* ------------------------------------------------------------------------------------- vCPU --- */

/* How the guest's accesses reach memory differs with these and with KVM. */
enum mode { USER, SUPERVISOR };
extern const char *const mode_name[];

enum program {
	/* again: count = count + 1, in the own page; saw = first word of the watched page; second word of the
	 * watched page = count; door = count */
	LOOP,
	/* again: count = count + 1; execute the watched page, which jumps back */
	FETCH,
	/* again: got = door; count = got */
	LOAD,
	/* again: watched word = door, by one instruction, where the processor has such a one: guest_has_copy */
	COPY,
	/* watched page = 16 or 32 bytes of the own page, by one instruction; door */
	STORE_16,
	STORE_32,
	/* By one instruction that is locked, or on arm64 an atomic one: add 1; 101 if it was 100, also of 16 bytes,
	 * where both words become 101 if they were 100 and 0. Door. */
	LOCKED_ADD,
	LOCKED_SWAP,
	LOCKED_SWAP_16,
	/* Load-exclusive, add 1, store-exclusive; door. */
	EXCLUSIVE_ADD,
};

struct vcpu {
	struct kvm *k;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	/* The thread in which it spins: */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool spins, hold, held, stop;
	int cpu; /* on which it stays; -1: there is only one */
	atomic_ulong eintrs;
	atomic_ulong holes; /* exits where memory is, and exceptions of the guest */
	atomic_bool over;   /* it can't go on */
	char why[64];	    /* ... because of this */
};

/* Why there are no guests here; NULL: there are. With it the fact is not_here(). */
extern const char *const guest_missing;
extern const bool guest_has_copy;
/* Why the processor can't run @program; NULL: it can. */
const char *guest_lacks(enum program program);

void vcpu_open(struct vcpu *v, struct kvm *k);
void vcpu_close(struct vcpu *v);
/* Let it begin @program, with @watched as the watched page; door: DOOR, or in the own page. */
void vcpu_set(struct vcpu *v, enum mode mode, enum program program, unsigned watched, bool rings);
/* Let it begin LOOP, with the page tables at @tables. */
void vcpu_set_tables(struct vcpu *v, enum mode mode, unsigned watched, unsigned tables, bool rings);
/* Errno of one KVM_RUN. */
int vcpu_run(struct vcpu *v);
/* The same for one that may have no end: then it is EINTR, after STUCK_SECONDS. */
int vcpu_run_limited(struct vcpu *v);
/* It is at the door, or at @page by a store or a load. */
bool vcpu_is_at(const struct vcpu *v, unsigned page, bool is_write);
/* Run to the door once; false: it came out elsewhere. */
bool vcpu_round(struct vcpu *v);
uint64_t vcpu_count(const struct vcpu *v);
uint64_t vcpu_saw(const struct vcpu *v);
const char *exit_name(uint32_t reason);

/* Let it spin, in a thread of its own, and go on after exits, which it counts. */
void spin_start(struct vcpu *v);
void spin_stop(struct vcpu *v);
/* While held, it is not in KVM_RUN. */
void spin_hold(struct vcpu *v);
void spin_release(struct vcpu *v);
/* Wait until it has gone around @n times more; false: it is over, or does not get there, which is its end, too. */
bool spin_await(struct vcpu *v, uint64_t n);

void sleep_us(unsigned us);
double seconds(void);

/* --------------------------------------------------- the processor: guest_x86.c, guest_arm64.c --- */

void guest_write(struct kvm *k, enum mode mode, unsigned tables, unsigned watched);
int guest_init(struct vcpu *v);
int guest_set(struct vcpu *v, enum mode mode, enum program program, unsigned watched,
	      unsigned tables, bool rings);
/* What LOAD has got. */
uint64_t guest_got(struct vcpu *v);
/* Let KVM itself store to a page, at its beginning; the guest may go around once for that. 0 or an errno; ENOTSUP: it can't
 * be brought to it. */
int guest_kernel_write(struct vcpu *v, unsigned page);
/* Is it the store by which the guest says that it had an exception? */
bool guest_is_exception(const struct kvm_run *run);
/* Let an ioctl wait for the vCPU. */
int guest_vcpu_ioctl(struct vcpu *v);

#endif
