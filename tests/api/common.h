/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of the whole library share: a simulated VM with a map over it, memory whose pages can be
 * told apart, a look at every page through the eyes of a guest, and snapshots of all that can be seen.
 * Only the public headers are used.
 */
#ifndef GM_TESTS_API_COMMON_H
#define GM_TESTS_API_COMMON_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpamap.h"
#include "gpamap-sim.h"

#define PAGE UINT64_C(4096)
#define KICK SIGUSR1

/* Does the code run several times slower than by itself: with a sanitizer, or emulated, as the build's option says? */
#if defined(SLOW)
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#ifndef SLOW
#define SLOW 0
#endif

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* A call that must succeed. */
#define ok(call) assert_int_equal((call), 0)
/* The same for a verb of a transaction: if it fails, it says why. */
#define ok_txn(txn, call) expect_txn((txn), (call), 0, #call, __FILE__, __LINE__)
/* A verb that must fail with @err, and say why. */
#define refused(txn, call, err) expect_txn((txn), (call), (err), #call, __FILE__, __LINE__)
void expect_txn(const struct gpamap_txn *txn, int got, int want, const char *call, const char *file,
		int line);

/* ------------------------------------------------------------------------------- allocation --- */

/* Counts what the library holds; can fail the nth allocation, or all from then on. */
struct counting {
	atomic_long live;
	atomic_ulong calls;
	atomic_ulong fail; /* which call fails; 0: none */
	atomic_bool forever;
	void (*on_free)(void *ptr); /* sees what is about to be freed; NULL: nobody */
};

/* Let the @nth allocation from now on fail; 0: none. */
void counting_fail(struct counting *c, unsigned long nth, bool forever);

/* ------------------------------------------------------------------------------------ memory --- */

/* @pages pages. The first word of page i is mem_tag(@id, i). Stays until the process ends, and comes from a
 * file, so that mem_again() shows the same memory at another address. */
uint8_t *mem_new(uint32_t id, size_t pages);
uint8_t *mem_again(uint32_t id, size_t pages);

static inline uint64_t mem_tag(uint32_t id, uint64_t page)
{
	return (uint64_t)id << 32 | page;
}

/* Memory for tests, each at one address; mems_new() makes them all, of so many pages. */
enum { A = 1, B, C };
extern uint8_t *mem_a, *mem_b, *mem_c;
void mems_new(size_t pages);

/* -------------------------------------------------------------------------------------- VMs --- */

/* What a guest finds at a page. */
struct seen {
	uint64_t word; /* the page's first, or HOLE if it traps */
	bool writable; /* a store does not trap */
};

#define HOLE UINT64_MAX

struct vm {
	struct gpamap_sim *sim;
	struct gpamap *map;
	struct counting alloc;
	unsigned spaces;
	/* A vCPU outside the gate: it looks at the slots as they are. */
	struct gpamap_sim_vcpu *probe;
	struct {
		uint64_t gpa;
		uint64_t word;
		uint64_t mark;
		int at;
		int end;
	} look;
	uint8_t *spare; /* a page for vm_slot_at() */
};

/* Both may be NULL. The allocator and the kick signal are set here. */
void vm_open(struct vm *vm, const struct gpamap_sim_options *sim, const struct gpamap_options *opt);
/* Let a map's memory come from @vm->alloc. */
void vm_alloc_options(struct vm *vm, struct gpamap_options *opt);
/* Checks that nothing leaked. */
void vm_close(struct vm *vm);
/* Its parts, for tests that look at the end of a map. */
void vm_close_map(struct vm *vm);
void vm_close_sim(struct vm *vm);

/* The VM of a test, opened without options before it and closed after it. */
extern struct vm vm;
int vm_setup(void **state);
int vm_teardown(void **state);
#define vm_test(f) cmocka_unit_test_setup_teardown(f, vm_setup, vm_teardown)

struct gpamap_txn *vm_begin(struct vm *vm);
/* Must succeed. */
struct gpamap_commit_report vm_commit(struct vm *vm, struct gpamap_txn *txn);
struct gpamap_commit_report vm_commit_flags(struct vm *vm, struct gpamap_txn *txn, unsigned flags);
struct gpamap_stats vm_stats(struct vm *vm);
struct gpamap_region *vm_region(struct vm *vm, const struct gpamap_region_desc *desc);
struct gpamap_region *vm_ram(struct vm *vm, void *hva, uint64_t pages, uint64_t max_pages);
/* A region comes to a page of space 0, committed. */
struct gpamap_commit_report vm_add(struct vm *vm, struct gpamap_region *region, uint64_t page);

/* What a guest finds at @gpa in address space 0. The second word of a writable page is written, with what
 * it held; so it is dirty then. */
struct seen vm_see(struct vm *vm, uint64_t gpa);
/* What a guest loads there. */
uint64_t vm_load(struct vm *vm, uint64_t gpa);
/* Is there a slot at the page, in any address space? Tries to make one there. */
bool vm_slot_at(struct vm *vm, unsigned space, uint64_t gpa);
/* What a guest should find at the page by what gpamap_lookup() says, in any address space. */
struct seen vm_say(struct vm *vm, unsigned space, uint64_t gpa);
/* Do the slots show at each of @pages pages what gpamap_lookup() says? */
void vm_check_slots(struct vm *vm, size_t pages);
/* Pages [@first, @first + @n) of space 0 are @mem's from @page on. */
void vm_check_pages(struct vm *vm, uint64_t first, uint64_t n, uint32_t mem, uint64_t page,
		    bool writable);
/* They are not there. */
void vm_check_hole(struct vm *vm, uint64_t first, uint64_t n);

/* -------------------------------------------------------------------------------- snapshots --- */

#define WORLD_PAGES 96
#define WORLD_SEGMENTS 256

/* All that can be seen of a VM. */
struct world {
	unsigned spaces;
	struct seen page[WORLD_PAGES]; /* in space 0 */
	bool slot[2][WORLD_PAGES];     /* in the others */
	size_t nr_segments[2];
	struct gpamap_segment segment[2][WORLD_SEGMENTS];
};

void world_take(struct vm *vm, struct world *ret);
/* Only what gpamap_lookup() tells; the rest stays. */
void world_take_views(struct vm *vm, struct world *ret);
bool world_same(const struct world *a, const struct world *b);
/* It is so now. */
void world_check(struct vm *vm, const struct world *want);
/* Nothing is to be done: an empty transaction's preview has no operations. */
void vm_check_settled(struct vm *vm);

/* ----------------------------------------------------------------------------------- random --- */

struct random {
	uint64_t state;
};

/* From GPAMAP_TEST_SEED or @seed; printed. */
struct random random_new(const char *test, uint64_t seed);
uint64_t random_next(struct random *r);
/* 0 <= result < @n */
uint64_t random_below(struct random *r, uint64_t n);

/* ---------------------------------------------------------------------------------- threads --- */

/* gpamap_vcpu_run() as a run loop calls it: again, as long as it is -EINTR. */
int run_on(struct gpamap_vcpu *vcpu);

void sleep_ms(unsigned ms);
int thread_id(void);

#endif
