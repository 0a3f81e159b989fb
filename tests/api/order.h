/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commits against one legal order. Guests and accessors load and store, without pause, at addresses on both sides of
 * what a commit changes, and note what they met: which memory, which device, or nothing. Afterwards that is held
 * against the only order that is legal (P1 to P3, P5), address by address:
 *
 *  - the old map until some instant, then the new one, and never back;
 *  - if the commit fails, the old one all the time. At an address where that has nothing at all the new memory may be
 *    there for a while, unless all was to happen at one instant;
 *  - when the commit has returned 0, the new one; what is pending is the exception, where the new map has nothing;
 *  - each store that was accepted is in just one place: those before that instant in the old memory or device, those
 *    after it in the new;
 *  - where both maps have memory no access leaves the guest, and no operation outside the gate has left a trace;
 *  - memory that the caller may free is met by nobody: it is poisoned as soon as that is allowed.
 *
 * What changes is put together from areas: each has addresses of its own, something there, and an edit that changes it.
 */
#ifndef GM_TESTS_API_ORDER_H
#define GM_TESTS_API_ORDER_H

#include "gpamap-listener.h"
#include "common.h"

#include <pthread.h>

#define AREA_PAGES 16 /* of guest addresses */
#define AREA_BACKINGS 8
#define MOST_AREAS 24
#define MOST_PLACES 32
#define MOST_REGIONS 32

/* A backing is a page of memory or the registers of a device. Its first word is its tag; each watcher has a word of its
 * own in it for each place. */
enum { NOBODY = -1 };

/* What one map shows at a place. */
struct side {
	uint64_t load; /* tag of the backing; HOLE: loads are refused */
	int store;     /* the backing that gets stores; NOBODY: they are refused */
	bool loads;    /* loads find memory: they need no exit */
	bool stores;   /* the same of stores */
	bool assigned; /* there is something: memory, a device, a mapping that traps */
};

enum { OLD, NEW };

struct place {
	uint64_t gpa;
	struct side side[2];
	bool has_own;	      /* what loads find is what stores have left */
	atomic_bool seen_new; /* an access that is over has met the new map */
};

enum phase { BEFORE, DURING, RETURNED, CLEARED };

/* What a watcher has met at a place. */
struct met {
	uint64_t stored;	   /* stores accepted, numbered from 1 */
	uint64_t stored_before;	   /* of these, over before the commit began */
	uint64_t stored_by_return; /* begun before it had returned */
	uint64_t expected;	   /* what its own word should hold */
	bool moved;		   /* that has changed once without a store */
	bool is_new;
	uint64_t n[2];	      /* accesses that told one map from the other */
	uint64_t new_before;  /* new, and over before the commit began */
	uint64_t since[2][2]; /* begun after it had returned, and after all was cleared away */
	uint64_t back;	      /* old after new */
	uint64_t back_of_others;
	uint64_t neither;
	uint64_t load_exits;
	uint64_t store_exits;
};

enum { EMULATED, HARDWARE, ACCESSOR, WATCHERS };

struct order;

struct watcher {
	struct order *o;
	unsigned id;
	pthread_t thread;
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	struct met met[MOST_PLACES];
	uint64_t turn;
	/* The access under way. */
	bool chosen;
	unsigned place;
	unsigned kind;
	enum phase start;
	bool others_saw_new;
	bool exited;
	bool refused;
	bool died; /* in a fetch */
	uint64_t word;
	atomic_ulong accesses;
	uint64_t failed; /* calls that answered what they must not */
};

/* A way for a commit to fail. */
enum fault_kind { NO_FAULT, CALL, HELD, LEAVES_SLOWLY, VETO, NO_QUIESCE };

struct order_fault {
	enum fault_kind kind;
	enum gpamap_sim_call call;
	unsigned nth;
	bool forever;
};

struct order {
	struct vm vm;
	struct place place[MOST_PLACES];
	unsigned nr_places;
	struct gpamap_region *region[MOST_REGIONS]; /* by area */
	struct gpamap_region *other[MOST_REGIONS];
	bool kept[MOST_AREAS *
		  AREA_BACKINGS]; /* backings that a callback gives back, or that are devices */
	struct watcher watcher[WATCHERS];
	atomic_int phase;
	atomic_bool stop;
	uint64_t out_of_turn; /* stores that a device got twice or not at all */
	/* The commit: */
	int err;
	bool broken;
	uint32_t pending;
	bool one_instant;
	bool hit; /* the call that was to fail has been reached */
	struct gpamap_commit_report report;
};

struct area {
	const char *name;
	void (*build)(struct order *o, struct gpamap_txn *txn, unsigned area);
	void (*change)(struct order *o, struct gpamap_txn *txn, unsigned area);
};

/* All of them, one for each sort of change. */
enum {
	REBACK,
	PROTECT,
	TO_NONE,
	FROM_NONE,
	RAM_OVER_MMIO,
	RAM_FROM_MMIO,
	ROM_TO_TRAP,
	TRAP_TO_ROM,
	REMOVE,
	REMOVE_BARE,
	UNMAP,
	ADD,
	MOVE,
	MOVE_ONTO_ITSELF,
	MOVE_GMEM,
	HAND_OVER_GMEM,
	LOG_ON,
	LOG_OFF,
	REMOVE_LOGGED,
	BARS,
	AREAS
};

extern const struct area areas[AREAS];

/* Once, before all. */
int order_memory(void **state);

/* A VM with these areas (a bit for each), and watchers that have been everywhere. The greatest GPA has @gpa_bits bits, 0: as
 * usual. */
void order_open(struct order *o, uint32_t which, unsigned gpa_bits);
/* Commit what has been edited, with a fault. *@txn has ended afterwards, and a broken map has been repaired. */
void order_commit(struct order *o, struct gpamap_txn *txn, const struct order_fault *f,
		  unsigned flags);
/* Watchers have been everywhere again. Check what they met; close. */
void order_close(struct order *o);
/* All of it: the commit changes all of these areas. */
void order_run(struct order *o, uint32_t which, const struct order_fault *f, unsigned flags);

/* watch.c, for order.c: */
void watchers_begin(struct order *o);
void watchers_end(struct order *o);
/* Until each of them has done all that it does at each place, from now on. */
void watchers_wait(struct order *o);
void watcher_rest(void);
/* Where a watcher's own word for a place is in each backing. */
static inline size_t own_word(unsigned place, unsigned watcher)
{
	return 64 + 8 * ((size_t)place * WATCHERS + watcher);
}

/* For the areas: */
uint8_t *backing_at(int backing);
int backing_of(unsigned area, unsigned i);
uint64_t area_gpa(unsigned area, unsigned page);
struct side nothing(void);
struct side traps(void);
struct side memory(int backing);
struct side read_only(int backing);
struct side device(int backing);
struct side rom(int memory, int device);
/* @page of @area shows @old before and @new after the commit. */
void place_add(struct order *o, unsigned area, unsigned page, struct side old, struct side new);
/* RAM of @pages backings from the @first one; with a release callback that poisons it, or without one. */
struct gpamap_region *area_ram(struct order *o, unsigned area, unsigned first, unsigned pages,
			       unsigned flags, bool kept);
struct gpamap_region *area_device(struct order *o, unsigned area, unsigned registers,
				  bool has_memory, unsigned memory);

#endif
