/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory regions, address spaces, and edits of them. Pure: no threads but for the reference counts, no
 * Linux. The layer above lets one thread in at a time.
 *
 * The state of a region that a transaction may change is in `now`. The first edit of a region in a
 * transaction keeps `now` in `was`, so abort is a copy back, and commit forgets `was`.
 *
 * Invariants:
 *  R1  A region has at most one place: now.parent is set if and only if the parent's children tree has
 *      the entry (now.offset, now.seq) for it.
 *  R2  No region can be reached from itself through children and alias targets.
 *  R3  A range of an address space whose flat view differs between the start of the transaction and now
 *      is covered by that space's windows.
 *  R4  Every tree node that names a region holds a reference; so does an alias on its target, and a
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
#include "map/view.h"

/* Regions on the way from a root, without it, to what stands below it. */
#define GM_DEPTH_MAX 64

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

struct gpamap_region {
	struct gm_map *map;
	atomic_uint refs;
	enum gpamap_kind kind;
	uint64_t serial; /* unique in its map, not 0 */
	char *name;
	bool unmergeable;
	bool resizable;
	bool is_root;
	bool internal; /* stands for one gpamap_map_pages() */
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
	uint64_t walked;		 /* number of the last search that passed here (edit.c) */
	struct gpamap_region *next_walk; /* its queue */
	size_t pending;			 /* edits of shown to come (ranges.c); 0 outside */
	bool touched;			 /* in the open transaction */
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
	struct gm_tree ranges; /* of gm_seg: the plain mappings, above the tree */
	struct gm_windows windows;
};

struct gm_map {
	const struct gm_alloc *alloc;
	uint64_t page_size;
	unsigned nr_spaces;
	struct gm_space *spaces;
	uint64_t next_serial;
	uint64_t next_seq;
	uint64_t walks; /* searches made (edit.c) */
	struct gpamap_region *touched;
	_Atomic(struct gpamap_region *) dead; /* refs == 0, not yet released */
};

int gm_map_init(struct gm_map *map, const struct gm_alloc *alloc, unsigned spaces,
		uint64_t page_size); /* -ENOMEM */
/* All views must be freed; roots go, other regions die with their last reference. The struct must stay
 * as long as any region does, since a region that dies goes on its list: gm_map_reap() still works. */
void gm_map_destroy(struct gm_map *map);

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

/* Edits: as in gpamap.h. On failure nothing has changed. */
int gm_edit_add(struct gm_map *m, struct gpamap_region *parent, uint64_t offset,
		struct gpamap_region *child, int priority, struct gm_msg *msg);
int gm_edit_remove(struct gm_map *m, struct gpamap_region *child, struct gm_msg *msg);
int gm_edit_move(struct gm_map *m, struct gpamap_region *child, uint64_t offset,
		 struct gm_msg *msg);
int gm_edit_priority(struct gm_map *m, struct gpamap_region *child, int priority,
		     struct gm_msg *msg);
int gm_edit_enabled(struct gm_map *m, struct gpamap_region *r, bool enabled, struct gm_msg *msg);
int gm_edit_readonly(struct gm_map *m, struct gpamap_region *r, bool readonly, struct gm_msg *msg);
int gm_edit_resize(struct gm_map *m, struct gpamap_region *r, uint64_t size, struct gm_msg *msg);
int gm_edit_reback(struct gm_map *m, struct gpamap_region *r, void *hva, struct gm_msg *msg);
int gm_edit_target_offset(struct gm_map *m, struct gpamap_region *alias, uint64_t offset,
			  struct gm_msg *msg);
int gm_edit_rom_mode(struct gm_map *m, struct gpamap_region *r, bool rom, struct gm_msg *msg);
int gm_edit_log(struct gm_map *m, struct gpamap_region *r, bool on, struct gm_msg *msg);

/* Plain range verbs (ranges.c). */
int gm_ranges_map(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size, void *hva,
		  enum gpamap_prot prot, struct gm_msg *msg);
int gm_ranges_map_region(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
			 struct gpamap_region *ram, uint64_t offset, enum gpamap_prot prot,
			 struct gm_msg *msg);
int gm_ranges_unmap(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
		    struct gm_msg *msg);
int gm_ranges_protect(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
		      enum gpamap_prot prot, struct gm_msg *msg);

/* Mark the ranges of all address spaces where @r's @local range (offsets in r) shows (window.c).
 * -ENOMEM: some windows may have been added; harmless. */
int gm_mark(struct gpamap_region *r, struct gm_range local);

/* The transaction's end for regions and ranges. Neither can fail. Old nodes are freed at once: views hold
 * references of their own. References that they drop may put regions on map->dead. */
void gm_edits_commit(struct gm_map *map);
void gm_edits_abort(struct gm_map *map);

/* Flatten the normalised @windows of @space again into @view, a tree of segments (flatten.c). -ENOMEM,
 * -E2BIG (nested too deep), -EPERM (guest_memfd below something read-only): abort the tree. */
int gm_flatten(struct gm_map *map, unsigned space, const struct gm_windows *windows,
	       struct gm_tree *view, struct gm_msg *msg);

#endif
