/* SPDX-License-Identifier: BSD-3-Clause */
/* What stores of more than 8 bytes, and locked operations, become in a READONLY slot. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fact.h"
#include "kvm.h"

#define WORDS 4u
/* Many more than a store of 32 bytes can be. */
#define EXITS 40u

struct access {
	enum program program;
	unsigned words;	      /* that it writes */
	uint64_t want[WORDS]; /* what it writes */
};

/* Stores are from the own page, locked operations on 100 and 0. */
#define PATTERN(n) (UINT64_C(0x0102030405060708) * (n))
static const struct access store_16 = {STORE_16, 2, {PATTERN(1), PATTERN(2)}};
static const struct access store_32 = {
	STORE_32, 4, {PATTERN(1), PATTERN(2), PATTERN(3), PATTERN(4)}};
static const struct access add = {LOCKED_ADD, 1, {101}};
static const struct access swap = {LOCKED_SWAP, 1, {101}};
static const struct access swap_16 = {LOCKED_SWAP_16, 2, {101, 101}};
static const struct access exclusive = {EXCLUSIVE_ADD, 1, {101}};

struct seen {
	bool at_door;
	bool changed; /* the memory */
	bool whole;   /* the exits, or the memory, have all that was to be written */
	unsigned exits;
	char text[64]; /* what it became */
};

/* What the exits say, in the order of the addresses. False: this one is something else. */
static bool take_exit(struct vcpu *v, const struct access *a, unsigned *told)
{
	const struct kvm_run *run = v->run;
	uint64_t at = TEST * v->k->page + *told;

	if (!vcpu_is_at(v, TEST, true) || run->mmio.phys_addr != at ||
	    *told + run->mmio.len > a->words * sizeof(a->want[0]) ||
	    memcmp(run->mmio.data, (const uint8_t *)a->want + *told, run->mmio.len))
		return false;
	*told += run->mmio.len;
	return true;
}

static void run_to_door(struct vcpu *v, const struct access *a, struct seen *s)
{
	unsigned told = 0;
	int err;

	for (; s->exits < EXITS; s->exits++) {
		err = vcpu_run_limited(v);
		if (!err && vcpu_is_at(v, DOOR, true))
			break;
		if (!err && take_exit(v, a, &told))
			continue;
		snprintf(s->text, sizeof(s->text), "%s",
			 err == EINTR				? "it hangs"
			 : err					? errno_name(err)
			 : guest_is_exception(v->run)		? "abort"
			 : v->run->exit_reason == KVM_EXIT_MMIO ? "an exit with something else"
								: exit_name(v->run->exit_reason));
		return;
	}
	s->at_door = true;
	s->whole = told == a->words * sizeof(a->want[0]);
	snprintf(s->text, sizeof(s->text), "%u exit%s, %u bytes", s->exits,
		 s->exits == 1 ? "" : "s", told);
}

static struct seen see(enum mode mode, const struct access *a, uint32_t flags)
{
	struct seen s = {0};
	struct kvm k;
	struct vcpu v;

	kvm_open(&k);
	vcpu_open(&v, &k);
	vcpu_set(&v, mode, a->program, TEST, true);
	for (unsigned i = 0; i < WORDS; i++)
		*own_word(&k, i) = PATTERN(i + 1);
	need(!slot_delete(&k, SLOT_TEST));
	need(!slot_put_test(&k, flags, TEST));
	run_to_door(&v, a, &s);
	s.changed = *test_word(&k, 0, 0) != 100;
	for (unsigned i = 1; i < WORDS; i++)
		s.changed |= *test_word(&k, 0, i);
	if (!(flags & KVM_MEM_READONLY))
		s.whole = !memcmp(test_word(&k, 0, 0), a->want, a->words * sizeof(a->want[0]));
	vcpu_close(&v);
	kvm_close(&k);
	return s;
}

/* Can guests do it at all, where they may write? KVM may not know how, if it executes them by itself. */
static struct seen see_control(enum mode mode, const struct access *a)
{
	struct seen s = see(mode, a, 0);

	s.whole &= s.at_door && !s.exits;
	return s;
}

static const char *missing(const struct access *a)
{
	static bool asked, readonly;
	struct kvm k;

	if (guest_missing)
		return guest_missing;
	if (!asked) {
		kvm_open(&k);
		readonly = kvm_capability(&k, KVM_CAP_READONLY_MEM);
		kvm_close(&k);
		asked = true;
	}
	return readonly ? guest_lacks(a->program) : "no read-only slots";
}

/* In both modes, if guests can do it there. */
static void expect_told(struct outcome *o, const struct access *a)
{
	const char *none = missing(a);
	char text[2][128] = {"", ""};
	bool whole = true, any = false;

	if (none) {
		not_here(o, "%s", none);
		return;
	}
	for (int m = USER; m <= SUPERVISOR; m++) {
		struct seen control = see_control((enum mode)m, a), s;

		if (!control.whole) {
			snprintf(text[m], sizeof(text[m]), "n/a, in writable memory, too: %s",
				 control.text);
			continue;
		}
		s = see((enum mode)m, a, KVM_MEM_READONLY);
		any = true;
		whole &= s.whole;
		memcpy(text[m], s.text, sizeof(s.text));
	}
	if (!any)
		not_here(o, "%s", text[USER]);
	else if (!strcmp(text[USER], text[SUPERVISOR]))
		whole ? measured(o, "%s", text[USER]) : expect(o, false, "%s", text[USER]);
	else if (whole)
		measured(o, "user: %s; supervisor: %s", text[USER], text[SUPERVISOR]);
	else
		expect(o, false, "user: %s; supervisor: %s", text[USER], text[SUPERVISOR]);
}

static void stores_16(struct outcome *o)
{
	expect_told(o, &store_16);
}

static void stores_32(struct outcome *o)
{
	expect_told(o, &store_32);
}

static void adds(struct outcome *o)
{
	expect_told(o, &add);
}

static void swaps(struct outcome *o)
{
	expect_told(o, &swap);
}

static void swaps_16(struct outcome *o)
{
	expect_told(o, &swap_16);
}

static void exclusives(struct outcome *o)
{
	expect_told(o, &exclusive);
}

/* Whatever becomes of them, and be it nothing that a VMM could use. */
static void memory_stays(struct outcome *o)
{
	static const struct access *const all[] = {&store_16, &store_32, &add,
						   &swap,     &swap_16,	 &exclusive};
	const char *none = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const char *why = missing(all[i]);

		none = why ? why : none;
		for (int m = USER; !why && m <= SUPERVISOR; m++) {
			n++;
			expect(o, !see((enum mode)m, all[i], KVM_MEM_READONLY).changed,
			       "the memory changes");
		}
	}
	if (!n)
		not_here(o, "%s", none);
}

const struct fact wide_facts[] = {
	{"K58",
	 "READONLY: neither a store of 16 or 32 bytes nor a locked operation changes the memory",
	 true, memory_stays},
	{"K59", "READONLY: a store of 16 bytes becomes exits that tell all of them", false,
	 stores_16},
	{"K60", "The same of 32 bytes", false, stores_32},
	{"K61", "READONLY: a locked addition becomes an exit that tells the sum", false, adds},
	{"K62", "The same of a locked compare-and-swap: the new value", false, swaps},
	{"K63", "The same of 16 bytes", false, swaps_16},
	{"K64", "The same of load-exclusive, addition, store-exclusive", false, exclusives},
	{0},
};
