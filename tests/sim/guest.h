/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the simulated VM share: short ways to make slots, and a guest that does one access. */
#ifndef TEST_SIM_H
#define TEST_SIM_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "gpamap-sim.h"

static uint64_t page_size;

static inline struct gpamap_sim *new_sim(const struct gpamap_sim_options *opt)
{
	struct gpamap_sim *sim = NULL;

	page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	assert_int_equal(gpamap_sim_new(opt, &sim), 0);
	return sim;
}

static inline uint8_t *new_memory(uint64_t pages)
{
	void *p = mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static inline void free_memory(void *p, uint64_t pages)
{
	assert_int_equal(munmap(p, pages * page_size), 0);
}

/* Units of @gpa and @size: pages. */
static inline int set_slot(struct gpamap_sim *sim, uint32_t id, uint32_t flags, uint64_t gpa,
			   uint64_t size, const void *memory)
{
	struct gpamap_sim_slot slot = {
		.slot = id,
		.flags = flags,
		.gpa = gpa * page_size,
		.size = size * page_size,
		.hva = (uintptr_t)memory,
	};

	return gpamap_sim_set_slot(sim, &slot);
}

static inline int delete_slot(struct gpamap_sim *sim, uint32_t id)
{
	struct gpamap_sim_slot slot = {.slot = id};

	return gpamap_sim_set_slot(sim, &slot);
}

/* The first 64 pages of a slot's dirty log. */
static inline uint64_t dirty_bits(struct gpamap_sim *sim, uint32_t id)
{
	uint64_t bits = 0;

	assert_int_equal(gpamap_sim_get_dirty_log(sim, id, &bits), 0);
	return bits;
}

/* A guest that does one access, then halts. */
enum once_op { ONCE_LOAD, ONCE_STORE, ONCE_XADD, ONCE_FETCH, ONCE_WALK };

struct once {
	enum once_op op;
	uint64_t gpa;
	unsigned len;
	uint8_t buf[8192];
	uint64_t add;
	uint64_t value;
	bool done;
};

static inline int once_access(struct gpamap_sim_vcpu *v, struct once *o)
{
	switch (o->op) {
	case ONCE_LOAD:
		return gpamap_sim_load(v, o->gpa, o->buf, o->len);
	case ONCE_STORE:
		return gpamap_sim_store(v, o->gpa, o->buf, o->len);
	case ONCE_XADD:
		return gpamap_sim_xadd(v, o->gpa, o->add, &o->value);
	case ONCE_FETCH:
		return gpamap_sim_fetch(v, o->gpa, o->buf, o->len);
	default:
		return gpamap_sim_walk(v, o->gpa, &o->value);
	}
}

static inline int once_guest(struct gpamap_sim_vcpu *v, void *opaque)
{
	struct once *o = opaque;
	int r;

	if (o->done)
		return gpamap_sim_halt(v);
	r = once_access(v, o);
	if (!r)
		o->done = true;
	return r;
}

static inline struct gpamap_sim_vcpu *new_vcpu(struct gpamap_sim *sim, unsigned id, unsigned flags,
					       gpamap_sim_guest guest, void *opaque)
{
	struct gpamap_sim_vcpu *v = NULL;

	assert_int_equal(gpamap_sim_vcpu_new(sim, id, flags, guest, opaque, &v), 0);
	return v;
}

/* Run to the next exit, and say which. */
static inline uint32_t run_exit(struct gpamap_sim_vcpu *v)
{
	assert_int_equal(gpamap_sim_vcpu_run(v), 0);
	return gpamap_sim_vcpu_kvm_run(v)->exit_reason;
}

static inline void set_immediate_exit(struct gpamap_sim_vcpu *v, uint8_t value)
{
	atomic_store((_Atomic(uint8_t) *)&gpamap_sim_vcpu_kvm_run(v)->immediate_exit, value);
}

static inline uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void sleep_us(unsigned us)
{
	struct timespec t = {us / 1000000, (long)(us % 1000000) * 1000};

	nanosleep(&t, NULL);
}

#endif
