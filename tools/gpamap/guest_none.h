/* SPDX-License-Identifier: BSD-3-Clause */
/* A processor that there is no guest code for: what the simulated VM has instead. See guest_arch.h. */
#ifndef TORTURE_GUEST_NONE_H
#define TORTURE_GUEST_NONE_H

#define GUEST_BLOB_BEFORE 8u

/* The simulated guest looks at the address only. */
GUEST_INLINE uint64_t guest_target_entry(uint64_t gpa)
{
	return gpa | 1;
}

#endif
