/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Access to guest memory and devices through the current flat view.
 *
 * Each segment that an access touches is looked up in a read section of its own, and leaves it with a
 * reference on its region. So memory that blocks, and callbacks that change the map, hold up nobody.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "map/region.h"
#include "map/view.h"
#include "ops/access.h"
#include "ops/dirty.h"

struct access {
	struct gm_publish *views;
	uint64_t page_size;
	unsigned space;
	bool is_write;
	uint64_t gpa;
	unsigned char *buf; /* only read from if is_write */
};

/* ---------------------------------------------------------------------------- pieces --- */

/* The largest piece of 1, 2, 4 or 8 bytes at @at that is naturally aligned and has no more than @len. */
static unsigned natural_piece(uint64_t at, size_t len)
{
	unsigned piece = 8;

	while (at % piece || piece > len)
		piece /= 2;
	return piece;
}

/*
 * The guest may access the same memory at any time, so what is read from or written to it here goes in
 * relaxed atomic pieces, as large as their alignment allows: an aligned value of up to 8 bytes is never
 * torn, and the race is none in the sense of C. memcpy() promises neither.
 */
typedef uint64_t __attribute__((may_alias)) mem64;
typedef uint32_t __attribute__((may_alias)) mem32;
typedef uint16_t __attribute__((may_alias)) mem16;

static inline void load_piece(const unsigned char *mem, unsigned char *buf, unsigned piece)
{
	uint64_t v8;
	uint32_t v4;
	uint16_t v2;

	switch (piece) {
	case 8:
		v8 = __atomic_load_n((const mem64 *)mem, __ATOMIC_RELAXED);
		memcpy(buf, &v8, 8);
		break;
	case 4:
		v4 = __atomic_load_n((const mem32 *)mem, __ATOMIC_RELAXED);
		memcpy(buf, &v4, 4);
		break;
	case 2:
		v2 = __atomic_load_n((const mem16 *)mem, __ATOMIC_RELAXED);
		memcpy(buf, &v2, 2);
		break;
	default:
		*buf = __atomic_load_n(mem, __ATOMIC_RELAXED);
	}
}

