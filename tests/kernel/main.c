/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What KVM does with memory slots and vCPUs, asserted on the kernel that is here: facts [--apart|ID...].
 *
 * A line for each fact: FACT ID holds, FACT ID differs: ..., FACT ID n/a: ...; `holds: ...` is what was measured.
 * Exit status 1 if a fact differs on which the library rests; `facts --list` says which those are. What may make the
 * kernel warn is done with --apart, or by its id, and not with the others.
 */
#define _GNU_SOURCE /* strerrorname_np */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "fact.h"
#include "kvm.h"

/* Much longer than any of them needs in an emulated machine. What is told after less than that has a limit of its own. */
#define FACT_SECONDS 150

static const struct fact *const groups[] = {
	slot_facts, space_facts, dirty_facts, live_facts,    change_facts,
	kick_facts, wide_facts,	 host_facts,  warning_facts,
};
static const char *volatile current = "";

static void say(struct outcome *o, enum verdict verdict, const char *format, va_list args)
{
	size_t used = o->verdict == verdict ? strlen(o->text) : 0;
	const char *gap = used ? "; " : "";

	o->verdict = verdict;
	used += (size_t)snprintf(o->text + used, sizeof(o->text) - used, "%s", gap);
	if (used < sizeof(o->text))
		vsnprintf(o->text + used, sizeof(o->text) - used, format, args);
}

void expect(struct outcome *o, bool condition, const char *otherwise, ...)
{
	va_list args;

	if (condition || o->verdict != HOLDS)
		return;
	va_start(args, otherwise);
	say(o, DIFFERS, otherwise, args);
	va_end(args);
}

const char *errno_name(int err)
{
	const char *name = err ? strerrorname_np(err) : "success";

	return name ? name : "an unknown errno";
}

void expect_errno(struct outcome *o, const char *what, int got, int want)
{
	expect(o, got == want, "%s: %s, and not %s", what, errno_name(got), errno_name(want));
}

void not_here(struct outcome *o, const char *why, ...)
{
	va_list args;

	if (o->verdict != HOLDS)
		return;
	va_start(args, why);
	say(o, NOT_HERE, why, args);
	va_end(args);
}

void measured(struct outcome *o, const char *value, ...)
{
	va_list args;

	if (o->verdict != HOLDS)
		return;
	va_start(args, value);
	say(o, HOLDS, value, args);
	va_end(args);
}

void die(const char *what)
{
	fflush(stdout);
	fprintf(stderr, "facts: in %s: failed: %s\n", current, what);
	_exit(2);
}

/* ---------------------------------------------------------------------------------- to run --- */

static void on_kick(int signo)
{
	(void)signo;
}

static void on_alarm(int signo)
{
	static const char text[] = "facts: no end to see in ";

	(void)signo;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0 ||
	    write(STDERR_FILENO, current, strlen(current)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
		_exit(3);
	_exit(2);
}

static void handle(int signo, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler};

	need(!sigaction(signo, &action, NULL));
}

/* Does the library's foundation stand? */
static bool check(const struct fact *f)
{
	static const char *const words[] = {"holds", "differs", "n/a"};
	struct outcome o = {.verdict = HOLDS};

	current = f->id;
	alarm(FACT_SECONDS);
	f->test(&o);
	alarm(0);
	printf("FACT %s %s%s%s\n", f->id, words[o.verdict], *o.text ? ": " : "", o.text);
	fflush(stdout);
	if (o.verdict != DIFFERS || !f->must)
		return true;
	fprintf(stderr, "facts: the library rests on %s, which this kernel does otherwise: %s\n",
		f->id, f->statement);
	return false;
}

/* @f is of group @g. */
static bool is_wanted(const struct fact *g, const struct fact *f, int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--apart"))
		return g == warning_facts;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], f->id))
			return true;
	}
	return argc < 2 && g != warning_facts;
}

static void list(void)
{
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
		const char *rest = groups[g] == warning_facts ? "apart" : "known";

		for (const struct fact *f = groups[g]; f->id; f++)
			printf("FACT %s %s: %s\n", f->id, f->must ? "must" : rest, f->statement);
	}
}

int main(int argc, char **argv)
{
	const char *missing = kvm_missing();
	struct utsname host;
	int wanted = 0, failed = 0;

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		list();
		return 0;
	}
	if (missing) {
		printf("SKIP: %s\n", missing);
		return 77;
	}
	handle(KICK_SIGNAL, on_kick);
	handle(SIGALRM, on_alarm);
	uname(&host);
	printf("KERNEL %s %s\n", host.release, host.machine);
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
		for (const struct fact *f = groups[g]; f->id; f++) {
			if (!is_wanted(groups[g], f, argc, argv))
				continue;
			wanted++;
			failed += !check(f);
		}
	}
	if (wanted < argc - 1)
		die("no such fact");
	return wanted && !failed ? 0 : 1;
}
