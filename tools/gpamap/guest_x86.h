/* SPDX-License-Identifier: BSD-3-Clause */
/* x86-64, for guest code: see guest_arch.h. */
#ifndef TORTURE_GUEST_X86_H
#define TORTURE_GUEST_X86_H

/* Within an instruction, which so lies across the page's end. */
#define GUEST_BLOB_BEFORE 8u
#define GUEST_ITS 0

/* Read-only, present, for the user, accessed. */
GUEST_INLINE uint64_t guest_target_entry(uint64_t gpa)
{
	return gpa | 0x25;
}

/* Plain moves, which KVM's emulator knows everywhere. */
GUEST_INLINE uint64_t guest_load(uint64_t at)
{
	uint64_t value;

	__asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(at) : "memory");
	return value;
}

GUEST_INLINE void guest_store(uint64_t at, uint64_t value)
{
	__asm__ volatile("movq %0, (%1)" : : "r"(value), "r"(at) : "memory");
}

GUEST_INLINE void guest_fill(volatile uint64_t *to, uint64_t value, uint64_t count)
{
	__asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}

GUEST_INLINE void guest_copy(volatile uint64_t *to, const volatile uint64_t *from, uint64_t count)
{
	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

GUEST_INLINE uint64_t guest_fetch_add(volatile uint64_t *word)
{
	uint64_t old = 1;

	__asm__ volatile("lock xaddq %0, %1" : "+r"(old), "+m"(*word) : : "memory");
	return old;
}

#endif
