/* SPDX-License-Identifier: BSD-3-Clause */
/* The pieces of guest code that are copied into a VM. They are never called on the host. */
#ifndef TORTURE_GUEST_IMAGE_H
#define TORTURE_GUEST_IMAGE_H

#include <stdint.h>

#include "guest.h"
#include "guest_arch.h"

/* The section of all guest code; the linker makes these symbols. */
extern const uint8_t __start_guest_text[] __attribute__((visibility("hidden")));
extern const uint8_t __stop_guest_text[] __attribute__((visibility("hidden")));

/* Where a vCPU begins, with its control block. Ends at the doorbell, again and again. */
__attribute__((visibility("hidden"))) void guest_entry(struct guest_ctl *c);

/* Switch to the stack below @top, push and pop, call and return there, and switch back. Returns @value
 * if everything popped was @value, else something that was popped. */
__attribute__((visibility("hidden"))) uint64_t guest_stack_op(volatile uint64_t *top,
							      uint64_t value);

/* Code that the fetch hazard calls in the window; see guest_blob_result(). It may be copied anywhere, in two
 * parts around the end of a page, too. */
extern const uint8_t guest_blob[] __attribute__((visibility("hidden")));
extern const uint32_t guest_blob_size __attribute__((visibility("hidden")));

#endif
