/* SPDX-License-Identifier: BSD-3-Clause */
/* What a running vCPU does not notice, and what it does for sure once an ioctl has returned. */
#include <errno.h>
#include <stddef.h>

#include "fact.h"
#include "live.h"

#define LOG KVM_MEM_LOG_DIRTY_PAGES
/* Where slots come and go that no vCPU uses. */
#define ELSEWHERE 512u
/* For each sort of access. */
#define QUIET_SECONDS 0.04
/* What is looked at each time, with few changes. */
#define ROUNDS 40u

/* In turn, and the first right behind SLOT_TEST, which so grows. */
static uint64_t place(unsigned n)
{
	return n % 2 ? ELSEWHERE : BESIDE;
}

static void create(struct kvm *k, unsigned n)
{
	need(!slot_put(k, SLOT_OTHER, place(n), 1, 0));
}

static void create_first(struct kvm *k)
{
	create(k, 0);
}

static void drop(struct kvm *k, unsigned n)
{
	(void)n;
	need(!slot_delete(k, SLOT_OTHER));
}

static void drop_again(struct kvm *k)
{
	drop(k, 0);
}

static void move(struct kvm *k, unsigned n)
{
	need(!slot_put(k, SLOT_OTHER, place(n + 1), 1, 0));
}

static void toggle_log(struct kvm *k, unsigned n)
{
	need(!slot_put_test(k, n % 2 ? 0 : LOG, TEST));
}

static void recreate(struct kvm *k, unsigned n)
{
	(void)n;
	need(!slot_delete(k, SLOT_TEST));
	need(!slot_put_test(k, 0, TEST));
}

/* No exits, whatever the guest does. */
static void expect_quiet(struct outcome *o, struct live_change change)
{
	static const struct live_guest guests[] = {
		{.what = "loads and stores of user code", .mode = USER, .program = LOOP},
		{.what = "loads and stores of supervisor code",
		 .mode = SUPERVISOR,
		 .program = LOOP},
		{.what = "fetches of user code", .mode = USER, .program = FETCH},
		{.what = "fetches of supervisor code", .mode = SUPERVISOR, .program = FETCH},
	};

	if (guest_missing)
		not_here(o, "%s", guest_missing);
	change.seconds = QUIET_SECONDS;
	for (unsigned i = 0; !guest_missing && i < sizeof(guests) / sizeof(guests[0]); i++) {
		struct live_result r = live_run(guests[i], change);

		expect(o, !r.holes, "%s: %lu exits in %u changes%s%s", guests[i].what, r.holes,
		       r.changes, *r.why ? ", then " : "", r.why);
	}
}

static void create_beside(struct outcome *o)
{
	expect_quiet(o, (struct live_change){.step = create, .undo = drop_again});
}

static void delete_elsewhere(struct outcome *o)
{
	expect_quiet(o, (struct live_change){
				.before = create_first, .step = drop, .undo = create_first});
}

static void move_elsewhere(struct outcome *o)
{
	expect_quiet(o, (struct live_change){.before = create_first, .step = move});
}

static void log_on_and_off(struct outcome *o)
{
	expect_quiet(o, (struct live_change){.step = toggle_log});
}

static void recreate_held(struct outcome *o)
{
	expect_quiet(o, (struct live_change){.step = recreate, .held = true});
}

/* ---------------------------------------------------------------- once the ioctl has returned --- */

static void begin(struct kvm *k, struct vcpu *v, enum mode mode, unsigned watched)
{
	kvm_open(k);
	vcpu_open(v, k);
	vcpu_set(v, mode, LOOP, watched, false);
	spin_start(v);
	spin_await(v, 1);
}

static void end(struct kvm *k, struct vcpu *v, struct outcome *o)
{
	expect(o, !atomic_load(&v->over), "the guest ended: %s", v->why);
	vcpu_close(v);
	kvm_close(k);
}

/* In both modes. */
#define FACT(name, watched)                                                      \
	static void name##_in(struct kvm *k, struct vcpu *v, struct outcome *o); \
	static void name(struct outcome *o)                                      \
	{                                                                        \
		struct kvm k;                                                    \
		struct vcpu v;                                                   \
                                                                                 \
		if (guest_missing)                                               \
			not_here(o, "%s", guest_missing);                        \
		for (int m = USER; !guest_missing && m <= SUPERVISOR; m++) {     \
			begin(&k, &v, (enum mode)m, watched);                    \
			name##_in(&k, &v, o);                                    \
			end(&k, &v, o);                                          \
		}                                                                \
	}                                                                        \
	static void name##_in(struct kvm *k, struct vcpu *v, struct outcome *o)

