/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gpamap.h - a VM's guest-physical memory map, changed while its vCPUs run.
 *
 * The way of a change:
 *
 *     gpamap_begin()  ->  edits  ->  [gpamap_preview()]  ->  gpamap_commit() or gpamap_abort()
 *
 * Conventions, true of every function unless its comment says otherwise:
 *  - 0 or a negative errno; a result goes through the last argument, untouched on failure.
 *  - The library never prints, exits or aborts, has no threads of its own and installs no signal
 *    handler unless gpamap_kick_install() is called.
 *  - Any thread may call it, but not from a signal handler, nor from a read-side critical section of
 *    liburcu-bp, whose grace periods commits wait for. A thread must not be ended, by pthread_cancel() either,
 *    while it has a transaction open, is inside the gate, or is in a callback of the library's. Asynchronous
 *    cancellation is not allowed in any function of the library.
 *  - Destructors (put, detach, free, abort) accept NULL and can't fail.
 *  - After a fork() the child must not use a map of its parent's: KVM refuses another process's ioctls, and
 *    gpamap_begin() gives -EPERM. It may make its own if no thread was in a function of the library when it was
 *    forked, other than gpamap_vcpu_run(). The parent's guests and commits go on. The child must have been made by
 *    fork(): what is made by vfork(), _Fork() or clone(2) itself must not call the library.
 *  - Addresses, offsets and sizes are in bytes. A size of GPAMAP_SIZE_MAX stands for 2^64.
 *  - Memory, its address and its place must be multiples of the host's page size. Only MMIO regions
 *    may have any size and stand at any offset.
 */
#ifndef GPAMAP_H
#define GPAMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpamap-vcpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The memory map of one VM. */
struct gpamap;
/* A memory region: reference counted; belongs to the map it was made for. */
struct gpamap_region;
/* A set of edits on its way; a map has at most one at a time. The pointer is a number, not an address: see gpamap_begin(). */
struct gpamap_txn;
/* What the gate knows of one vCPU. */
struct gpamap_vcpu;
/* The slot operations that a commit would do, as data. */
struct gpamap_plan;

/* As a size: 2^64, the whole address space. (2^64 - 1 is never a legal size of memory.) */
#define GPAMAP_SIZE_MAX UINT64_MAX

/* ------------------------------------------------------------------------------- the map --- */

enum {
	/* Use full fences in the gate even where membarrier(2) works. For tests and comparisons. */
	GPAMAP_NO_MEMBARRIER = 1u << 0,
	/* Guest memory may block whoever touches it until this process does something about it (userfaultfd,
	 * FUSE): every slot operation of every commit is then done behind the shut gate, as with
	 * GPAMAP_COMMIT_ONE_INSTANT. Without it, a slot operation that needs no gate waits in the kernel
	 * for a vCPU that is stuck in such a fault, and no deadline can end that (P6). */
	GPAMAP_FAULTS_MAY_BLOCK = 1u << 1,
	/* A slot that goes takes along what vCPUs have mapped of its own pages, and nothing else. Without this
	 * flag KVM on x86 drops all that it has mapped of the guest with each slot that is deleted or moved, and
	 * the vCPUs fault it in again after the commit: slow, not wrong. Linux 6.12 and later can be told not to,
	 * by disabling KVM_X86_QUIRK_SLOT_ZAP_ALL; gpamap_new_kvm() does that with KVM_CAP_DISABLE_QUIRKS2 as its
	 * last step, and it stays so as long as the VM lives. It is not the default since it is not KVM's: when
	 * Linux tried it for all VMs in 2019, some with an assigned GPU broke, and the reason was never found.
	 *
	 * Who disables other quirks, too, does so after gpamap_new_kvm() and names this one again: before Linux
	 * 6.15, and stable kernels that have its change, a call enables what it doesn't name. The flag changes
	 * nothing where KVM never had the quirk: on other processors, and from 6.12 on in VMs of any type but
	 * KVM_X86_DEFAULT_VM, so in all that have private memory. */
	GPAMAP_ZAP_SLOT_ONLY = 1u << 2,
};

