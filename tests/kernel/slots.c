/* SPDX-License-Identifier: BSD-3-Clause */
/* What the ioctl that sets a slot accepts, and with which errno it refuses. No vCPU. */
#include <errno.h>
#include <sys/mman.h>

#include "fact.h"
#include "kvm.h"

#if defined(__aarch64__) || defined(__riscv)
#define ERRNO_TOO_HIGH EFAULT
#else
#define ERRNO_TOO_HIGH EINVAL
#endif

#define TOO_HIGH (UINT64_C(1) << 60)
#define KERNEL_HVA (UINT64_C(1) << 63)
#define UNKNOWN_FLAG (1u << 2) /* of the newer ioctl only */
#define MOST_PAGES ((UINT64_C(1) << 31) - 1)

/* With SLOT_TEST at TEST, in a VM of its own. */
#define FACT(name)                                               \
	static void name##_in(struct kvm *k, struct outcome *o); \
	static void name(struct outcome *o)                      \
	{                                                        \
		struct kvm k;                                    \
                                                                 \
		kvm_open(&k);                                    \
		name##_in(&k, o);                                \
		kvm_close(&k);                                   \
	}                                                        \
	static void name##_in(struct kvm *k, struct outcome *o)

static bool test_is_at(struct kvm *k, uint64_t at)
{
	for (unsigned i = 0; i < TEST_PAGES; i++) {
		if (!slot_at(k, at + i))
			return false;
	}
	return !slot_at(k, at - 1) && !slot_at(k, at + TEST_PAGES);
}

static void expect_untouched(struct kvm *k, struct outcome *o)
{
	expect(o, test_is_at(k, TEST), "a refused call has changed the slot");
	expect(o, !slot_at(k, FREE), "a refused call has made a slot");
}

FACT(overlap)
{
	expect_errno(o, "over all of it", slot_put(k, SLOT_OTHER, TEST, TEST_PAGES, 0), EEXIST);
	expect_errno(o, "over its end", slot_put(k, SLOT_OTHER, BESIDE - 1, 2, 0), EEXIST);
	expect_errno(o, "over its beginning", slot_put(k, SLOT_OTHER, TEST - 1, 2, 0), EEXIST);
	expect_untouched(k, o);
	expect_errno(o, "after it", slot_put(k, SLOT_OTHER, BESIDE, 1, 0), 0);
	expect_errno(o, "before it", slot_put(k, SLOT_OTHER + 1, TEST - 1, 1, 0), 0);
}

FACT(in_place)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_TEST, TEST, TEST_PAGES, MEMORY_TEST);

	expect_errno(o, "larger", slot_put(k, SLOT_TEST, TEST, TEST_PAGES + 1, MEMORY_TEST),
		     EINVAL);
	expect_errno(o, "smaller", slot_put(k, SLOT_TEST, TEST, 1, MEMORY_TEST), EINVAL);
	expect_errno(o, "other memory", slot_put(k, SLOT_TEST, TEST, TEST_PAGES, 0), EINVAL);
	expect_errno(o, "moved, other memory", slot_put(k, SLOT_TEST, FREE, TEST_PAGES, 0), EINVAL);
	r.flags = KVM_MEM_READONLY;
	expect_errno(o, "read-only", slot_set(k, r), EINVAL);
	expect_untouched(k, o);
}

FACT(alignment)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_OTHER, FREE, 1, 0);

	r.guest_phys_addr++;
	expect_errno(o, "GPA", slot_set(k, r), EINVAL);
	r = slot(k, SLOT_OTHER, FREE, 1, 0);
	r.userspace_addr++;
	expect_errno(o, "HVA", slot_set(k, r), EINVAL);
	r = slot(k, SLOT_OTHER, FREE, 1, 0);
	r.memory_size--;
	expect_errno(o, "size", slot_set(k, r), EINVAL);
	r = slot(k, SLOT_OTHER, FREE, 1, 0);
	r.memory_size = k->page / 2;
	expect_errno(o, "half a page", slot_set(k, r), EINVAL);
	expect_untouched(k, o);
}

FACT(too_large)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_OTHER, FREE, 2, 0);

	r.guest_phys_addr = -k->page;
	expect_errno(o, "beyond 2^64", slot_set(k, r), EINVAL);
	r = slot(k, SLOT_OTHER, FREE, MOST_PAGES + 1, 0);
	r.userspace_addr = 0;
	expect_errno(o, "2^31 pages", slot_set(k, r), EINVAL);
	expect_untouched(k, o);
}

