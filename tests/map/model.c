/* SPDX-License-Identifier: BSD-3-Clause */
/* The simple map: see model.h. */
#include <errno.h>
#include <string.h>

#include "model.h"

enum { RAM = 1, ROMD, MMIO, NONE };

uint64_t model_base(unsigned space)
{
	return space ? 0 - MODEL_PAGES * MODEL_PAGE : 0;
}

void model_init(struct model *m)
{
	memset(m, 0, sizeof(*m));
	for (int i = 0; i < MODEL_SPACES; i++)
		m->r[i] = (struct mregion){
			.used = true,
			.handle = true,
			.kind = GPAMAP_CONTAINER,
			.parent = -1,
			.size = UINT64_MAX,
			.target = -1,
			.enabled = true,
		};
}

/* ---------------------------------------------------------------------------- look-up --- */

static bool has(const struct mregion *r, uint64_t offset)
{
	return r->size == UINT64_MAX || offset < r->size;
}

static struct mbyte in_region(const struct model *m, int i, uint64_t offset, bool readonly,
			      int group);

static bool before(const struct mregion *a, const struct mregion *b)
{
	return a->priority != b->priority ? a->priority > b->priority : a->seq > b->seq;
}

static struct mbyte in_container(const struct model *m, int i, uint64_t offset, bool readonly,
				 int group)
{
	bool tried[MODEL_REGIONS] = {false};
	struct mbyte ret = {0};

	for (;;) {
		int best = -1;

		for (int k = 0; k < MODEL_REGIONS; k++) {
			if (m->r[k].used && m->r[k].parent == i && !tried[k] &&
			    (best < 0 || before(&m->r[k], &m->r[best])))
				best = k;
		}
		if (best < 0)
			return ret;
		tried[best] = true;
		if (offset < m->r[best].offset)
			continue;
		ret = in_region(m, best, offset - m->r[best].offset, readonly, group);
		if (ret.kind)
			return ret;
	}
}

static struct mbyte in_memory(const struct model *m, int i, uint64_t offset, bool readonly,
			      int group)
{
	const struct mregion *r = &m->r[i];
	struct mbyte ret = {.kind = RAM, .region = i, .offset = offset, .group = group};

	if (r->kind == GPAMAP_MMIO || (r->kind == GPAMAP_ROM_DEVICE && !r->rom_mode)) {
		ret.kind = MMIO;
		return ret;
	}
	ret.hva = r->hva + offset;
	ret.log = r->log;
	ret.guest_memfd = r->guest_memfd;
	if (r->guest_memfd)
		ret.gmem_offset = r->gmem_offset + offset;
	ret.refused = r->guest_memfd && readonly;
	if (r->kind == GPAMAP_ROM_DEVICE)
		ret.kind = ROMD;
	else
		ret.readonly = readonly;
	return ret;
}

static struct mbyte in_region(const struct model *m, int i, uint64_t offset, bool readonly,
			      int group)
{
	const struct mregion *r = &m->r[i];
	struct mbyte nothing = {0};

	if (!r->enabled || !has(r, offset))
		return nothing;
	readonly = readonly || r->readonly;
	if (group < 0 && r->unmergeable)
		group = i;
	if (r->kind == GPAMAP_CONTAINER)
		return in_container(m, i, offset, readonly, group);
	if (r->kind == GPAMAP_ALIAS)
		return in_region(m, r->target, offset + r->target_offset, readonly, group);
	return in_memory(m, i, offset, readonly, group);
}

struct mbyte model_at(const struct model *m, unsigned space, uint64_t gpa)
{
	uint64_t page = (gpa - model_base(space)) / MODEL_PAGE;
	const struct mpage *p = page < MODEL_PAGES ? &m->plain[space][page] : NULL;
	uint64_t in_page = gpa % MODEL_PAGE;
	struct mbyte ret;

	if (!p || !p->mapped)
		return in_region(m, (int)space, gpa, false, -1);
	if (p->region < 0) {
		ret = (struct mbyte){
			.kind = RAM, .region = -1, .hva = p->hva + in_page, .group = -1};
	} else {
		ret = in_memory(m, p->region, p->offset + in_page, m->r[p->region].readonly,
				m->r[p->region].unmergeable ? p->region : -1);
	}
	if (p->prot == GPAMAP_NONE)
		ret.kind = NONE;
	if (p->prot == GPAMAP_RO)
		ret.readonly = true;
	return ret;
}

