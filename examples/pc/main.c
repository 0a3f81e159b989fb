/* SPDX-License-Identifier: BSD-3-Clause */
/* gpamap-pc - boot Linux in a virtual machine whose memory map is gpamap's. */
#include <stdio.h>

#include "options.h"
#include "pc.h"
#include "terminal.h"

enum { DONE, FAILED, RESET }; /* exit statuses */

static int fail(const struct pc_error *error)
{
	fprintf(stderr, "gpamap-pc: %s\n", error->text);
	return FAILED;
}

static int told(const struct pc_end *end)
{
	switch (end->how) {
	case PC_POWER_OFF:
	case PC_QUIT:
		return DONE;
	case PC_RESET:
	case PC_TRIPLE_FAULT:
		fail(&end->why);
		return RESET;
	default:
		return fail(&end->why);
	}
}

int main(int argc, char **argv)
{
	struct pc_options options;
	struct pc_error error;
	const struct pc_end *end;
	struct pc *pc;
	int r = pc_options_parse(argc, argv, &options, &error);

	if (r > 0)
		return fputs(pc_usage, stdout) < 0 ? FAILED : DONE;
	if (r < 0 || pc_new(&options, &pc, &error) < 0)
		return fail(&error);
	if (pc_terminal_start(pc) < 0) {
		error = pc->error;
		pc_free(pc);
		return fail(&error);
	}
	/* If it does not start, that is its end. */
	(void)pc_start(pc);
	end = pc_wait(pc);
	pc_terminal_stop();
	r = told(end);
	pc_free(pc);
	return r;
}
