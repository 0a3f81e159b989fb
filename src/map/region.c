/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of regions: made, counted, dead, reaped, released. */
#include <errno.h>
#include <string.h>

#include "map/check.h"
#include "map/label.h"
#include "map/region.h"

/* ------------------------------------------------------------------------------ trees --- */

static void ref_child(const void *data)
{
	gm_region_ref(((const struct gm_child *)data)->region);
}

static void unref_child(const void *data)
{
	gm_region_unref(((const struct gm_child *)data)->region);
}

static const struct gm_tree_type child_type = {
	.size = sizeof(struct gm_child),
	.ref = ref_child,
	.unref = unref_child,
};

/* A region's own list of its mappings needs no reference: each mapping holds one. */
static const struct gm_tree_type shown_type = {.size = 0};

/* --------------------------------------------------------------------------- creation --- */

/* What a device without callbacks has, so that nobody has to ask whether there are any. */
static const struct gpamap_mmio_ops no_ops;

struct gpamap_region *gm_region_alloc(struct gm_map *map, enum gpamap_kind kind, const char *name,
				      uint64_t size)
{
	struct gpamap_region *r = gm_calloc(map->alloc, 1, sizeof(*r));
	size_t length = strlen(name) + 1;

	if (!r)
		return NULL;
	r->name = gm_calloc(map->alloc, 1, length);
	if (!r->name) {
		gm_free(map->alloc, r);
		return NULL;
	}
	memcpy(r->name, name, length);
	r->map = map;
	atomic_init(&r->refs, 1);
	r->kind = kind;
	r->serial = ++map->next_serial;
	r->max_size = size;
	r->gmem_fd = -1;
	r->now.size = size;
	r->now.enabled = true;
	gm_tree_init(&r->children, &child_type, map->alloc);
	gm_tree_init(&r->shown, &shown_type, map->alloc);
	return r;
}

static void link_alias(struct gpamap_region *alias, struct gpamap_region *target)
{
	gm_region_ref(target);
	alias->target = target;
	alias->next_alias = target->aliases;
	alias->alias_link = &target->aliases;
	if (target->aliases)
		target->aliases->alias_link = &alias->next_alias;
	target->aliases = alias;
}

static void unlink_alias(struct gpamap_region *alias)
{
	*alias->alias_link = alias->next_alias;
	if (alias->next_alias)
		alias->next_alias->alias_link = alias->alias_link;
	gm_region_unref(alias->target);
	alias->target = NULL;
}

int gm_region_new(struct gm_map *map, const struct gpamap_region_desc *desc, struct gm_msg *msg,
		  struct gpamap_region **ret)
{
	const char *name = desc->name ? desc->name : "";
	struct gpamap_region *r;
	int err = gm_check_desc(map, desc, msg);

	if (err)
		return err;
	r = gm_region_alloc(map, desc->kind, name, desc->size);
	if (!r)
		return gm_fail(msg, -ENOMEM, "no memory for region '" GM_NAME "'", name);
	r->unmergeable = desc->flags & GPAMAP_UNMERGEABLE;
	r->reentrant = desc->flags & GPAMAP_REENTRANT;
	r->resizable = desc->max_size != 0;
	if (r->resizable)
		r->max_size = desc->max_size;
	r->guest_memfd = desc->flags & GPAMAP_GUEST_MEMFD;
	if (r->guest_memfd) {
		r->gmem_fd = desc->guest_memfd;
		r->gmem_offset = desc->guest_memfd_offset;
	}
	if (r->kind == GPAMAP_MMIO || r->kind == GPAMAP_ROM_DEVICE)
		r->ops = desc->ops ? desc->ops : &no_ops;
	r->opaque = desc->opaque;
	r->release = desc->release;
	r->now.hva = (uint64_t)(uintptr_t)desc->hva;
	r->now.target_offset = desc->target_offset;
	r->now.readonly = desc->flags & GPAMAP_READONLY;
	r->now.rom_mode = r->kind == GPAMAP_ROM_DEVICE;
	if (desc->target)
		link_alias(r, desc->target);
	*ret = r;
	return 0;
}

static void free_region(const struct gm_alloc *alloc, struct gpamap_region *r)
{
	gm_free(alloc, (void *)r->dirty);
	gm_free(alloc, r->name);
	gm_free(alloc, r);
}

/* -------------------------------------------------------------------------- references --- */

void gm_region_ref(struct gpamap_region *r)
{
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
}

bool gm_region_try_ref(struct gpamap_region *r)
{
	unsigned refs = atomic_load_explicit(&r->refs, memory_order_relaxed);

	while (refs &&
	       !atomic_compare_exchange_weak_explicit(&r->refs, &refs, refs + 1,
						      memory_order_relaxed, memory_order_relaxed))
		continue;
	return refs != 0;
}

/* What was done with the region by any thread is to be seen by the one that reaps it: each gives its
 * reference up with release, and the last takes them all with acquire. */
bool gm_region_unref(struct gpamap_region *r)
{
	struct gm_map *map = r->map;
	struct gpamap_region *head;

	if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
		return false;
	head = atomic_load_explicit(&map->dead, memory_order_relaxed);
	do {
		r->next_dead = head;
	} while (!atomic_compare_exchange_weak_explicit(&map->dead, &head, r, memory_order_release,
							memory_order_relaxed));
	return true;
}

/* ------------------------------------------------------------------------------- death --- */

/*
 * A dead region isn't touched, since the list of the touched holds a reference. So its tree of children has
 * not been edited in this transaction: what a child knows of it, it knew when the transaction began.
 */
void gm_drop_children(struct gpamap_region *r)
{
	gm_tree_for_each (node, r->children.root, gm_all_of(UINT64_MAX)) {
		struct gpamap_region *child = ((const struct gm_child *)node->data)->region;

		if (child->now.parent == r)
			child->now.parent = NULL;
		if (child->touched && child->was.parent == r)
			child->was.parent = NULL;
	}
	gm_tree_destroy(&r->children);
}

static struct gpamap_region *take_dead(struct gm_map *map)
{
	struct gpamap_region *r = atomic_exchange_explicit(&map->dead, NULL, memory_order_acquire);
	struct gpamap_region *oldest_first = NULL;

	while (r) {
		struct gpamap_region *next = r->next_dead;

		r->next_dead = oldest_first;
		oldest_first = r;
		r = next;
	}
	return oldest_first;
}

struct gpamap_region *gm_map_reap(struct gm_map *map)
{
	struct gpamap_region *ret = NULL, **end = &ret, *r;

	/* What one drops may be the last reference on the next. */
	while ((r = take_dead(map))) {
		for (*end = r; r; r = r->next_dead) {
			gm_drop_children(r);
			gm_tree_destroy(&r->shown);
			if (r->target)
				unlink_alias(r);
			end = &r->next_dead;
		}
	}
	return ret;
}

void gm_region_release(const struct gm_alloc *alloc, struct gpamap_region *r)
{
	if (r->release)
		r->release(r->opaque);
	free_region(alloc, r);
}