/* How a map is made. All zero is good, but for kick_signal where vCPUs are to be attached. */
struct gpamap_options {
	/* Address spaces, 1 or more; 0 means 1. x86 with SMM has 2. */
	unsigned spaces;
	/* GPAMAP_NO_MEMBARRIER, GPAMAP_FAULTS_MAY_BLOCK, GPAMAP_ZAP_SLOT_ONLY, or 0. */
	unsigned flags;
	/* The signal that brings a vCPU thread out of KVM_RUN. It needs a handler (any; see
	 * gpamap_kick_install()), and must not be blocked in a thread that runs a vCPU. */
	int kick_signal;
	/* How long a commit may wait, in ms, where it does not say itself. 0: 5000. */
	unsigned timeout_ms;
	/* Slots are cut at multiples of it, so that none is larger; a power of two of at least a page.
	 * Bounds what a change has to delete and re-create. 0: 1 GiB, which keeps huge pages whole. More than 2^30
	 * pages count as 2^30: KVM has no slot of 2^31. Where slots run short it gives way: slots may then be 2, 4, 8 ...
	 * times as large, up to 2^30 pages, before a commit is refused for want of slots. */
	uint64_t max_slot_size;
	/* Use no more slots per address space than this. 0: as many as KVM has. */
	uint32_t max_slots;
	/* Where memory for the library's own data comes from; both NULL: malloc() and free(). One without the
	 * other is -EINVAL. Must be callable from any thread. */
	void *(*alloc)(void *opaque, size_t size);
	void (*free)(void *opaque, void *ptr);
	void *alloc_opaque;
	/* Where a gpamap_new_*() that fails writes why; may be NULL. */
	char *message;
	size_t message_size;
};

/*
 * Make a map for the VM behind @vm_fd (from KVM_CREATE_VM). The caller keeps the fd and must keep it open
 * until gpamap_free(). Capabilities are asked for on this fd, once. @opt may be NULL.
 *
 * Slots that others make, before or after, another map on the same VM among them, need ids that are reserved by
 * gpamap_reserve_slots(). A commit never touches a slot that was there before its id was first used here: it fails
 * with -EBUSY. Of one that is made later the library knows nothing, so from here on the caller must not use
 * KVM_SET_USER_MEMORY_REGION with an id that isn't reserved.
 *
 * How far the VM's addresses go KVM does not tell. So a slot of one page is made in their upper half, read-only and of
 * zeros where KVM has that, and deleted at once; and likewise in the commits that fill an empty address space, to see
 * whose the ids are: before the gate, or behind it if the new slots are made there. As with every slot operation, KVM waits for vCPUs that are inside of it, and no deadline ends that: a
 * map is best made, and filled for the first time, before vCPUs run. Nobody else may change slots meanwhile.
 *
 * -EINVAL: an option is out of range, or @vm_fd is no KVM VM. -ENOTSUP: more address spaces than KVM has,
 * GPAMAP_ZAP_SLOT_ONLY where KVM can't do that, or a KVM without KVM_CAP_IMMEDIATE_EXIT. -ENOMEM. With
 * GPAMAP_ZAP_SLOT_ONLY also KVM_ENABLE_CAP's. What KVM gave for the slot that asks.
 */
int gpamap_new_kvm(int vm_fd, const struct gpamap_options *opt, struct gpamap **ret);

/*
 * End a map. Every slot that it made is deleted. No transaction may be open, no vCPU attached and no thread
 * inside any of its functions. Regions that the caller still holds live on, and may only be put.
 */
void gpamap_free(struct gpamap *map);

/*
 * Keep @count slot ids from @first on in address space @space for the caller's own use. The library will
 * not use them, and the caller must keep his slots off the memory of the map. KVM has slots of its own, too, where
 * KVM_SET_TSS_ADDR and KVM_SET_IDENTITY_MAP_ADDR put them and, with a local APIC, often at 0xfee00000: memory over
 * them is refused by KVM in the middle of a commit, which is then undone. Waits for a commit on its way.
 * -EBUSY: one of them is in use by the library. -ERANGE: beyond what KVM has, or no such space. -EDEADLK: this
 * thread is inside the gate, or in a listener's callback.
 */
int gpamap_reserve_slots(struct gpamap *map, unsigned space, uint32_t first, uint32_t count);

/*
 * Why a call failed, in words: the last one of the calling thread that did, if it was one on this map, its regions or its
 * vCPUs; else "". Written to @buf, always terminated. A call that succeeds leaves it as it is, so ask after a failure. Not
 * counted are calls on a transaction, which has a message of its own, nor gpamap_vcpu_run() and gpamap_vcpu_enter(), whose
 * errnos say all.
 */