/* ------------------------------------------------------------------------------ edits --- */

static bool wraps(uint64_t from, uint64_t size)
{
	if (size == UINT64_MAX)
		return from != 0;
	return from + (size - 1) < from;
}

/* Can @to be reached going down from @from? */
static bool reaches(const struct model *m, int from, int to)
{
	if (from == to)
		return true;
	if (m->r[from].target >= 0 && reaches(m, m->r[from].target, to))
		return true;
	for (int i = 0; i < MODEL_REGIONS; i++) {
		if (m->r[i].used && m->r[i].parent == from && reaches(m, i, to))
			return true;
	}
	return false;
}

static int check_place(const struct mregion *r, uint64_t offset)
{
	if (r->kind != GPAMAP_MMIO && offset % MODEL_PAGE)
		return -EINVAL;
	return wraps(offset, r->size) ? -EOVERFLOW : 0;
}

int model_add(struct model *m, int parent, uint64_t offset, int child, int priority)
{
	struct mregion *r = &m->r[child];
	int err = check_place(r, offset);

	if (m->r[parent].kind != GPAMAP_CONTAINER)
		return -ENOTDIR;
	if (child < MODEL_SPACES || r->parent >= 0)
		return -EBUSY;
	if (err)
		return err;
	if (reaches(m, child, parent))
		return -ELOOP;
	r->parent = parent;
	r->offset = offset;
	r->priority = priority;
	r->seq = ++m->seq;
	r->touched = m->r[parent].touched = true;
	return 0;
}

int model_remove(struct model *m, int child)
{
	struct mregion *r = &m->r[child];

	if (r->parent < 0)
		return -ENOENT;
	r->touched = m->r[r->parent].touched = true;
	r->parent = -1;
	return 0;
}

static int again(struct model *m, int child, uint64_t offset, int priority)
{
	struct mregion *r = &m->r[child];
	int parent = r->parent;
	int err;

	if (parent < 0)
		return -ENOENT;
	err = check_place(r, offset);
	if (err)
		return err;
	model_remove(m, child);
	return model_add(m, parent, offset, child, priority);
}

int model_move(struct model *m, int child, uint64_t offset)
{
	if (m->r[child].parent >= 0 && m->r[child].offset == offset)
		return 0;
	return again(m, child, offset, m->r[child].priority);
}

int model_priority(struct model *m, int child, int priority)
{
	return again(m, child, m->r[child].offset, priority);
}

int model_resize(struct model *m, int i, uint64_t size)
{
	struct mregion *r = &m->r[i];

	if (!r->max_size)
		return -EPERM;
	if (!size || size > r->max_size)
		return -ERANGE;
	if (r->kind != GPAMAP_MMIO && size % MODEL_PAGE)
		return -EINVAL;
	if (r->kind == GPAMAP_ALIAS && wraps(r->target_offset, size))
		return -EOVERFLOW;
	if (r->parent >= 0 && wraps(r->offset, size))
		return -EOVERFLOW;
	if (size == r->size)
		return 0;
	r->size = size;
	r->touched = true;
	if (r->parent >= 0)
		m->r[r->parent].touched = true;
	return 0;
}

static int set(struct mregion *r, bool *what, bool on)
{
	if (*what != on)
		r->touched = true;
	*what = on;
	return 0;
}

int model_enabled(struct model *m, int r, bool on)
{
	return set(&m->r[r], &m->r[r].enabled, on);
}

int model_readonly(struct model *m, int r, bool on)
{
	return m->r[r].guest_memfd ? -EPERM : set(&m->r[r], &m->r[r].readonly, on);
}

int model_reback(struct model *m, int i, uint64_t hva)
{
	struct mregion *r = &m->r[i];

	if ((r->kind != GPAMAP_RAM && r->kind != GPAMAP_ROM_DEVICE) || r->guest_memfd)
		return -ENOTSUP;
	if (r->hva != hva)
		r->touched = true;
	r->hva = hva;
	return 0;
}

int model_target_offset(struct model *m, int i, uint64_t offset)
{
	struct mregion *r = &m->r[i];

	if (r->kind != GPAMAP_ALIAS)
		return -ENOTSUP;
	if (offset % MODEL_PAGE)
		return -EINVAL;
	if (wraps(offset, r->size))
		return -EOVERFLOW;
	if (r->target_offset != offset)
		r->touched = true;
	r->target_offset = offset;
	return 0;
}

