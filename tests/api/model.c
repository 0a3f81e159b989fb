/* SPDX-License-Identifier: BSD-3-Clause */
/* What stands at a page, worked out the slow way; see model.h. */
#include "model.h"

static const struct seen hole = {HOLE, false};

static struct seen memory(const uint8_t *page, bool writable)
{
	struct seen s = {.writable = writable};

	memcpy(&s.word, page, sizeof(s.word));
	return s;
}

static bool resolve(const struct model *m, int at, uint64_t offset, bool readonly,
		    struct seen *ret);

/* The foremost child that has something there. */
static bool resolve_children(const struct model *m, int at, uint64_t offset, bool readonly,
			     struct seen *ret)
{
	bool tried[REGIONS] = {false};

	for (;;) {
		const struct model_region *best = NULL;

		for (int i = 0; i < REGIONS; i++) {
			const struct model_region *c = &m->region[i];

			if (tried[i] || c->parent != at || offset < c->offset)
				continue;
			if (!best || c->priority > best->priority ||
			    (c->priority == best->priority && c->seq > best->seq))
				best = c;
		}
		if (!best)
			return false;
		tried[best - m->region] = true;
		if (resolve(m, (int)(best - m->region), offset - best->offset, readonly, ret))
			return true;
	}
}

/* What stands at page @offset of a region; false: nothing, so it's seen through. */
static bool resolve(const struct model *m, int at, uint64_t offset, bool readonly, struct seen *ret)
{
	const struct model_region *r = &m->region[at];

	if (!r->enabled || offset >= r->size)
		return false;
	readonly = readonly || r->readonly;
	*ret = hole;
	switch (r->kind) {
	case GPAMAP_CONTAINER:
		return resolve_children(m, at, offset, readonly, ret);
	case GPAMAP_ALIAS:
		return resolve(m, r->target, r->target_offset + offset, readonly, ret);
	case GPAMAP_RAM:
		*ret = memory(r->hva + offset * PAGE, !readonly);
		return true;
	case GPAMAP_ROM_DEVICE:
		if (r->rom)
			*ret = memory(r->hva + offset * PAGE, false);
		return true;
	case GPAMAP_MMIO:
		return true;
	}
	return false;
}

struct seen model_page(const struct model *m, unsigned space, uint64_t page)
{
	const struct model_plain *p = &m->plain[space][page];
	struct seen s = hole;

	if (p->prot) {
		const struct model_region *r = p->region < 0 ? NULL : &m->region[p->region];

		if (p->prot == GPAMAP_NONE)
			return hole;
		return memory((r ? r->hva : p->hva) + p->offset * PAGE,
			      p->prot == GPAMAP_RW && !(r && r->readonly));
	}
	if (!resolve(m, (int)space, page, false, &s))
		return hole;
	return s;
}
