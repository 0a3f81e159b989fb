/* SPDX-License-Identifier: BSD-3-Clause */
/* The verifier's model of the kernel: a set of slots, and what may be done to it. (V1) */
#include <errno.h>
#include <stdlib.h>

#include "model.h"
#include "plan/kvm_rules.h"

#define NOT_THERE SIZE_MAX
#define ID_MAX 0xffffu
#define WORD_BITS 64u

/* ----------------------------------------------------------------------- which are there --- */

static void set_alive(struct gm_model *m, size_t rank, bool on)
{
	size_t w = rank / WORD_BITS;
	uint64_t bit = UINT64_C(1) << rank % WORD_BITS;

	m->alive[w] = on ? m->alive[w] | bit : m->alive[w] & ~bit;
	bit = UINT64_C(1) << w % WORD_BITS;
	if (m->alive[w])
		m->words[w / WORD_BITS] |= bit;
	else
		m->words[w / WORD_BITS] &= ~bit;
}

/* The highest bit of @bits below bit @end; NOT_THERE: none. */
static size_t last_bit(const uint64_t *bits, size_t end)
{
	while (end) {
		size_t w = (end - 1) / WORD_BITS;
		uint64_t word = bits[w];

		if (end % WORD_BITS)
			word &= (UINT64_C(1) << end % WORD_BITS) - 1;
		if (word)
			return w * WORD_BITS + WORD_BITS - 1 - (size_t)__builtin_clzll(word);
		end = w * WORD_BITS;
	}
	return NOT_THERE;
}

/* The highest rank below @end that is there. */
static size_t last_alive(const struct gm_model *m, size_t end)
{
	size_t start = end / WORD_BITS * WORD_BITS, w, r;

	if (end > start) {
		uint64_t word = m->alive[start / WORD_BITS] & ((UINT64_C(1) << (end - start)) - 1);

		if (word)
			return start + WORD_BITS - 1 - (size_t)__builtin_clzll(word);
	}
	w = last_bit(m->words, start / WORD_BITS);
	if (w == NOT_THERE)
		return NOT_THERE;
	r = last_bit(m->alive, (w + 1) * WORD_BITS);
	return r;
}

static int compare_place(uint32_t space, uint64_t gpa, const struct gm_slot *s)
{
	if (space != s->space)
		return space < s->space ? -1 : 1;
	return (gpa > s->gpa.first) - (gpa < s->gpa.first);
}

