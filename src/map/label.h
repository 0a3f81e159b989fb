/* SPDX-License-Identifier: BSD-3-Clause */
/* What regions and their kinds are called in messages. */
#ifndef GM_MAP_LABEL_H
#define GM_MAP_LABEL_H

#include "map/region.h"

/* Of numbers in messages: printf knows no uint64_t. */
typedef unsigned long long gm_ull;

/* How to print a region in a message, cut to a length that leaves room for the rest. */
#define GM_NAME "%.40s"
/* Its name, or else its kind. */
const char *gm_label(const struct gpamap_region *r);
const char *gm_kind_name(enum gpamap_kind kind);

#endif
