/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * KVM as a backend. All ioctls of the library are here.
 *
 * KVM_SET_USER_MEMORY_REGION2 came with Linux 6.8, headers may be older. So its number and struct, and what
 * else is newer than the headers of Linux 6.1, are written down here from the ABI, under names of our own.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend/backend.h"

#define CAP_DISABLE_QUIRKS2 213
#define CAP_USER_MEMORY2 231
#define CAP_GUEST_MEMFD 234
#define MEM_GUEST_MEMFD (1u << 2)
#define QUIRK_SLOT_ZAP_ALL (1u << 7)

struct region2 {
	uint32_t slot;
	uint32_t flags;
	uint64_t gpa;
	uint64_t size;
	uint64_t hva;
	uint64_t guest_memfd_offset;
	uint32_t guest_memfd;
	uint32_t zero1;
	uint64_t zero2[14];
};
_Static_assert(sizeof(struct region2) == 160, "the ABI's size is part of the ioctl's number");
#define SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct region2)

struct kvm_backend {
	struct gm_backend base;
	int vm_fd;
};

static struct kvm_backend *kvm_of(struct gm_backend *b)
{
	return (struct kvm_backend *)b;
}

/*
 * KVM takes its slot lock and waits for its readers uninterruptibly, so neither slot nor dirty-log ioctls
 * end with EINTR. Were an architecture's preparation of a slot to do so, nothing would have been changed yet,
 * and trying again is right. EAGAIN promises nothing of that sort, and is passed on.
 */
