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
#include <sys/mman.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/probe.h"

#define CAP_DISABLE_QUIRKS2 213
#define CAP_DIRTY_LOG_RING_WITH_BITMAP 225
#define CAP_USER_MEMORY2 231
#define CAP_GUEST_MEMFD 234
#define MEM_GUEST_MEMFD (1u << 2)
#define QUIRK_SLOT_ZAP_ALL (1u << 7)
#define RESET_DIRTY_RINGS _IO(KVMIO, 0xc7)
#define NO_SLOT 0xffffu /* an id that is none */

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
	bool ring_with_bitmap; /* KVM has it; whether the VM does is not told */
	void *page; /* whose address tells the probe's slots from all others; never touched */
	struct gm_probe probe;
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

static int kvm_ids_free(struct gm_backend *b, unsigned space, const uint32_t *ids, size_t n,
			const struct gm_slot *ours, uint32_t *taken)
{
	return gm_probe_ids(&kvm_of(b)->probe, space, ids, n, ours, taken);
}

/*
 * With a dirty ring what vCPUs write goes there, and not into the logs. Whether a VM has one can't be asked either.
 * KVM_GET_DIRTY_LOG looks for a ring without bitmaps before it looks at the slot, and one that is none has no bits
 * that would be lost. Bitmaps beside a ring, which only arm64 has, hold what is written for no vCPU; and there
 * resetting the rings is EINVAL if there are none. If there are it does what their user is about to do.
 */
static bool kvm_has_log(struct gm_backend *b)
{
	struct kvm_dirty_log log = {.slot = NO_SLOT};

	if (vm_ioctl(kvm_of(b), KVM_GET_DIRTY_LOG, &log) == -ENXIO)
		return false;
	return !kvm_of(b)->ring_with_bitmap || vm_ioctl(kvm_of(b), RESET_DIRTY_RINGS, NULL);
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

/* A page that a slot shows must not become something else, which the guest could read then. */
static void kvm_destroy(struct gm_backend *b)
{
	struct kvm_backend *k = kvm_of(b);

	if (!gm_probe_end(&k->probe))
		munmap(k->page, b->caps.limits.page_size);
	gm_free(b->alloc, b);
}

static const struct gm_backend_ops kvm_ops = {
	.slot = kvm_slot,
	.ids_free = kvm_ids_free,
	.has_log = kvm_has_log,
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

static struct gm_caps find_caps(int vm_fd)
{
	uint32_t spaces = capability(vm_fd, KVM_CAP_MULTI_ADDRESS_SPACE);
	bool region2 = capability(vm_fd, CAP_USER_MEMORY2);

	return (struct gm_caps){
		.limits =
			{
				.page_size = (uint64_t)sysconf(_SC_PAGESIZE),
				.last_gpa = GM_NO_LIMIT,
				.last_hva = GM_NO_LIMIT,
				.max_slot_pages = GM_KVM_MAX_SLOT_PAGES,
				.nr_slots = capability(vm_fd, KVM_CAP_NR_MEMSLOTS),
				.nr_spaces = spaces ? spaces : 1,
				.readonly_mem = capability(vm_fd, KVM_CAP_READONLY_MEM),
				/* A guest_memfd can't be given to the older ioctl. */
				.guest_memfd = region2 && capability(vm_fd, CAP_GUEST_MEMFD),
				.log = true,
			},
		.region2 = region2,
		.zap_slot_only = can_zap_slot_only(capability(vm_fd, CAP_DISABLE_QUIRKS2)),
	};
}

/* On failure @k is gone. */
static int learn_limits(struct kvm_backend *k, struct gm_msg *msg)
{
	int err;

	k->page = mmap(NULL, k->base.caps.limits.page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	if (k->page == MAP_FAILED) {
		gm_free(k->base.alloc, k);
		return gm_fail(msg, -ENOMEM, "no memory for a page to ask KVM with");
	}
	k->probe = (struct gm_probe){.b = &k->base, .hva = (uintptr_t)k->page};
	err = gm_probe_limits(&k->probe);
	if (!err)
		return 0;
	kvm_destroy(&k->base);
	return gm_fail(msg, err,
		       "a slot that was made to learn the VM's limits can't be deleted: %s",
		       strerror(-err));
}

int gm_kvm_new(int vm_fd, const struct gm_alloc *alloc, struct gm_msg *msg, struct gm_backend **ret)
{
	struct kvm_backend *k;
	int err = check_fd(vm_fd, msg);

	if (err)
		return err;
	k = gm_calloc(alloc, 1, sizeof(*k));
	if (!k)
		return gm_fail(msg, -ENOMEM, "no memory for the KVM backend");
	k->base = (struct gm_backend){.ops = &kvm_ops, .alloc = alloc, .caps = find_caps(vm_fd)};
	k->vm_fd = vm_fd;
	k->ring_with_bitmap = capability(vm_fd, CAP_DIRTY_LOG_RING_WITH_BITMAP);
	err = learn_limits(k, msg);
	if (err)
		return err;
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
