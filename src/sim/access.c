/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a simulated guest does to memory, and what it meets where there's no slot.
 *
 * There are two ways, as on a real machine:
 *  - Hardware. All pages of the access are looked up in one table, then it is done whole. An INVALID
 *    slot: it is tried again later. No slot, or a store to a read-only one: the access is emulated.
 *  - The emulator, for such accesses, and for all of a GPAMAP_SIM_EMULATED vCPU. Page by page, each with
 *    a look-up of its own; INVALID is the same as no slot. What it did not find memory for becomes exits of
 *    up to 8 bytes each, one for each run; what it did in memory is not done again. The exits are noted in
 *    v->pending, and when all are answered, the repeated access ends there.
 *
 * The memory is shared with other vCPUs and the host, who are free to race with it: so it is accessed by
 * relaxed atomics.
 */
#include <errno.h>
#include <string.h>

#include "sim/impl.h"

typedef uint16_t __attribute__((may_alias)) mem16;
typedef uint32_t __attribute__((may_alias)) mem32;
typedef uint64_t __attribute__((may_alias)) mem64;

enum sim_way { WAY_LOAD, WAY_STORE, WAY_XADD };

struct access {
	enum sim_way way;
	uint64_t gpa;
	unsigned len;
	uint8_t *buf; /* to or from; WAY_XADD: in what to add, out what was there */
};

/* How a look-up, or an access, ends; besides 0 (done) and -errno. */
enum { SIM_HOLE = 1, SIM_RETRY };

/* ---------------------------------------------------------------------------------- memory --- */

/* The largest piece of up to @len bytes that's naturally aligned at @p. */
static unsigned piece(const uint8_t *p, unsigned len)
{
	unsigned n = 8;

	while (n > len || (uintptr_t)p % n)
		n /= 2;
	return n;
}

static void mem_load(uint8_t *to, const uint8_t *from, unsigned len)
{
	for (unsigned n; len; to += n, from += n, len -= n) {
		uint64_t v64;
		uint32_t v32;
		uint16_t v16;

		n = piece(from, len);
		if (n == 8) {
			v64 = __atomic_load_n((const mem64 *)from, __ATOMIC_RELAXED);
			memcpy(to, &v64, 8);
		} else if (n == 4) {
			v32 = __atomic_load_n((const mem32 *)from, __ATOMIC_RELAXED);
			memcpy(to, &v32, 4);
		} else if (n == 2) {
			v16 = __atomic_load_n((const mem16 *)from, __ATOMIC_RELAXED);
			memcpy(to, &v16, 2);
		} else {
			*to = __atomic_load_n(from, __ATOMIC_RELAXED);
		}
	}
}

static void mem_store(uint8_t *to, const uint8_t *from, unsigned len)
{
	for (unsigned n; len; to += n, from += n, len -= n) {
		uint64_t v64;
		uint32_t v32;
		uint16_t v16;

		n = piece(to, len);
		if (n == 8) {
			memcpy(&v64, from, 8);
			__atomic_store_n((mem64 *)to, v64, __ATOMIC_RELAXED);
		} else if (n == 4) {
			memcpy(&v32, from, 4);
			__atomic_store_n((mem32 *)to, v32, __ATOMIC_RELAXED);
		} else if (n == 2) {
			memcpy(&v16, from, 2);
			__atomic_store_n((mem16 *)to, v16, __ATOMIC_RELAXED);
		} else {
			__atomic_store_n(to, *from, __ATOMIC_RELAXED);
		}
	}
}

static uint64_t mem_xadd(uint8_t *at, uint64_t add)
{
	return __atomic_fetch_add((mem64 *)at, add, __ATOMIC_SEQ_CST);
}

static uint8_t *slot_memory(const struct sim_slot *s, uint64_t gpa)
{
	return (uint8_t *)(uintptr_t)(s->hva + (gpa - s->gpa));
}

static void mark_dirty(struct gpamap_sim *sim, const struct sim_slot *s, uint64_t gpa)
{
	uint64_t page = (gpa - s->gpa) / sim->page_size;

	if (!s->dirty)
		return;
	sim_step(sim, GPAMAP_SIM_BEFORE_MARK);
	atomic_fetch_or(&s->dirty[page / 64], UINT64_C(1) << page % 64);
}