void gpamap_last_message(struct gpamap *map, char *buf, size_t size);

/* Counters since the map was made. */
struct gpamap_stats {
	uint64_t commits;     /* that succeeded */
	uint64_t failed;      /* commits that failed, with everything undone */
	uint64_t gate_shut;   /* commits for which the gate shut */
	uint64_t slot_ioctls; /* slot operations given to KVM, undo included */
	uint64_t kicks;	      /* signals sent to vCPU threads */
	uint64_t timeouts;    /* commits that ended with -ETIMEDOUT */
	uint64_t undone;      /* slot operations undone */
	uint64_t merges;      /* pieces merged again because slots ran short */
	uint32_t slots;	      /* in use now, over all address spaces */
	uint32_t pending; /* slot operations that KVM has refused and that are still to be done, see
				 gpamap_clear_pending() */
	bool membarrier;  /* the gate uses membarrier(2), not full fences */
	bool broken;	  /* an undo failed: the gate stays shut until a commit repairs it */
};
void gpamap_get_stats(struct gpamap *map, struct gpamap_stats *ret);

/* --------------------------------------------------------------------------------- regions --- */

enum gpamap_kind {
	/* Room for children at offsets; transparent where there are none. */
	GPAMAP_CONTAINER = 1,
	/* A window onto another region. */
	GPAMAP_ALIAS,
	/* The caller's memory, a KVM slot. With GPAMAP_READONLY the guest's writes trap. */
	GPAMAP_RAM,
	/* Memory that the guest reads; its writes go to ops. May be switched to trap reads, too. */
	GPAMAP_ROM_DEVICE,
	/* No memory: every access goes to ops. */
	GPAMAP_MMIO,
};

enum {
	/* Writes trap. On a container or an alias it holds for all below. What traps goes to a device's callbacks if
	 * there are any: those of a ROM device get the writes below something read-only as well, as they get all
	 * writes to it. An MMIO region is not concerned. */
	GPAMAP_READONLY = 1u << 0,
	/* Never share a slot with what stands beside it, even where both could be one. */
	GPAMAP_UNMERGEABLE = 1u << 1,
	/* guest_memfd and guest_memfd_offset are valid. GPAMAP_RAM only. */
	GPAMAP_GUEST_MEMFD = 1u << 2,
	/* Kinds with ops only: a callback of the region may access the map where the region itself stands, and is called
	 * again then. For a device that is written with that in mind, such as a DMA engine that may be told to
	 * program itself. Without the flag such an access fails with -ELOOP: the guest chooses the address, and few
	 * devices survive being changed in the middle of a callback. */
	GPAMAP_REENTRANT = 1u << 3,
};

/*
 * Device callbacks. @offset is within the region, @len 1 to 8. They run on the thread that accesses the
 * map, outside the gate and with no lock held, so they may begin and commit a transaction (but not if it is
 * a listener's callback that accesses the map). 0 or a negative errno, which the access then returns. A NULL
 * callback makes the access fail with -ENXIO.
 *
 * Several threads may be in a callback of one region at a time. One thread is in it once, and in 16 callbacks of all
 * regions at most: an access from a callback that would call more fails with -ELOOP; see GPAMAP_REENTRANT.
 *
 * A commit does not wait for a callback: one that is under way when the commit returns goes on, and its region lives
 * until it has returned. What the access has still to do after it goes by the new map.
 */
struct gpamap_mmio_ops {
	int (*read)(void *opaque, uint64_t offset, void *data, unsigned len);
	int (*write)(void *opaque, uint64_t offset, const void *data, unsigned len);
};

