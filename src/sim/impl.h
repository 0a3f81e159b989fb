/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The simulated VM, inside. See gpamap-sim.h for what it models.
 *
 * Slots of an address space stand in a table that is never changed once it can be seen: a change of a
 * slot makes another table and swaps it in. Guest accesses look slots up without a lock, in a section;
 * the swap waits until every section that may use the old table is over. Each VM has sections of its own
 * and not those of sync/publish.h, for two reasons: a stretched access sleeps in one, as a vCPU that is
 * stuck in a fault does, which those of the library must not; and KVM, too, has them per VM, so a stuck
 * guest holds up the slots of its VM but nobody else.
 *
 * Invariants:
 *  S1  A slot or table is written only before it is published; but for the bits of `dirty`.
 *  S2  What a publication replaced is freed after the sections that could have met it are over.
 *  S3  by_id and the published table of a space name the same slots, except while the slot lock is held.
 *  S4  A dirty bit is set after the store, within the section of the store's look-up: so when a change
 *      that takes a log away has waited, all bits are in it.
 *  S5  A vCPU is inside a section only within an access; never when it calls the guest or returns.
 */
#ifndef GM_SIM_IMPL_H
#define GM_SIM_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/kvm.h>

#include "gpamap-sim.h"

#define SIM_CACHE_LINE 64
/* Addresses of user memory end here. */
#if defined(__x86_64__)
#define SIM_USER_END ((UINT64_C(1) << 47) - 4096)
#else
#define SIM_USER_END (UINT64_C(1) << 48)
#endif
#define SIM_MAX_SPACES 16
#define SIM_MAX_SLOTS 65536u /* ids have 16 bits */
#define SIM_NR_CALLS (GPAMAP_SIM_GET_DIRTY + 1)
#define SIM_NR_STEPS (GPAMAP_SIM_IN_GET_DIRTY + 1)
/* No access is longer; no page is smaller, so that one reaches into two pages at most. */
#define SIM_MAX_ACCESS 4096

struct sim_slot {
	uint64_t gpa;
	uint64_t size;
	uint64_t hva;
	uint64_t gmem_offset;
	uint32_t gmem_fd;
	uint32_t id; /* as in the ioctl: space and id */
	uint32_t flags;
	bool invalid;
	_Atomic(uint64_t) *dirty; /* 1 bit per page; NULL: not logged */
};

/* Sorted by GPA. */
struct sim_table {
	size_t n;
	size_t room;
	struct sim_slot *slot[];
};

struct sim_space {
	_Atomic(struct sim_table *) table;
	/* Under the slot lock: */
	struct sim_slot **by_id;
	struct sim_table *spare[2]; /* as many as a change needs, so that most need no memory */
};

/* A call from @at on its kind's count is to fail; 0: none is. */
struct sim_rule {
	uint64_t at;
	int error;
	bool forever;
};

struct gpamap_sim {
	uint64_t page_size;
	unsigned flags;
	unsigned nr_spaces;
	uint32_t nr_slots;
	uint64_t last_gpa;    /* the greatest one */
	uint64_t hidden_gpa;  /* KVM's own */
	uint64_t hidden_size; /* 0: none */
	struct sim_space space[SIM_MAX_SPACES];

	pthread_mutex_t slot_lock;     /* changes of slots, dirty logs, the list of vCPUs */
	struct gpamap_sim_vcpu *vcpus; /* under slot_lock */

	pthread_mutex_t plan_lock; /* the next two */
	struct sim_rule rule[SIM_NR_CALLS];
	uint64_t calls[SIM_NR_CALLS];
	_Atomic(unsigned) stretch[SIM_NR_STEPS]; /* in us */
	_Atomic(uint64_t) traces;
	_Atomic(uint64_t) traces_running; /* those of them during which a vCPU ran */
};

/* What the last exit left to be completed by the next run. */
enum sim_pending_kind {
	SIM_NOTHING = 0,
	SIM_LOAD,
	SIM_STORE,
	SIM_XADD_READ,
	SIM_XADD_WRITE,
	SIM_HALT,
};

