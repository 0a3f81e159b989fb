/* SPDX-License-Identifier: BSD-3-Clause */
/* What the guest writes: lines that tell how it is. */
#ifndef JUDGE_CONSOLE_H
#define JUDGE_CONSOLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct console {
	bool show;
	/* Written by vCPU threads, by one at a time; the text is to be read when they have ended. */
	char line[256]; /* as far as it has come */
	size_t length;
	char last[256]; /* the last one of the guest's first process, or the panic */
	_Atomic uint64_t bytes;
	atomic_bool right; /* it has said that all was right */
	atomic_bool
		wrong; /* it has said that something wasn't, or the kernel has: panic, or a process that was killed */
};

/* A pc_options.output's work. */
void console_write(struct console *c, const char *bytes, size_t count);

#endif
