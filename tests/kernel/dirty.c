/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty log, and what happens to it when slots change. The vCPU does not run meanwhile. */
#include <errno.h>
#include <stddef.h>

#include "fact.h"
#include "kvm.h"

#define LOG KVM_MEM_LOG_DIRTY_PAGES
/* The page to which the guest stores, and its bit. */
#define PAGE 1u
#define BIT (1u << PAGE)

static uint64_t log_of_test(struct kvm *k, struct outcome *o)
{
	uint64_t log = 0;

	expect_errno(o, "reading the log", slot_log(k, SLOT_TEST, &log), 0);
	return log;
}

/* SLOT_TEST logs; the vCPU is at its first instruction. */
static void begin(struct kvm *k, struct vcpu *v)
{
	kvm_open(k);
	need(!slot_put_test(k, LOG, TEST));
	vcpu_open(v, k);
	vcpu_set(v, USER, LOOP, TEST + PAGE, true);
}

static void end(struct kvm *k, struct vcpu *v)
{
	vcpu_close(v);
	kvm_close(k);
}

/* Let the guest store. */
static void store(struct vcpu *v, struct outcome *o)
{
	expect(o, vcpu_round(v), "the guest does not run");
}

#define FACT(name)                                                               \
	static void name##_in(struct kvm *k, struct vcpu *v, struct outcome *o); \
	static void name(struct outcome *o)                                      \
	{                                                                        \
		struct kvm k;                                                    \
		struct vcpu v;                                                   \
                                                                                 \
		if (guest_missing) {                                             \
			not_here(o, "%s", guest_missing);                        \
			return;                                                  \
		}                                                                \
		begin(&k, &v);                                                   \
		name##_in(&k, &v, o);                                            \
		end(&k, &v);                                                     \
	}                                                                        \
	static void name##_in(struct kvm *k, struct vcpu *v, struct outcome *o)

static void log_errno(struct outcome *o)
{
	struct kvm k;
	uint64_t log;

	kvm_open(&k);
	expect_errno(o, "no slot", slot_log(&k, SLOT_OTHER, &log), ENOENT);
	expect_errno(o, "a slot that does not log", slot_log(&k, SLOT_TEST, &log), ENOENT);
	expect_errno(o, "an id that is none", slot_log(&k, k.nr_slots, &log), EINVAL);
	expect_errno(o, "a space that is none", slot_log(&k, k.nr_spaces << 16, &log), EINVAL);
	need(!slot_put_test(&k, LOG, TEST));
	expect_errno(o, "a slot that logs", slot_log(&k, SLOT_TEST, &log), 0);
	expect(o, !log, "a new log is not empty");
	need(!slot_delete(&k, SLOT_TEST));
	expect_errno(o, "a slot that is gone", slot_log(&k, SLOT_TEST, &log), ENOENT);
	kvm_close(&k);
}

FACT(stores)
{
	uint64_t log;

	store(v, o);
	log = log_of_test(k, o);
	expect(o, log == BIT, "log %#llx after a store to page %u", (unsigned long long)log, PAGE);
	log = log_of_test(k, o);
	expect(o, !log, "bits are read twice");
	store(v, o);
	expect(o, log_of_test(k, o) == BIT, "after the log was read, a store is not in it");
}

FACT(own_stores)
{
	*test_word(k, 0, 2) = 1;
	store(v, o);
	expect(o, log_of_test(k, o) == BIT,
	       "stores of this process are reported, or the guest's not");
}

FACT(log_again)
{
	store(v, o);
	expect_errno(o, "log on, again", slot_put_test(k, LOG, TEST), 0);
	expect(o, log_of_test(k, o) == BIT, "its bits are gone");
}

FACT(log_off)
{
	store(v, o);
	expect_errno(o, "log off", slot_put_test(k, 0, TEST), 0);
	expect_errno(o, "log on", slot_put_test(k, LOG, TEST), 0);
	expect(o, !log_of_test(k, o), "its bits are still there");
}

FACT(deletes)
{
	store(v, o);
	expect_errno(o, "DELETE", slot_delete(k, SLOT_TEST), 0);
	expect_errno(o, "CREATE", slot_put_test(k, LOG, TEST), 0);
	expect(o, !log_of_test(k, o), "its bits are still there");
	store(v, o);
	expect(o, log_of_test(k, o) == BIT, "the new slot does not log");
}