FACT(too_high)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_OTHER, FREE, 1, 0);

	r.guest_phys_addr = TOO_HIGH;
	expect_errno(o, "at 2^60", slot_set(k, r), ERRNO_TOO_HIGH);
	expect_untouched(k, o);
}

FACT(kernel_hva)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_OTHER, FREE, 1, 0);

	r.userspace_addr = KERNEL_HVA;
	expect_errno(o, "at 2^63", slot_set(k, r), EINVAL);
	expect_untouched(k, o);
}

FACT(unmapped_hva)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_OTHER, FREE, 1, 0);
	void *p = mmap(NULL, k->page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(p != MAP_FAILED && !munmap(p, k->page));
	r.userspace_addr = (uintptr_t)p;
	expect_errno(o, "memory that is not there", slot_set(k, r), 0);
	expect(o, slot_at(k, FREE), "there is no slot");
}

FACT(unknown_flag)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_OTHER, FREE, 1, 0);

	r.flags = UNKNOWN_FLAG;
	expect_errno(o, "bit 2", slot_set(k, r), EINVAL);
	r.flags = 1u << 31;
	expect_errno(o, "bit 31", slot_set(k, r), EINVAL);
	expect_untouched(k, o);
}

FACT(delete_absent)
{
	expect_errno(o, "an id that was never used", slot_delete(k, SLOT_OTHER), EINVAL);
	expect_errno(o, "a slot", slot_delete(k, SLOT_TEST), 0);
	expect_errno(o, "the same once more", slot_delete(k, SLOT_TEST), EINVAL);
}

FACT(delete_garbage)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_TEST, FREE, 0, 0);

	r.flags = 1u << 31;
	expect_errno(o, "unknown flag", slot_set(k, r), EINVAL);
	r = slot(k, SLOT_TEST, FREE, 0, 0);
	r.guest_phys_addr++;
	expect_errno(o, "GPA amid a page", slot_set(k, r), EINVAL);
	r = slot(k, SLOT_TEST, FREE, 0, 0);
	r.userspace_addr = KERNEL_HVA;
	expect_errno(o, "HVA of the kernel", slot_set(k, r), EINVAL);
	expect_untouched(k, o);
	r = slot(k, SLOT_TEST, FREE, 0, 0);
	r.flags = KVM_MEM_LOG_DIRTY_PAGES;
	expect_errno(o, "other flag, GPA and HVA than the slot's", slot_set(k, r), 0);
	expect(o, !slot_at(k, TEST), "it is still there");
}

FACT(identical)
{
	expect_errno(o, "once more", slot_put_test(k, 0, TEST), 0);
	expect_untouched(k, o);
}

FACT(moves)
{
	expect_errno(o, "away", slot_put_test(k, 0, FREE), 0);
	expect(o, test_is_at(k, FREE) && !slot_at(k, TEST), "it did not move");
	expect_errno(o, "by a page", slot_put_test(k, 0, FREE + 1), 0);
	expect(o, test_is_at(k, FREE + 1), "it did not move by a page");
	expect_errno(o, "onto another", slot_put_test(k, 0, LOW_PAGES - 1), EEXIST);
	expect(o, test_is_at(k, FREE + 1) && !slot_at(k, LOW_PAGES), "a refused move has moved it");
}

FACT(moves_and_logs)
{
	uint64_t log = 0;

	expect_errno(o, "log on", slot_put_test(k, KVM_MEM_LOG_DIRTY_PAGES, FREE), 0);
	expect(o, test_is_at(k, FREE), "it did not move");
	expect_errno(o, "its log", slot_log(k, SLOT_TEST, &log), 0);
	expect_errno(o, "log off", slot_put_test(k, 0, TEST), 0);
	expect(o, test_is_at(k, TEST), "it did not move back");
	expect_errno(o, "its log, off", slot_log(k, SLOT_TEST, &log), ENOENT);
}

