/* SPDX-License-Identifier: BSD-3-Clause */
/* What all steps of a draft ask of it. */
#include "plan/draft.h"

uint32_t gm_draft_capacity(const struct gm_draft *d)
{
	const struct gm_ids *ids = &d->slots->ids;
	uint32_t usable = ids->limit - ids->nr_reserved;

	return usable < ids->max_taken ? usable : ids->max_taken;
}

size_t gm_pieces_from(const struct gm_pieces *p, uint64_t gpa)
{
	size_t low = 0, high = p->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->p[mid].slot.gpa.last < gpa)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int gm_compare_u64(const void *a, const void *b)
{
	uint64_t ua = *(const uint64_t *)a, ub = *(const uint64_t *)b;

	return (ua > ub) - (ua < ub);
}

void gm_draft_destroy(struct gm_draft *d)
{
	gm_windows_destroy(&d->touched);
	gm_windows_destroy(&d->area);
	gm_free(d->alloc, d->gone.p);
	gm_free(d->alloc, d->come.p);
	gm_free(d->alloc, d->kept);
	gm_free(d->alloc, d->forced);
}
