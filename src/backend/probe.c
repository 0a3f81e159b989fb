/* SPDX-License-Identifier: BSD-3-Clause */
/* Questions to KVM in the form of slot requests. */
#include <errno.h>

#include "backend/probe.h"

/* So many ids are tried, from the last one down. */
#define TRIES 4u
/* No VM has fewer bits of addresses, and no process. */
#define LEAST_BITS 30u

/* The requests of one question. */
struct question {
	uint32_t space;
	uint64_t gpa;
	uint32_t flags;
};

/* 0: a slot was made, and is left. */
static int ask(struct gm_probe *p, const struct question *q, uint32_t id, uint64_t hva)
{
	struct gm_op op = {
		.kind = GM_OP_CREATE,
		.to =
			{
				.gpa = {q->gpa, q->gpa + (p->b->caps.limits.page_size - 1)},
				.hva = hva,
				.space = q->space,
				.id = id,
				.flags = q->flags,
				.gmem_fd = -1,
			},
	};
	int err = p->b->ops->slot(p->b, &op);

	if (!err) {
		p->left = true;
		p->slot = op.to;
	}
	return err;
}

static uint32_t read_only(const struct gm_probe *p)
{
	return p->b->caps.limits.readonly_mem ? GM_SLOT_READONLY : 0;
}

/* The id of try @i, from 1 on. */
static uint32_t last_id(const struct gm_probe *p, uint32_t i)
{
	return p->b->caps.limits.nr_slots - i;
}

static uint32_t nr_tries(const struct gm_probe *p)
{
	uint32_t n = p->b->caps.limits.nr_slots;

	return n < TRIES ? n : TRIES;
}

int gm_probe_end(struct gm_probe *p)
{
	struct gm_op op = {.kind = GM_OP_DELETE, .from = p->slot};
	int err = p->left ? p->b->ops->slot(p->b, &op) : 0;

	if (!err)
		p->left = false;
	return err;
}

/* One less than the power of two above @bits. */
static uint64_t last_below(unsigned bits)
{
	return bits == 63 ? UINT64_MAX : (UINT64_C(2) << bits) - 1;
}

/* Addresses beyond are EINVAL on x86, EFAULT on arm64 and riscv. */
static bool is_beyond(int err)
{
	return err == -EINVAL || err == -EFAULT;
}

/* The greatest power of two that @id may be at. False: none, as if the id is in use. */
static bool find_last_gpa(struct gm_probe *p, uint32_t id)
{
	for (unsigned bits = 63; bits >= LEAST_BITS; bits--) {
		struct question q = {.gpa = UINT64_C(1) << bits, .flags = read_only(p)};
		int err = ask(p, &q, id, p->hva);

		if (is_beyond(err))
			continue;
		if (err && err != -EEXIST)
			return false;
		p->gpa = q.gpa;
		p->b->caps.limits.last_gpa = last_below(bits);
		return true;
	}
	return false;
}

/* The greatest power of two where host memory may be, told by which of the two reasons there are to refuse it. pre:
 * a slot is at p->gpa. */
static bool find_last_hva(struct gm_probe *p, uint32_t id)
{
	struct question q = {.gpa = p->gpa, .flags = read_only(p)};

	if (ask(p, &q, id, p->hva) != -EEXIST)
		return false;
	for (unsigned bits = 63; bits >= LEAST_BITS; bits--) {
		int err = ask(p, &q, id, UINT64_C(1) << bits);

		if (err == -EINVAL)
			continue;
		if (err == -EEXIST)
			p->b->caps.limits.last_hva = last_below(bits);
		return true;
	}
	return true;
}

int gm_probe_limits(struct gm_probe *p)
{
	struct gm_kvm_limits *l = &p->b->caps.limits;
	bool found = false;

	p->gpa = l->last_gpa = l->last_hva = GM_NO_LIMIT;
	for (uint32_t i = 1; !found && i <= nr_tries(p); i++)
		found = find_last_gpa(p, last_id(p, i));
	if (!found)
		return gm_probe_end(p);
	found = false;
	for (uint32_t i = 1; !found && i <= nr_tries(p); i++)
		found = find_last_hva(p, last_id(p, i));
	return gm_probe_end(p);
}

/* Is there an id for which the same request isn't EINVAL? Else that says nothing about the id: what was legal when
 * the limits were found need not be so any more (a confidential VM that has been initialised since). */
static bool is_legal(struct gm_probe *p, const struct question *q)
{
	for (uint32_t i = 1; i <= nr_tries(p); i++) {
		int err = ask(p, q, last_id(p, i), p->hva);

		if (!err || err == -EEXIST)
			return true;
	}
	return false;
}

static int ask_all(struct gm_probe *p, const struct question *q, const uint32_t *ids, size_t n,
		   uint32_t *taken)
{
	for (size_t i = 0; i < n; i++) {
		int err = ask(p, q, ids[i], p->hva);

		if (!err || err == -EEXIST)
			continue;
		if (!is_beyond(err))
			return err;
		if (err == -EFAULT || !is_legal(p, q))
			return 0;
		*taken = ids[i];
		return -EBUSY;
	}
	return 0;
}

/* Once a request has made a slot, it is what the others run into. */
int gm_probe_ids(struct gm_probe *p, unsigned space, const uint32_t *ids, size_t n,
		 const struct gm_slot *ours, uint32_t *taken)
{
	/* Where a slot of ours is nothing can be made, so that needs no read-only memory. */
	struct question q = {
		.space = space,
		.gpa = ours ? ours->gpa.first : p->gpa,
		.flags = ours ? 0 : read_only(p),
	};
	int err = gm_probe_end(p), end;

	if (err || q.gpa == GM_NO_LIMIT)
		return err;
	err = ask_all(p, &q, ids, n, taken);
	end = gm_probe_end(p);
	return err ? err : end;
}
