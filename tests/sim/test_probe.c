/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Questions to KVM in the form of slot requests, put to the simulated VM, which refuses in the same order; and to
 * kernels that differ from it in what is said here.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/probe.h"
#include "gpamap-sim.h"
#include "sim/backend.h"

#define PAGE ((uint64_t)sysconf(_SC_PAGESIZE))
#define NR_SLOTS 64u
#define HVA UINT64_C(0x10000000)    /* of the probe; nobody touches it */
#define OTHERS UINT64_C(0x20000000) /* memory of somebody else's */

struct kernel {
	struct gm_backend b;
	struct gm_backend *sim_backend;
	struct gpamap_sim *sim;
	struct gm_probe probe;
	unsigned requests;
	/* What is otherwise. Nothing is said of kernels that say so for what is legal. */
	int beyond;	      /* the errno of what is beyond the greatest GPA; 0: EINVAL */
	uint64_t no_gpa_from; /* it has none from here on, as if they were beyond; 0: all */
	bool no_create, no_delete;
};

static int slot(struct gm_backend *b, const struct gm_op *op)
{
	struct kernel *k = (struct kernel *)b;
	bool beyond =
		k->no_gpa_from && op->kind == GM_OP_CREATE && op->to.gpa.last >= k->no_gpa_from;
	uint64_t last_gpa = k->sim_backend->caps.limits.last_gpa;
	int err;

	k->requests++;
	if ((op->kind == GM_OP_CREATE && k->no_create) ||
	    (op->kind == GM_OP_DELETE && k->no_delete))
		return -ENOMEM;
	err = beyond ? -EINVAL : k->sim_backend->ops->slot(k->sim_backend, op);
	if (err == -EINVAL && k->beyond && op->to.gpa.last > last_gpa)
		return -k->beyond;
	return err;
}

static const struct gm_backend_ops ops = {.slot = slot};

static void open_kernel(struct kernel *k, unsigned gpa_bits)
{
	struct gpamap_sim_options opt = {.slots = NR_SLOTS, .spaces = 2, .gpa_bits = gpa_bits};
	struct gm_msg msg;

	*k = (struct kernel){.requests = 0};
	assert_int_equal(gpamap_sim_new(&opt, &k->sim), 0);
	assert_int_equal(gm_sim_new(k->sim, &gm_alloc_default, &msg, &k->sim_backend), 0);
	k->b = *k->sim_backend;
	k->b.ops = &ops;
	k->probe = (struct gm_probe){.b = &k->b, .hva = HVA};
}

static void close_kernel(struct kernel *k)
{
	k->sim_backend->ops->destroy(k->sim_backend);
	gpamap_sim_free(k->sim);
}

static int set(struct kernel *k, uint32_t id, uint64_t gpa, uint64_t size, uint64_t hva)
{
	struct gpamap_sim_slot s = {.slot = id, .gpa = gpa, .size = size, .hva = hva};

	return gpamap_sim_set_slot(k->sim, &s);
}

static void others(struct kernel *k, uint32_t id, uint64_t gpa)
{
	assert_int_equal(set(k, id, gpa, PAGE, OTHERS), 0);
}

/* Somebody else's slot is where it was: another one can't be made there, and nothing changes if it is made again. */
static void untouched(struct kernel *k, uint32_t id, uint64_t gpa)
{
	uint64_t changes = gpamap_sim_calls(k->sim, GPAMAP_SIM_MOVE);

	assert_int_equal(set(k, id, gpa, PAGE, OTHERS), 0);
	assert_int_equal(gpamap_sim_calls(k->sim, GPAMAP_SIM_MOVE), changes);
}

/* The VM has no slot with an id of @first to @last: one can't be deleted. */
static void no_slots(struct kernel *k, uint32_t first, uint32_t last)
{
	assert_false(k->probe.left);
	for (uint32_t id = first; id <= last; id++)
		assert_int_equal(set(k, id, 0, 0, 0), -EINVAL);
}

static uint64_t last_gpa(const struct kernel *k)
{
	return k->b.caps.limits.last_gpa;
}

static void test_limits(void **state)
{
	static const int errnos[] = {0, EFAULT};
	struct kernel k;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned bits = 31; bits <= 64; bits++) {
			open_kernel(&k, bits);
			k.beyond = errnos[i];
			assert_int_equal(gm_probe_limits(&k.probe), 0);
			assert_true(last_gpa(&k) == UINT64_MAX >> (64 - bits));
			/* On x86 the last page of the 2^47 bytes is none of user space's. */
			assert_true(k.b.caps.limits.last_hva >=
				    k.sim_backend->caps.limits.last_hva);
			assert_true(k.b.caps.limits.last_hva / 2 <
				    k.sim_backend->caps.limits.last_hva);
			assert_true(k.requests < 80);
			assert_int_equal(gpamap_sim_calls(k.sim, GPAMAP_SIM_DELETE), 1);
			no_slots(&k, 0, NR_SLOTS - 1);
			close_kernel(&k);
		}
	}
}

