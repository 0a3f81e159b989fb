/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A second, simple implementation of what the map means, to compare with: a table of regions, an array of
 * pages for the plain mappings, and a look-up of one byte by trying everything. It shares no code with the
 * library.
 */
#ifndef TESTS_MAP_MODEL_H
#define TESTS_MAP_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "gpamap.h"

#define MODEL_PAGE UINT64_C(0x1000)
#define MODEL_PAGES 64 /* of each address space that are looked at, from model_base() on */
#define MODEL_SPACES 2
#define MODEL_REGIONS 24 /* the first MODEL_SPACES are the roots */

struct mregion {
	bool used;   /* made, and not released */
	bool handle; /* the test holds a reference */
	enum gpamap_kind kind;
	int parent; /* -1: none */
	uint64_t offset;
	uint64_t seq;
	int priority;
	uint64_t size;
	uint64_t max_size; /* 0: not resizable */
	uint64_t hva;
	int target;
	uint64_t target_offset;
	bool enabled, readonly, rom_mode, log;
	bool unmergeable, guest_memfd;
	uint64_t gmem_offset;
	bool touched; /* edited in the open transaction */
};

struct mpage {
	bool mapped;
	int region; /* -1: just memory */
	uint64_t offset;
	uint64_t hva; /* of just memory */
	enum gpamap_prot prot;
};

struct model {
	struct mregion r[MODEL_REGIONS];
	struct mpage plain[MODEL_SPACES][MODEL_PAGES];
	uint64_t seq;
};

/* What a byte is. */
struct mbyte {
	int kind;   /* as enum gm_seg_kind; 0: nothing */
	int region; /* -1: just memory */
	uint64_t offset;
	uint64_t hva;
	bool readonly, log, guest_memfd;
	uint64_t gmem_offset;
	int group;    /* the region whose group it is; -1: none */
	bool refused; /* guest_memfd that would be read-only: can't be flattened */
};

/* GPA of the first page that is looked at: those of the second space end at 2^64. */
uint64_t model_base(unsigned space);
void model_init(struct model *m);
struct mbyte model_at(const struct model *m, unsigned space, uint64_t gpa);

/* Edits: 0 or the errno that the library must give. */
int model_add(struct model *m, int parent, uint64_t offset, int child, int priority);
int model_remove(struct model *m, int child);
int model_move(struct model *m, int child, uint64_t offset);
int model_priority(struct model *m, int child, int priority);
int model_resize(struct model *m, int r, uint64_t size);
int model_enabled(struct model *m, int r, bool on);
int model_readonly(struct model *m, int r, bool on);
int model_reback(struct model *m, int r, uint64_t hva);
int model_target_offset(struct model *m, int r, uint64_t offset);
int model_rom_mode(struct model *m, int r, bool on);
int model_log(struct model *m, int r, bool on);
/* In pages; within those that are looked at. */
int model_map(struct model *m, unsigned space, unsigned page, unsigned n, uint64_t hva,
	      enum gpamap_prot prot);
int model_map_region(struct model *m, unsigned space, unsigned page, unsigned n, int r,
		     uint64_t offset, enum gpamap_prot prot);
int model_unmap(struct model *m, unsigned space, unsigned page, unsigned n);
int model_protect(struct model *m, unsigned space, unsigned page, unsigned n,
		  enum gpamap_prot prot);

/* Which regions have a reason to live in @now, or in @before (NULL: no transaction is open)? The others get
 * used = false in both, and what lay in them has no place any more. */
void model_bury(struct model *now, struct model *before);

#endif
