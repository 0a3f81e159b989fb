/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench - what a change costs.
 *
 *     bench [SECTION]... [--json FILE] [--quick] [--assert]
 */
#include <fcntl.h>
#include <getopt.h>
#include <gpamap.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "others.h"

enum { EXIT_USAGE = 64, EXIT_BUSY = 75, EXIT_SKIP = 77 };

/* With more than this of a processor taken by others, a ratio that was missed says nothing. */
#define BUSY 0.5

struct section {
	const char *name;
	void (*run)(struct bench *b);
	bool chosen;
};

static struct section sections[] = {
	{"flatten", bench_flatten, false},
	{"shapes", bench_shapes, false},
	{"fetch", bench_fetch, false},
	{"commit", bench_commit, false},
	{"blackout-vcpus", bench_blackout_vcpus, false},
	{"blackout-size", bench_blackout_size, false},
	{"blackout-slots", bench_blackout_slots, false},
	{"gate", bench_gate, false},
	{"quirk", bench_quirk, false},
	{"refault", bench_refault, false},
};
enum { NR_SECTIONS = sizeof(sections) / sizeof(sections[0]) };

static int usage(int status)
{
	fputs("usage: bench [SECTION]... [--json FILE] [--quick] [--assert]\n\n"
	      "  flatten   flatten and plan one changed page (also called plan)\n"
	      "  shapes    edits and flattening of what has many ways to it\n"
	      "  fetch     fetches of dirty pages in parts, on the simulated VM\n"
	      "  commit    a commit of one changed page, end to end\n"
	      "  blackout  how long vCPUs are held while a page is protected, and rivals; all "
	      "three of\n"
	      "            blackout-vcpus (by their number and what they do), blackout-size (by "
	      "the size\n"
	      "            of the guest), blackout-slots (by the number of slots)\n"
	      "  gate      the cost of passing the gate\n"
	      "  quirk     what a commit costs the guest afterwards, with GPAMAP_ZAP_SLOT_ONLY and "
	      "without\n"
	      "  refault   how many pages the guest faults in again after a change of one, by "
	      "KVM's "
	      "own count\n"
	      "  all       all of them, as without a section\n\n"
	      "  --json FILE  write the results as JSON, too; -: only JSON, to standard output\n"
	      "  --quick      fewer samples, and ratios of 10th percentiles instead of medians\n"
	      "  --assert     exit with 1 if a ratio is beyond its limit; with 75 if so, but "
	      "other\n"
	      "               programs had more than half a processor meanwhile; with 77 if a "
	      "section\n"
	      "               could not be measured here\n\n"
	      "GPAMAP_KVM_DEVICE names the device, else /dev/kvm.\n",
	      status ? stderr : stdout);
	return status;
}

/* Is it the section's name, or that up to a dash? */
static bool names(const char *name, const char *section)
{
	size_t n = strlen(name);

	return !strncmp(name, section, n) && (!section[n] || section[n] == '-');
}

/* False: there's no such section. */
static bool choose(const char *name)
{
	bool all = !strcmp(name, "all");
	bool found = all;

	if (!strcmp(name, "plan"))
		name = "flatten";
	for (int i = 0; i < NR_SECTIONS; i++) {
		if (all || names(name, sections[i].name))
			found = sections[i].chosen = true;
	}
	return found;
}

static int open_kvm(void)
{
	const char *device = getenv("GPAMAP_KVM_DEVICE");

	return open(device && *device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);
}

/* Returns how many processors others had meanwhile. */
static double run(struct bench *b, const char *json)
{
	struct others others;
	double had;

	others_begin(&others);
	b->results = results_new();
	b->kvm = open_kvm();
	check(gpamap_kick_install(SIGUSR1), "kick signal");
	for (int i = 0; i < NR_SECTIONS; i++) {
		if (!sections[i].chosen)
			continue;
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "%s ...\n", sections[i].name);
		sections[i].run(b);
	}
	had = others_end(&others);
	result_others(b, had);
	if (!json || strcmp(json, "-"))
		results_print(b);
	if (json)
		results_json(b, json);
	results_free(b->results);
	if (b->kvm >= 0)
		close(b->kvm);
	return had;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", required_argument, NULL, 'j'},
		{"quick", no_argument, NULL, 'q'},
		{"assert", no_argument, NULL, 'a'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct bench b = {0};
	const char *json = NULL;
	bool assert_ratios = false;
	double others;
	int c;

	while ((c = getopt_long(argc, argv, "j:qah", options, NULL)) != -1) {
		if (c == 'j')
			json = optarg;
		else if (c == 'q')
			b.quick = true;
		else if (c == 'a')
			assert_ratios = true;
		else
			return usage(c == 'h' ? 0 : EXIT_USAGE);
	}
	if (optind == argc)
		choose("all");
	for (; optind < argc; optind++) {
		if (!choose(argv[optind]))
			return usage(EXIT_USAGE);
	}
	others = run(&b, json);
	if (!assert_ratios)
		return 0;
	if (b.skipped && !b.failed)
		puts("SKIP: there is no KVM here, or it does not count what is measured");
	if (b.failed)
		return others > BUSY ? EXIT_BUSY : 1;
	return b.skipped ? EXIT_SKIP : 0;
}
