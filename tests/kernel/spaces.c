/* SPDX-License-Identifier: BSD-3-Clause */
/* What not every kernel has: address spaces, guest_memfd, membarrier; and who is to be asked for it. */
#include <errno.h>
#include <linux/membarrier.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fact.h"
#include "kvm.h"

/* Not in the headers of Linux 6.1. */
#define CAP_USER_MEMORY2 231
#define CAP_MEMORY_ATTRIBUTES 233
#define CAP_GUEST_MEMFD 234
/* Linux 6.18: with which flags a guest_memfd may be made, such as those for one whose pages the host may see. */
#define CAP_GUEST_MEMFD_FLAGS 244
#define MEM_GUEST_MEMFD (1u << 2)
struct region2 {
	struct kvm_userspace_memory_region old;
	uint64_t gmem_offset;
	uint32_t gmem_fd;
	uint32_t pad1;
	uint64_t pad2[14];
};
#define SET_REGION2 _IOW(KVMIO, 0x49, struct region2)
struct create_guest_memfd {
	uint64_t size;
	uint64_t flags;
	uint64_t reserved[6];
};
#define CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct create_guest_memfd)

static void spaces_in(struct kvm *k, struct outcome *o)
{
	uint32_t beyond = k->nr_spaces << 16 | SLOT_OTHER, second = 1u << 16 | SLOT_TEST;

	expect_errno(o, "the first that is none", slot_put(k, beyond, FREE, 1, 0), EINVAL);
	measured(o, "%u", k->nr_spaces);
	if (k->nr_spaces < 2)
		return;
	expect_errno(o, "the same place and id in another",
		     slot_put(k, second, TEST, TEST_PAGES, 0), 0);
	expect_errno(o, "DELETE there", slot_delete(k, second), 0);
	expect_errno(o, "DELETE there once more", slot_delete(k, second), EINVAL);
	expect(o, slot_at(k, TEST), "that has deleted the slot of space 0");
}

static void spaces(struct outcome *o)
{
	struct kvm k;

	kvm_open(&k);
	spaces_in(&k, o);
	kvm_close(&k);
}

/* ------------------------------------------------------------------------------ guest_memfd --- */

static int set2(const struct kvm *k, struct region2 r)
{
	return kvm_ioctl(k->fd, SET_REGION2, &r);
}

static struct region2 with_memfd(const struct kvm *k, int fd, uint64_t at, uint64_t offset)
{
	struct region2 r = {
		.old = slot(k, SLOT_OTHER, at, 1, 0),
		.gmem_offset = offset,
		.gmem_fd = (uint32_t)fd,
	};

	r.old.flags = MEM_GUEST_MEMFD;
	return r;
}

static void memfd_refusals(struct kvm *k, struct outcome *o, int fd)
{
	struct region2 r = with_memfd(k, fd, FREE, 0);

	r.old.flags |= KVM_MEM_LOG_DIRTY_PAGES;
	expect_errno(o, "with log", set2(k, r), EINVAL);
	r = with_memfd(k, fd, FREE, 0);
	r.old.flags |= KVM_MEM_READONLY;
	expect_errno(o, "read-only", set2(k, r), EINVAL);
	expect_errno(o, "no file", set2(k, with_memfd(k, -1, FREE, 0)), EBADF);
	expect_errno(o, "another file", set2(k, with_memfd(k, k->sys, FREE, 0)), EINVAL);
	expect_errno(o, "beyond its end", set2(k, with_memfd(k, fd, FREE, 2 * k->page)), EINVAL);
	expect(o, !slot_at(k, FREE), "a refused call has made a slot");
}