/* riscv has not got the last page. What is learnt may be too much, never too little. */
static void test_limit_that_is_no_power_of_two(void **state)
{
	struct kernel k;

	(void)state;
	open_kernel(&k, 52);
	k.no_gpa_from = (UINT64_C(1) << 41) - PAGE;
	assert_int_equal(gm_probe_limits(&k.probe), 0);
	assert_true(last_gpa(&k) == (UINT64_C(1) << 41) - 1);
	k.no_gpa_from = (UINT64_C(1) << 40) + 8 * PAGE;
	assert_int_equal(gm_probe_limits(&k.probe), 0);
	assert_true(last_gpa(&k) == (UINT64_C(1) << 41) - 1);
	no_slots(&k, 0, NR_SLOTS - 1);
	close_kernel(&k);
}

static void test_limits_among_others(void **state)
{
	struct kernel k;

	(void)state;
	open_kernel(&k, 40);
	/* The last ids, and a slot where the question is put. */
	others(&k, NR_SLOTS - 1, 0);
	others(&k, NR_SLOTS - 2, UINT64_C(1) << 39);
	assert_int_equal(gm_probe_limits(&k.probe), 0);
	assert_true(last_gpa(&k) == UINT64_MAX >> 24);
	assert_true(k.b.caps.limits.last_hva != GM_NO_LIMIT);
	untouched(&k, NR_SLOTS - 1, 0);
	untouched(&k, NR_SLOTS - 2, UINT64_C(1) << 39);
	no_slots(&k, 0, NR_SLOTS - 3);
	/* All that are tried are in use. */
	others(&k, NR_SLOTS - 3, PAGE);
	others(&k, NR_SLOTS - 4, 2 * PAGE);
	assert_int_equal(gm_probe_limits(&k.probe), 0);
	assert_true(last_gpa(&k) == GM_NO_LIMIT);
	assert_true(k.b.caps.limits.last_hva == GM_NO_LIMIT);
	close_kernel(&k);
}

static void test_limits_without_memory(void **state)
{
	struct gm_slot ours = {.gpa = {8 * PAGE, 12 * PAGE - 1}, .hva = 0x30000000, .id = 5};
	uint32_t id = 0, taken;
	struct kernel k;

	(void)state;
	open_kernel(&k, 40);
	k.no_create = true;
	assert_int_equal(gm_probe_limits(&k.probe), 0);
	assert_true(last_gpa(&k) == GM_NO_LIMIT);
	k.no_create = false;
	/* What can't be removed now is removed later, before anything else is asked. */
	k.no_delete = true;
	assert_int_equal(gm_probe_limits(&k.probe), -ENOMEM);
	assert_true(k.probe.left);
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, NULL, &taken), -ENOMEM);
	k.no_delete = false;
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, NULL, &taken), 0);
	no_slots(&k, 0, NR_SLOTS - 1);
	/* So it is not taken for somebody else's. */
	k.no_delete = true;
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, NULL, &taken), -ENOMEM);
	assert_true(k.probe.left);
	k.no_delete = false;
	assert_int_equal(set(&k, 5, 8 * PAGE, 4 * PAGE, ours.hva), 0);
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, &ours, &taken), 0);
	no_slots(&k, 0, 4);
	close_kernel(&k);
}

/* With a slot of ours to run into nothing is ever made. */
static void test_ids_beside_ours(void **state)
{
	static const uint32_t ids[] = {0, 1, 2, 9};
	struct gm_slot ours;
	uint32_t taken;
	struct kernel k;

	(void)state;
	for (uint32_t space = 0; space < 2; space++) {
		taken = 77;
		open_kernel(&k, 40);
		assert_int_equal(gm_probe_limits(&k.probe), 0);
		ours = (struct gm_slot){.gpa = {8 * PAGE, 12 * PAGE - 1},
					.hva = 0x30000000,
					.id = 5,
					.space = space};
		assert_int_equal(set(&k, space << 16 | 5, 8 * PAGE, 4 * PAGE, ours.hva), 0);
		/* In the other space the id may be in use. */
		others(&k, (space ^ 1) << 16 | 2, 0);
		k.requests = 0;
		assert_int_equal(gm_probe_ids(&k.probe, space, ids, 4, &ours, &taken), 0);
		assert_int_equal(k.requests, 4);
		assert_int_equal(taken, 77);
		others(&k, space << 16 | 2, 0);
		assert_int_equal(gm_probe_ids(&k.probe, space, ids, 4, &ours, &taken), -EBUSY);
		assert_int_equal(taken, 2);
		untouched(&k, space << 16 | 2, 0);
		no_slots(&k, space << 16, space << 16 | 1);
		no_slots(&k, space << 16 | 6, space << 16 | (NR_SLOTS - 1));
		assert_int_equal(gpamap_sim_calls(k.sim, GPAMAP_SIM_MOVE), 0);
		close_kernel(&k);
	}
}