FACT(move_held, TEST + 2)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t right = 100 + (n % 2 ? 2 : 1);

		spin_hold(v);
		need(!slot_put_test(k, 0, TEST + !(n % 2)));
		spin_release(v);
		if (!spin_await(v, 2))
			break;
		expect(o, vcpu_saw(v) == right, "the guest does not see what is there now");
	}
	expect(o, !atomic_load(&v->holes), "%lu exits", atomic_load(&v->holes));
}

FACT(nothing_after_delete, TEST)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t last;

		need(!slot_delete(k, SLOT_TEST));
		last = *test_word(k, 0, 1);
		if (!spin_await(v, 2))
			break;
		expect(o, *test_word(k, 0, 1) == last, "a store has come later");
		need(!slot_put_test(k, 0, TEST));
		if (!spin_await(v, 2))
			break;
		expect(o, *test_word(k, 0, 1) != last, "no store comes after CREATE");
	}
}

FACT(nothing_missed_log_on, TEST)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t log = 0;

		need(!slot_put_test(k, LOG, TEST));
		if (!spin_await(v, 2))
			break;
		need(!slot_log(k, SLOT_TEST, &log));
		expect(o, log == 1, "a store after log on is not in the log");
		need(!slot_put_test(k, 0, TEST));
	}
}

FACT(nothing_missed_reading, TEST)
{
	need(!slot_put_test(k, LOG, TEST));
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t log = 0;

		need(!slot_log(k, SLOT_TEST, &log));
		if (!spin_await(v, 2))
			break;
		need(!slot_log(k, SLOT_TEST, &log));
		expect(o, log == 1, "a store after reading is not in the log");
	}
}

/* The guest's first store is to the watched page. */
static void readonly_in(struct kvm *k, struct vcpu *v, struct outcome *o)
{
	uint64_t was = *test_word(k, 0, 1);

	need(!slot_delete(k, SLOT_TEST));
	expect_errno(o, "CREATE", slot_put_test(k, KVM_MEM_READONLY, TEST), 0);
	vcpu_set(v, USER, LOOP, TEST, true);
	expect_errno(o, "KVM_RUN", vcpu_run(v), 0);
	expect(o, vcpu_is_at(v, TEST, true), "a store ends in: %s", exit_name(v->run->exit_reason));
	expect(o, vcpu_saw(v) == 100, "a load does not read the memory");
	expect(o, *test_word(k, 0, 1) == was, "a store changes the memory");
	expect(o, vcpu_round(v), "the guest does not go on behind the store");
	expect_errno(o, "writable in place", slot_put_test(k, 0, TEST), EINVAL);
}

static void readonly(struct outcome *o)
{
	struct kvm k;
	struct vcpu v;

	if (guest_missing) {
		not_here(o, "%s", guest_missing);
		return;
	}
	kvm_open(&k);
	vcpu_open(&v, &k);
	/* Before there is read-only memory, or its content could not be written. */
	if (kvm_capability(&k, KVM_CAP_READONLY_MEM))
		readonly_in(&k, &v, o);
	else
		not_here(o, "no read-only slots");
	vcpu_close(&v);
	kvm_close(&k);
}

const struct fact live_facts[] = {
	{"K30", "CREATE beside what a running vCPU uses: it does not notice", true, create_beside},
	{"K31", "DELETE of what it does not use: it does not notice", true, delete_elsewhere},
	{"K32", "MOVE of what it does not use, to a free place: it does not notice", true,
	 move_elsewhere},
	{"K33", "Log on and off of the slot that it uses: it does not notice", true,
	 log_on_and_off},
	{"K34", "DELETE and CREATE of what it uses while it is held outside: it does not notice",
	 true, recreate_held},
	{"K35",
	 "MOVE over its own old place while it is held: each access finds memory, and the new one "
	 "after",
	 true, move_held},
	{"K36", "Once DELETE has returned, no store of a running vCPU gets to the memory", true,
	 nothing_after_delete},
	{"K37", "Once log on has returned, each store of a running vCPU gets into the log", true,
	 nothing_missed_log_on},
	{"K38", "Reading the log under a running vCPU misses no store", true,
	 nothing_missed_reading},
	{"K39", "READONLY: loads read the memory, stores are exits and don't change it", true,
	 readonly},
	{0},
};
