/* SPDX-License-Identifier: BSD-3-Clause */
/* Why the last call on a map failed, by thread. */
#include <string.h>

#include "api/impl.h"

/* The last call that failed, of this thread. Only failures write it: what succeeds costs nothing. */
static __attribute__((tls_model("initial-exec"))) _Thread_local struct {
	const struct gpamap *map; /* for comparisons only, it may be gone */
	uint64_t born_ns;
	int err;
	struct gm_msg msg; /* "": the errno says it all */
} last;

int gm_map_fail(struct gpamap *m, int err, const struct gm_msg *msg)
{
	last.map = m;
	last.born_ns = m->born_ns;
	last.err = err;
	if (msg)
		memcpy(last.msg.text, msg->text, strlen(msg->text) + 1);
	else
		last.msg.text[0] = '\0';
	return err;
}

void gpamap_last_message(struct gpamap *m, char *buf, size_t size)
{
	const char *text = "";

	if (!size)
		return;
	if (last.map == m && last.born_ns == m->born_ns)
		text = last.msg.text[0] ? last.msg.text : strerror(-last.err);
	strncpy(buf, text, size - 1);
	buf[size - 1] = '\0';
}