/* What a region is. Name the fields you need; the others are zero. */
struct gpamap_region_desc {
	enum gpamap_kind kind;
	unsigned flags;
	/* For messages; copied. NULL: "". */
	const char *name;
	/* Size, not 0. GPAMAP_SIZE_MAX stands for 2^64. */
	uint64_t size;
	/* Greatest size for gpamap_resize(); 0: not resizable. The memory must be this large. */
	uint64_t max_size;
	/* RAM, ROM device: where the memory is in this process. */
	void *hva;
	/* Alias: what it shows, from which offset. It holds a reference. */
	struct gpamap_region *target;
	uint64_t target_offset;
	/* MMIO, ROM device. Must outlive the region. */
	const struct gpamap_mmio_ops *ops;
	/* Given to ops and to release. */
	void *opaque;
	/* Called once when nothing can reach the region any more: no vCPU, no reader, no slot, no
	 * handle. Runs on the thread that ended the last use (a commit, an accessor, a put), with no lock
	 * held. The memory may be unmapped in it. (P5)
	 * With a release callback the memory may stay in KVM for a while after the commit that removes it, if KVM
	 * refuses to let it go; without one such a commit fails. To be sure of that, more than one slot without it
	 * that goes in one commit shuts the gate. */
	void (*release)(void *opaque);
	/* With GPAMAP_GUEST_MEMFD; the fd is the caller's and must stay open until release. */
	int guest_memfd;
	uint64_t guest_memfd_offset;
};

/*
 * Make a region, attached nowhere, with one reference for the caller.
 *
 * -EINVAL: kind, flags or a field that the kind does not have; size 0; misaligned memory, size or window.
 * -EOVERFLOW: a range wraps. -ERANGE: max_size below size. -EXDEV: target belongs to another map. -ENOMEM.
 * gpamap_last_message() says which.
 */
int gpamap_region_new(struct gpamap *map, const struct gpamap_region_desc *desc,
		      struct gpamap_region **ret);

/* One reference more. Never fails. */
struct gpamap_region *gpamap_region_get(struct gpamap_region *region);

/* One reference less. A region in the map lives on until it is removed and out of reach. May run its
 * release callback. */
void gpamap_region_put(struct gpamap_region *region);

/* The root of an address space: a container of 2^64 bytes that lives as long as the map, and needs no
 * put. NULL if there's no such space. */
struct gpamap_region *gpamap_root(struct gpamap *map, unsigned space);

/* ---------------------------------------------------------------------------- transactions --- */

/*
 * Begin to edit. Waits while another thread has a transaction open on this map, without a deadline: it
 * depends on that thread alone. Waiters are served first come, first served. A transaction may be used by one
 * thread at a time, and ended by another than the one that began it.
 *
 * It ends with a commit that succeeds, or with gpamap_abort(). Its handle holds nothing and needs not be freed. What is
 * called with it after that, by any thread and whatever else is open, does nothing and gives -EINVAL, or the message "this
 * transaction has ended"; gpamap_abort() does nothing. So a way out may abort what it has committed. The same holds for
 * NULL. A handle is used again after 65,535 transactions of the map, and ends with the map: after gpamap_free() it must not
 * be used.
 *
 * -EDEADLK: this thread has one open already, is inside the gate, or in a listener's callback. -EPERM: the map
 * was made by a process of which this one is a fork.
 */
int gpamap_begin(struct gpamap *map, struct gpamap_txn **ret);

/*
 * Edits. Each takes effect in the transaction only, and either succeeds or changes nothing; the message of
 * a refusal is gpamap_message(). All may return -ENOMEM, -EXDEV for a region of another map, -EINVAL if the transaction
 * has ended, and, with no message, -EDEADLK in a listener's callback and -EBUSY while another thread commits it.
 *
 * Cost. An edit of a region finds out where it shows. With n regions that it lies in or that show it, directly or by
 * others, the aliases of all these included, it passes each once: O(n), times the logarithm of what a container holds,
 * and as much memory until it returns; besides O(1) for each of the region's plain mappings. Where it shows in more than
 * 4096 + 64 n places, some of them are no longer kept apart, and what lies between is worked out again, too. What edits
 * are remembered by until the transaction ends grows with the number of edits, by O(log n) each.
 *
 * A commit or preview works out the map where it may differ. A region that shows in several places is looked at for
 * each. With n regions there, 131072 + 64 n looks are allowed, and 64 regions from the root down: else -E2BIG, in words.
 * That is only met by aliases of what has aliases in it, and so on for many levels. What is hidden, and aliases that
 * find nothing, don't count again.
 */

/* Put @child at @offset in the container @parent. Where children overlap, the higher @priority is
 * seen, and among equals the one added last.
 * -ENOTDIR: @parent is no container. -EBUSY: @child has a place already, or is a root. -ELOOP: @parent
 * would lie within @child. -EOVERFLOW: it would reach beyond 2^64. -EINVAL: misaligned. */
