/* SPDX-License-Identifier: BSD-3-Clause */
/* What regions and their kinds are called. */
#include "map/label.h"

static const char *const names[] = {
	[GPAMAP_CONTAINER] = "container",   [GPAMAP_ALIAS] = "alias", [GPAMAP_RAM] = "RAM",
	[GPAMAP_ROM_DEVICE] = "ROM device", [GPAMAP_MMIO] = "MMIO",
};

const char *gm_kind_name(enum gpamap_kind kind)
{
	return names[kind];
}

const char *gm_label(const struct gpamap_region *r)
{
	return r->name[0] ? r->name : gm_kind_name(r->kind);
}
