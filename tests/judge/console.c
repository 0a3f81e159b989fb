/* SPDX-License-Identifier: BSD-3-Clause */
/* See console.h. */
#include "console.h"

#include <stdio.h>
#include <string.h>

/* The first thing that is wrong is the one to be told. */
static void take_line(struct console *c)
{
	static const char *const bad[] = {"Kernel panic", "BUG: ",	 "Oops",
					  "JUDGE error",  "JUDGE wrong", "segfault"};
	const char *judge = strstr(c->line, "JUDGE ");
	bool is_bad = false;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		is_bad |= strstr(c->line, bad[i]) != NULL;
	if (c->wrong || (!judge && !is_bad))
		return;
	snprintf(c->last, sizeof(c->last), "%s", is_bad || !judge ? c->line : judge);
	if (is_bad)
		c->wrong = true;
	else if (strncmp(judge, "JUDGE ok ", 9) == 0)
		c->right = true;
}

void console_write(struct console *c, const char *bytes, size_t count)
{
	if (c->show)
		fwrite(bytes, 1, count, stderr);
	for (size_t i = 0; i < count; i++) {
		if (bytes[i] == '\n') {
			c->line[c->length] = 0;
			take_line(c);
			c->length = 0;
		} else if (bytes[i] != '\r' && c->length < sizeof(c->line) - 1) {
			c->line[c->length++] = bytes[i];
		}
	}
	c->bytes += count;
}
