/* SPDX-License-Identifier: BSD-3-Clause */
/* Why something can't be done, in words for whoever has typed the command. */
#ifndef PC_ERROR_H
#define PC_ERROR_H

struct pc_error {
	char text[512];
};

/* Fill @error as printf() does, and return @err, a negative errno: `return pc_fail(error, -EINVAL, ...)`. */
int pc_fail(struct pc_error *error, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
