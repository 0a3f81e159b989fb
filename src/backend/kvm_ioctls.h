/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is known of each of KVM's ioctls: may it be done while a commit changes the slots?
 *
 * Three classes:
 *
 *     free        it neither looks at slots nor touches guest memory
 *     gated       it does, or might: it passes the gate, as KVM_RUN does
 *     serialised  it changes slots, or goes by their ids, so that it must not meet a slot operation at all,
 *                 critical or not
 *
 *  I1  What is not in the table is gated.
 *  I2  An ioctl is known by the sort of fd, its number and its direction, all but the size of its
 *      argument: the size changes when a struct grows. Numbers are used again, for another sort of
 *      fd, for another direction (KVM_GET_TSC_KHZ, KVM_ENABLE_CAP) and on another architecture. So
 *      rows name the architectures that they are about, and rows of others are not looked at.
 *  I3  Where kernels differ, from Linux 6.1 to 7.2, the row says what is right for all of them.
 *      Where nobody has looked closely enough, it is gated, and the row says so.
 *  I4  Only VM ioctls are serialised: on a vCPU's fd the kernel may make the caller wait for a vCPU
 *      that runs and that nobody kicks, and commits would wait for the caller.
 *
 * Not counted as touching guest memory: what an architecture stores for a vCPU whose thread loses
 * its processor in the middle of any vCPU ioctl (x86: the `preempted` mark of steal time, Xen's
 * run state). KVM leaves it out where the slot is gone or has changed, and stores, and marks
 * dirty, all of it in the next KVM_RUN.
 */
#ifndef GM_BACKEND_KVM_IOCTLS_H
#define GM_BACKEND_KVM_IOCTLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gm_fd_kind { GM_FD_SYSTEM, GM_FD_VM, GM_FD_VCPU, GM_FD_DEVICE };

/* How an ioctl is to be done; 0: freely. */
enum {
	GM_IOCTL_GATE = 1u << 0,  /* inside the gate */
	GM_IOCTL_SLOTS = 1u << 1, /* with slot operations locked out */
};

enum { GM_DIR_READ = 1u << 0, GM_DIR_WRITE = 1u << 1 };

/* One row. */
struct gm_kvm_ioctl {
	const char *name;
	const char *function; /* of the kernel: where it is done */
	const char *reason;   /* for its class */
	uint8_t nr;
	uint8_t dir;  /* GM_DIR_*, as the number has it */
	uint8_t arch; /* a set of architectures */
	uint8_t how;  /* GM_IOCTL_* */
};

/* All rows for a sort of fd, by number, then direction, then architecture. */
const struct gm_kvm_ioctl *gm_kvm_ioctls(enum gm_fd_kind kind, size_t *n);
/* Is it about the architecture that the library is built for? */
bool gm_kvm_ioctl_is_here(const struct gm_kvm_ioctl *row);

/* NULL: unknown. */
const struct gm_kvm_ioctl *gm_kvm_ioctl_find(enum gm_fd_kind kind, unsigned long request);
/* GM_IOCTL_*; of an unknown one, GM_IOCTL_GATE. */
unsigned gm_kvm_ioctl_how(enum gm_fd_kind kind, unsigned long request);

/* Is it KVM_RUN? */
bool gm_kvm_ioctl_is_run(unsigned long request);
/* Is this VM ioctl about one slot? Then *@ret is its id, address space and all. Not if @arg is NULL, which KVM
 * refuses. */
bool gm_kvm_ioctl_slot(unsigned long request, const void *arg, uint32_t *ret);
/* Would KVM_RUN no longer end for @signo after this vCPU ioctl? */
bool gm_kvm_ioctl_blocks(unsigned long request, const void *arg, int signo);

#endif