/* How many of all slots begin at or before @gpa. */
static size_t rank_above(const struct gm_model *m, uint32_t space, uint64_t gpa)
{
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (compare_place(space, gpa, &m->slot[mid]) >= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The last slot that is there and begins at or before @gpa. */
static const struct gm_slot *last_before(const struct gm_model *m, uint32_t space, uint64_t gpa)
{
	size_t rank = last_alive(m, rank_above(m, space, gpa));

	return rank != NOT_THERE && m->slot[rank].space == space ? &m->slot[rank] : NULL;
}

const struct gm_slot *gm_model_at(const struct gm_model *m, uint32_t space, uint64_t gpa)
{
	const struct gm_slot *s = last_before(m, space, gpa);

	return s && s->gpa.last >= gpa ? s : NULL;
}

const struct gm_slot *gm_model_next(const struct gm_model *m, uint32_t space, uint64_t gpa)
{
	size_t rank = gpa ? rank_above(m, space, gpa - 1) : 0;

	for (; rank < m->n && m->slot[rank].space <= space; rank++) {
		if (m->slot[rank].space < space)
			continue;
		if (m->alive[rank / WORD_BITS] >> rank % WORD_BITS & 1)
			return &m->slot[rank];
	}
	return NULL;
}

/* ----------------------------------------------------------------------------- the rules --- */

static size_t *id_entry(const struct gm_model *m, uint32_t space, uint32_t id)
{
	return &m->by_id[(size_t)space * m->id_room + id];
}

/* Could a kernel have such a slot at all? How far addresses go is not asked: that is for the commit to check. */
static const char *why_not(const struct gm_model *m, const struct gm_slot *s)
{
	if (s->space >= m->in->nr_spaces)
		return "there is no such address space";
	if (s->id > ID_MAX)
		return "the id is too large";
	return gm_rules_why_no_slot(m->in->page_size, s);
}

/* Does a slot that is there have pages of the same guest_memfd? In whatever space. */
static bool is_bound(const struct gm_model *m, const struct gm_slot *s)
{
	uint64_t last = s->gmem_offset + (s->gpa.last - s->gpa.first);

	if (!(s->flags & GM_SLOT_GUEST_MEMFD))
		return false;
	for (size_t i = 0; i < m->n; i++) {
		const struct gm_slot *o = &m->slot[i];

		if ((m->alive[i / WORD_BITS] >> i % WORD_BITS & 1) &&
		    (o->flags & GM_SLOT_GUEST_MEMFD) && o->gmem_fd == s->gmem_fd &&
		    o->gmem_offset <= last &&
		    s->gmem_offset <= o->gmem_offset + (o->gpa.last - o->gpa.first))
			return true;
	}
	return false;
}

static const char *why_no_create(const struct gm_model *m, const struct gm_slot *s)
{
	const struct gm_slot *other;
	const char *why = why_not(m, s);

	if (why)
		return why;
	if (*id_entry(m, s->space, s->id))
		return "the id is in use";
	if (m->count[s->space] >= m->in->max_slots)
		return "there are too many";
	other = last_before(m, s->space, s->gpa.last);
	if (other && other->gpa.last >= s->gpa.first)
		return "it overlaps another";
	if (is_bound(m, s))
		return "its pages of a guest_memfd are in another";
	return NULL;
}

static void put(struct gm_model *m, size_t rank)
{
	const struct gm_slot *s = &m->slot[rank];

	set_alive(m, rank, true);
	*id_entry(m, s->space, s->id) = rank + 1;
	m->count[s->space]++;
}

static void drop(struct gm_model *m, size_t rank)
{
	const struct gm_slot *s = &m->slot[rank];

	set_alive(m, rank, false);
	*id_entry(m, s->space, s->id) = 0;
	m->count[s->space]--;
}

/* The rank of what an operation is done to; NOT_THERE if it isn't as the operation says. */
static size_t find_from(const struct gm_model *m, const struct gm_slot *from)
{
	const struct gm_slot *s;
	size_t rank;

	if (from->space >= m->in->nr_spaces || from->id >= m->id_room)
		return NOT_THERE;
	rank = *id_entry(m, from->space, from->id);
	if (!rank--)
		return NOT_THERE;
	s = &m->slot[rank];
	if (s->gpa.first != from->gpa.first || s->gpa.last != from->gpa.last ||
	    s->hva != from->hva || s->flags != from->flags || s->region != from->region ||
	    s->offset != from->offset)
		return NOT_THERE;
	if ((s->flags & GM_SLOT_GUEST_MEMFD) &&
	    (s->gmem_fd != from->gmem_fd || s->gmem_offset != from->gmem_offset))
		return NOT_THERE;
	return rank;
}

static const char *do_move(struct gm_model *m, const struct gm_op *op, size_t from, size_t to)
{
	const char *why = gm_rules_why_not_in_place(&op->from, &op->to);

	if (why)
		return why;
	if (op->from.gpa.first == op->to.gpa.first)
		return "it is there already";
	drop(m, from);
	why = why_no_create(m, &op->to);
	put(m, why ? from : to);
	return why;
}

static const char *do_flags(struct gm_model *m, const struct gm_op *op, size_t rank)
{
	const char *why = gm_rules_why_not_in_place(&op->from, &op->to);

	if (why)
		return why;
	if (op->from.gpa.first != op->to.gpa.first)
		return "it would move";
	if (op->from.flags == op->to.flags)
		return "nothing changes";
	m->slot[rank].flags = op->to.flags;
	return NULL;
}

static const char *do_op(struct gm_model *m, const struct gm_op *op, size_t to)
{
	size_t from = NOT_THERE;
	const char *why;

	if (op->kind != GM_OP_CREATE) {
		from = find_from(m, &op->from);
		if (from == NOT_THERE)
			return "there is no such slot";
	}
	switch (op->kind) {
	case GM_OP_CREATE:
		why = why_no_create(m, &op->to);
		if (!why)
			put(m, to);
		return why;
	case GM_OP_DELETE:
		drop(m, from);
		return NULL;
	case GM_OP_MOVE:
		return do_move(m, op, from, to);
	case GM_OP_FLAGS:
		return do_flags(m, op, from);
	}
	return "unknown operation";
}

int gm_model_do(struct gm_model *m, size_t i)
{
	const char *why = do_op(m, &m->plan->ops[i], m->rank[m->in->nr_old + i]);

	return why ? gm_fail(m->msg, -EINVAL, "V1: operation %zu: %s", i, why) : 0;
}

/* ----------------------------------------------------------------------------- beginning --- */

struct version {
	struct gm_slot slot;
	size_t source; /* index in rank */
};

static int by_place(const void *a, const void *b)
{
	const struct version *va = a, *vb = b;
	int order = compare_place(va->slot.space, va->slot.gpa.first, &vb->slot);

	return order ? order : (va->source > vb->source) - (va->source < vb->source);
}

static void note_version(struct gm_model *m, struct version *v, const struct gm_slot *s,
			 size_t source)
{
	v[m->n++] = (struct version){.slot = *s, .source = source};
	if (s->id <= ID_MAX && m->id_room <= s->id)
		m->id_room = s->id + 1;
}

static int rank_versions(struct gm_model *m)
{
	const struct gm_plan *plan = m->plan;
	size_t most = m->in->nr_old + plan->n;
	struct version *v = gm_calloc(m->in->alloc, most, sizeof(*v));

	m->slot = gm_calloc(m->in->alloc, most, sizeof(*m->slot));
	m->rank = gm_calloc(m->in->alloc, most, sizeof(*m->rank));
	if (!v || !m->slot || !m->rank) {
		gm_free(m->in->alloc, v);
		return -ENOMEM;
	}
	for (size_t i = 0; i < m->in->nr_old; i++)
		note_version(m, v, &m->in->old[i], i);
	for (size_t i = 0; i < plan->n; i++) {
		if (plan->ops[i].kind == GM_OP_CREATE || plan->ops[i].kind == GM_OP_MOVE)
			note_version(m, v, &plan->ops[i].to, m->in->nr_old + i);
	}
	if (m->n)
		qsort(v, m->n, sizeof(*v), by_place);
	for (size_t i = 0; i < m->n; i++) {
		m->slot[i] = v[i].slot;
		m->rank[v[i].source] = i;
	}
	gm_free(m->in->alloc, v);
	return 0;
}

static int put_old(struct gm_model *m)
{
	for (size_t i = 0; i < m->in->nr_old; i++) {
		const char *why = why_no_create(m, &m->in->old[i]);

		if (why)
			return gm_fail(m->msg, -EINVAL, "old slot %zu: %s", i, why);
		put(m, m->rank[i]);
	}
	return 0;
}

int gm_model_init(struct gm_model *m, const struct gm_plan *plan, const struct gm_verify_input *in,
		  struct gm_msg *msg)
{
	size_t words;
	int err;

	*m = (struct gm_model){.in = in, .plan = plan, .msg = msg};
	err = rank_versions(m);
	words = m->n / WORD_BITS + 1;
	m->alive = gm_calloc(in->alloc, words, sizeof(*m->alive));
	m->words = gm_calloc(in->alloc, words / WORD_BITS + 1, sizeof(*m->words));
	m->by_id = gm_calloc(in->alloc, (size_t)in->nr_spaces * m->id_room, sizeof(*m->by_id));
	m->count = gm_calloc(in->alloc, in->nr_spaces, sizeof(*m->count));
	if (!m->alive || !m->words || !m->by_id || !m->count)
		err = -ENOMEM;
	if (!err)
		err = put_old(m);
	if (err)
		gm_model_destroy(m);
	return err;
}

void gm_model_destroy(struct gm_model *m)
{
	gm_free(m->in->alloc, m->slot);
	gm_free(m->in->alloc, m->rank);
	gm_free(m->in->alloc, m->alive);
	gm_free(m->in->alloc, m->words);
	gm_free(m->in->alloc, m->by_id);
	gm_free(m->in->alloc, m->count);
	*m = (struct gm_model){.in = m->in};
}
