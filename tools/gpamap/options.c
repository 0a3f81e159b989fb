/* SPDX-License-Identifier: BSD-3-Clause */
/* See options.h. */
#define _GNU_SOURCE
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_SECONDS 86400.0
#define MAX_MEMORY (UINT64_C(1) << 40)

const char *const strategy_names[] = {"naive", "inhibit", "gpamap"};
const char *const hazard_names[] = {"data",  "string",	  "locked", "stack",
				    "fetch", "pagetable", "its"};
const char *const mode_names[] = {"supervisor", "user"};
const char *const edit_names[] = {"split",  "merge",	"resize",  "protect", "move",
				  "reback", "dirtylog", "hotplug", "mixed",   "instant"};
static const char *const backend_names[] = {"auto", "kvm", "sim"};

const char options_help[] =
	"usage: gpamap torture [OPTION]...\n"
	"\n"
	"Puts real vCPUs on memory that changes under them, and lets the guest judge.\n"
	"\n"
	"  --backend NAME    auto (KVM if there is one), kvm or sim (a simulated VM); default "
	"auto\n"
	"  --vcpus N         1 to 64; default 2\n"
	"  --seconds S       for each strategy, shared by hazards and modes; default 10\n"
	"  --strategy LIST   all, or some of naive,inhibit,gpamap; default all\n"
	"  --hazard LIST     all, or some of data,string,locked,stack,fetch,pagetable; default "
	"all;\n"
	"                    or its, which is not one of all: on arm64, interrupts through an ITS\n"
	"                    whose queue and tables are in memory that changes; in supervisor "
	"mode\n"
	"  --mode LIST       both, or one of supervisor,user; default both\n"
	"  --edit NAME       split, merge, resize, protect, move, reback, dirtylog, hotplug,\n"
	"                    mixed (all of these) or instant (pages far apart change at once, and\n"
	"                    guests look for mixes of old and new); default mixed\n"
	"  --no-instant      of the edit instant: gpamap commits without "
	"GPAMAP_COMMIT_ONE_INSTANT,\n"
	"                    and so has to show mixes; exit status 1\n"
	"  --memory SIZE     of the guest, with suffix K, M, G or T; address space only, hardly "
	"any\n"
	"                    is touched; default 256M\n"
	"  --max-slots N     let gpamap use no more slots, so that it must merge; default 0, no "
	"limit\n"
	"  --seed N          of the edits; default: another one each time\n"
	"  --json FILE       write the result there; - is standard output, the table then goes to\n"
	"                    standard error\n"
	"\n"
	"exit status: 0 gpamap showed no violation, and naive, the control, some; 1 gpamap showed "
	"one;\n"
	"2 naive showed none, or one of the two did not run, so nothing was proven; 64 bad usage;\n"
	"69 no such backend here; 70 the host failed\n";

static bool bad(const char *option, const char *arg, const char *right)
{
	fprintf(stderr, "gpamap torture: --%s: '%s' is wrong: it takes %s\n", option, arg, right);
	return false;
}

/* "a, b or c" */
static void list_names(const char *const *names, unsigned count, char *buf, size_t size)
{
	size_t at = 0;

	for (unsigned i = 0; i < count && at < size; i++)
		at += (size_t)snprintf(buf + at, size - at, "%s%s",
				       !i		? ""
				       : i + 1 == count ? " or "
							: ", ",
				       names[i]);
}

static bool find_name(const char *const *names, unsigned count, const char *name, size_t length,
		      unsigned *ret)
{
	for (unsigned i = 0; i < count; i++) {
		if (strlen(names[i]) == length && !strncmp(names[i], name, length)) {
			*ret = i;
			return true;
		}
	}
	return false;
}

static bool parse_name(const char *option, const char *arg, const char *const *names,
		       unsigned count, unsigned *ret)
{
	char right[160];

	if (find_name(names, count, arg, strlen(arg), ret))
		return true;
	list_names(names, count, right, sizeof(right));
	return bad(option, arg, right);
}

