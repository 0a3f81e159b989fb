/* SPDX-License-Identifier: BSD-3-Clause */
/* How a guest's memory is mapped, for all rivals alike. */
#include "rival.h"

/* Where the pages of a layout in pages begin. The guest's code and counters are below. */
#define PAGES_AT (2 * MIB)
#define SWEEP_FROM PAGES_AT

uint64_t layout_page(const struct layout *l, unsigned i)
{
	return l->pages ? PAGES_AT + 2 * PAGE * i : l->size / 2 + 16 * PAGE;
}

uint64_t layout_size(const struct layout *l)
{
	return l->pages ? layout_page(l, l->pages) : l->size;
}

uint64_t layout_backing(const struct layout *l, unsigned i, enum page_as as)
{
	return as == PAGE_ELSEWHERE ? layout_size(l) : layout_page(l, i);
}

struct sweep layout_sweep(const struct layout *l, uint64_t n)
{
	uint64_t page = layout_page(l, 0);
	struct sweep s = {.step = (l->size - SWEEP_FROM) / n / PAGE * PAGE, .n = n};

	s.at = SWEEP_FROM + (page - SWEEP_FROM) % s.step;
	return s;
}
