/* SPDX-License-Identifier: BSD-3-Clause */
/* Is what the caller says in order? See check.h. */
#include <errno.h>

#include "map/check.h"
#include "map/label.h"

enum {
	HAS_MEMORY = 1u << 0,
	HAS_OPS = 1u << 1,
	HAS_TARGET = 1u << 2,
	HAS_GUEST_MEMFD = 1u << 3,
};

static const unsigned kinds[] = {
	[GPAMAP_CONTAINER] = 0,
	[GPAMAP_ALIAS] = HAS_TARGET,
	[GPAMAP_RAM] = HAS_MEMORY | HAS_GUEST_MEMFD,
	[GPAMAP_ROM_DEVICE] = HAS_MEMORY | HAS_OPS,
	[GPAMAP_MMIO] = HAS_OPS,
};

int gm_check_map(const struct gm_map *m, const struct gpamap_region *r, struct gm_msg *msg)
{
	if (r->map != m)
		return gm_fail(msg, -EXDEV, "region '" GM_NAME "' belongs to another map",
			       gm_label(r));
	return 0;
}

int gm_check_hva(const struct gm_map *m, const char *name, uint64_t hva, uint64_t size,
		 struct gm_msg *msg)
{
	struct gm_range range;

	if (!hva)
		return gm_fail(msg, -EINVAL, "'" GM_NAME "': hva is NULL, and must be its memory",
			       name);
	if (!gm_aligned(m, hva))
		return gm_fail(msg, -EINVAL,
			       "'" GM_NAME
			       "': hva 0x%llx is not a multiple of the page size 0x%llx",
			       name, (gm_ull)hva, (gm_ull)m->page_size);
	if (!gm_range_make(hva, size, &range))
		return gm_fail(msg, -EOVERFLOW,
			       "'" GM_NAME "': 0x%llx bytes from hva 0x%llx reach beyond 2^64",
			       name, (gm_ull)size, (gm_ull)hva);
	return 0;
}

int gm_check_window(const struct gm_map *m, const char *name, uint64_t target_offset, uint64_t size,
		    struct gm_msg *msg)
{
	struct gm_range range;

	if (!gm_aligned(m, target_offset))
		return gm_fail(msg, -EINVAL,
			       "alias '" GM_NAME
			       "': target_offset 0x%llx is not a multiple of the page size 0x%llx",
			       name, (gm_ull)target_offset, (gm_ull)m->page_size);
	if (!gm_range_make(target_offset, size, &range))
		return gm_fail(msg, -EOVERFLOW,
			       "alias '" GM_NAME
			       "': its window of 0x%llx bytes from 0x%llx reaches beyond 2^64",
			       name, (gm_ull)size, (gm_ull)target_offset);
	return 0;
}

static const char *name_of(const struct gpamap_region_desc *d)
{
	return d->name && d->name[0] ? d->name : gm_kind_name(d->kind);
}

static int check_kind(const struct gpamap_region_desc *d, struct gm_msg *msg)
{
	const unsigned known =
		GPAMAP_READONLY | GPAMAP_UNMERGEABLE | GPAMAP_GUEST_MEMFD | GPAMAP_REENTRANT;

	if (d->kind < GPAMAP_CONTAINER || d->kind > GPAMAP_MMIO)
		return gm_fail(msg, -EINVAL, "there is no region kind %d", (int)d->kind);
	if (d->flags & ~known)
		return gm_fail(msg, -EINVAL, "'" GM_NAME "': unknown flags 0x%x", name_of(d),
			       d->flags & ~known);
	if ((d->flags & GPAMAP_GUEST_MEMFD) && (d->flags & GPAMAP_READONLY))
		return gm_fail(msg, -EINVAL, "'" GM_NAME "': guest_memfd can't be read-only",
			       name_of(d));
	return 0;
}

