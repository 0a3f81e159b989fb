/* SPDX-License-Identifier: BSD-3-Clause */
/* arm64, for guest code: see guest_arch.h. Only what every processor of it has, so no LSE. */
#ifndef TORTURE_GUEST_ARM64_H
#define TORTURE_GUEST_ARM64_H

/* Within the loop, which so goes over the page's end and back in each round. */
#define GUEST_BLOB_BEFORE 32u
#define GUEST_ITS 1

/* A page, memory type 0 of MAIR, read-only for all, inner shareable, accessed. */
GUEST_INLINE uint64_t guest_target_entry(uint64_t gpa)
{
	return gpa | 0x7c3;
}

/* KVM is told what a load or store does if it is of one register and leaves the address as it is. A pair, an
 * address that is counted up, and an exclusive access are a death where there is no memory. */
GUEST_INLINE uint64_t guest_load(uint64_t at)
{
	uint64_t value;

	__asm__ volatile("ldr %0, [%1]\n\tdmb ishld" : "=r"(value) : "r"(at) : "memory");
	return value;
}

GUEST_INLINE void guest_store(uint64_t at, uint64_t value)
{
	__asm__ volatile("str %0, [%1]" : : "r"(value), "r"(at) : "memory");
}

/*
 * Pairs of registers at addresses that are 4 more than a multiple of 8, counted up on the way: of the pair
 * at a page's end 12 bytes stand in one page and 4 in the next, so both the pair and its second
 * register lie across it. What is left at both ends is stored in smaller pieces.
 */
GUEST_INLINE void guest_fill(volatile uint64_t *to, uint64_t value, uint64_t count)
{
	const volatile uint64_t *last = to + count - 1;
	/* From the middle of one word to the middle of the next. */
	uint64_t turned = value >> 32 | value << 32;

	__asm__ volatile("	str	%w[value], [%[to]], #4\n"
			 "1:	stp	%[turned], %[turned], [%[to]], #16\n"
			 "	add	x16, %[to], #8\n"
			 "	cmp	x16, %[last]\n"
			 "	b.lo	1b\n"
			 "	str	%[turned], [%[to]], #8\n"
			 "	str	%w[turned], [%[to]]\n"
			 : [to] "+r"(to)
			 : [value] "r"(value), [turned] "r"(turned), [last] "r"(last)
			 : "x16", "cc", "memory");
}

GUEST_INLINE void guest_copy(volatile uint64_t *to, const volatile uint64_t *from, uint64_t count)
{
	const volatile uint64_t *last = to + count - 1;

	__asm__ volatile("	ldr	w16, [%[from]], #4\n"
			 "	str	w16, [%[to]], #4\n"
			 "1:	ldp	x16, x17, [%[from]], #16\n"
			 "	stp	x16, x17, [%[to]], #16\n"
			 "	add	x16, %[to], #8\n"
			 "	cmp	x16, %[last]\n"
			 "	b.lo	1b\n"
			 "	ldr	x16, [%[from]], #8\n"
			 "	str	x16, [%[to]], #8\n"
			 "	ldr	w16, [%[from]]\n"
			 "	str	w16, [%[to]]\n"
			 : [to] "+r"(to), [from] "+r"(from)
			 : [last] "r"(last)
			 : "x16", "x17", "cc", "memory");
}

GUEST_INLINE uint64_t guest_fetch_add(volatile uint64_t *word)
{
	uint64_t old, new;
	uint32_t failed;

	__asm__ volatile("1:	ldaxr	%[old], [%[word]]\n"
			 "	add	%[new], %[old], #1\n"
			 "	stlxr	%w[failed], %[new], [%[word]]\n"
			 "	cbnz	%w[failed], 1b\n"
			 : [old] "=&r"(old), [new] "=&r"(new), [failed] "=&r"(failed)
			 : [word] "r"(word)
			 : "memory");
	return old;
}

#endif
