/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The judge: one boot of a real Linux while its memory map changes, from the first instruction to power-off. The guest
 * is right if its own last line says so, it has switched the machine off in time, no exit came from where memory is, and
 * no page was missing in the dirty log.
 */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "console.h"
#include "dirty.h"
#include "end.h"
#include "options.h"
#include "pc.h"

#define SKIPPED 77

struct judge {
	const struct options *options;
	struct boot boot;
	struct console console;
	struct dirty dirty;
	uint64_t random;
	char append[1024];
	_Atomic uint64_t exits; /* from where memory is */
	char ended[300];	/* why the judge has ended it; "": it has not */
	double seconds;
	bool right;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --------------------------------------------------------------------- what the machine asks of us --- */

static void output(void *opaque, const void *bytes, size_t count)
{
	struct judge *j = opaque;

	console_write(&j->console, bytes, count);
}

/* No device is in RAM, and the guest does not write where it may only read. */
static void see_mmio(void *opaque, const struct kvm_run *run)
{
	struct judge *j = opaque;
	const struct pages *p = &j->boot.pages;
	uint64_t gpa = run->mmio.phys_addr;

	if (gpa >= p->gpa && gpa < pages_gpa(p, p->rom))
		j->exits++;
}

static int map_ram(void *opaque, struct pc *pc, uint64_t gpa, uint64_t size, int fd,
		   uint64_t offset, void *host)
{
	struct judge *j = opaque;
	struct boot *b = &j->boot;
	int err;

	(void)host;
	if (b->pc || offset)
		return -EINVAL;
	b->pc = pc;
	b->slots = (uint32_t)ioctl(pc->vm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	err = pages_init(&b->pages, gpa, size, fd);
	if (err)
		return err;
	b->dirty = calloc(b->pages.count / 64 + 1, sizeof(*b->dirty));
	if (!b->dirty)
		return -ENOMEM;
	/* Only here it is known where RAM ends. */
	snprintf(j->append, sizeof(j->append), "%s judge.rom=%#llx,%#llx", j->options->append,
		 (unsigned long long)pages_gpa(&b->pages, b->pages.ram),
		 (unsigned long long)(PAGES_ROM * b->pages.size));
	pc->options.append = j->append;
	return b->strategy->start(b);
}

/* ------------------------------------------------------------------------------------- the changes --- */

__attribute__((format(printf, 2, 3))) static void end(struct judge *j, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(j->ended, sizeof(j->ended), format, args);
	va_end(args);
	pc_quit(j->boot.pc);
}

static int change(struct judge *j)
{
	struct boot *b = &j->boot;
	bool logged = b->pages.log;
	struct change c = change_next(&b->pages, &j->random);
	int err = 0;

	/* What has not been fetched when the log ends is lost. */
	if (logged && (c.kind == CHANGE_FETCH || c.kind == CHANGE_LOG))
		err = dirty_fetch(&j->dirty, b, &j->random);
	if (!err && c.kind != CHANGE_FETCH)
		err = b->strategy->apply(b, &c);
	if (!err && !logged && c.kind == CHANGE_LOG)
		dirty_begin(&j->dirty, b, &j->random);
	b->changes[c.kind]++;
	return err;
}

static void disturb(struct judge *j)
{
	struct boot *b = &j->boot;
	int err;

	if (b->strategy->kicks) {
		for (unsigned i = 0; i < j->options->cpus; i++)
			pc_kick(b->pc, i);
		b->kicks++;
	}
	if (!b->strategy->changes)
		return;
	err = change(j);
	if (err)
		end(j, "a change failed: %s", b->message[0] ? b->message : strerror(-err));
}

/* Does the guest show that it will never be right? */
static void watch(struct judge *j, double begin, double *heard, uint64_t *bytes)
{
	double t = now();

	if (j->console.bytes != *bytes) {
		*bytes = j->console.bytes;
		*heard = t;
	}
	if (j->exits)
		end(j, "an exit from where memory is");
	else if (j->console.wrong)
		end(j, "the guest says so");
	else if (t - *heard > j->options->silent_s)
		end(j, "silent for %.0f s", j->options->silent_s);
	else if (t - begin > j->options->limit_s)
		end(j, "not done in %.0f s", j->options->limit_s);
}

/* The guest gets as long as the change took, at least: on a machine that is busy it would not get anywhere else. */
static void rest(const struct judge *j, double took)
{
	double s = took > j->options->every_ms / 1e3 ? took : j->options->every_ms / 1e3;
	const struct timespec t = {(time_t)s, (long)((s - (double)(time_t)s) * 1e9)};

	nanosleep(&t, NULL);
}

static void run(struct judge *j)
{
	double begin = now(), heard = begin;
	uint64_t bytes = 0;

	if (pc_start(j->boot.pc) == 0) {
		while (!pc_ended(j->boot.pc)) {
			double before = now();

			disturb(j);
			watch(j, begin, &heard, &bytes);
			rest(j, now() - before);
		}
	}
	j->seconds = now() - begin;
}

/* -------------------------------------------------------------------------------------- the result --- */

static json_t *changes(const struct boot *b)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < CHANGE_KINDS; i++)
		json_object_set_new(all, change_names[i], json_integer((json_int_t)b->changes[i]));
	return all;
}

