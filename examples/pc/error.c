/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors in words. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

int pc_fail(struct pc_error *error, int err, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(error->text, sizeof(error->text), format, list);
	va_end(list);
	return err;
}