FACT(bad_pointer)
{
	void *p = mmap(NULL, k->page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(p != MAP_FAILED);
	expect_errno(o, "unreadable", kvm_ioctl(k->fd, KVM_SET_USER_MEMORY_REGION, p), EFAULT);
	munmap(p, k->page);
}

FACT(number_of_slots)
{
	expect(o, k->nr_slots >= 32, "only %u", k->nr_slots);
	expect_errno(o, "the last id", slot_put(k, k->nr_slots - 1, FREE, 1, 0), 0);
	expect_errno(o, "the first that is none", slot_put(k, k->nr_slots, FREE + 1, 1, 0), EINVAL);
	expect_errno(o, "all 16 bits", slot_put(k, 0xffff, FREE + 1, 1, 0), EINVAL);
	expect(o, !slot_at(k, FREE + 1), "a refused call has made a slot");
	measured(o, "%u", k->nr_slots);
}

/* Whether an id is in use can be told by a request for a page of memory that no slot has. */
FACT(id_in_use)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_TEST, TEST, 1, 0);

	expect_errno(o, "in use, over itself", slot_set(k, r), EINVAL);
	r = slot(k, SLOT_TEST, 0, 1, 0);
	expect_errno(o, "in use, over another", slot_set(k, r), EINVAL);
	r = slot(k, SLOT_TEST, FREE, 1, 0);
	expect_errno(o, "in use, where nothing is", slot_set(k, r), EINVAL);
	expect_untouched(k, o);
	expect_errno(o, "free, over another", slot_put(k, SLOT_OTHER, TEST, 1, 0), EEXIST);
	expect_untouched(k, o);
	expect_errno(o, "DELETE of the free one", slot_delete(k, SLOT_OTHER), EINVAL);
	expect_errno(o, "free, where nothing is", slot_put(k, SLOT_OTHER, FREE, 1, 0), 0);
	expect(o, test_is_at(k, TEST) && slot_at(k, FREE), "there are not both");
}

FACT(hva_or_overlap)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_OTHER, TEST, 1, 0);

	r.userspace_addr = KERNEL_HVA;
	expect_errno(o, "memory of the kernel's, over another", slot_set(k, r), EINVAL);
	r.userspace_addr = k->page;
	expect_errno(o, "memory that is not there, over another", slot_set(k, r), EEXIST);
	expect_untouched(k, o);
}

static int page_at(struct kvm *k, uint64_t gpa)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_OTHER, 0, 1, 0);
	int err;

	r.guest_phys_addr = gpa;
	err = slot_set(k, r);
	if (!err)
		need(!slot_delete(k, SLOT_OTHER));
	return err;
}

/* A page of the greatest power of two that can be had, and what is above. */
FACT(greatest_gpa)
{
	unsigned bits = 63;
	uint64_t top, end;

	while (bits > 30 && page_at(k, UINT64_C(1) << bits) == ERRNO_TOO_HIGH)
		bits--;
	top = UINT64_C(1) << bits;
	end = top * 2; /* 0 if it is 2^64 */
	expect_errno(o, "the lowest page of the upper half", page_at(k, top), 0);
	expect_errno(o, "the last page but one", page_at(k, end - 2 * k->page), 0);
	if (end) {
		expect_errno(o, "the last page", page_at(k, end - k->page), 0);
		expect_errno(o, "the page after it", page_at(k, end), ERRNO_TOO_HIGH);
	}
	expect_untouched(k, o);
	measured(o, "2^%u", bits + 1);
}

const struct fact slot_facts[] = {
	{"K1", "CREATE over another slot: EEXIST. Slots may touch", true, overlap},
	{"K2", "Other size, other HVA, other READONLY of a slot: EINVAL; never in place", true,
	 in_place},
	{"K3", "GPA, HVA or size not of whole pages: EINVAL", true, alignment},
	{"K4", "A range that wraps, or of 2^31 pages and more: EINVAL", true, too_large},
	{"K5", "GPA beyond the guest's addresses: EINVAL on x86, EFAULT on arm64", true, too_high},
	{"K6", "HVA outside of user space: EINVAL", true, kernel_hva},
	{"K7", "CREATE needs no memory at the HVA", true, unmapped_hva},
	{"K8", "Unknown flags, and guest_memfd's with the older ioctl: EINVAL", true, unknown_flag},
	{"K9", "DELETE where there is no slot: EINVAL", true, delete_absent},
	{"K10", "DELETE checks its other fields for being legal, and then ignores them", true,
	 delete_garbage},
	{"K11", "A call that changes nothing succeeds", true, identical},
	{"K12",
	 "MOVE: to a free place, also over its own old one; onto another slot EEXIST, and the slot "
	 "stays",
	 true, moves},
	{"K13", "MOVE may switch the log in the same call", true, moves_and_logs},
	{"K14", "Arguments that can't be read: EFAULT", true, bad_pointer},
	{"K15", "Ids from 0 to KVM_CAP_NR_MEMSLOTS - 1, others EINVAL; at least 32", true,
	 number_of_slots},
	{"K46",
	 "A request for other memory: EINVAL if the id is in use, EEXIST if it is free and another "
	 "slot is "
	 "there; and nothing changes",
	 true, id_in_use},
	{"K47", "That a slot is in the way is told after that memory is not user space's", true,
	 hva_or_overlap},
	{"K48", "The greatest GPA is one less than a power of two; all below can be had", true,
	 greatest_gpa},
	{0},
};