/* Without one, one slot is made, and deleted. */
static void test_ids_before_ours(void **state)
{
	static const uint32_t ids[] = {0, 1, 2, 9};
	uint32_t taken = 77;
	struct kernel k;

	(void)state;
	open_kernel(&k, 40);
	assert_int_equal(gm_probe_limits(&k.probe), 0);
	k.requests = 0;
	assert_int_equal(gm_probe_ids(&k.probe, 1, ids, 4, NULL, &taken), 0);
	assert_int_equal(k.requests, 4 + 1);
	no_slots(&k, 0, NR_SLOTS - 1);
	no_slots(&k, 1u << 16, 1u << 16 | (NR_SLOTS - 1));
	for (uint32_t i = 0; i < 4; i++) {
		others(&k, ids[i], 0);
		assert_int_equal(gm_probe_ids(&k.probe, 0, ids, 4, NULL, &taken), -EBUSY);
		assert_int_equal(taken, ids[i]);
		untouched(&k, ids[i], 0);
		assert_int_equal(set(&k, ids[i], 0, 0, 0), 0);
	}
	/* Somebody else's slot is where ours would be made: none is needed. */
	others(&k, 20, UINT64_C(1) << 39);
	k.requests = 0;
	assert_int_equal(gm_probe_ids(&k.probe, 0, ids, 4, NULL, &taken), 0);
	assert_int_equal(k.requests, 4);
	no_slots(&k, 0, 19);
	close_kernel(&k);
}

/* A guest_memfd's slot is not taken for a free id, nor one with the same memory as ours for one of ours. */
static void test_ids_of_any_slot(void **state)
{
	struct gm_slot ours = {.gpa = {8 * PAGE, 12 * PAGE - 1}, .hva = OTHERS, .id = 5};
	struct gpamap_sim_slot gmem = {.slot = 3,
				       .flags = GPAMAP_SIM_GUEST_MEMFD,
				       .gpa = 20 * PAGE,
				       .size = PAGE,
				       .hva = OTHERS,
				       .guest_memfd = 9};
	uint32_t id = 3, taken = 77;
	struct kernel k;

	(void)state;
	open_kernel(&k, 40);
	assert_int_equal(gm_probe_limits(&k.probe), 0);
	assert_int_equal(set(&k, 5, 8 * PAGE, 4 * PAGE, OTHERS), 0);
	assert_int_equal(gpamap_sim_set_slot(k.sim, &gmem), 0);
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, &ours, &taken), -EBUSY);
	assert_int_equal(taken, 3);
	id = 4;
	others(&k, 4, 30 * PAGE);
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, &ours, &taken), -EBUSY);
	assert_int_equal(taken, 4);
	untouched(&k, 4, 30 * PAGE);
	close_kernel(&k);
}

/* EINVAL for whatever id says nothing of ids; and neither does an address that is legal no longer. */
static void test_ids_that_cannot_be_told(void **state)
{
	uint32_t id = 3, taken = 77;
	struct kernel k;

	(void)state;
	open_kernel(&k, 40);
	others(&k, 3, 0);
	/* Not even asked: no GPA is known. */
	k.probe.gpa = GM_NO_LIMIT;
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, NULL, &taken), 0);
	assert_int_equal(k.requests, 0);
	assert_int_equal(gm_probe_limits(&k.probe), 0);
	k.no_gpa_from = UINT64_C(1) << 38;
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, NULL, &taken), 0);
	k.no_gpa_from = 0;
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, NULL, &taken), -EBUSY);
	assert_int_equal(taken, 3);
	k.no_create = true;
	assert_int_equal(gm_probe_ids(&k.probe, 0, &id, 1, NULL, &taken), -ENOMEM);
	k.no_create = false;
	untouched(&k, 3, 0);
	close_kernel(&k);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_limit_that_is_no_power_of_two),
		cmocka_unit_test(test_limits_among_others),
		cmocka_unit_test(test_limits_without_memory),
		cmocka_unit_test(test_ids_beside_ours),
		cmocka_unit_test(test_ids_before_ours),
		cmocka_unit_test(test_ids_of_any_slot),
		cmocka_unit_test(test_ids_that_cannot_be_told),
	};

	return cmocka_run_group_tests_name("sim/probe", tests, NULL, NULL);
}
