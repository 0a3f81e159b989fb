/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gpamap-vcpu.h - the gate: vCPUs, and all other ioctls that may touch guest memory. A part of gpamap.h, which
 * includes it and has the conventions.
 */
#ifndef GPAMAP_VCPU_H
#define GPAMAP_VCPU_H

#ifdef __cplusplus
extern "C" {
#endif

struct kvm_run; /* <linux/kvm.h>; only pointers to it are passed */
struct gpamap;
struct gpamap_vcpu; /* what the gate knows of one vCPU */

/*
 * Every ioctl that may touch guest memory passes the gate: KVM_RUN by gpamap_vcpu_run(), or by enter and
 * leave in a loop of the caller's own; other ioctls by gpamap_vm_ioctl() and its like, or by enter and
 * leave. Passing it writes one cache line of the vCPU's own, with no locked instruction where membarrier(2)
 * works (P8).
 */

/*
 * What -EINTR means, here and in a loop of the caller's own: KVM_RUN has ended, and there may have been a signal. It
 * comes for each signal of the caller's that ends KVM_RUN, for immediate_exit, and for the library's kicks as well,
 * which can't be told from a signal whose handler only sets a flag. So a run loop looks at what its handlers say, and
 * if there's nothing to do it just runs again. A kick may also interrupt other system calls of a thread that has just
 * come out of the gate.
 */

/* Install an empty handler for @signo, without SA_RESTART. -EBUSY: it has a handler already, which
 * serves as well if it is installed by sigaction() without SA_RESTART (signal() sets that). -EINVAL: no
 * such signal. */
int gpamap_kick_install(int signo);

/*
 * Bring a vCPU under the gate. @vcpu_fd is from KVM_CREATE_VCPU and @run its mmap; both must stay until
 * gpamap_vcpu_detach(). @id is for reports. It may be run by any thread, by one at a time. While a commit
 * is on its way, the new vCPU waits at the gate like the others.
 * -EINVAL: the map has no kick signal; it has no handler, or one with SA_RESTART; or it is blocked in this
 * thread: then it most likely is in the vCPU's thread, too, and commits could not bring the vCPU out.
 * -ENOTSUP: the map is not for KVM. -ENOMEM.
 */
int gpamap_vcpu_attach(struct gpamap *map, int vcpu_fd, struct kvm_run *run, unsigned id,
		       struct gpamap_vcpu **ret);

/* Take it out again. It must be outside the gate. Waits for a kick on its way to it, not longer. */
void gpamap_vcpu_detach(struct gpamap_vcpu *vcpu);

/*
 * KVM_RUN, once. Waits while the gate is shut. 0: an exit, see its kvm_run. -EINTR: a signal, a kick of the
 * library's, or the caller set immediate_exit to 1 (and clears it himself; the library uses another value for its
 * own); run again. kvm_run says KVM_EXIT_INTR then, and never the exit before. A signal that comes while this
 * waits at the gate is told by -EINTR, too, when the gate opens: who had to wait gets -EINTR in any case. As with
 * KVM_RUN itself, a signal alone may come just before KVM_RUN begins and be missed: let its handler set immediate_exit.
 *
 * -EDEADLK: this thread has shut the gate, and is in a listener's callback; or it is inside the gate, by
 * gpamap_enter() or gpamap_vcpu_enter(), so that nothing that happens in here could let a commit go on. Leave first. (If
 * it is inside by gpamap_vcpu_enter() of another vCPU, it is told so only when a commit waits for it.)
 * -ENOTRECOVERABLE: the map is broken, see gpamap_commit(). -EINVAL: the kick signal is blocked in this thread.
 * Else KVM_RUN's. Where KVM_RUN was not called, kvm_run is as it was.
 */
int gpamap_vcpu_run(struct gpamap_vcpu *vcpu);

/*
 * For a run loop of the caller's own, and for vCPU ioctls on the vCPU's thread: pass in, ioctl, pass out.
 * gpamap_vcpu_ioctl() does it for one ioctl, if it need be. Holds nest. enter waits while the gate is shut, and
 * fails as gpamap_vcpu_run() does, but for holds of this thread's own.
 *
 * When KVM_RUN fails with EINTR, for a kick or whatever else: leave, look at what signals have brought, and enter
 * again; who clears immediate_exit does that after leaving. Don't look at exit_reason then, or set it to
 * KVM_EXIT_INTR: KVM may have left it as it was at the exit before. Where enter had to wait, the KVM_RUN that
 * follows fails so once, for signals that came meanwhile.
 */
int gpamap_vcpu_enter(struct gpamap_vcpu *vcpu);
void gpamap_vcpu_leave(struct gpamap_vcpu *vcpu);

/* The same for VM and device ioctls, and for vCPU ioctls from other threads. gpamap_vm_ioctl() and its like do
 * it for one ioctl, and know which need it. Holds nest, also within those of a vCPU. -ENOTRECOVERABLE:
 * the map is broken. -EDEADLK: this thread has shut the gate, and is in a listener's callback. */
int gpamap_enter(struct gpamap *map);
void gpamap_leave(struct gpamap *map);

/*
 * One ioctl, passing the gate if it may touch guest memory. @request is any of KVM's; an argument that is
 * no pointer is cast to one. The library has a table of all of them, up to Linux 7.2: some are free, and
 * done even while the gate is shut or the map is broken; those that may touch guest memory, and those that
 * it doesn't know, pass the gate; those that change slots or go by their ids wait for a commit on its way,
 * and a commit waits for them.
 *
 * What the ioctl returned, 0 or more, or a negative errno: the ioctl's, or the library's, which is one of
 * -ENOTRECOVERABLE: the map is broken. -EDEADLK: it would wait for a commit, and this thread is inside the
 * gate or in a listener's callback. -EPERM: it would spoil what the library has made, see below. -ENOTSUP:
 * the map is not for KVM. gpamap_last_message() says why it was -EPERM. Nothing is tried again:
 * -EINTR may come from a kick of the library's own.
 */

/*
 * Of the VM. -EPERM: KVM_SET_USER_MEMORY_REGION, KVM_SET_USER_MEMORY_REGION2, KVM_GET_DIRTY_LOG or
 * KVM_CLEAR_DIRTY_LOG of a slot that isn't reserved by gpamap_reserve_slots().
 */
int gpamap_vm_ioctl(struct gpamap *map, unsigned long request, void *arg);

/* Of a device of the VM, made by KVM_CREATE_DEVICE. -EINVAL: @device_fd is the VM's. */
int gpamap_device_ioctl(struct gpamap *map, int device_fd, unsigned long request, void *arg);

/*
 * Of a vCPU. KVM_RUN is gpamap_vcpu_run(). From any thread: if the vCPU runs in another one, the kernel
 * lets the caller wait for its next exit, as it does without the library; commits go on meanwhile. But when a
 * vCPU has been handed to another thread, the one that ran it before must not call this until the new one
 * has entered or run it.
 * -EPERM: KVM_SET_SIGNAL_MASK with a mask that blocks the kick signal. -EINVAL: KVM_RUN with an argument.
 */
int gpamap_vcpu_ioctl(struct gpamap_vcpu *vcpu, unsigned long request, void *arg);

#ifdef __cplusplus
}
#endif

#endif /* GPAMAP_VCPU_H */