/* The part of an access that lies in one page of a slot. (S4) */
static void touch(struct gpamap_sim *sim, const struct sim_slot *s, enum sim_way way, uint64_t gpa,
		  uint8_t *buf, unsigned len)
{
	uint8_t *at = slot_memory(s, gpa);
	uint64_t v;

	sim_step(sim, GPAMAP_SIM_IN_ACCESS);
	if (way == WAY_LOAD) {
		mem_load(buf, at, len);
		return;
	}
	if (way == WAY_STORE) {
		mem_store(at, buf, len);
	} else {
		memcpy(&v, buf, 8);
		v = mem_xadd(at, v);
		memcpy(buf, &v, 8);
	}
	mark_dirty(sim, s, gpa);
}

/* -------------------------------------------------------------------------------- hardware --- */

/* How many of @len bytes at @gpa are in its page. */
static unsigned in_page(const struct gpamap_sim *sim, uint64_t gpa, unsigned len)
{
	uint64_t left = sim->page_size - gpa % sim->page_size;

	return len < left ? len : (unsigned)left;
}

/* What a page fault at @gpa would find: 0 and a slot, SIM_HOLE or SIM_RETRY. */
static int page_fault(const struct sim_table *t, const struct access *a, uint64_t gpa,
		      const struct sim_slot **ret)
{
	const struct sim_slot *s = sim_table_find(t, gpa);

	if (!s)
		return SIM_HOLE;
	if (s->invalid)
		return SIM_RETRY;
	if (s->flags & GPAMAP_SIM_READONLY && a->way != WAY_LOAD)
		return SIM_HOLE;
	*ret = s;
	return 0;
}

/* Do @a whole, or nothing of it. */
static int try_hardware(struct gpamap_sim_vcpu *v, const struct access *a)
{
	const struct sim_table *t = sim_section_enter(v);
	unsigned first = in_page(v->sim, a->gpa, a->len);
	const struct sim_slot *s[2] = {0};
	int r = page_fault(t, a, a->gpa, &s[0]);

	if (!r && first < a->len)
		r = page_fault(t, a, a->gpa + first, &s[1]);
	if (!r) {
		touch(v->sim, s[0], a->way, a->gpa, a->buf, first);
		if (s[1])
			touch(v->sim, s[1], a->way, a->gpa + first, a->buf + first, a->len - first);
	}
	sim_section_leave(v);
	return r;
}

/* 0, SIM_HOLE, or -EINTR if the vCPU is to leave while a slot is INVALID. */
static int hardware(struct gpamap_sim_vcpu *v, const struct access *a)
{
	int r;

	while ((r = try_hardware(v, a)) == SIM_RETRY) {
		if (sim_interrupted(v))
			return -EINTR;
		sim_stretch_slow(20);
	}
	return r;
}

/* -------------------------------------------------------------------------------- emulator --- */

/* The slot that the emulator finds, or NULL. In a section. */
static const struct sim_slot *emulator_find(struct gpamap_sim_vcpu *v, enum sim_way way,
					    uint64_t gpa)
{
	const struct sim_slot *s = sim_table_find(sim_section_table(v), gpa);

	if (!s || s->invalid || (way != WAY_LOAD && s->flags & GPAMAP_SIM_READONLY))
		return NULL;
	return s;
}

/* How many bytes of the hole that's next go into one exit. */
static unsigned exit_len(const struct sim_pending *p)
{
	unsigned left = p->hole[p->next].end - p->hole[p->next].at;

	return left < 8 ? left : 8;
}

/* Fill kvm_run for them. */
static void next_exit(struct gpamap_sim_vcpu *v)
{
	struct sim_pending *p = &v->pending;
	unsigned at = p->hole[p->next].at;

	memset(&v->run->mmio, 0, sizeof(v->run->mmio));
	v->run->exit_reason = KVM_EXIT_MMIO;
	v->run->mmio.phys_addr = p->gpa + at;
	v->run->mmio.len = exit_len(p);
	v->run->mmio.is_write = p->kind == SIM_STORE || p->kind == SIM_XADD_WRITE;
	if (v->run->mmio.is_write)
		memcpy(v->run->mmio.data, p->data + at, v->run->mmio.len);
}

static void pend(struct gpamap_sim_vcpu *v, enum sim_pending_kind kind, uint64_t gpa, unsigned len)
{
	v->pending.kind = kind;
	v->pending.answered = false;
	v->pending.gpa = gpa;
	v->pending.len = len;
	v->pending.nr_holes = 0;
	v->pending.next = 0;
}

static void pend_hole(struct gpamap_sim_vcpu *v, unsigned at, unsigned len)
{
	struct sim_pending *p = &v->pending;

	p->hole[p->nr_holes].at = at;
	p->hole[p->nr_holes].end = at + len;
	p->nr_holes++;
}