static inline void store_piece(unsigned char *mem, const unsigned char *buf, unsigned piece)
{
	uint64_t v8;
	uint32_t v4;
	uint16_t v2;

	switch (piece) {
	case 8:
		memcpy(&v8, buf, 8);
		__atomic_store_n((mem64 *)mem, v8, __ATOMIC_RELAXED);
		break;
	case 4:
		memcpy(&v4, buf, 4);
		__atomic_store_n((mem32 *)mem, v4, __ATOMIC_RELAXED);
		break;
	case 2:
		memcpy(&v2, buf, 2);
		__atomic_store_n((mem16 *)mem, v2, __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n(mem, *buf, __ATOMIC_RELAXED);
	}
}

/* In both: once aligned, a long copy goes on in pieces of 8 without asking again. */

static void copy_from_guest(const unsigned char *mem, unsigned char *buf, size_t len)
{
	while (len) {
		unsigned piece = natural_piece((uintptr_t)mem, len);
		size_t run = piece == 8 ? len - len % 8 : 0;

		for (size_t i = 0; i < run; i += 8)
			load_piece(mem + i, buf + i, 8);
		if (!run) {
			load_piece(mem, buf, piece);
			run = piece;
		}
		mem += run;
		buf += run;
		len -= run;
	}
}

static void copy_to_guest(unsigned char *mem, const unsigned char *buf, size_t len)
{
	while (len) {
		unsigned piece = natural_piece((uintptr_t)mem, len);
		size_t run = piece == 8 ? len - len % 8 : 0;

		for (size_t i = 0; i < run; i += 8)
			store_piece(mem + i, buf + i, 8);
		if (!run) {
			store_piece(mem, buf, piece);
			run = piece;
		}
		mem += run;
		buf += run;
		len -= run;
	}
}

/* ----------------------------------------------------------------------------- views --- */

/* The segment that holds @gpa. pre: in a read section. */
static const struct gm_node *segment_at(struct gm_publish *p, unsigned space, uint64_t gpa)
{
	const struct gm_views *views = gm_views_get(p);

	if (space >= views->nr_spaces)
		return NULL;
	return gm_tree_first(views->root[space], (struct gm_range){gpa, gpa});
}

/* What stands at the access's address: the segment as seen from there on, with a reference on its region,
 * and where it ends. */
static int find(const struct access *a, struct gm_seg *seg, uint64_t *last)
{
	const struct gm_node *n;

	gm_read_lock();
	n = segment_at(a->views, a->space, a->gpa);
	if (n) {
		*seg = gm_seg_advance(gm_seg_of(n), n->range.first, a->gpa);
		*last = n->range.last;
		gm_region_ref(seg->region);
	}
	gm_read_unlock();
	return n ? 0 : -ENXIO;
}

/*
 * Is what has just been written to @seg to be marked dirty? If not by the view that it was found in, then
 * by the one that is current now: a commit may have turned logging on since, and have returned before the
 * bytes were written, so that its caller would miss them (P4).
 *
 * Looking after the write, and in a read section, is enough: a commit that this section does not see
 * yet waits for the section to end, and then what was written before it is seen by whoever asks for the
 * dirty pages after that commit. Where something else stands there by now, better one page too many.
 */
static bool must_mark(const struct access *a, const struct gm_seg *seg)
{
	const struct gm_node *n;
	bool ret;

	if (seg->flags & GM_SEG_LOG)
		return true;
	gm_read_lock();
	ret = atomic_load_explicit(&seg->region->dirty, memory_order_acquire) != NULL;
	if (ret) {
		n = segment_at(a->views, a->space, a->gpa);
		ret = !n || gm_seg_of(n)->region != seg->region ||
		      (gm_seg_of(n)->flags & GM_SEG_LOG);
	}
	gm_read_unlock();
	return ret;
}

/* ---------------------------------------------------------------------------- access --- */

static int access_memory(const struct access *a, const struct gm_seg *seg, size_t len)
{
	unsigned char *mem = (unsigned char *)(uintptr_t)seg->hva;

	if (!a->is_write) {
		copy_from_guest(mem, a->buf, len);
		return 0;
	}
	if (seg->flags & GM_SEG_READONLY)
		return -EROFS;
	copy_to_guest(mem, a->buf, len);
	if (must_mark(a, seg))
		gm_dirty_mark(seg->region, a->page_size, seg->offset, len);
	return 0;
}

/* The pieces are aligned as the guest sees them, so an aligned access reaches the device in one call. */
static int access_device(const struct access *a, const struct gm_seg *seg, size_t len)
{
	const struct gpamap_mmio_ops *ops = seg->region->ops;
	void *opaque = seg->region->opaque;

	if (!ops || (a->is_write ? !ops->write : !ops->read))
		return -ENXIO;
	for (size_t done = 0; done < len;) {
		unsigned piece = natural_piece(a->gpa + done, len - done);
		uint64_t offset = seg->offset + done;
		int err;

		if (a->is_write)
			err = ops->write(opaque, offset, a->buf + done, piece);
		else
			err = ops->read(opaque, offset, a->buf + done, piece);
		if (err)
			return err;
		done += piece;
	}
	return 0;
}

static int access_segment(const struct access *a, const struct gm_seg *seg, size_t len)
{
	switch ((enum gm_seg_kind)seg->kind) {
	case GM_SEG_RAM:
		return access_memory(a, seg, len);
	case GM_SEG_ROMD:
		return a->is_write ? access_device(a, seg, len) : access_memory(a, seg, len);
	case GM_SEG_MMIO:
		return access_device(a, seg, len);
	case GM_SEG_NONE:
		return -EACCES;
	}
	return -ENXIO;
}

int gm_access(struct gm_publish *views, uint64_t page_size, unsigned space, uint64_t gpa, void *buf,
	      size_t len, bool is_write, bool *reap)
{
	struct access a = {views, page_size, space, is_write, gpa, buf};
	int err = 0;

	if (len && gpa > UINT64_MAX - (len - 1))
		return -EOVERFLOW;
	while (len && !err) {
		size_t here = len;
		struct gm_map *map;
		struct gm_seg seg;
		uint64_t last;

		err = find(&a, &seg, &last);
		if (err)
			break;
		if (last - a.gpa < len - 1)
			here = last - a.gpa + 1;
		map = seg.region->map;
		err = access_segment(&a, &seg, here);
		gm_region_unref(seg.region);
		if (atomic_load_explicit(&map->dead, memory_order_relaxed))
			*reap = true;
		a.gpa += here;
		a.buf += here;
		len -= here;
	}
	return err;
}

/* --------------------------------------------------------------------------- look-up --- */

/* How the guest finds a segment without an exit. */
static enum gpamap_prot seg_prot(const struct gm_seg *s)
{
	if (!gm_seg_backed(s))
		return GPAMAP_NONE;
	if (s->kind == GM_SEG_ROMD || (s->flags & GM_SEG_READONLY))
		return GPAMAP_RO;
	return GPAMAP_RW;
}

struct gpamap_segment gm_segment_as_data(struct gm_range range, const struct gm_seg *s)
{
	return (struct gpamap_segment){
		.gpa = range.first,
		.size = gm_range_size(range),
		.kind = s->region->kind,
		.prot = seg_prot(s),
		.log = s->flags & GM_SEG_LOG,
		.hva = (void *)(uintptr_t)s->hva,
		.offset = s->offset,
	};
}

int gm_lookup_in(const struct gm_node *root, uint64_t gpa, struct gpamap_segment *ret)
{
	const struct gm_node *n = gm_tree_first(root, (struct gm_range){gpa, UINT64_MAX});

	if (!n)
		return -ENOENT;
	*ret = gm_segment_as_data(n->range, gm_seg_of(n));
	return 0;
}

int gm_lookup(struct gm_publish *views, unsigned space, uint64_t gpa, struct gpamap_segment *ret)
{
	const struct gm_views *v;
	int err;

	gm_read_lock();
	v = gm_views_get(views);
	err = space < v->nr_spaces ? gm_lookup_in(v->root[space], gpa, ret) : -ENXIO;
	gm_read_unlock();
	return err;
}
