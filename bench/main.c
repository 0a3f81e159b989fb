/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench - what a change costs.
 *
 *     bench [flatten|plan|commit|blackout|gate|all]... [--json FILE] [--quick] [--assert]
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <gpamap.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

enum { EXIT_USAGE = 64, EXIT_SKIP = 77 };

struct section {
	const char *name;
	void (*run)(struct bench *b);
	bool chosen;
};

static struct section sections[] = {
	{"flatten", bench_flatten, false},
	{"commit", bench_commit, false},
	{"blackout", bench_blackout, false},
	{"gate", bench_gate, false},
};
enum { NR_SECTIONS = sizeof(sections) / sizeof(sections[0]) };

void check(int r, const char *what)
{
	if (r < 0)
		errx(1, "%s: %s", what, strerror(-r));
}

double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

void sleep_us(unsigned us)
{
	struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

void *reserve_memory(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		err(1, "%s of address space", size_text(size));
	return p;
}

static int usage(int status)
{
	fputs("usage: bench [SECTION]... [--json FILE] [--quick] [--assert]\n\n"
	      "  flatten   flatten and plan one changed page (also called plan)\n"
	      "  commit    a commit of one changed page, end to end\n"
	      "  blackout  how long vCPUs are held while a page is protected, and rivals\n"
	      "  gate      the cost of passing the gate\n"
	      "  all       all of them, as without a section\n\n"
	      "  --json FILE  write the results as JSON, too; -: only JSON, to standard output\n"
	      "  --quick      fewer samples\n"
	      "  --assert     exit with 1 if a ratio is beyond its limit, with 77 if a section\n"
	      "               could not be measured here\n\n"
	      "GPAMAP_KVM_DEVICE names the device, else /dev/kvm.\n",
	      status ? stderr : stdout);
	return status;
}

/* False: there's no such section. */
static bool choose(const char *name)
{
	bool all = !strcmp(name, "all");
	bool found = all;

	if (!strcmp(name, "plan"))
		name = "flatten";
	for (int i = 0; i < NR_SECTIONS; i++) {
		if (all || !strcmp(name, sections[i].name))
			found = sections[i].chosen = true;
	}
	return found;
}

static int open_kvm(void)
{
	const char *device = getenv("GPAMAP_KVM_DEVICE");

	return open(device && *device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);
}

static void run(struct bench *b, const char *json)
{
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
	if (!json || strcmp(json, "-"))
		results_print(b->results);
	if (json)
		results_json(b->results, json);
	results_free(b->results);
	if (b->kvm >= 0)
		close(b->kvm);
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
	run(&b, json);
	if (!assert_ratios)
		return 0;
	if (b.skipped && !b.failed)
		puts("SKIP: no KVM to measure on");
	return b.failed ? 1 : b.skipped ? EXIT_SKIP : 0;
}