/* Which errno a page has that is bound already, differs: Linux 7.2 has changed it. */
static void memfd_in_use(struct kvm *k, struct outcome *o, int fd)
{
	struct region2 r = with_memfd(k, fd, FREE, 0);
	int err;

	expect_errno(o, "CREATE", set2(k, r), 0);
	expect_errno(o, "the same call again", set2(k, r), EINVAL);
	expect_errno(o, "MOVE", set2(k, with_memfd(k, fd, FREE + 1, 0)), EINVAL);
	r.old.slot = SLOT_OTHER + 1;
	r.old.guest_phys_addr = (FREE + 1) * k->page;
	err = set2(k, r);
	expect(o, err == EINVAL || err == EEXIST, "the same page for two slots: errno %d", err);
	measured(o, "a page bound twice: %s", err == EEXIST ? "EEXIST" : "EINVAL");
	r.gmem_offset = k->page;
	expect_errno(o, "another page of it", set2(k, r), 0);
	expect_errno(o, "DELETE", slot_delete(k, SLOT_OTHER), 0);
	expect(o, !slot_at(k, FREE), "it is still there");
	expect_errno(o, "the page once more", set2(k, with_memfd(k, fd, FREE, 0)), 0);
}

static void memfd_in(struct kvm *k, struct outcome *o)
{
	struct create_guest_memfd args = {.size = 2 * k->page};
	int fd;

	/* A VM without private memory may want it for slots (arm64). */
	if (!kvm_capability(k, CAP_MEMORY_ATTRIBUTES))
		args.flags = (uint64_t)kvm_capability(k, CAP_GUEST_MEMFD_FLAGS);
	if (!kvm_capability(k, CAP_USER_MEMORY2)) {
		not_here(o, "no KVM_SET_USER_MEMORY_REGION2");
		return;
	}
	if (!kvm_capability(k, CAP_GUEST_MEMFD)) {
		not_here(o, "the VM has no guest_memfd");
		return;
	}
	fd = ioctl(k->fd, CREATE_GUEST_MEMFD, &args);
	expect(o, fd >= 0, "none can be made");
	if (fd < 0)
		return;
	memfd_refusals(k, o, fd);
	memfd_in_use(k, o, fd);
	close(fd);
}

static void memfd(struct outcome *o)
{
	struct kvm k;

	kvm_open(&k);
	memfd_in(&k, o);
	kvm_close(&k);
}

/* ------------------------------------------------------------------------------ who is asked --- */

static void who_is_asked(struct outcome *o)
{
	static const struct {
		const char *name;
		long number;
	} asked[] = {
		{"NR_MEMSLOTS", KVM_CAP_NR_MEMSLOTS},
		{"MULTI_ADDRESS_SPACE", KVM_CAP_MULTI_ADDRESS_SPACE},
		{"READONLY_MEM", KVM_CAP_READONLY_MEM},
		{"USER_MEMORY2", CAP_USER_MEMORY2},
		{"MEMORY_ATTRIBUTES", CAP_MEMORY_ATTRIBUTES},
		{"GUEST_MEMFD", CAP_GUEST_MEMFD},
	};
	struct kvm k;

	kvm_open(&k);
	for (unsigned i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		int of_system = ioctl(k.sys, KVM_CHECK_EXTENSION, asked[i].number);
		int of_vm = ioctl(k.fd, KVM_CHECK_EXTENSION, asked[i].number);

		expect(o, of_system == of_vm, "%s: %d of the system, %d of a VM", asked[i].name,
		       of_system, of_vm);
	}
	kvm_close(&k);
}

static long membarrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0);
}

static void barrier(struct outcome *o)
{
	expect(o, !membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED), "it can't be registered");
	expect(o, !membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED), "it does not work");
}

const struct fact space_facts[] = {
	{"K16",
	 "Address spaces are apart: places and ids of their own; a space that is none: EINVAL",
	 true, spaces},
	{"K17",
	 "guest_memfd: DELETE and CREATE only; no log, no READONLY; a page in one slot at a time",
	 true, memfd},
	{"K18", "The system's answers about capabilities are those of a VM", false, who_is_asked},
	{"K19", "membarrier(PRIVATE_EXPEDITED) is there", false, barrier},
	{0},
};
