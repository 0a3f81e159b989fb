/* SPDX-License-Identifier: BSD-3-Clause */
/* See options.h. */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct strategy strategies[] = {
	{"none", 0, false, false, ours_start, ours_apply, ours_fetch, ours_stop},
	{"kicks", 0, false, true, ours_start, ours_apply, ours_fetch, ours_stop},
	{"naive", 0, true, false, hand_start, hand_apply_naive, hand_fetch, hand_stop},
	{"inhibit", 0, true, false, hand_start, hand_apply_inhibit, hand_fetch, hand_stop},
	{"gpamap", 0, true, false, ours_start, ours_apply, ours_fetch, ours_stop},
	{"gpamap-zap-slot-only", GPAMAP_ZAP_SLOT_ONLY, true, false, ours_start, ours_apply,
	 ours_fetch, ours_stop},
};
#define STRATEGIES (sizeof(strategies) / sizeof(strategies[0]))

static const char usage[] =
	"judge: boot a Linux while its memory map changes, from the first instruction to "
	"power-off\n"
	"  --kernel FILE --initrd FILE [--append STRING]   those of tests/judge/image.py\n"
	"  --strategy NAME   none, kicks (signals only), naive, inhibit, gpamap (default),\n"
	"                    gpamap-zap-slot-only\n"
	"  --smp N           vCPUs: 1\n"
	"  --no-pv-eoi       on x86: each end of an interrupt is an exit\n"
	"  --memory MIB      256\n"
	"  --every MS        from the end of a change to the next, if it did not take longer "
	"itself: 20\n"
	"  --seed N          of the choice of changes: 1\n"
	"  --limit SECONDS   for all: 120\n"
	"  --silent SECONDS  a guest that writes nothing for so long is hung: 60\n"
	"  --show            what the guest writes, on standard error\n"
	"Prints one line of JSON. Exit status: 0 if the guest was right, 1 if not, 77 if there is "
	"no KVM.\n";

static const struct option names[] = {
	{"kernel", 1, NULL, 'k'},
	{"initrd", 1, NULL, 'i'},
	{"append", 1, NULL, 'a'},
	{"strategy", 1, NULL, 's'},
	{"smp", 1, NULL, 'n'},
	{"memory", 1, NULL, 'm'},
	{"every", 1, NULL, 'e'},
	{"seed", 1, NULL, 'r'},
	{"limit", 1, NULL, 'l'},
	{"silent", 1, NULL, 'q'},
	{"show", 0, NULL, 'v'},
	{"no-pv-eoi", 0, NULL, 'p'},
	{0},
};

static bool number(const char *text, double least, double most, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	if (end != text && !*end && *ret >= least && *ret <= most)
		return true;
	fprintf(stderr, "judge: %s is no number from %g to %g\n", text, least, most);
	return false;
}

static bool choose_strategy(struct options *o, const char *name)
{
	for (size_t i = 0; i < STRATEGIES; i++) {
		if (strcmp(strategies[i].name, name) == 0) {
			o->strategy = &strategies[i];
			return true;
		}
	}
	fprintf(stderr, "judge: no strategy %s\n%s", name, usage);
	return false;
}

static bool take(struct options *o, int option)
{
	double n = 0;
	bool right = true;

	switch (option) {
	case 'k':
		o->kernel = optarg;
		return true;
	case 'i':
		o->initrd = optarg;
		return true;
	case 'a':
		o->append = optarg;
		return true;
	case 's':
		return choose_strategy(o, optarg);
	case 'v':
		o->show = true;
		return true;
	case 'p':
		o->no_pv_eoi = true;
		return true;
	case 'n':
		right = number(optarg, 1, 64, &n);
		o->cpus = (unsigned)n;
		return right;
	case 'm':
		right = number(optarg, 128, 2048, &n);
		o->memory = (uint64_t)n << 20;
		return right;
	case 'r':
		right = number(optarg, 0, 1e15, &n);
		o->seed = (uint64_t)n;
		return right;
	case 'e':
		return number(optarg, 0.1, 1e6, &o->every_ms);
	case 'l':
		return number(optarg, 1, 1e6, &o->limit_s);
	case 'q':
		return number(optarg, 1, 1e6, &o->silent_s);
	}
	fputs(usage, stderr);
	return false;
}

static bool readable(const char *file)
{
	if (access(file, R_OK) == 0)
		return true;
	perror(file);
	return false;
}

bool options_parse(struct options *o, int argc, char **argv)
{
	int option;

	*o = (struct options){
		.append = "",
		.memory = (uint64_t)256 << 20,
		.cpus = 1,
		.every_ms = 20,
		.seed = 1,
		.limit_s = 120,
		.silent_s = 60,
	};
	if (!choose_strategy(o, "gpamap"))
		return false;
	while ((option = getopt_long(argc, argv, "", names, NULL)) >= 0) {
		if (!take(o, option))
			return false;
	}
	if (!o->kernel || !o->initrd || optind != argc) {
		fputs(usage, stderr);
		return false;
	}
	return readable(o->kernel) && readable(o->initrd);
}
