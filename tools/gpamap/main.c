/* SPDX-License-Identifier: BSD-3-Clause */
/* The command: looks for the subcommand. */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "torture.h"

#ifndef GPAMAP_VERSION
#error "the build defines GPAMAP_VERSION"
#endif

static const char usage[] = "usage: gpamap torture [OPTION]...\n"
			    "       gpamap --help\n"
			    "       gpamap --version\n";

static int bad_usage(void)
{
	fputs("Try 'gpamap --help'.\n", stderr);
	return EX_USAGE;
}

static int run_torture(int argc, char **argv)
{
	struct options o;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help")) {
			fputs(options_help, stdout);
			return 0;
		}
	}
	return options_parse(&o, argc, argv) ? torture(&o) : bad_usage();
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fputs("gpamap: a subcommand is missing: torture\n", stderr);
		return bad_usage();
	}
	if (!strcmp(argv[1], "torture"))
		return run_torture(argc - 1, argv + 1);
	if (argc > 2)
		fprintf(stderr, "gpamap: '%s': no such subcommand; there is: torture\n", argv[1]);
	else if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return printf("%s\n%s", usage, options_help) < 0;
	else if (!strcmp(argv[1], "--version"))
		return puts("gpamap " GPAMAP_VERSION) < 0;
	else
		fprintf(stderr,
			"gpamap: '%s': no such subcommand or option; there are: torture, --help, "
			"--version\n",
			argv[1]);
	return bad_usage();
}