int gpamap_add(struct gpamap_txn *txn, struct gpamap_region *parent, uint64_t offset,
	       struct gpamap_region *child, int priority);
/* Take @child out of its container. -ENOENT: it is in none. */
int gpamap_remove(struct gpamap_txn *txn, struct gpamap_region *child);
/* Give @child another offset in its container, with the priority it has; among equals it becomes the newest. The
 * offset that it has already changes nothing. -ENOENT: it is in none. -EOVERFLOW, -EINVAL: as in gpamap_add(). */
int gpamap_move(struct gpamap_txn *txn, struct gpamap_region *child, uint64_t offset);
/* Another priority, or the same; among equals it becomes the newest. -ENOENT: it is in no container. */
int gpamap_set_priority(struct gpamap_txn *txn, struct gpamap_region *child, int priority);
/* A disabled region, and all below it, is not there. Regions are enabled when made. It is about the tree: windows of
 * the region that gpamap_map_region() has made stay. */
int gpamap_set_enabled(struct gpamap_txn *txn, struct gpamap_region *region, bool enabled);
/* GPAMAP_READONLY on or off; also for windows that gpamap_map_region() has made. With nested paging on x86 no page tables of the guest may be in it: doc/kernels.md, K45.
 * -EPERM: a guest_memfd region. */
int gpamap_set_readonly(struct gpamap_txn *txn, struct gpamap_region *region, bool readonly);
/* Another size. -EPERM: not resizable. -ERANGE: 0 or beyond max_size. -EOVERFLOW, -EINVAL. */
int gpamap_resize(struct gpamap_txn *txn, struct gpamap_region *region, uint64_t size);
/* Other memory behind a RAM or ROM device region, and so behind all windows that gpamap_map_region() has made of it.
 * Copying the content is the caller's job, and so is keeping the old memory until the commit has returned; it may be
 * freed then. -ENOTSUP: other kinds, and
 * guest_memfd. -EINVAL: NULL, or misaligned. -EOVERFLOW: it would reach beyond 2^64. */
int gpamap_reback(struct gpamap_txn *txn, struct gpamap_region *region, void *hva);
/* Show another part of the target. -ENOTSUP: no alias. -EINVAL, -EOVERFLOW. */
int gpamap_set_target_offset(struct gpamap_txn *txn, struct gpamap_region *alias, uint64_t offset);
/* A ROM device: true, as it is made, reads come from memory; false, they trap, too. -ENOTSUP: other kinds. */
int gpamap_set_rom_mode(struct gpamap_txn *txn, struct gpamap_region *region, bool rom);
/* Log the pages that are written, for gpamap_dirty_fetch(). RAM without guest_memfd only: -ENOTSUP. In a VM with
 * KVM_CAP_DIRTY_LOG_RING enabled, with bitmaps or without, the commit gives that: its logs lack what vCPUs write.
 * Turning it off forgets what was not fetched. A transaction is one change: off and on again in one is none, and forgets
 * nothing. */
int gpamap_set_log(struct gpamap_txn *txn, struct gpamap_region *region, bool on);

/* How pages may be accessed by the guest. */
enum gpamap_prot {
	GPAMAP_RW = 1, /* loads, stores and fetches */
	GPAMAP_RO,     /* stores trap */
	GPAMAP_NONE,   /* all trap; the mapping is remembered for gpamap_protect_pages() */
};

/*
 * The plain way: map, unmap and protect by GPA, the newest wins. These mappings lie above the tree of the
 * address space; where there are none, the tree is seen. Cost: O(log mappings) time and memory for each mapping in the
 * range, and for the two beside it; the memory is held until the transaction ends.
 * @gpa, @size, @hva and @offset are multiples of the page size (-EINVAL), @size not 0, and nothing may wrap
 * (-EOVERFLOW). -EINVAL also: @hva is NULL, or there is no such @prot. -ENXIO: no such space. -EPERM: GPAMAP_RO on
 * guest_memfd.
 */

/* Map the caller's memory. It must stay until the commit of its unmap has returned, and may be freed then: no vCPU, ioctl
 * or accessor reaches it any more. gpamap_map_region() gives a release callback instead.
 * Mappings that go on from one to the next, in guest and host addresses, are one, whichever calls made them: what comes in one
 * commit becomes one slot, up to max_slot_size; what comes beside a slot that is there already becomes a slot of its own,
 * and the two become one when slots run short. */
