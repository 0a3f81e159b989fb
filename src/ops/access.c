/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Access to guest memory and devices through the current flat view.
 *
 * An access goes piece by piece, and each piece looks the map up anew. Accessors have a gate of their own, which a
 * commit that takes memory away or changes it shuts while it publishes the next views.
 *
 * Invariants:
 *  AC1  From the look-up of a piece of memory until its last byte is copied and marked dirty, the thread is inside the
 *       accessors' gate. So a piece is wholly before or wholly after the publication of views
 *       that show other memory, or the same memory in another way, where the piece is (P2).
 *  AC2  So what a segment of memory leads to (its region, its bytes) stays for the length of a piece, without a
 *       reference: nodes of the old views are freed, and regions released, after they are unpublished (P5).
 *  AC3  A piece that the guest's page is logged for by the view that the piece was found in is marked after it was
 *       written. Logging is turned on by other views. A piece that did not see them was written before they were
 *       published, and so before the commit that turned logging on returned (P4).
 *  AC4  A device is called with nothing held but a reference on its region: it may block, and it may commit.
 *  AC5  A piece is no longer than PIECE and does not cross a multiple of it, so a commit waits for no more than that,
 *       and an aligned value is never cut.
 *
 * A look-up is also a read section of RCU: a commit that only adds does not shut the gate, and frees views all the same.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "map/region.h"
#include "map/view.h"
#include "ops/access.h"
#include "ops/dirty.h"

/* What is copied without looking again. */
#define PIECE UINT64_C(65536)

/* A device's callback may access the map, and reach another device, and so on. Real chains are two or three long. */
#define MAX_NESTED 16

struct access {
	const struct gm_memory *memory;
	unsigned space;
	bool is_write;
	bool reap;
	uint64_t gpa;
	unsigned char *buf; /* only read from if is_write */
	size_t len;
	struct gm_msg *msg;
};

/* ---------------------------------------------------------------------------- pieces --- */

