/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory regions, the address spaces that they are seen in, and the life of regions. Pure: no threads but for the
 * reference counts, no Linux. The layer above lets one thread in at a time.
 *
 * Intervals have a name each, all over this folder:
 *   range    any of them: first and last, of whatever addresses or offsets
 *   window   a range of an address space that has to be flattened again (windows.h)
 *   segment  a part of a flat view (view.h)
 *   mapping  what the plain verbs put into an address space (plain.h)
 *
 * Files of this folder call each other in one direction: windows, label, check, region, view, mark, map, and above
 * these place and state (edit.h), plain, and flatten, which don't know each other. What a file offers is in the header of
 * its name.
 *
 * The state of a region that a transaction may change is in `now`. The first edit of a region in a
 * transaction keeps `now` in `was`, so abort is a copy back, and commit forgets `was`.
 *
 * Invariants:
 *  RG1  A region has at most one place: now.parent is set if and only if the parent's children tree has
 *      the entry (now.offset, now.seq) for it.
 *  RG2  No region can be reached from itself through children and alias targets.
 *  RG3  A range of an address space whose flat view differs between the start of the transaction and now
 *      is covered by that space's windows.
 *  RG4  Every tree node that names a region holds a reference; so does an alias on its target, and a
 *      touched region's place on the transaction's list.
 */
#ifndef GM_MAP_REGION_H
#define GM_MAP_REGION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/msg.h"
#include "base/range.h"
#include "base/tree.h"
#include "gpamap.h"
#include "map/windows.h"

struct gm_map;

/* What edits may change. */
struct gm_region_state {
	struct gpamap_region *parent;
	uint64_t offset; /* in parent */
	uint64_t seq;	 /* order among siblings; unique, the newer the higher */
	int priority;
	uint64_t size; /* GPAMAP_SIZE_MAX: 2^64 */
	uint64_t hva;
	uint64_t target_offset;
	bool enabled;
	bool readonly;
	bool rom_mode;
	bool log;
};

/* What a run of gm_flatten() notes of a region. Nobody else looks at it. (FL1) */
struct gm_flat_note {
	uint64_t run;		    /* whose note it is; of another run: it means nothing */
	struct gm_windows blanks;   /* offsets at which the region shows nothing; normalised */
	struct gpamap_region *next; /* of those that have blanks */
};

struct gpamap_region {
	struct gm_map *map;
	atomic_uint refs;
	enum gpamap_kind kind;
	uint64_t serial; /* unique in its map, not 0 */
	char *name;
	bool unmergeable;
	bool resizable;
	bool is_root;
	bool internal; /* the map's own: its `pages` */
	bool guest_memfd;
	bool reentrant; /* its callbacks may reach it again */
	int gmem_fd;
	uint64_t gmem_offset;
	uint64_t max_size;
	unsigned root_of; /* with is_root: the address space */
	struct gpamap_region *target;
	struct gpamap_region *aliases;	   /* aliases of this region, by next_alias */
	struct gpamap_region *next_alias;  /* of the same target */
	struct gpamap_region **alias_link; /* what points to this alias in its target's list */
	const struct gpamap_mmio_ops *ops;
	void *opaque;
	void (*release)(void *opaque);
	struct gm_region_state now;
	struct gm_region_state was; /* valid while touched */
	struct gm_tree children;    /* container: entries of struct gm_child, tag = seq */
	/* RAM, but internal: the plain mappings of it, by (GPA, address space); without data. */
	struct gm_tree shown;
	uint64_t walked;		 /* number of the last search upward that passed here */
	struct gpamap_region *next_walk; /* the queue of a search for cycles */
	size_t stop;			 /* of a search that marks: place in its array */
	struct gm_flat_note flat;
	size_t pending; /* edits of shown to come (plain.c); 0 outside */
	bool touched;	/* in the open transaction */
	struct gpamap_region *next_touched;
	struct gpamap_region *next_dead;
	/* Pages found dirty and not yet fetched, 1 bit per page of max_size; made when logging is first
	 * turned on. Any thread may set bits, and look whether they are there. */
	_Atomic(uint64_t) *_Atomic dirty;
};

struct gm_child {
	struct gpamap_region *region;
};

struct gm_space {
	struct gpamap_region *root;
	struct gm_tree ranges; /* of struct gm_seg: the plain mappings, above the tree */
	struct gm_windows windows;
};

struct gm_map {
	const struct gm_alloc *alloc;
	uint64_t page_size;
	unsigned nr_spaces;
	struct gm_space *spaces;
	/* What gpamap_map_pages() maps: a region as large as the host's address space, whose offsets are host addresses. So
	 * mappings are one, whoever has made them, where guest and host addresses go on. */
	struct gpamap_region *pages;
	uint64_t next_serial;
	uint64_t next_seq;
	uint64_t walks; /* searches upward */
	uint64_t runs;	/* of gm_flatten() */
	struct gpamap_region *touched;
	_Atomic(struct gpamap_region *) dead; /* refs == 0, not yet released */
};

/* All of a region of @size bytes, in its own offsets. pre: size isn't 0. */
static inline struct gm_range gm_all_of(uint64_t size)
{
	return (struct gm_range){0, size == UINT64_MAX ? UINT64_MAX : size - 1};
}

int gm_region_new(struct gm_map *map, const struct gpamap_region_desc *desc, struct gm_msg *msg,
		  struct gpamap_region **ret);
/* Wait-free, any thread. */
void gm_region_ref(struct gpamap_region *r);
/* The last one puts the region on map->dead. Any thread. True: this was the last one. */
bool gm_region_unref(struct gpamap_region *r);
/* Take the dead regions off the map: unlink aliases, drop what they hold, repeatedly. Returns a list by
 * next_dead of regions to be released with gm_region_release(). To be called as an edit is (one thread
 * at a time). */
struct gpamap_region *gm_map_reap(struct gm_map *map);
/* Run the release callback and free. No lock needed; @map may be gone, @alloc must not. */
void gm_region_release(const struct gm_alloc *alloc, struct gpamap_region *r);

/* A region with one reference, its state all zero but for kind, size and enabled. NULL: no memory. */
struct gpamap_region *gm_region_alloc(struct gm_map *map, enum gpamap_kind kind, const char *name,
				      uint64_t size);
/* One reference more, unless it has none: then it's dead. */
bool gm_region_try_ref(struct gpamap_region *r);
/* All children of @r lose their place. pre: @r is dead, or its map ends. */
void gm_drop_children(struct gpamap_region *r);

#endif