/* Is something set that the kind does not have? */
static const char *alien_field(const struct gpamap_region_desc *d)
{
	unsigned has = kinds[d->kind];

	if (!(has & HAS_MEMORY) && d->hva)
		return "hva";
	if (!(has & HAS_OPS) && d->ops)
		return "ops";
	if (!(has & HAS_TARGET) && d->target)
		return "target";
	if (!(has & HAS_TARGET) && d->target_offset)
		return "target_offset";
	if (!(has & HAS_GUEST_MEMFD) && (d->flags & GPAMAP_GUEST_MEMFD))
		return "guest_memfd";
	if (!(has & HAS_OPS) && (d->flags & GPAMAP_REENTRANT))
		return "callbacks to be GPAMAP_REENTRANT";
	return NULL;
}

static int check_size(const struct gm_map *m, const struct gpamap_region_desc *d,
		      struct gm_msg *msg)
{
	if (d->size == 0)
		return gm_fail(msg, -EINVAL, "'" GM_NAME "': its size is 0", name_of(d));
	if (d->max_size && d->max_size < d->size)
		return gm_fail(msg, -ERANGE,
			       "'" GM_NAME "': max_size 0x%llx is below its size 0x%llx",
			       name_of(d), (gm_ull)d->max_size, (gm_ull)d->size);
	if (d->kind == GPAMAP_MMIO)
		return 0;
	if (!gm_size_aligned(m, d->size) || !gm_size_aligned(m, d->max_size))
		return gm_fail(msg, -EINVAL,
			       "'" GM_NAME "': size 0x%llx and max_size 0x%llx must be multiples "
			       "of the page size 0x%llx",
			       name_of(d), (gm_ull)d->size, (gm_ull)d->max_size,
			       (gm_ull)m->page_size);
	return 0;
}

static int check_guest_memfd(const struct gm_map *m, const struct gpamap_region_desc *d,
			     uint64_t size, struct gm_msg *msg)
{
	struct gm_range range;

	if (!(d->flags & GPAMAP_GUEST_MEMFD))
		return 0;
	if (d->guest_memfd < 0)
		return gm_fail(msg, -EINVAL, "'" GM_NAME "': guest_memfd %d is no file descriptor",
			       name_of(d), d->guest_memfd);
	if (!gm_aligned(m, d->guest_memfd_offset))
		return gm_fail(
			msg, -EINVAL,
			"'" GM_NAME
			"': guest_memfd_offset 0x%llx is not a multiple of the page size 0x%llx",
			name_of(d), (gm_ull)d->guest_memfd_offset, (gm_ull)m->page_size);
	if (!gm_range_make(d->guest_memfd_offset, size, &range))
		return gm_fail(msg, -EOVERFLOW,
			       "'" GM_NAME
			       "': 0x%llx bytes from guest_memfd_offset 0x%llx reach beyond 2^64",
			       name_of(d), (gm_ull)size, (gm_ull)d->guest_memfd_offset);
	return 0;
}

static int check_target(const struct gm_map *m, const struct gpamap_region_desc *d,
			struct gm_msg *msg)
{
	if (!d->target)
		return gm_fail(msg, -EINVAL, "alias '" GM_NAME "' has no target", name_of(d));
	if (d->target->map != m)
		return gm_fail(msg, -EXDEV,
			       "alias '" GM_NAME "': its target '" GM_NAME
			       "' belongs to another map",
			       name_of(d), gm_label(d->target));
	return gm_check_window(m, name_of(d), d->target_offset, d->size, msg);
}

int gm_check_desc(const struct gm_map *m, const struct gpamap_region_desc *d, struct gm_msg *msg)
{
	/* The memory has room for all that the region may come to be. */
	uint64_t greatest = d->max_size ? d->max_size : d->size;
	const char *alien;
	int err = check_kind(d, msg);

	if (err)
		return err;
	alien = alien_field(d);
	if (alien)
		return gm_fail(msg, -EINVAL, "'" GM_NAME "': a region of kind %s has no %s",
			       name_of(d), gm_kind_name(d->kind), alien);
	err = check_size(m, d, msg);
	if (!err && (kinds[d->kind] & HAS_MEMORY))
		err = gm_check_hva(m, name_of(d), (uint64_t)(uintptr_t)d->hva, greatest, msg);
	if (!err)
		err = check_guest_memfd(m, d, greatest, msg);
	if (!err && d->kind == GPAMAP_ALIAS)
		err = check_target(m, d, msg);
	return err;
}
