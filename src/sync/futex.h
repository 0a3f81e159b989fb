/* SPDX-License-Identifier: BSD-3-Clause */
/* Futexes that are private to the process, with deadlines on CLOCK_MONOTONIC. */
#ifndef GM_SYNC_FUTEX_H
#define GM_SYNC_FUTEX_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define GM_NO_DEADLINE UINT64_MAX
#define GM_WAKE_ALL INT_MAX

/* Sleep while *@word is @value, until woken or @deadline_ns. May return for no reason: look again. */
static inline void gm_futex_wait(_Atomic(uint32_t) *word, uint32_t value, uint64_t deadline_ns)
{
	struct timespec deadline = {
		.tv_sec = (time_t)(deadline_ns / 1000000000),
		.tv_nsec = (long)(deadline_ns % 1000000000),
	};

	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value,
		deadline_ns == GM_NO_DEADLINE ? NULL : &deadline, NULL, FUTEX_BITSET_MATCH_ANY);
}

static inline void gm_futex_wake(_Atomic(uint32_t) *word, int count)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

#endif
