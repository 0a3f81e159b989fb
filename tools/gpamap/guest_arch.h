/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the guest needs of its processor, and so of the one that this is built for. Another architecture is
 *
 *     guest_NAME.h      the accesses below that C doesn't have, and what its code and tables look like
 *     guest_NAME.S      guest_stack_op and guest_blob, see guest_image.h
 *     kvm_boot_NAME.c   how a vCPU of it begins, see kvm_boot.h
 *
 * and a line each here and in meson.build. It has pages of GUEST_PAGE bytes, and tables of WORDS entries that
 * map blocks of ARENA_ALIGN bytes. Each header defines
 *
 *     GUEST_BLOB_BEFORE          of the bytes of guest_blob, how many stand before the end of a page
 *     guest_target_entry(gpa)    a page-table entry for a page that everybody may read
 *     guest_load(p)              load 8 bytes, before whatever is loaded after it; guest_store(p, value): store 8.
 *                                KVM can tell what they do where there is no memory
 *     guest_fill(to, value, n)   the string hazard: store n words, 8 or 16; guest_copy(to, from, n).
 *                                They go over a page's end in the way that is hardest on a processor
 *     guest_fetch_add(p)         the locked hazard: add 1, as one step for all who add; the value before
 *     GUEST_ITS                  is there an ITS? Then guest_its_NAME.c and kvm_its_NAME.c have the hazard `its`: see its.h
 *
 * Nothing in them may call a function or have a constant in memory: see guest.c.
 */
#ifndef TORTURE_GUEST_ARCH_H
#define TORTURE_GUEST_ARCH_H

#include <stdint.h>

/* Guest code must not call what isn't copied with it. */
#define GUEST_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#include "guest_x86.h"
#elif defined(__aarch64__)
#include "guest_arm64.h"
#else
#include "guest_none.h"
#endif

#endif