static int vm_ioctl(struct kvm_backend *k, unsigned long request, void *arg)
{
	int ret;

	do {
		ret = ioctl(k->vm_fd, request, arg);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

static uint32_t full_id(const struct gm_slot *slot)
{
	return slot->space << 16 | slot->id;
}

static uint32_t kvm_flags(const struct gm_slot *slot)
{
	return (slot->flags & GM_SLOT_LOG ? KVM_MEM_LOG_DIRTY_PAGES : 0) |
	       (slot->flags & GM_SLOT_READONLY ? KVM_MEM_READONLY : 0) |
	       (slot->flags & GM_SLOT_GUEST_MEMFD ? MEM_GUEST_MEMFD : 0);
}

/* A delete is all zeros but for the id: KVM checks address and flags even of a slot that goes. */
static struct region2 region_of(const struct gm_op *op)
{
	const struct gm_slot *s = &op->to;

	if (op->kind == GM_OP_DELETE)
		return (struct region2){.slot = full_id(&op->from)};
	return (struct region2){
		.slot = full_id(s),
		.flags = kvm_flags(s),
		.gpa = s->gpa.first,
		.size = gm_range_size(s->gpa),
		.hva = s->hva,
		.guest_memfd = s->flags & GM_SLOT_GUEST_MEMFD ? (uint32_t)s->gmem_fd : 0,
		.guest_memfd_offset = s->flags & GM_SLOT_GUEST_MEMFD ? s->gmem_offset : 0,
	};
}

static int kvm_slot(struct gm_backend *b, const struct gm_op *op)
{
	struct region2 new = region_of(op);
	struct kvm_userspace_memory_region old = {
		.slot = new.slot,
		.flags = new.flags,
		.guest_phys_addr = new.gpa,
		.memory_size = new.size,
		.userspace_addr = new.hva,
	};

	/* Without REGION2, KVM refuses the flag of a guest_memfd by itself. */
	if (b->caps.region2)
		return vm_ioctl(kvm_of(b), SET_USER_MEMORY_REGION2, &new);
	return vm_ioctl(kvm_of(b), KVM_SET_USER_MEMORY_REGION, &old);
}

static int kvm_dirty(struct gm_backend *b, const struct gm_slot *slot, uint64_t *bitmap)
{
	struct kvm_dirty_log log = {.slot = full_id(slot), .dirty_bitmap = bitmap};

	return vm_ioctl(kvm_of(b), KVM_GET_DIRTY_LOG, &log);
}

/* What the caller asks for: nothing is tried again on his behalf. */
static int any_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

static int kvm_vm_ioctl(struct gm_backend *b, unsigned long request, void *arg)
{
	return any_ioctl(kvm_of(b)->vm_fd, request, arg);
}

/* The VM's own fd would be a way around what the library refuses. */
static int kvm_device_ioctl(struct gm_backend *b, int fd, unsigned long request, void *arg)
{
	return fd == kvm_of(b)->vm_fd ? -EINVAL : any_ioctl(fd, request, arg);
}

/*
 * The delete or move of a slot makes KVM's x86 code drop what it has mapped of all slots; since Linux 6.12 that is a
 * quirk that can be disabled. Elsewhere it drops what was mapped of that slot.
 */
#if defined(__x86_64__) || defined(__i386__)
static bool can_zap_slot_only(uint32_t quirks)
{
	return quirks & QUIRK_SLOT_ZAP_ALL;
}

static int kvm_zap_slot_only(struct gm_backend *b)
{
	struct kvm_enable_cap cap = {.cap = CAP_DISABLE_QUIRKS2, .args = {QUIRK_SLOT_ZAP_ALL}};

	return vm_ioctl(kvm_of(b), KVM_ENABLE_CAP, &cap);
}
#else
static bool can_zap_slot_only(uint32_t quirks)
{
	(void)quirks;
	return true;
}

static int kvm_zap_slot_only(struct gm_backend *b)
{
	(void)b;
	return 0;
}
#endif

static void kvm_destroy(struct gm_backend *b)
{
	gm_free(b->alloc, b);
}

static const struct gm_backend_ops kvm_ops = {
	.slot = kvm_slot,
	.dirty = kvm_dirty,
	.vm_ioctl = kvm_vm_ioctl,
	.device_ioctl = kvm_device_ioctl,
	.zap_slot_only = kvm_zap_slot_only,
	.destroy = kvm_destroy,
};

/* What KVM says of a capability; 0 if it doesn't know it. To be asked of the VM: the system's answer can
 * promise what this sort of VM doesn't have. */
static uint32_t capability(int vm_fd, unsigned long cap)
{
	int ret = ioctl(vm_fd, KVM_CHECK_EXTENSION, cap);

	return ret > 0 ? (uint32_t)ret : 0;
}

static int check_fd(int vm_fd, struct gm_msg *msg)
{
	/* Both /dev/kvm and a VM answer CHECK_EXTENSION, and only /dev/kvm this one. */
	if (ioctl(vm_fd, KVM_GET_API_VERSION, 0) >= 0)
		return gm_fail(msg, -EINVAL,
			       "fd %d is the KVM device, not a VM made by KVM_CREATE_VM", vm_fd);
	if (ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) <= 0)
		return gm_fail(msg, -EINVAL, "fd %d is no KVM VM", vm_fd);
	if (!capability(vm_fd, KVM_CAP_NR_MEMSLOTS))
		return gm_fail(msg, -EINVAL, "KVM doesn't say how many slots the VM of fd %d has",
			       vm_fd);
	/* Without it a kick that comes just before KVM_RUN is lost. */
	if (!capability(vm_fd, KVM_CAP_IMMEDIATE_EXIT))
		return gm_fail(msg, -ENOTSUP, "KVM has no immediate_exit");
	return 0;
}

int gm_kvm_new(int vm_fd, const struct gm_alloc *alloc, struct gm_msg *msg, struct gm_backend **ret)
{
	struct kvm_backend *k;
	uint32_t spaces;
	int err = check_fd(vm_fd, msg);

	if (err)
		return err;
	k = gm_calloc(alloc, 1, sizeof(*k));
	if (!k)
		return gm_fail(msg, -ENOMEM, "no memory for the KVM backend");
	spaces = capability(vm_fd, KVM_CAP_MULTI_ADDRESS_SPACE);
	k->vm_fd = vm_fd;
	k->base = (struct gm_backend){
		.ops = &kvm_ops,
		.alloc = alloc,
		.caps =
			{
				.page_size = (uint64_t)sysconf(_SC_PAGESIZE),
				.nr_slots = capability(vm_fd, KVM_CAP_NR_MEMSLOTS),
				.nr_spaces = spaces ? spaces : 1,
				.readonly_mem = capability(vm_fd, KVM_CAP_READONLY_MEM),
				.region2 = capability(vm_fd, CAP_USER_MEMORY2),
				.guest_memfd = capability(vm_fd, CAP_GUEST_MEMFD),
				.zap_slot_only =
					can_zap_slot_only(capability(vm_fd, CAP_DISABLE_QUIRKS2)),
			},
	};
	/* A guest_memfd can't be given to the older ioctl. */
	k->base.caps.guest_memfd &= k->base.caps.region2;
	*ret = &k->base;
	return 0;
}

static int kvm_run(struct gm_engine *e)
{
	return ioctl(e->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

static int kvm_vcpu_ioctl(struct gm_engine *e, unsigned long request, void *arg)
{
	return any_ioctl(e->fd, request, arg);
}

int gm_kvm_engine(struct gm_backend *b, int vcpu_fd, struct kvm_run *run, struct gm_engine *ret)
{
	if (b->ops != &kvm_ops)
		return -ENOTSUP;
	*ret = (struct gm_engine){
		.run = kvm_run,
		.vcpu_ioctl = kvm_vcpu_ioctl,
		.kvm_run = run,
		.fd = vcpu_fd,
	};
	return 0;
}