FACT(moves)
{
	store(v, o);
	expect_errno(o, "away", slot_put_test(k, LOG, FREE), 0);
	expect_errno(o, "by a page", slot_put_test(k, LOG, FREE + 1), 0);
	expect(o, log_of_test(k, o) == BIT, "its bits are gone");
	expect_errno(o, "back", slot_put_test(k, LOG, TEST), 0);
	store(v, o);
	expect(o, log_of_test(k, o) == BIT, "it does not log any more");
}

FACT(kernel_stores)
{
	int err = guest_kernel_write(v, TEST + 2);

	if (err == ENOTSUP) {
		not_here(o, "KVM can't be brought to store");
		return;
	}
	expect_errno(o, "letting it store", err, 0);
	expect(o, log_of_test(k, o) & 1u << 2, "it is not in the log");
}

FACT(kernel_skips)
{
	uint64_t was = *test_word(k, 2, 0);
	int err = guest_kernel_write(v, FREE);

	if (err == ENOTSUP) {
		not_here(o, "KVM refuses a place without memory");
		return;
	}
	expect_errno(o, "where there is no memory", err, 0);
	expect_errno(o, "MOVE to there", slot_put_test(k, LOG, FREE - 2), 0);
	expect(o, *test_word(k, 2, 0) == was && !log_of_test(k, o), "it came later");
	err = guest_kernel_write(v, FREE);
	expect_errno(o, "where there is memory", err, 0);
	expect(o, *test_word(k, 2, 0) != was, "nothing is stored");
}

#define CAP_RING KVM_CAP_DIRTY_LOG_RING_ACQ_REL

/* Told before the slot is looked at, so by an id that is none. */
static void ring_in(struct kvm *k, struct outcome *o)
{
	struct kvm_enable_cap cap = {.cap = CAP_RING, .args = {65536}};
	uint64_t log;

	if (kvm_capability(k, CAP_RING) < 65536) {
		not_here(o, "no dirty ring");
		return;
	}
	expect_errno(o, "resetting rings where there are none",
		     kvm_ioctl(k->fd, KVM_RESET_DIRTY_RINGS, NULL), EINVAL);
	expect_errno(o, "the log of an id that is none, without rings", slot_log(k, 0xffff, &log),
		     EINVAL);
	need(!kvm_ioctl(k->fd, KVM_ENABLE_CAP, &cap));
	expect_errno(o, "the log of an id that is none, with rings", slot_log(k, 0xffff, &log),
		     ENXIO);
	expect_errno(o, "log on", slot_put_test(k, LOG, TEST), 0);
	expect_errno(o, "the log of a slot, with rings", slot_log(k, SLOT_TEST, &log), ENXIO);
	expect_errno(o, "resetting rings", kvm_ioctl(k->fd, KVM_RESET_DIRTY_RINGS, NULL), 0);
}

static void ring(struct outcome *o)
{
	struct kvm k;

	kvm_open(&k);
	ring_in(&k, o);
	kvm_close(&k);
}

const struct fact dirty_facts[] = {
	{"K20", "GET_DIRTY_LOG: ENOENT without slot or without log, EINVAL for an id that is none",
	 true, log_errno},
	{"K21", "A guest's store sets the bit of its page, once; reading the log clears it", true,
	 stores},
	{"K22", "Stores of the VMM itself are not in the log", true, own_stores},
	{"K23", "Log on where it is on keeps the bits", true, log_again},
	{"K24", "Log off loses the bits that were not read", true, log_off},
	{"K25", "DELETE loses the bits that were not read", true, deletes},
	{"K26", "MOVE keeps the bits", true, moves},
	{"K27", "Stores of KVM itself are in the log (x86: the wall clock; arm64: steal time)",
	 true, kernel_stores},
	{"K28", "Stores of KVM itself to where no memory is are skipped, and nobody is told", false,
	 kernel_skips},
	{"K49",
	 "In a VM with dirty rings and no bitmaps GET_DIRTY_LOG is ENXIO, for whatever id; "
	 "resetting rings "
	 "is EINVAL where there are none",
	 true, ring},
	{0},
};
