/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MEMORY (128ULL << 20)

const char pc_usage[] =
	"usage: gpamap-pc -kernel FILE [-initrd FILE] [-append STRING] [-m SIZE] [-smp N] [-cpu "
	"host[,kvm-pv-eoi=off]]\n"
	"\n"
	"  -kernel FILE     the Linux kernel that is booted\n"
	"  -initrd FILE     its initial file system\n"
	"  -append STRING   its command line; Linux sees the terminal with console=ttyS0\n"
	"  -m SIZE          memory: MiB, or with K, M, G or T; 128M if not given\n"
	"  -smp N           processors; 1 if not given\n"
	"  -cpu host,kvm-pv-eoi=off   on x86: each end of an interrupt is an exit\n"
	"  -nographic, -no-reboot   accepted: this is how it always is\n"
	"\n"
	"Ctrl-A x ends it, Ctrl-A Ctrl-A is Ctrl-A. Exit status: 0 the guest has powered off, or "
	"Ctrl-A x;\n"
	"1 an error; 2 the guest has reset itself, or a triple fault.\n";

/* What strtoull() makes of "", "-1", " 1" and too much is not wanted. */
static bool number(const char *text, char **end, uint64_t *ret)
{
	errno = 0;
	if (!isdigit((unsigned char)text[0]))
		return false;
	*ret = strtoull(text, end, 10);
	return errno == 0;
}

static int parse_memory(const char *text, struct pc_options *options, struct pc_error *error)
{
	static const char units[] = "KMGT";
	const char *unit;
	unsigned shift = 20;
	uint64_t size;
	char *end;

	if (number(text, &end, &size)) {
		unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
		if (unit) {
			shift = 10 * (unsigned)(unit - units + 1);
			end++;
		}
		if (*end == '\0' && size && size <= UINT64_MAX >> shift) {
			options->memory = size << shift;
			return 0;
		}
	}
	return pc_fail(error, -EINVAL, "-m %s: a size is needed, as in -m 256M", text);
}

static int parse_cpus(const char *text, struct pc_options *options, struct pc_error *error)
{
	uint64_t cpus;
	char *end;

	if (!number(text, &end, &cpus) || *end || cpus == 0 || cpus > 65535)
		return pc_fail(error, -EINVAL,
			       "-smp %s: a number of processors is needed, 1 or more, as in -smp 2",
			       text);
	options->cpus = (unsigned)cpus;
	return 0;
}

/* Of all that QEMU's -cpu can say, what is needed here. */
static int parse_cpu(const char *text, struct pc_options *options, struct pc_error *error)
{
	options->no_pv_eoi = strcmp(text, "host,kvm-pv-eoi=off") == 0;
	if (options->no_pv_eoi || strcmp(text, "host") == 0 ||
	    strcmp(text, "host,kvm-pv-eoi=on") == 0)
		return 0;
	return pc_fail(error, -EINVAL, "-cpu %s: there is host, and on x86 host,kvm-pv-eoi=off",
		       text);
}

static int take(const char *name, const char *value, struct pc_options *options,
		struct pc_error *error)
{
	if (strcmp(name, "kernel") == 0)
		options->kernel = value;
	else if (strcmp(name, "initrd") == 0)
		options->initrd = value;
	else if (strcmp(name, "append") == 0)
		options->append = value;
	else if (strcmp(name, "m") == 0)
		return parse_memory(value, options, error);
	else if (strcmp(name, "cpu") == 0)
		return parse_cpu(value, options, error);
	else
		return parse_cpus(value, options, error);
	return 0;
}

static bool is_one_of(const char *name, const char *const *names)
{
	while (*names && strcmp(name, *names) != 0)
		names++;
	return *names;
}

int pc_options_parse(int argc, char **argv, struct pc_options *options, struct pc_error *error)
{
	static const char *const with_value[] = {"kernel", "initrd", "append", "m",
						 "smp",	   "cpu",    NULL};
	static const char *const alone[] = {"nographic", "no-reboot", NULL};
	static const char *const help[] = {"h", "help", NULL};

	*options = (struct pc_options){.memory = DEFAULT_MEMORY, .cpus = 1};
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		int r;

		if (name[0] != '-')
			return pc_fail(error, -EINVAL,
				       "%s: not an option; a kernel is given by -kernel FILE",
				       name);
		name += name[1] == '-' ? 2 : 1;
		if (is_one_of(name, help))
			return 1;
		if (is_one_of(name, alone))
			continue;
		if (!is_one_of(name, with_value))
			return pc_fail(error, -EINVAL,
				       "%s: no such option; -help shows all there are", argv[i]);
		if (++i == argc)
			return pc_fail(error, -EINVAL, "-%s: what comes after it is missing", name);
		r = take(name, argv[i], options, error);
		if (r < 0)
			return r;
	}
	if (!options->kernel)
		return pc_fail(error, -EINVAL, "no kernel: -kernel FILE is needed");
	return 0;
}
