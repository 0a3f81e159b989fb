/* SPDX-License-Identifier: BSD-3-Clause */
/* Handles of regions. */
#include <errno.h>
#include <stddef.h>

#include "api/impl.h"

static struct gpamap *map_of(struct gpamap_region *r)
{
	return (struct gpamap *)((char *)r->map - offsetof(struct gpamap, map));
}

int gpamap_region_new(struct gpamap *m, const struct gpamap_region_desc *desc,
		      struct gpamap_region **ret)
{
	struct gm_msg msg = {""};
	int err;

	pthread_mutex_lock(&m->edit);
	err = gm_region_new(&m->map, desc, &msg, ret);
	if (!err)
		atomic_fetch_add(&m->refs, 1);
	pthread_mutex_unlock(&m->edit);
	return err ? gm_map_fail(m, err, &msg) : 0;
}

struct gpamap_region *gpamap_region_get(struct gpamap_region *region)
{
	gm_region_ref(region);
	return region;
}

void gpamap_region_put(struct gpamap_region *region)
{
	struct gpamap *m;

	if (!region)
		return;
	m = map_of(region);
	/* The region may be the last that keeps the map's struct. */
	atomic_fetch_add(&m->refs, 1);
	gm_region_unref(region);
	gm_reap(m);
	gm_map_put(m);
}

struct gpamap_region *gpamap_root(struct gpamap *m, unsigned space)
{
	return space < m->nr_spaces ? m->map.spaces[space].root : NULL;
}
