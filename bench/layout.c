/* SPDX-License-Identifier: BSD-3-Clause */
/* How a guest's memory is mapped, for all rivals alike. */
#include "rival.h"

/* Where the pages of a layout in pages begin. The guest's code and counters are below. */
#define PAGES_AT (2 * MIB)

uint64_t layout_page(const struct layout *l, unsigned i)
{
	return l->pages ? PAGES_AT + 2 * PAGE * i : l->size / 2 + 16 * PAGE;
}

uint64_t layout_size(const struct layout *l)
{
	return l->pages ? layout_page(l, l->pages) : l->size;
}