bool sim_complete(struct gpamap_sim_vcpu *v)
{
	struct sim_pending *p = &v->pending;
	unsigned *at, len;

	if (p->next < p->nr_holes) {
		at = &p->hole[p->next].at;
		len = exit_len(p);
		if (p->kind == SIM_LOAD || p->kind == SIM_XADD_READ)
			memcpy(p->data + *at, v->run->mmio.data, len);
		*at += len;
		if (*at == p->hole[p->next].end)
			p->next++;
	}
	p->answered = p->next == p->nr_holes;
	if (!p->answered)
		next_exit(v);
	return p->answered;
}

/* Is this the access that the last exit was for, done again? Then its answer is in pending.data, once. */
static bool resume(struct gpamap_sim_vcpu *v, enum sim_pending_kind kind, uint64_t gpa,
		   unsigned len)
{
	struct sim_pending *p = &v->pending;
	bool same = p->answered && p->kind == kind && p->gpa == gpa && p->len == len;

	p->kind = SIM_NOTHING;
	return same;
}

/* One page of a load or a store. */
static void emulate_part(struct gpamap_sim_vcpu *v, const struct access *a, unsigned at,
			 unsigned len)
{
	const struct sim_slot *s;

	sim_section_enter(v);
	s = emulator_find(v, a->way, a->gpa + at);
	if (s)
		touch(v->sim, s, a->way, a->gpa + at, v->pending.data + at, len);
	else
		pend_hole(v, at, len);
	sim_section_leave(v);
}

/* A load or a store. 0 or KVM_EXIT_MMIO. */
static int emulate(struct gpamap_sim_vcpu *v, const struct access *a)
{
	unsigned first = in_page(v->sim, a->gpa, a->len);

	pend(v, a->way == WAY_LOAD ? SIM_LOAD : SIM_STORE, a->gpa, a->len);
	if (a->way == WAY_STORE)
		memcpy(v->pending.data, a->buf, a->len);
	emulate_part(v, a, 0, first);
	if (first < a->len)
		emulate_part(v, a, first, a->len - first);
	if (v->pending.nr_holes) {
		next_exit(v);
		return KVM_EXIT_MMIO;
	}
	v->pending.kind = SIM_NOTHING;
	if (a->way == WAY_LOAD)
		memcpy(a->buf, v->pending.data, a->len);
	return 0;
}

/* ------------------------------------------------------------------------- data, for guests --- */

static bool legal_range(uint64_t gpa, unsigned len)
{
	return len && len <= SIM_MAX_ACCESS && gpa <= UINT64_MAX - (len - 1);
}

static int data_access(struct gpamap_sim_vcpu *v, const struct access *a)
{
	int r = SIM_HOLE;

	if (!legal_range(a->gpa, a->len))
		return -EINVAL;
	if (!v->emulated)
		r = hardware(v, a);
	return r == SIM_HOLE ? emulate(v, a) : r;
}

int gpamap_sim_load(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, void *buf, unsigned len)
{
	struct access a = {WAY_LOAD, gpa, len, buf};

	if (resume(vcpu, SIM_LOAD, gpa, len)) {
		memcpy(buf, vcpu->pending.data, len);
		return 0;
	}
	return data_access(vcpu, &a);
}

int gpamap_sim_store(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, const void *buf, unsigned len)
{
	/* A store does not write to its buffer. */
	struct access a = {WAY_STORE, gpa, len, (uint8_t *)(uintptr_t)buf};

	if (resume(vcpu, SIM_STORE, gpa, len))
		return 0;
	return data_access(vcpu, &a);
}

/* ------------------------------------------------------------------------------------ xadd --- */

static int xadd_exit(struct gpamap_sim_vcpu *v, enum sim_pending_kind kind, uint64_t gpa)
{
	pend(v, kind, gpa, 8);
	pend_hole(v, 0, 8);
	next_exit(v);
	return KVM_EXIT_MMIO;
}

/* The emulator reads the old value. 0 or SIM_HOLE. */
static int xadd_read(struct gpamap_sim_vcpu *v, uint64_t gpa, uint64_t *old)
{
	const struct sim_slot *s;

	sim_section_enter(v);
	s = emulator_find(v, WAY_LOAD, gpa);
	if (s)
		touch(v->sim, s, WAY_LOAD, gpa, (uint8_t *)old, 8);
	sim_section_leave(v);
	return s ? 0 : SIM_HOLE;
}