int gpamap_map_pages(struct gpamap_txn *txn, unsigned space, uint64_t gpa, uint64_t size, void *hva,
		     enum gpamap_prot prot);
/* Map a window of a RAM region, which need not be in the tree. -ENOTSUP: another kind.
 * -ERANGE: not within it. Later edits of what the region is (its memory, read-only, log) reach the mapping; its size, its
 * place, and whether it is enabled don't. */
int gpamap_map_region(struct gpamap_txn *txn, unsigned space, uint64_t gpa, uint64_t size,
		      struct gpamap_region *ram, uint64_t offset, enum gpamap_prot prot);
/* Forget what is mapped in a range; nothing there is no error. */
int gpamap_unmap_pages(struct gpamap_txn *txn, unsigned space, uint64_t gpa, uint64_t size);
/* Change the protection of what is mapped in a range. -ENOENT, nothing changed: some of it isn't. */
int gpamap_protect_pages(struct gpamap_txn *txn, unsigned space, uint64_t gpa, uint64_t size,
			 enum gpamap_prot prot);

enum {
	/* All vCPUs go from old to new at one instant, in all address spaces, even where no deleted range
	 * overlaps an added one. Shuts the gate for every commit that has slot operations. (P2) */
	GPAMAP_COMMIT_ONE_INSTANT = 1u << 0,
};

struct gpamap_commit_options {
	unsigned flags;
	/* How long to wait in all, see gpamap_commit(), in ms. 0: that of the map. */
	unsigned timeout_ms;
};

/* What a commit did. */
struct gpamap_commit_report {
	uint32_t early;	   /* slot operations before the gate shut */
	uint32_t critical; /* while it was shut */
	uint32_t late;	   /* after it opened */
	uint32_t
		pending; /* of the late ones, those that KVM has refused: see gpamap_clear_pending() */
	uint32_t kicked;      /* vCPUs that had to be kicked out */
	bool gate_shut;	      /* same as critical != 0, but for repairs */
	uint64_t blackout_ns; /* from the first vCPU held until the gate opens; 0 if not shut */
};

/*
 * Bring the edits to KVM and make them the map. @opt and @ret may be NULL. When it has succeeded every vCPU
 * sees the new map, nobody acts by the old one any more, and the transaction is gone. When it fails nothing has
 * changed (P3), and the transaction is still open: commit it again or abort it.
 *
 * A commit has happened when its views are published. Until then all that is done can be taken back, and nobody
 * has noticed it; afterwards nothing can make it fail. What is only cleared away then (memory that goes where
 * nothing comes, logs that end) may be refused by KVM for want of memory, and is pending: see
 * gpamap_clear_pending(). At an address where the old map has nothing at all, memory of the new map may be there
 * before: a guest that looks for memory there may find some that a commit which fails takes away again. With
 * GPAMAP_COMMIT_ONE_INSTANT it can't. Nothing at all means no region: a device that the VMM knows by itself, without an
 * MMIO region in the map, is nothing to the library, and loses stores to such memory.
 *
 * Blocks on, until the deadline: whoever reads dirty bits, adds a listener or is in an ioctl that is
 * serialised with commits; if the old map has memory where the edits may show, gpamap_read() and gpamap_write() of
 * whatever address, each until it has copied 64 KiB at most; and, only if the gate must shut, vCPUs and ioctls inside it, and listeners that quiesce. Before it
 * shuts the gate it lets those in who still wait to be let in since the commit before, for 1 ms at most. Also blocks on
 * KVM's slot lock and its SRCU, and on a short RCU grace period. A slot operation outside the gate waits in KVM, without
 * a deadline, for a vCPU that is stuck in a fault: see GPAMAP_FAULTS_MAY_BLOCK. May be called from a vCPU's exit handler.
 * Runs callbacks of listeners, and release callbacks, before it returns.
 *
 * The thread can't be cancelled while it is in here: pthread_cancel() takes effect afterwards.
 *
 * -ETIMEDOUT: a vCPU, an ioctl or an access did not come out, or a listener did not quiesce; gpamap_stuck() says
 * which. Or working out the map took too long. -EDEADLK: this thread is inside the gate, or in a listener's callback. What a listener's prepare or quiesce
 * gave. -EINVAL: unknown flags, or the transaction has ended. -ENOSPC: too few slots. -E2BIG: regions nested deeper than
 * 64, or more to be shown than can be. -EPERM: guest_memfd below something read-only. -ENOTSUP: this VM has no read-only
 * memory, no guest_memfd or, since it has dirty rings, no dirty log. -ERANGE: memory beyond the VM's greatest address, in
 * the last page below 2^64, or beyond the host's user space. -EBUSY: the id of a new slot is in use by others, see
 * gpamap_new_kvm(); or a page of a guest_memfd would show at two addresses; or another thread commits the transaction. -ENOMEM. Any errno of KVM's slot ioctl or
 * of KVM_GET_DIRTY_LOG: that step failed, all is undone.
 * -ENOTRECOVERABLE: a step failed, and undoing it failed, too. The gate stays shut, and runs answer the same,
 * until a commit succeeds; until then keep both the old and the new memory.
 */
