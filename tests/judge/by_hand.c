/* SPDX-License-Identifier: BSD-3-Clause */
/* Slots as a program without the library keeps them. The library's map has no RAM then, and its ids are reserved. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "strategy.h"

/* Ids that are the judge's own, from 0 on: more than there are pieces, in the old map and the new one together. */
#define IDS 1024u

struct slot {
	struct piece piece;
	uint32_t id;
	bool log;
	bool stays; /* but its log may begin or end */
};

struct slots {
	struct slot slot[IDS / 2];
	size_t count;
};

struct hand {
	struct slots now, next;
	bool used[IDS];
	uint64_t *bitmap; /* of one slot */
};

static int set_slot(struct boot *b, const struct slot *s, size_t count)
{
	const struct pages *p = &b->pages;
	struct kvm_userspace_memory_region region = {
		.slot = s->id,
		.flags = (s->piece.what & PAGE_READONLY ? KVM_MEM_READONLY : 0) |
			 (s->log ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = pages_gpa(p, s->piece.first),
		.memory_size = count * p->size,
		.userspace_addr = (uintptr_t)pages_hva(p, &s->piece),
	};

	if (ioctl(b->pc->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0)
		return 0;
	snprintf(b->message, sizeof(b->message), "slot %u of %zu pages at %#llx: %s", s->id, count,
		 (unsigned long long)region.guest_phys_addr, strerror(errno));
	return -errno;
}

static bool same_but_log(const struct piece *a, const struct piece *b)
{
	return a->first == b->first && a->count == b->count && a->what == b->what;
}

/* What stays, goes and comes. */
static int plan(struct boot *b)
{
	const struct pages *p = &b->pages;
	struct hand *h = b->state;
	struct piece piece;
	size_t k = 0;

	h->next.count = 0;
	for (size_t i = 0; i < h->now.count; i++)
		h->now.slot[i].stays = false;
	for (size_t at = 0; pages_next(p, &at, p->count, &piece);) {
		struct slot *n = &h->next.slot[h->next.count++];

		if (h->next.count == IDS / 2)
			return -ENOSPC;
		*n = (struct slot){.piece = piece, .log = p->log && piece.first < p->rom};
		while (k < h->now.count && h->now.slot[k].piece.first < piece.first)
			k++;
		if (k == h->now.count || !same_but_log(&h->now.slot[k].piece, &piece))
			continue;
		h->now.slot[k].stays = n->stays = true;
		n->id = h->now.slot[k].id;
	}
	return 0;
}

/* Add the bits of a slot to those of all pages. */
static int collect(struct boot *b, const struct slot *s)
{
	struct hand *h = b->state;
	struct kvm_dirty_log log = {.slot = s->id, .dirty_bitmap = h->bitmap};

	if (ioctl(b->pc->vm, KVM_GET_DIRTY_LOG, &log) < 0)
		return -errno;
	for (size_t i = 0; i < s->piece.count; i++) {
		size_t page = s->piece.first + i;

		if (h->bitmap[i / 64] >> i % 64 & 1)
			b->dirty[page / 64] |= UINT64_C(1) << page % 64;
	}
	return 0;
}

static uint32_t take_id(struct hand *h)
{
	uint32_t id = 0;

	while (h->used[id])
		id++;
	h->used[id] = true;
	return id;
}

static int delete_old(struct boot *b, bool harvest)
{
	struct hand *h = b->state;
	int err = 0;

	for (size_t i = 0; !err && i < h->now.count; i++) {
		struct slot *s = &h->now.slot[i];

		if (s->stays)
			continue;
		if (harvest && s->log)
			err = collect(b, s);
		if (!err)
			err = set_slot(b, s, 0);
		h->used[s->id] = false;
	}
	return err;
}

/* What comes, and what only begins or ends to be logged. */
static int set_new(struct boot *b)
{
	struct hand *h = b->state;
	int err = 0;

	for (size_t i = 0; !err && i < h->next.count; i++) {
		struct slot *s = &h->next.slot[i];

		if (!s->stays)
			s->id = take_id(h);
		/* One that stays just as it is costs an ioctl that changes nothing. */
		err = set_slot(b, s, s->piece.count);
	}
	h->now = h->next;
	return err;
}

static int replace(struct boot *b, bool harvest)
{
	int err = plan(b);

	if (!err)
		err = delete_old(b, harvest);
	return err ? err : set_new(b);
}

int hand_start(struct boot *b)
{
	struct hand *h = calloc(1, sizeof(*h));
	int err;

	b->state = h;
	if (!h)
		return -ENOMEM;
	h->bitmap = calloc(b->pages.count / 64 + 1, sizeof(*h->bitmap));
	if (!h->bitmap)
		return -ENOMEM;
	err = gpamap_reserve_slots(b->pc->map, 0, 0, IDS);
	return err ? err : replace(b, false);
}

int hand_apply_naive(struct boot *b, const struct change *c)
{
	(void)c;
	return replace(b, false);
}

int hand_apply_inhibit(struct boot *b, const struct change *c)
{
	int err;

	(void)c;
	pc_pause(b->pc);
	err = replace(b, true);
	pc_resume(b->pc);
	return err;
}

int hand_fetch(struct boot *b)
{
	struct hand *h = b->state;
	int err = 0;

	for (size_t i = 0; !err && i < h->now.count; i++) {
		if (h->now.slot[i].log)
			err = collect(b, &h->now.slot[i]);
	}
	return err;
}

void hand_stop(struct boot *b)
{
	struct hand *h = b->state;

	if (!h)
		return;
	free(h->bitmap);
	free(h);
}