static uint64_t total(const struct boot *b)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < CHANGE_KINDS; i++)
		n += b->changes[i];
	return n;
}

static int report(const struct judge *j, const struct pc_end *pc_end)
{
	const struct boot *b = &j->boot;
	json_t *all =
		json_pack("{sb ss ss* si sI sf sI so sI sI sI sI sI sI sI ss}", "right", j->right,
			  "strategy", b->strategy->name, "ended",
			  j->ended[0] ? j->ended : pc_end->why.text, "cpus", (int)j->options->cpus,
			  "seed", (json_int_t)j->options->seed, "seconds", j->seconds, "changes",
			  (json_int_t)total(b), "kinds", changes(b), "kicks", (json_int_t)b->kicks,
			  "gate_shut", (json_int_t)b->gate_shut, "merges", (json_int_t)b->merges,
			  "exits", (json_int_t)j->exits, "dirty", (json_int_t)j->dirty.seen,
			  "dirty_known", (json_int_t)j->dirty.known, "dirty_lost",
			  (json_int_t)j->dirty.lost, "last", j->console.last);
	char *text = json_dumps(all, JSON_COMPACT);

	if (text)
		puts(text);
	free(text);
	json_decref(all);
	return text && j->right ? 0 : 1;
}

static int judge(struct judge *j)
{
	const struct options *o = j->options;
	const struct pc_options options = {
		.kernel = o->kernel,
		.initrd = o->initrd,
		.memory = o->memory,
		.cpus = o->cpus,
		.no_pv_eoi = o->no_pv_eoi,
		.map = {.flags = o->strategy->map_flags, .timeout_ms = 60000},
		.output = output,
		.map_ram = map_ram,
		.mmio = see_mmio,
		.opaque = j,
	};
	const struct pc_end *pc_end;
	struct pc_error error;
	struct pc *pc;
	int err = pc_new(&options, &pc, &error), status;

	if (err) {
		bool skip = err == -ENOENT || err == -EACCES || err == -ENOTSUP;

		printf("%s%s\n", skip ? "SKIP: " : "", error.text);
		if (j->boot.message[0])
			puts(j->boot.message);
		return skip ? SKIPPED : 2;
	}
	run(j);
	pc_end = pc_wait(pc);
	j->right = pc_end->how == PC_POWER_OFF && j->console.right && !j->console.wrong &&
		   !j->exits && !j->dirty.lost;
	o->strategy->stop(&j->boot);
	status = report(j, pc_end);
	pc_free(pc);
	return status;
}

int main(int argc, char **argv)
{
	static struct judge j;
	struct options options;
	int status;

	if (!options_parse(&options, argc, argv))
		return 64;
	j.options = &options;
	j.boot.strategy = options.strategy;
	j.boot.pages.tail = -1;
	j.console.show = options.show;
	j.random = options.seed * 2 + 1;
	status = judge(&j);
	free(j.boot.dirty);
	pages_destroy(&j.boot.pages);
	return status;
}