/* Names with commas between, or @all, which is the first @most of them. */
static bool parse_set(const char *option, const char *arg, const char *all, unsigned most,
		      const char *const *names, unsigned count, unsigned *ret)
{
	char right[200], list[160];
	unsigned set = 0, i;

	for (const char *p = arg;; p++) {
		size_t length = strcspn(p, ",");

		if (strlen(all) == length && !strncmp(p, all, length))
			set |= (1u << most) - 1;
		else if (find_name(names, count, p, length, &i))
			set |= 1u << i;
		else
			break;
		p += length;
		if (!*p) {
			*ret = set;
			return true;
		}
	}
	list_names(names, count, list, sizeof(list));
	snprintf(right, sizeof(right), "%s, or a list of %s", all, list);
	return bad(option, arg, right);
}

static bool parse_u64(const char *arg, uint64_t *ret, char **end)
{
	if (*arg < '0' || *arg > '9')
		return false;
	errno = 0;
	*ret = strtoull(arg, end, 0);
	return !errno;
}

static bool parse_number(const char *option, const char *arg, uint64_t min, uint64_t max,
			 uint64_t *ret)
{
	char *end, right[80];
	uint64_t value;

	if (parse_u64(arg, &value, &end) && !*end && value >= min && value <= max) {
		*ret = value;
		return true;
	}
	snprintf(right, sizeof(right), "a number from %" PRIu64 " to %" PRIu64, min, max);
	return bad(option, arg, right);
}

static bool parse_unsigned(const char *option, const char *arg, unsigned min, unsigned max,
			   unsigned *ret)
{
	uint64_t value;

	if (!parse_number(option, arg, min, max, &value))
		return false;
	*ret = (unsigned)value;
	return true;
}

static bool parse_seconds(const char *arg, double *ret)
{
	char *end;
	double value = strtod(arg, &end);

	if (end == arg || *end || !(value > 0) || value > MAX_SECONDS)
		return bad("seconds", arg, "a number of seconds, more than 0, up to a day");
	*ret = value;
	return true;
}

static bool parse_memory(const char *arg, uint64_t *ret)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	unsigned shift = 0;
	uint64_t value;
	char *end;

	if (!parse_u64(arg, &value, &end))
		goto wrong;
	if (*end) {
		suffix = strchr(suffixes, *end);
		if (!suffix || end[1])
			goto wrong;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	}
	if (!value || value > MAX_MEMORY >> shift || (value << shift) % ARENA_ALIGN)
		goto wrong;
	*ret = value << shift;
	return true;
wrong:
	return bad("memory", arg, "a size like 64M or 4G, a multiple of 2M, up to 1T");
}

enum {
	OPT_BACKEND = 256,
	OPT_VCPUS,
	OPT_SECONDS,
	OPT_STRATEGY,
	OPT_HAZARD,
	OPT_MODE,
	OPT_EDIT,
	OPT_NO_INSTANT,
	OPT_MEMORY,
	OPT_MAX_SLOTS,
	OPT_SEED,
	OPT_JSON,
};

static bool parse_one(struct options *o, int option, const char *arg)
{
	unsigned value;

	switch (option) {
	case OPT_BACKEND:
		if (!parse_name("backend", arg, backend_names, 3, &value))
			return false;
		o->backend = (enum backend)value;
		return true;
	case OPT_VCPUS:
		return parse_unsigned("vcpus", arg, 1, MAX_VCPUS, &o->vcpus);
	case OPT_SECONDS:
		return parse_seconds(arg, &o->seconds);
	case OPT_STRATEGY:
		return parse_set("strategy", arg, "all", STRATEGY_COUNT, strategy_names,
				 STRATEGY_COUNT, &o->strategies);
	case OPT_HAZARD:
		return parse_set("hazard", arg, "all", HAZARD_ITS, hazard_names, HAZARD_COUNT,
				 &o->hazards);
	case OPT_MODE:
		return parse_set("mode", arg, "both", MODE_COUNT, mode_names, MODE_COUNT,
				 &o->modes);
	case OPT_EDIT:
		if (!parse_name("edit", arg, edit_names, EDIT_COUNT, &value))
			return false;
		o->edit = (enum edit)value;
		return true;
	case OPT_NO_INSTANT:
		o->no_instant = true;
		return true;
	case OPT_MEMORY:
		return parse_memory(arg, &o->memory);
	case OPT_MAX_SLOTS:
		return parse_unsigned("max-slots", arg, 0, 32764, &o->max_slots);
	case OPT_SEED:
		return parse_number("seed", arg, 0, INT64_MAX, &o->seed);
	default:
		o->json = arg;
		return true;
	}
}