int model_rom_mode(struct model *m, int r, bool on)
{
	return m->r[r].kind != GPAMAP_ROM_DEVICE ? -ENOTSUP : set(&m->r[r], &m->r[r].rom_mode, on);
}

int model_log(struct model *m, int r, bool on)
{
	if (m->r[r].kind != GPAMAP_RAM || m->r[r].guest_memfd)
		return -ENOTSUP;
	return set(&m->r[r], &m->r[r].log, on);
}

/* -------------------------------------------------------------------- plain mappings --- */

int model_unmap(struct model *m, unsigned space, unsigned page, unsigned n)
{
	for (unsigned i = page; i < page + n; i++) {
		struct mpage *p = &m->plain[space][i];

		if (p->mapped && p->region >= 0)
			m->r[p->region].touched = true;
		p->mapped = false;
	}
	return 0;
}

int model_map(struct model *m, unsigned space, unsigned page, unsigned n, uint64_t hva,
	      enum gpamap_prot prot)
{
	model_unmap(m, space, page, n);
	for (unsigned i = 0; i < n; i++)
		m->plain[space][page + i] = (struct mpage){true, -1, 0, hva + i * MODEL_PAGE, prot};
	return 0;
}

int model_map_region(struct model *m, unsigned space, unsigned page, unsigned n, int r,
		     uint64_t offset, enum gpamap_prot prot)
{
	if (m->r[r].kind != GPAMAP_RAM)
		return -ENOTSUP;
	if (offset % MODEL_PAGE)
		return -EINVAL;
	if (offset + n * MODEL_PAGE > m->r[r].size)
		return -ERANGE;
	if (m->r[r].guest_memfd && prot == GPAMAP_RO)
		return -EPERM;
	model_unmap(m, space, page, n);
	for (unsigned i = 0; i < n; i++)
		m->plain[space][page + i] =
			(struct mpage){true, r, offset + i * MODEL_PAGE, 0, prot};
	m->r[r].touched = true;
	return 0;
}

int model_protect(struct model *m, unsigned space, unsigned page, unsigned n, enum gpamap_prot prot)
{
	struct mpage *p = &m->plain[space][page];

	for (unsigned i = 0; i < n; i++) {
		if (!p[i].mapped)
			return -ENOENT;
		if (p[i].region >= 0 && m->r[p[i].region].guest_memfd && prot == GPAMAP_RO)
			return -EPERM;
	}
	for (unsigned i = 0; i < n; i++) {
		p[i].prot = prot;
		if (p[i].region >= 0)
			m->r[p[i].region].touched = true;
	}
	return 0;
}

/* ------------------------------------------------------------------------------- death --- */

static bool spread(const struct model *m, bool *alive)
{
	bool more = false;

	for (int i = 0; i < MODEL_REGIONS; i++) {
		const struct mregion *r = &m->r[i];

		if (!r->used)
			continue;
		if (!alive[i] && r->parent >= 0 && alive[r->parent])
			more = alive[i] = true;
		if (alive[i] && r->target >= 0 && !alive[r->target])
			more = alive[r->target] = true;
	}
	return more;
}

static void seed(const struct model *m, bool *alive)
{
	for (int i = 0; i < MODEL_REGIONS; i++) {
		if (m->r[i].used && (m->r[i].handle || m->r[i].touched))
			alive[i] = true;
	}
	for (unsigned s = 0; s < MODEL_SPACES; s++) {
		for (unsigned p = 0; p < MODEL_PAGES; p++) {
			if (m->plain[s][p].mapped && m->plain[s][p].region >= 0)
				alive[m->plain[s][p].region] = true;
		}
	}
}

static void drop(struct model *m, const bool *alive)
{
	for (int i = 0; i < MODEL_REGIONS; i++) {
		struct mregion *r = &m->r[i];

		if (!alive[i])
			r->used = false;
		if (r->parent >= 0 && !alive[r->parent])
			r->parent = -1;
	}
}

void model_bury(struct model *now, struct model *earlier)
{
	bool alive[MODEL_REGIONS] = {false};
	bool more = true;

	seed(now, alive);
	if (earlier)
		seed(earlier, alive);
	while (more) {
		more = spread(now, alive);
		if (earlier)
			more = spread(earlier, alive) || more;
	}
	drop(now, alive);
	if (earlier)
		drop(earlier, alive);
}