int gpamap_commit(struct gpamap_txn *txn, const struct gpamap_commit_options *opt,
		  struct gpamap_commit_report *ret);

/*
 * Try again what is pending: slots that KVM has refused to delete after a commit had happened, or after one had failed that
 * had made them early; and slots whose log it has refused to turn off. Every commit tries them again, too, so this is for
 * a map that has no other changes; one with GPAMAP_COMMIT_ONE_INSTANT fails if KVM still refuses. Until it has
 * succeeded guests find memory at addresses where the map has nothing; the region that it belongs to is not released
 * (P5). No slot of memory without a release callback is ever left like that, but in a broken map.
 *
 * Begins a transaction and commits it, with the deadline of the map: blocks as these do, and has their errors.
 * -EAGAIN: KVM has refused something again. 0: nothing is pending.
 */
int gpamap_clear_pending(struct gpamap *map);

/* Take back every edit, and end the transaction. Does nothing if that has ended, in a listener's callback, and while another
 * thread commits it. */
void gpamap_abort(struct gpamap_txn *txn);

/* Why the last call on this transaction failed, in words; valid until the next one on it. Of one that has ended: that. */
const char *gpamap_message(const struct gpamap_txn *txn);

/* Whom a commit has waited for in vain: a vCPU, else a listener, else a thread between gpamap_enter() and
 * gpamap_leave(), or in gpamap_read() or gpamap_write(), an ioctl that is serialised with commits,
 * gpamap_dirty_fetch() or gpamap_listener_add(). */
struct gpamap_stuck_info {
	bool is_vcpu;
	unsigned vcpu_id;  /* as given at attach */
	int32_t tid;	   /* the kernel's id of the thread; 0 for a listener */
	char listener[64]; /* its name, cut if need be; "" if it is none */
};
/* The first one found; -ENOENT unless the last commit of @txn ended with -ETIMEDOUT. -EINVAL, -EBUSY: as gpamap_commit(). */
int gpamap_stuck(const struct gpamap_txn *txn, struct gpamap_stuck_info *ret);

/* ----------------------------------------------------------------------------- plans as data --- */

enum gpamap_op_kind { GPAMAP_OP_CREATE = 1, GPAMAP_OP_DELETE, GPAMAP_OP_MOVE, GPAMAP_OP_FLAGS };
enum gpamap_phase { GPAMAP_EARLY = 1, GPAMAP_CRITICAL, GPAMAP_LATE };

struct gpamap_op {
	enum gpamap_phase phase;
	enum gpamap_op_kind kind;
	unsigned space;
	uint32_t slot; /* id within the address space */
	uint64_t gpa;  /* after the operation; for a delete, before it */
	uint64_t size;
	uint64_t old_gpa; /* of a move; else as gpa */
	void *hva;
	bool readonly;
	bool log;
};

/* What a commit would do now, with these commit flags. Same errors as commit before its first ioctl; but it waits
 * without a deadline for whoever reads dirty bits, adds a listener or is in an ioctl that is serialised with commits,
 * and asks no listener. Free it with gpamap_plan_free(). */
int gpamap_preview(struct gpamap_txn *txn, unsigned commit_flags, struct gpamap_plan **ret);
/* How many operations, in the order in which they would be done. */
size_t gpamap_plan_count(const struct gpamap_plan *plan);
/* Operation @i, valid as long as the plan; NULL past the end. */
const struct gpamap_op *gpamap_plan_op(const struct gpamap_plan *plan, size_t i);
void gpamap_plan_free(struct gpamap_plan *plan);