unsigned options_cells(const struct options *o)
{
	unsigned n = 0;

	for (unsigned i = 0; i < HAZARD_COUNT * MODE_COUNT; i++)
		n += options_cell(o, (enum hazard)(i / MODE_COUNT), (enum mode)(i % MODE_COUNT));
	return n;
}

/* The slots of the map that has most of them. */
static unsigned min_slots(const struct options *o)
{
	unsigned windows = 0;

	for (unsigned i = 0; i < HAZARD_COUNT; i++) {
		unsigned n = arena_windows((enum hazard)i, o->vcpus);

		if (o->hazards & (1u << i) && n > windows)
			windows = n;
	}
	return edit_most_slots(o->edit, windows, o->memory);
}

static bool check_together(const struct options *o)
{
	if (o->memory < arena_min_memory(o->vcpus)) {
		fprintf(stderr,
			"gpamap torture: --memory: with %u vCPUs it takes at least %" PRIu64 "M\n",
			o->vcpus, arena_min_memory(o->vcpus) >> 20);
		return false;
	}
	if (o->max_slots && o->max_slots < min_slots(o)) {
		fprintf(stderr,
			"gpamap torture: --max-slots: with this edit, %u vCPUs and so much memory "
			"it takes at least %u, or 0 for no limit\n",
			o->vcpus, min_slots(o));
		return false;
	}
	if (!options_cells(o)) {
		fputs("gpamap torture: --mode: with --hazard its it takes supervisor or both: in "
		      "user mode no interrupts are taken\n",
		      stderr);
		return false;
	}
	if (o->no_instant && o->edit != EDIT_INSTANT) {
		fputs("gpamap torture: --no-instant: it is for --edit instant\n", stderr);
		return false;
	}
	return true;
}

/* @option is what getopt_long() returned, @arg what it looked at. */
static bool bad_option(int option, const char *arg)
{
	if (option == ':')
		fprintf(stderr, "gpamap torture: %s: a value must follow\n", arg);
	else if (optopt && optopt < OPT_BACKEND)
		fprintf(stderr, "gpamap torture: -%c: no such option\n", optopt);
	else
		fprintf(stderr, "gpamap torture: %s: no such option\n", arg);
	return false;
}

bool options_parse(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"backend", required_argument, NULL, OPT_BACKEND},
		{"vcpus", required_argument, NULL, OPT_VCPUS},
		{"seconds", required_argument, NULL, OPT_SECONDS},
		{"strategy", required_argument, NULL, OPT_STRATEGY},
		{"hazard", required_argument, NULL, OPT_HAZARD},
		{"mode", required_argument, NULL, OPT_MODE},
		{"edit", required_argument, NULL, OPT_EDIT},
		{"no-instant", no_argument, NULL, OPT_NO_INSTANT},
		{"memory", required_argument, NULL, OPT_MEMORY},
		{"max-slots", required_argument, NULL, OPT_MAX_SLOTS},
		{"seed", required_argument, NULL, OPT_SEED},
		{"json", required_argument, NULL, OPT_JSON},
		{0},
	};
	int option;

	*o = (struct options){
		.vcpus = 2,
		.seconds = 10,
		.strategies = (1u << STRATEGY_COUNT) - 1,
		.hazards = (1u << HAZARD_ITS) - 1,
		.modes = (1u << MODE_COUNT) - 1,
		.edit = EDIT_MIXED,
		.seed = (uint64_t)time(NULL),
		.memory = UINT64_C(256) << 20,
	};
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (option == '?' || option == ':') {
			return bad_option(option, argv[optind - 1]);
		}
		if (!parse_one(o, option, optarg))
			return false;
	}
	if (optind < argc) {
		fprintf(stderr, "gpamap torture: '%s': only options are taken\n", argv[optind]);
		return false;
	}
	return check_together(o);
}
