/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's memory and the state of its map, as edits change it.
 *
 *     STABLE_GPA   code, stacks, control blocks, page tables: a slot of its own that no edit touches
 *     SHOW_GPA     in the edit `instant` only: pages on show, see look.h
 *     RAM_GPA      main memory; at its end the arena: a window of WINDOW_PAGES pages for each vCPU
 *     behind it    the tail, up to TAIL_PAGES, which comes and goes
 *     hot_gpa      memory that is plugged and unplugged, and that the guest never touches
 *
 * The arena is a memfd, so that the same content can stand at two host addresses. All pages of a
 * window's moving part are one page of it: wherever the alias stands, the guest finds the same there. But
 * one page of each of these parts is other memory, a sign by which the guest knows where it is: see ask.h.
 */
#ifndef TORTURE_ARENA_H
#define TORTURE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest.h"

#define PAGE UINT64_C(4096)
#define ARENA_ALIGN UINT64_C(0x200000)

#define STABLE_GPA UINT64_C(0)
/* Of the first page on show, and from one to the next. */
#define SHOW_GPA UINT64_C(0x20000000)
#define SHOW_DISTANCE UINT64_C(0x10000000)
/* No memory: a store to the first ends a run, one to the second is the death of a guest that caught its own
 * fault. */
#define DOORBELL_GPA UINT64_C(0xd0000000)
#define DEATH_GPA (DOORBELL_GPA + PAGE)
#define RAM_GPA UINT64_C(0x100000000)
#define TAIL_PAGES 64u
#define HOT_COUNT 4u
#define HOT_SIZE UINT64_C(0x200000)

/* In stable memory, by offset. Page 0 traps: a lost return address often leads there. */
#define STABLE_ARCH 0x1000u /* the architecture's own, up to the code */
#define STABLE_CODE 0x10000u
#define STABLE_CODE_SIZE 0x10000u
#define STABLE_TARGETS 0x40000u
#define STABLE_ITS 0x80000u /* struct its_ctl */
#define STABLE_VCPUS 0x100000u
/* Of each vCPU. */
#define STABLE_VCPU_SIZE 0x10000u
#define VCPU_CTL 0x0u
#define VCPU_TABLES 0x4000u
#define VCPU_STACK_TOP 0x10000u

#define MAX_VCPUS 64u
/* Windows of the hazard `its` at least: its tables stand in so many. */
#define ITS_WINDOWS 4u

/* The parts of a window, by page. */
#define BACK_FIRST 13u
#define BACK_PAGES 4u
#define BACK_SIGN 16u /* of these the one that has other memory at the other host address */
#define MOVE_FIRST 22u
#define MOVE_PAGES 8u
#define MOVE_SHIFTS 3u /* the alias has 3 places */
#define MOVE_SIGN \
	24u /* of the moving pages the one that is memory of its own, and its first place */
#define ALIAS_PAGES (MOVE_PAGES - MOVE_SHIFTS + 1)
#define RO_PAGES 3u
#define GAP_PAGES 4u
extern const uint8_t ro_pages[RO_PAGES];
extern const uint8_t gap_pages[GAP_PAGES];

/* What stands on a gap page. */
enum gap_state { GAP_PLAIN, GAP_READONLY, GAP_HOLE, GAP_OTHER, GAP_STATES };

struct window_state {
	bool readonly[RO_PAGES];
	uint8_t gap[GAP_PAGES]; /* enum gap_state */
	uint8_t shift;		/* of the alias, in pages */
	bool alt;		/* the other host address of the rebacked part */
};

struct map_state {
	struct window_state *win;
	uint32_t tail;	     /* pages */
	uint32_t generation; /* on show; 0: nothing is */
	bool log;
	bool hot[HOT_COUNT];
};

struct arena {
	unsigned windows;
	uint64_t memory; /* size of main memory, arena included */
	uint64_t offset; /* of the arena in main memory */
	uint64_t size;	 /* of the arena */
	uint64_t hot_gpa;
	char *ram;   /* memory + TAIL_PAGES */
	char *alt;   /* the arena once more */
	char *spare; /* as large as the arena: what GAP_OTHER shows */
	char *hot;   /* HOT_COUNT * HOT_SIZE */
	char *show;  /* the places of the pages on show */
	char *stable;
	uint64_t stable_size;
	int memfd;
	struct map_state state;
};

/* How many windows there are: for most hazards one for each vCPU. */
unsigned arena_windows(enum hazard hazard, unsigned vcpus);

/* Make the memory for @windows windows and @vcpus vCPUs; fill it for @hazard. With @shows there are pages
 * on show, of generation 1. 0 or -errno. */
int arena_init(struct arena *a, unsigned windows, unsigned vcpus, uint64_t memory,
	       enum hazard hazard, bool shows);
void arena_destroy(struct arena *a);

/* The smallest main memory for so many vCPUs. */
uint64_t arena_min_memory(unsigned vcpus);

struct guest_ctl *arena_ctl(const struct arena *a, unsigned vcpu);
struct its_ctl *arena_its(const struct arena *a);
/* A page of a window, in the host. */
uint64_t *arena_page(const struct arena *a, unsigned window, unsigned page);
uint64_t arena_window_gpa(const struct arena *a, unsigned window);
enum page_kind arena_page_kind(unsigned page);
/* Pages that may show the same memory have the same id, which is that of the first one. */
unsigned arena_page_id(unsigned page);

/* Where a page on show is in a generation, for the guest and in the host. */
uint64_t arena_show_gpa(unsigned page, uint32_t generation);
char *arena_show_hva(const struct arena *a, unsigned page, uint32_t generation);
/* Write the numbers of a generation, whose places are empty. */
void arena_number(const struct arena *a, uint32_t generation);

/* A piece of the flat map as a program that keeps no pieces would have it. */
struct seg {
	uint64_t gpa;
	uint64_t size;
	char *hva;
	bool readonly;
	bool log;
};
/* What stands on a page of a window now. False: nothing. */
bool arena_at(const struct arena *a, unsigned window, unsigned page, struct seg *ret);
/* Room that arena_flat() needs. */
size_t arena_max_segs(const struct arena *a);
/* The map as @a->state says, neighbours joined wherever they can be. Returns the count. */
size_t arena_flat(const struct arena *a, struct seg *segs);

#endif
