/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ways to change a page under vCPUs, each with a VM of its own:
 *  - gpamap;
 *  - by hand: the very slot operations that gpamap did, with one kick and one wake for each vCPU and nothing
 *    else; and the floor: the same again with no vCPU in KVM_RUN and nobody to hold;
 *  - inhibit: as QEMU does it, the whole slots that overlap are deleted and made anew, behind a gate of locked
 *    counters.
 * vCPUs run only while their rival has its turn. A blackout is the time from just before the first vCPU could be
 * held until they may go on; it ends, here and in the library, before those who were held are woken: the waker
 * may lose its processor to one of them, and would count that.
 */
#ifndef BENCH_RIVAL_H
#define BENCH_RIVAL_H

#include <gpamap.h>

#include "crew.h"
#include "inhibit_gate.h"

/* How a guest's memory is mapped. */
struct layout {
	uint64_t size;	/* in one piece, if !pages */
	unsigned pages; /* or: the code, and this many pages with a hole behind each */
	bool zap_slot_only;
};

/* What a change makes of a page. */
enum page_as {
	PAGE_PLAIN,
	PAGE_READONLY,
	PAGE_ELSEWHERE, /* backed by other memory, that behind the guest's */
};

/* Page @i that may be changed. If the memory is in one piece there is but one, in the middle of it, at no
 * boundary. */
uint64_t layout_page(const struct layout *l, unsigned i);
uint64_t layout_size(const struct layout *l);
/* Which part of the memory shows as page @i. */
uint64_t layout_backing(const struct layout *l, unsigned i, enum page_as as);
/* If the memory is in one piece: @n pages for guest_sweep(), spread evenly over all of it but the first 2 MiB, the page
 * that may be changed among them. */
struct sweep {
	uint64_t at;
	uint64_t step;
	uint64_t n;
};
struct sweep layout_sweep(const struct layout *l, uint64_t n);

/* What a change took, in us. */
struct took {
	double blackout;
	double back; /* until the last vCPU was about to do KVM_RUN again; 0: none was in it */
};

/* Slot operations of one commit after another. */
struct tape {
	char *memory; /* of the guest */
	struct gpamap_op *op;
	size_t n;
	size_t room;
	size_t *end; /* of each commit: index in op */
	size_t nr_ends;
	size_t ends_room;
};

void tape_clear(struct tape *t);
void tape_free(struct tape *t);

/* gpamap. */
struct ours {
	struct guest guest;
	struct crew crew;
	struct layout layout;
	struct gpamap *map;
	struct gpamap_vcpu *vcpu[MAX_VCPUS];
	struct tape tape; /* what its commits have done since it was cleared */
	unsigned long kicked;
	unsigned long inside; /* of those that should have been kicked */
};

/* Maps the memory; the tape then has that commit. If KVM can't zap a slot only, that is an error. */
void ours_init(struct ours *o, int kvm, const struct layout *l, int vcpus);
void ours_destroy(struct ours *o);
/* Change page @i. Records what it did. */
struct took ours_change(struct ours *o, unsigned i, enum page_as as);

/* By hand, and the floor. */
struct hand {
	struct guest guest;
	struct crew crew;
	sem_t out[MAX_VCPUS];
	sem_t go[MAX_VCPUS];
};

void hand_init(struct hand *h, int kvm, const struct layout *l, int vcpus);
void hand_destroy(struct hand *h);
/* Do commit @i of the tape. With @hold, vCPUs run and are held; else there is nobody to hold. */
struct took hand_replay(struct hand *h, const struct tape *t, size_t i, bool hold);

/* As QEMU does it. */
struct inhibit {
	struct guest guest;
	struct crew crew;
	struct layout layout;
	struct inhibit_gate gate;
	struct inhibit_counter counter[MAX_VCPUS];
};

/* 0 or -ENOMEM: the host has not enough memory for the slots. */
int inhibit_init(struct inhibit *h, int kvm, const struct layout *l, int vcpus);
void inhibit_destroy(struct inhibit *h);
struct took inhibit_change(struct inhibit *h, unsigned i, enum page_as as);

#endif
