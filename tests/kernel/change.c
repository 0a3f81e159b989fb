/* SPDX-License-Identifier: BSD-3-Clause */
/* What a running vCPU meets while a slot is changed that it uses: the reason for a gate. */
#include <stdio.h>
#include <string.h>

#include "fact.h"
#include "live.h"

/* At least. */
#define CHANGES 100u
/* For what is rare: as long as a test may last. */
#define MOVE_SECONDS 0.3
/* For what has to be seen. */
#define LONG_SECONDS 20.0
/* What the guest watches when its tables are in SLOT_TEST. */
#define PAGE_ELSEWHERE 10u

/* False: the guest is at its end. */
static bool one_change(struct vcpu *v, const struct live_change *change, unsigned n)
{
	if (change->held)
		spin_hold(v);
	change->step(v->k, n);
	if (change->held)
		spin_release(v);
	if (!spin_await(v, 1))
		return false;
	if (change->undo) {
		spin_hold(v);
		change->undo(v->k);
		spin_release(v);
	}
	return true;
}

static bool go_on(struct vcpu *v, const struct live_change *change, unsigned n, double passed)
{
	bool hole = atomic_load(&v->holes);

	if (n < CHANGES)
		return true;
	return !hole && passed < (change->until_hole ? LONG_SECONDS : change->seconds);
}

struct live_result live_run(struct live_guest guest, struct live_change change)
{
	double start = seconds();
	struct live_result r = {0};
	struct kvm k;
	struct vcpu v;

	kvm_open(&k);
	vcpu_open(&v, &k);
	if (guest.tables)
		vcpu_set_tables(&v, guest.mode, PAGE_ELSEWHERE, TEST, false);
	else
		vcpu_set(&v, guest.mode, guest.program, TEST + guest.page, false);
	if (change.before)
		change.before(&k);
	spin_start(&v);
	spin_await(&v, 1);
	while (go_on(&v, &change, r.changes, seconds() - start) &&
	       one_change(&v, &change, r.changes))
		r.changes++;
	spin_stop(&v);
	r.holes = atomic_load(&v.holes);
	memcpy(r.why, v.why, sizeof(r.why));
	vcpu_close(&v);
	kvm_close(&k);
	return r;
}

static void recreate(struct kvm *k, unsigned n)
{
	(void)n;
	need(!slot_delete(k, SLOT_TEST));
	need(!slot_put_test(k, 0, TEST));
}

static void move_by_a_page(struct kvm *k, unsigned n)
{
	need(!slot_put_test(k, 0, TEST + !(n % 2)));
}

/* A figure that is not the same twice needs no more digits. */
struct ratio {
	char text[16];
};

static struct ratio per_change(struct live_result r)
{
	double ratio = (double)r.holes / r.changes;
	struct ratio ret;

	snprintf(ret.text, sizeof(ret.text), ratio < 1 ? "%.1g" : "%.0f", ratio);
	return ret;
}

/* In both modes there are exits: how many for each change, or what was the end. */
static void expect_holes(struct outcome *o, struct live_guest guest, struct live_change change)
{
	change.until_hole = true;
	if (guest_missing)
		not_here(o, "%s", guest_missing);
	for (int m = USER; !guest_missing && m <= SUPERVISOR; m++) {
		struct live_result r;

		guest.mode = (enum mode)m;
		r = live_run(guest, change);
		expect(o, r.holes, "%s: none in %u changes", mode_name[m], r.changes);
		if (*r.why)
			measured(o, "%s: %s", mode_name[m], r.why);
		else
			measured(o, "%s: %s a change", mode_name[m], per_change(r).text);
	}
}

static void data(struct outcome *o)
{
	expect_holes(o, (struct live_guest){.program = LOOP},
		     (struct live_change){.step = recreate});
}

static void fetch(struct outcome *o)
{
	expect_holes(o, (struct live_guest){.program = FETCH},
		     (struct live_change){.step = recreate});
}

static void tables(struct outcome *o)
{
	expect_holes(o, (struct live_guest){.tables = true},
		     (struct live_change){.step = recreate});
}

/* The page that the guest uses is memory before and after each MOVE. */
static void expect_quiet_move(struct outcome *o, enum mode mode)
{
	struct live_guest guest = {.mode = mode, .program = LOOP, .page = 2};
	struct live_result r;

	if (guest_missing) {
		not_here(o, "%s", guest_missing);
		return;
	}
	r = live_run(guest, (struct live_change){.step = move_by_a_page, .seconds = MOVE_SECONDS});
	expect(o, !r.holes, "%s exits a change", per_change(r).text);
}

static void move_user(struct outcome *o)
{
	expect_quiet_move(o, USER);
}

static void move_supervisor(struct outcome *o)
{
	expect_quiet_move(o, SUPERVISOR);
}

/* ---------------------------------------------------------------- tables in read-only memory --- */

/* The first round after the change has to walk. False: there is no second one. */
static bool walk_readonly(struct vcpu *v, enum mode mode, struct outcome *o)
{
	int err;

	need(!slot_delete(v->k, SLOT_TEST));
	need(!slot_put_test(v->k, KVM_MEM_READONLY, TEST));
	err = vcpu_run_limited(v);
	if (err || !vcpu_is_at(v, DOOR, true)) {
		bool at_tables = vcpu_is_at(v, TEST, true) || vcpu_is_at(v, TEST, false);

		expect(o, false, "%s: %s", mode_name[mode],
		       err	   ? "it hangs"
		       : at_tables ? "what is for its data goes to the tables"
				   : exit_name(v->run->exit_reason));
		return false;
	}
	expect(o, vcpu_saw(v) == 0x5a5a5a5a5a5a5a5a, "%s: it reads something else",
	       mode_name[mode]);
	return true;
}

static void tables_readonly(struct outcome *o)
{
	if (guest_missing)
		not_here(o, "%s", guest_missing);
	for (int m = USER; !guest_missing && m <= SUPERVISOR; m++) {
		struct kvm k;
		struct vcpu v;

		kvm_open(&k);
		vcpu_open(&v, &k);
		memset(k.memory + PAGE_ELSEWHERE * k.page, 0x5a, sizeof(uint64_t));
		vcpu_set_tables(&v, (enum mode)m, PAGE_ELSEWHERE, TEST, true);
		for (unsigned n = 0; n < CHANGES && walk_readonly(&v, (enum mode)m, o); n++)
			;
		vcpu_close(&v);
		kvm_close(&k);
	}
}

const struct fact change_facts[] = {
	{"K40",
	 "DELETE and CREATE under a running vCPU: its loads and stores become exits where memory "
	 "is",
	 false, data},
	{"K41", "The same under code that it executes: it can't go on", false, fetch},
	{"K42", "The same under its page tables: it can't go on", false, tables},
	{"K43", "MOVE over its own old place: running user code does not notice", false, move_user},
	{"K44", "The same: running supervisor code does not notice", false, move_supervisor},
	{"K45", "Its page tables made READONLY while it is held: it does not notice", false,
	 tables_readonly},
	{0},
};
