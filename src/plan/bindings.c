/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pages of guest_memfds: KVM binds each to one slot at a time, whatever the address space. So a slot that comes with
 * pages of one that goes must wait for it, even where their guest addresses don't meet; and a view that shows a
 * page twice can't be had.
 *
 * A file is known by its descriptor: two descriptors of one file are not seen to be the same.
 */
#include <errno.h>
#include <stdlib.h>

#include "plan/draft.h"

struct binding {
	int fd;
	struct gm_range bytes;	/* of the file */
	struct gm_piece *piece; /* NULL: a slot that stays */
	unsigned space;
	uint64_t gpa;
};

struct bindings {
	struct binding *b;
	size_t n;
	size_t room;
};

static struct binding binding_of(const struct gm_slot *s, struct gm_piece *piece)
{
	return (struct binding){
		.fd = s->gmem_fd,
		.bytes = {s->gmem_offset, s->gmem_offset + (s->gpa.last - s->gpa.first)},
		.piece = piece,
		.space = s->space,
		.gpa = s->gpa.first,
	};
}

static int add_pieces(struct bindings *to, const struct gm_alloc *alloc, struct gm_pieces *from)
{
	for (size_t i = 0; i < from->n; i++) {
		struct gm_piece *p = &from->p[i];

		if (!(p->slot.flags & GM_SLOT_GUEST_MEMFD))
			continue;
		if (gm_array_reserve(alloc, (void **)&to->b, &to->room, to->n + 1, sizeof(*to->b)))
			return -ENOMEM;
		to->b[to->n++] = binding_of(&p->slot, p);
	}
	return 0;
}

/* Where both begin at the same page, the message names them in the order of their places. */
static int by_page(const void *a, const void *b)
{
	const struct binding *ba = a, *bb = b;

	if (ba->fd != bb->fd)
		return ba->fd < bb->fd ? -1 : 1;
	if (ba->bytes.first != bb->bytes.first)
		return ba->bytes.first < bb->bytes.first ? -1 : 1;
	if (ba->space != bb->space)
		return ba->space < bb->space ? -1 : 1;
	return (ba->gpa > bb->gpa) - (ba->gpa < bb->gpa);
}

static void sort(struct bindings *bs)
{
	if (bs->n > 1)
		qsort(bs->b, bs->n, sizeof(*bs->b), by_page);
}

static bool share(const struct binding *a, const struct binding *b)
{
	return a->fd == b->fd && gm_range_overlap(a->bytes, b->bytes);
}

/* ------------------------------------------------------------------------- shown twice --- */

static int shown_twice(struct gm_msg *msg, const struct binding *a, const struct binding *b)
{
	uint64_t at = a->bytes.first > b->bytes.first ? a->bytes.first : b->bytes.first;

	return gm_fail(msg, -EBUSY,
		       "offset 0x%llx of guest_memfd %d would show in slots at 0x%llx of space %u "
		       "and at 0x%llx of space %u: KVM has each of its pages in one at a time",
		       (unsigned long long)at, a->fd, (unsigned long long)a->gpa, a->space,
		       (unsigned long long)b->gpa, b->space);
}

/* Is there one among @come, which is sorted? */
static int check_come(const struct bindings *come, struct gm_msg *msg)
{
	for (size_t i = 1; i < come->n; i++) {
		if (share(&come->b[i - 1], &come->b[i]))
			return shown_twice(msg, &come->b[i - 1], &come->b[i]);
	}
	return 0;
}

/* The one of @come that shares pages with @b; NULL: none. pre: sorted, and none shares pages with its like. */
static const struct binding *find_sharer(const struct bindings *come, const struct binding *b)
{
	size_t low = 0, high = come->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct binding *c = &come->b[mid];

		if (c->fd < b->fd || (c->fd == b->fd && c->bytes.last < b->bytes.first))
			low = mid + 1;
		else
			high = mid;
	}
	return low < come->n && share(&come->b[low], b) ? &come->b[low] : NULL;
}

static bool goes(const struct gm_draft *d, const struct gm_slot *s)
{
	size_t i = gm_pieces_from(&d->gone, s->gpa.first);

	return i < d->gone.n && d->gone.p[i].slot.gpa.first == s->gpa.first;
}

/* All slots of the space that stay, touched or not, against what comes anywhere. */
static int check_staying(const struct gm_draft *d, const struct bindings *come)
{
	struct gm_range all = {0, UINT64_MAX};

	gm_tree_for_each (node, d->slots->tree.root, all) {
		const struct gm_slot *s = gm_slot_of(node);
		struct binding stays;
		const struct binding *other;

		if (!(s->flags & GM_SLOT_GUEST_MEMFD) || goes(d, s))
			continue;
		stays = binding_of(s, NULL);
		other = find_sharer(come, &stays);
		if (other)
			return shown_twice(d->msg, &stays, other);
	}
	return 0;
}

/* -------------------------------------------------------------------------- goes and comes --- */

/* Both are sorted, and none shares pages with its like. */
static void mark_shared(struct bindings *gone, struct bindings *come)
{
	size_t g = 0, c = 0;

	while (g < gone->n && c < come->n) {
		struct binding *a = &gone->b[g], *b = &come->b[c];

		if (share(a, b))
			a->piece->hit = b->piece->hit = true;
		if (a->fd != b->fd ? a->fd < b->fd : a->bytes.last < b->bytes.last)
			g++;
		else
			c++;
	}
}

int gm_drafts_bind(struct gm_draft *drafts, unsigned n)
{
	const struct gm_alloc *alloc = drafts[0].alloc;
	struct bindings gone = {0}, come = {0};
	int err = 0;

	for (unsigned i = 0; !err && i < n; i++)
		err = add_pieces(&come, alloc, &drafts[i].come);
	/* Only then are slots looked at that no edit touched. */
	if (err || !come.n)
		goto out;
	sort(&come);
	err = check_come(&come, drafts[0].msg);
	for (unsigned i = 0; !err && i < n; i++)
		err = check_staying(&drafts[i], &come);
	for (unsigned i = 0; !err && i < n; i++)
		err = add_pieces(&gone, alloc, &drafts[i].gone);
	if (!err) {
		sort(&gone);
		mark_shared(&gone, &come);
	}
out:
	gm_free(alloc, gone.b);
	gm_free(alloc, come.b);
	return err;
}
