/* SPDX-License-Identifier: BSD-3-Clause */
/* Why something failed, in words. */
#ifndef GM_BASE_MSG_H
#define GM_BASE_MSG_H

struct gm_msg {
	char text[256];
};

/* Write the message and return @err, so that a refusal is one line: return gm_fail(msg, -EINVAL, ...).
 * @msg may be NULL. */
__attribute__((format(printf, 3, 4))) int gm_fail(struct gm_msg *msg, int err, const char *fmt,
						  ...);

/* If nobody has said why, let the errno speak. Returns @err. */
int gm_explain(struct gm_msg *msg, int err);

#endif
