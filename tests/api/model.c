/* SPDX-License-Identifier: BSD-3-Clause */
/* What stands at a page, worked out the slow way; see model.h. */
#include "model.h"

#define NO_FILE UINT64_MAX

/* What is at a page, and which page of the guest_memfd that is. */
struct found {
	struct seen seen;
	uint64_t file_page;
	int region; /* that has it */
};

static const struct found hole = {{HOLE, false}, NO_FILE, -1};

/* @r is NULL where it is none of a region's. */
static struct found memory(const struct model *m, const struct model_region *r, const uint8_t *hva,
			   uint64_t offset, bool writable)
{
	struct found f = {{.writable = writable}, NO_FILE, -1};

	memcpy(&f.seen.word, hva + offset * PAGE, sizeof(f.seen.word));
	if (r && r->gmem)
		f.file_page = r->file_offset + offset;
	f.region = r ? (int)(r - m->region) : -1;
	return f;
}

static bool resolve(const struct model *m, int at, uint64_t offset, bool readonly,
		    struct found *ret);

/* The foremost child that has something there. */
static bool resolve_children(const struct model *m, int at, uint64_t offset, bool readonly,
			     struct found *ret)
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
static bool resolve(const struct model *m, int at, uint64_t offset, bool readonly,
		    struct found *ret)
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
		*ret = memory(m, r, r->hva, offset, !readonly);
		return true;
	case GPAMAP_ROM_DEVICE:
		if (r->rom)
			*ret = memory(m, r, r->hva, offset, false);
		return true;
	case GPAMAP_MMIO:
		return true;
	}
	return false;
}

static struct found find(const struct model *m, unsigned space, uint64_t page)
{
	const struct model_plain *p = page < PAGES ? &m->plain[space][page] : NULL;
	struct found f = hole;

	if (p && p->prot) {
		const struct model_region *r = p->region < 0 ? NULL : &m->region[p->region];

		if (p->prot == GPAMAP_NONE)
			return hole;
		return memory(m, r, r ? r->hva : p->hva, p->offset,
			      p->prot == GPAMAP_RW && !(r && r->readonly));
	}
	if (!resolve(m, (int)space, page, false, &f))
		return hole;
	return f;
}

struct seen model_page(const struct model *m, unsigned space, uint64_t page)
{
	return find(m, space, page).seen;
}

/* Regions reach beyond the pages that are looked at. */
void model_file(const struct model *m, struct model_file *ret)
{
	*ret = (struct model_file){0};
	for (int i = 0; i < FILE_PAGES; i++)
		ret->page[i].region = -1;
	for (unsigned space = 0; space < SPACES; space++) {
		for (uint64_t page = 0; page < 2 * PAGES; page++) {
			struct found f = find(m, space, page);

			if (f.file_page == NO_FILE)
				continue;
			assert_true(f.file_page < FILE_PAGES);
			ret->twice |= ret->page[f.file_page].region >= 0;
			ret->readonly |= !f.seen.writable;
			ret->shown++;
			ret->page[f.file_page].region = f.region;
			ret->page[f.file_page].space = space;
			ret->page[f.file_page].at = page;
		}
	}
}

void model_file_moved(const struct model_file *was, const struct model_file *is, unsigned *moved,
		      unsigned *handed_over)
{
	bool any = false, other = false;

	for (int i = 0; i < FILE_PAGES; i++) {
		if (was->page[i].region < 0 || is->page[i].region < 0)
			continue;
		other |= was->page[i].region != is->page[i].region;
		any |= was->page[i].at != is->page[i].at || was->page[i].space != is->page[i].space;
	}
	*moved += any;
	*handed_over += other;
}