/* It writes the new one by compare and exchange. 0, SIM_HOLE, or SIM_RETRY: it has changed since. */
static int xadd_write(struct gpamap_sim_vcpu *v, uint64_t gpa, uint64_t old, uint64_t new)
{
	const struct sim_slot *s;
	int r = SIM_HOLE;

	sim_section_enter(v);
	s = emulator_find(v, WAY_STORE, gpa);
	if (s) {
		sim_step(v->sim, GPAMAP_SIM_IN_ACCESS);
		r = SIM_RETRY;
		if (__atomic_compare_exchange_n((mem64 *)slot_memory(s, gpa), &old, new, false,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
			mark_dirty(v->sim, s, gpa);
			r = 0;
		}
	}
	sim_section_leave(v);
	return r;
}

/* The write of @old + @add, where @old came from memory or from the caller. 0, an exit, or -EAGAIN: the
 * memory has changed since, so the instruction begins anew. */
static int xadd_finish(struct gpamap_sim_vcpu *v, uint64_t gpa, uint64_t add, uint64_t old)
{
	uint64_t new = old + add;
	int r = xadd_write(v, gpa, old, new);

	if (r == SIM_RETRY)
		return -EAGAIN;
	if (!r)
		return 0;
	memcpy(v->pending.data, &new, 8);
	return xadd_exit(v, SIM_XADD_WRITE, gpa);
}

/* The instruction from its beginning. -EAGAIN: once more. */
static int xadd_once(struct gpamap_sim_vcpu *v, uint64_t gpa, uint64_t add, uint64_t *old)
{
	uint64_t value = add;
	struct access a = {WAY_XADD, gpa, 8, (uint8_t *)&value};
	int r = v->emulated ? SIM_HOLE : hardware(v, &a);

	if (r == SIM_HOLE) {
		if (xadd_read(v, gpa, &value))
			return xadd_exit(v, SIM_XADD_READ, gpa);
		r = xadd_finish(v, gpa, add, value);
	}
	if (!r)
		*old = value;
	return r;
}

int gpamap_sim_xadd(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, uint64_t add, uint64_t *old)
{
	enum sim_pending_kind kind = vcpu->pending.kind;
	uint64_t value;
	int r = -EAGAIN;

	if (gpa % 8)
		return -EINVAL;
	if (resume(vcpu, kind, gpa, 8) && (kind == SIM_XADD_READ || kind == SIM_XADD_WRITE)) {
		memcpy(&value, vcpu->pending.data, 8);
		/* It holds what was read, or the sum that was written. */
		if (kind == SIM_XADD_WRITE)
			value -= add;
		r = kind == SIM_XADD_WRITE ? 0 : xadd_finish(vcpu, gpa, add, value);
		if (!r)
			*old = value;
	}
	while (r == -EAGAIN) {
		r = xadd_once(vcpu, gpa, add, old);
		if (r == -EAGAIN && sim_interrupted(vcpu))
			r = -EINTR;
	}
	return r;
}

/* -------------------------------------------------------------------------- fetch and walk --- */

/* Accesses that need memory: 0, SIM_HOLE or -errno. */
static int need_memory(struct gpamap_sim_vcpu *v, uint64_t gpa, void *buf, unsigned len)
{
	struct access a = {WAY_LOAD, gpa, len, buf};
	int r;

	v->pending.kind = SIM_NOTHING;
	if (!legal_range(gpa, len) || in_page(v->sim, gpa, len) != len)
		return -EINVAL;
	if (!v->emulated)
		return hardware(v, &a);
	r = try_hardware(v, &a);
	return r == SIM_RETRY ? SIM_HOLE : r;
}

int gpamap_sim_fetch(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, void *buf, unsigned len)
{
	int r = need_memory(vcpu, gpa, buf, len);

	if (r != SIM_HOLE)
		return r;
	memset(&vcpu->run->internal, 0, sizeof(vcpu->run->internal));
	vcpu->run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	vcpu->run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
	return KVM_EXIT_INTERNAL_ERROR;
}

int gpamap_sim_walk(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, uint64_t *entry)
{
	int r;

	if (gpa % 8)
		return -EINVAL;
	r = need_memory(vcpu, gpa, entry, 8);
	if (r != SIM_HOLE)
		return r;
	vcpu->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return KVM_EXIT_SHUTDOWN;
}

int gpamap_sim_halt(struct gpamap_sim_vcpu *vcpu)
{
	if (resume(vcpu, SIM_HALT, 0, 0))
		return 0;
	pend(vcpu, SIM_HALT, 0, 0);
	vcpu->run->exit_reason = KVM_EXIT_HLT;
	return KVM_EXIT_HLT;
}