/* ---------------------------------------------------------------------------------- access --- */

/*
 * Read and write guest-physical memory as the map has it now: memory is copied, devices are called (in
 * naturally aligned pieces of up to 8 bytes). Writes mark logged pages dirty (P4).
 *
 * The map is looked up anew for each call of a device and for each 64 KiB of memory, at multiples of that. So an access
 * that meets a commit goes by the old map up to some piece and by the new one from there on, and when the commit has
 * returned, by the new one alone.
 *
 * They wait for a commit that is about to publish a map in which memory is gone or is another, and that waits for nothing
 * but other accessors. Such a commit waits for the piece of each accessor that is under way. So memory that blocks
 * (userfaultfd) blocks, beside those who access it, commits of this sort until their deadline; with 64 threads blocked in
 * it, all accessors of the map. Memory that has vanished, as pages beyond the end of a file that was cut, gives SIGBUS, as
 * it does wherever it is touched: that ends the process unless the application handles it.
 *
 * -ENXIO: nothing there, or no such space. -EROFS: a write to read-only memory. -EACCES: GPAMAP_NONE.
 * -EOVERFLOW: wraps. -ELOOP: from a device's callback, to a device that would be entered again or too deep. What a device's
 * callback returned. Bytes before the failing one have been accessed.
 */
int gpamap_read(struct gpamap *map, unsigned space, uint64_t gpa, void *buf, size_t len);
int gpamap_write(struct gpamap *map, unsigned space, uint64_t gpa, const void *buf, size_t len);

/* Answer the KVM_EXIT_MMIO in @vcpu's kvm_run from the map, by gpamap_read() or gpamap_write() in
 * @space. Also right if the page has become memory since the exit. -EINVAL: another exit. Else theirs. */
int gpamap_vcpu_mmio(struct gpamap_vcpu *vcpu, unsigned space);

/* One piece of the flat view. */
struct gpamap_segment {
	uint64_t gpa;
	uint64_t size; /* GPAMAP_SIZE_MAX: all */
	enum gpamap_kind kind;
	enum gpamap_prot prot; /* as the guest finds it without an exit */
	bool log;
	void *hva; /* of gpa; NULL for MMIO */
	/* Of gpa, in its region; the same as hva where gpamap_map_pages() has mapped it. */
	uint64_t offset;
};

/* The piece that holds @gpa, or else the first one above it, in the map as it is now. It holds no reference:
 * hva is good until the region or mapping is removed; whoever needs to know of that is a listener.
 * -ENOENT: there is none. -ENXIO: no such space. */
int gpamap_lookup(struct gpamap *map, unsigned space, uint64_t gpa, struct gpamap_segment *ret);

/*
 * Fetch and clear the dirty bits of a logged RAM region: bit i of @bitmap is page i from @offset, wherever
 * the region is mapped, and whatever splits, moves and deletes came between (P4). @bitmap has room for size
 * / page size bits, rounded up to 64. The range may reach up to the region's max_size: what was written before it shrank
 * is still to be had. Waits for a commit on its way.
 *
 * Costs one KVM_GET_DIRTY_LOG for each slot that shows a part of the range, so fetch what a slot shows in one go: the kernel
 * gives and clears the bits of a whole slot (32 KiB of them for 1 GiB), and those beyond the range are kept for the next
 * fetch. After a commit that has changed slots the first fetch looks at all slots of the map once. In a VM with
 * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 enabled, KVM itself clears nothing: pages are then reported again.
 * -EDEADLK: this thread is inside the gate, or in a listener's callback. -EXDEV: a region of another map.
 * -EINVAL: misaligned. -ERANGE: beyond the region's greatest size, or no size. -ENODATA: not logged. -ENOMEM. Else
 * KVM_GET_DIRTY_LOG's; what was read until then is kept for the next fetch.
 */
int gpamap_dirty_fetch(struct gpamap *map, struct gpamap_region *region, uint64_t offset,
		       uint64_t size, uint64_t *bitmap);

/* Other users of guest memory, which don't go through the gate (vhost, VFIO): gpamap-listener.h. */

#ifdef __cplusplus
}
#endif

#endif /* GPAMAP_H */