/* The largest piece of 1, 2, 4 or 8 bytes at @at that is naturally aligned and has no more than @len. */
static unsigned natural_piece(uint64_t at, size_t len)
{
	/* The lowest bit that is set, of at least the lowest four: no division in the way of every access. */
	unsigned piece = (unsigned)((at | 8) & -(at | 8));

	while (piece > len)
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

static __attribute__((noinline)) void copy_long_from_guest(const unsigned char *mem,
							   unsigned char *buf, size_t len)
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

static __attribute__((noinline)) void copy_long_to_guest(unsigned char *mem,
							 const unsigned char *buf, size_t len)
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

/* Most accesses are one value of the guest's. */

static inline void copy_from_guest(const unsigned char *mem, unsigned char *buf, size_t len)
{
	if (len == natural_piece((uintptr_t)mem, 8))
		load_piece(mem, buf, (unsigned)len);
	else
		copy_long_from_guest(mem, buf, len);
}

static inline void copy_to_guest(unsigned char *mem, const unsigned char *buf, size_t len)
{
	if (len == natural_piece((uintptr_t)mem, 8))
		store_piece(mem, buf, (unsigned)len);
	else
		copy_long_to_guest(mem, buf, len);
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

/* What of a segment an access needs, from the access's address on. */
struct piece {
	struct gpamap_region *region;
	uint64_t hva;
	uint64_t offset; /* in region */
	uint32_t kind;
	uint32_t flags;
	bool to_device;
};

/* What stands at the access's address, with a reference on its region if that is a device to be called (AC4); and how
 * much of the access it can take. */
static inline int find(const struct access *a, struct piece *ret, size_t *len)
{
	const struct gm_node *n;

	gm_read_lock();
	n = segment_at(a->memory->views, a->space, a->gpa);
	if (gm_likely(n)) {
		const struct gm_seg *seg = gm_seg_of(n);
		uint64_t delta = a->gpa - n->range.first;

		ret->region = seg->region;
		ret->hva = seg->hva + delta;
		ret->offset = seg->offset + delta;
		ret->kind = seg->kind;
		ret->flags = seg->flags;
		ret->to_device =
			seg->kind == GM_SEG_MMIO || (seg->kind == GM_SEG_ROMD && a->is_write);
		*len = a->len;
		if (n->range.last - a->gpa < a->len - 1)
			*len = n->range.last - a->gpa + 1;
		if (ret->to_device)
			gm_region_ref(seg->region);
	}
	gm_read_unlock();
	if (n)
		return 0;
	gm_fail(a->msg, 0, "nothing is at 0x%llx in address space %u", (unsigned long long)a->gpa,
		a->space);
	return -ENXIO;
}

/* ---------------------------------------------------------------------------- memory --- */

/* pre: AC1. */
static inline int access_memory(const struct access *a, const struct piece *at, size_t *len)
{
	unsigned char *mem = (unsigned char *)(uintptr_t)at->hva;
	uint64_t most = PIECE - a->gpa % PIECE;

	if (at->kind == GM_SEG_NONE)
		return gm_fail(a->msg, -EACCES, "what is at 0x%llx is mapped as GPAMAP_NONE",
			       (unsigned long long)a->gpa);
	if (*len > most)
		*len = most;
	if (!a->is_write) {
		copy_from_guest(mem, a->buf, *len);
		return 0;
	}
	if (at->flags & GM_SEG_READONLY)
		return gm_fail(a->msg, -EROFS, "what is at 0x%llx is read-only",
			       (unsigned long long)a->gpa);
	copy_to_guest(mem, a->buf, *len);
	if (at->flags & GM_SEG_LOG)
		gm_dirty_mark(at->region, a->memory->page_size, at->offset, *len);
	return 0;
}

/* --------------------------------------------------------------------------- devices --- */

/* A callback that this thread is in, on its stack. */
struct entered {
	const struct gpamap_region *device;
	const struct entered *outer;
};

static __attribute__((tls_model("initial-exec"))) _Thread_local const struct entered *innermost;

/*
 * A guest may tell a device to write where the device itself stands, or one that leads back to it. Without an end to
 * that, it could take the stack of this process. Others may be in the same callback in other threads; whether it can
 * bear that is its own affair, as it is without nesting.
 */
static int may_enter(const struct access *a, const struct gpamap_region *device)
{
	unsigned depth = 0;

	for (const struct entered *e = innermost; e; e = e->outer, depth++) {
		if (e->device == device && !device->reentrant)
			return gm_fail(a->msg, -ELOOP,
				       "device \"%.60s\" reaches itself at 0x%llx: see "
				       "GPAMAP_REENTRANT",
				       device->name, (unsigned long long)a->gpa);
	}
	if (depth >= MAX_NESTED)
		return gm_fail(
			a->msg, -ELOOP,
			"device \"%.60s\" would be called in %d callbacks that wait for each "
			"other",
			device->name, MAX_NESTED);
	return 0;
}

/* One call of one callback. The pieces are aligned as the guest sees them, so an aligned access reaches the device in
 * one call. */
static __attribute__((noinline)) int access_device(const struct access *a, const struct piece *at,
						   size_t *len)
{
	const struct gpamap_region *device = at->region;
	const struct gpamap_mmio_ops *ops = device->ops;
	struct entered here = {device, innermost};
	unsigned piece = natural_piece(a->gpa, *len);
	int err;

	if (!ops || (a->is_write ? !ops->write : !ops->read))
		return gm_fail(a->msg, -ENXIO, "device \"%.60s\" has no callback to %s it",
			       device->name, a->is_write ? "write" : "read");
	err = may_enter(a, device);
	if (err)
		return err;
	*len = piece;
	innermost = &here;
	if (a->is_write)
		err = ops->write(device->opaque, at->offset, a->buf, piece);
	else
		err = ops->read(device->opaque, at->offset, a->buf, piece);
	innermost = here.outer;
	if (err)
		return gm_fail(a->msg, err, "the callback of device \"%.60s\" failed: %s",
			       device->name, strerror(-err));
	return 0;
}

/* ---------------------------------------------------------------------------- access --- */

/* One piece; *@len is how long it was. */
static int access_piece(struct access *a, size_t *len)
{
	struct gm_gate *gate = a->memory->accessors;
	struct piece at = {.to_device = false};
	/* Not -EDEADLK: a committer calls nobody while it has shut it. */
	int err = gm_gate_enter(gate);

	if (err)
		return err;
	err = find(a, &at, len);
	if (!err && !at.to_device)
		err = access_memory(a, &at, len);
	gm_gate_leave(gate);
	if (!at.to_device)
		return err;
	err = access_device(a, &at, len);
	if (gm_region_unref(at.region))
		a->reap = true;
	return err;
}

int gm_access(const struct gm_memory *memory, unsigned space, uint64_t gpa, void *buf, size_t len,
	      bool is_write, struct gm_msg *msg, bool *reap)
{
	struct access a = {memory, space, is_write, false, gpa, buf, len, msg};
	int err = 0;
	size_t here;

	if (len && gpa > UINT64_MAX - (len - 1))
		return gm_fail(msg, -EOVERFLOW, "0x%llx bytes from 0x%llx reach beyond 2^64",
			       (unsigned long long)len, (unsigned long long)gpa);
	while (a.len && !(err = access_piece(&a, &here))) {
		a.gpa += here;
		a.buf += here;
		a.len -= here;
	}
	*reap = a.reap;
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
