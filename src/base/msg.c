/* SPDX-License-Identifier: BSD-3-Clause */
/* Why something failed, in words. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/msg.h"

int gm_fail(struct gm_msg *msg, int err, const char *fmt, ...)
{
	va_list ap;

	if (!msg)
		return err;
	va_start(ap, fmt);
	if (vsnprintf(msg->text, sizeof(msg->text), fmt, ap) < 0)
		msg->text[0] = '\0';
	va_end(ap);
	return err;
}

int gm_explain(struct gm_msg *msg, int err)
{
	return msg->text[0] ? err : gm_fail(msg, err, "%s", strerror(-err));
}