struct sim_pending {
	enum sim_pending_kind kind;
	bool answered; /* the step is being repeated */
	uint64_t gpa;
	unsigned len;
	/* Parts of data[] that the caller has to serve: no more than one in each page. */
	struct {
		unsigned at;
		unsigned end;
	} hole[2];
	unsigned nr_holes;
	unsigned next; /* the hole that the exit is about */
	/* A load: what was found in memory, and what the caller answers. A store: what to write. */
	_Alignas(8) uint8_t data[SIM_MAX_ACCESS];
};

struct gpamap_sim_vcpu {
	/* Odd: inside a section. Written by the thread that runs the vCPU. */
	_Alignas(SIM_CACHE_LINE) _Atomic(uint64_t) section;
	struct gpamap_sim *sim;
	struct kvm_run *run;
	gpamap_sim_guest guest;
	void *opaque;
	unsigned id;
	bool emulated;
	_Atomic(bool) running;	      /* it is in run */
	struct gpamap_sim_vcpu *next; /* under slot_lock */
	struct sim_pending pending;
};

/* Enter a section, and get the table of address space 0. */
static inline const struct sim_table *sim_section_enter(struct gpamap_sim_vcpu *v)
{
	uint64_t s = atomic_load_explicit(&v->section, memory_order_relaxed);

	/* Both sequentially consistent: either the table is the new one, or sim_synchronize() sees the
	 * section. */
	atomic_store(&v->section, s + 1);
	return atomic_load(&v->sim->space[0].table);
}

/* The table as it is now; inside a section. */
static inline const struct sim_table *sim_section_table(struct gpamap_sim_vcpu *v)
{
	return atomic_load(&v->sim->space[0].table);
}

static inline void sim_section_leave(struct gpamap_sim_vcpu *v)
{
	uint64_t s = atomic_load_explicit(&v->section, memory_order_relaxed);

	atomic_store_explicit(&v->section, s + 1, memory_order_release);
}

static inline bool sim_interrupted(struct gpamap_sim_vcpu *v)
{
	_Atomic(uint8_t) *byte = (_Atomic(uint8_t) *)&v->run->immediate_exit;

	return atomic_load_explicit(byte, memory_order_acquire) != 0;
}

/* table.c; but for find, under the slot lock. */

/* Free a slot, and its log; NULL is fine. */
void sim_slot_free(struct sim_slot *slot);
/* The slot that holds @gpa; NULL: none. */
struct sim_slot *sim_table_find(const struct sim_table *t, uint64_t gpa);
/* Does a slot other than @but overlap @size (not 0) bytes from @gpa on? */
bool sim_table_overlaps(const struct sim_table *t, uint64_t gpa, uint64_t size,
			const struct sim_slot *but);
/* A table, with the slots of @space but for @drop and with @add; each may be NULL. NULL: no memory. */
struct sim_table *sim_table_edit(struct sim_space *space, const struct sim_slot *drop,
				 struct sim_slot *add);
/* One that nobody can be using; NULL is fine. */
void sim_table_put(struct sim_space *space, struct sim_table *t);
/* Make @t the table of @space, and wait until nobody uses the one before. pre: the caller is not inside a
 * section. */
void sim_publish(struct gpamap_sim *sim, struct sim_space *space, struct sim_table *t);

/* slots.c */

/* Is there a slot with this id? (Space and id, as in the ioctl.) */
bool sim_has_slot(struct gpamap_sim *sim, uint32_t slot);

/* access.c */

/* Bring the answer to the last exit in. True: that was all of it, the step is to be repeated. False: kvm_run
 * holds the next exit of the same access. pre: pending.kind is not SIM_NOTHING. */
bool sim_complete(struct gpamap_sim_vcpu *v);

/* faults.c */

int sim_faults_init(struct gpamap_sim *sim);
void sim_faults_destroy(struct gpamap_sim *sim);
/* Count a call of @kind, and of any kind. 0, or the negative errno with which it is to fail. */
int sim_count(struct gpamap_sim *sim, enum gpamap_sim_call kind);
/* Sleep if the step is stretched. */
void sim_stretch_slow(unsigned usec);

static inline void sim_step(struct gpamap_sim *sim, enum gpamap_sim_step step)
{
	unsigned usec = atomic_load_explicit(&sim->stretch[step], memory_order_relaxed);

	if (__builtin_expect(usec != 0, 0))
		sim_stretch_slow(usec);
}

#endif
