/* SPDX-License-Identifier: BSD-3-Clause */
/* See torture.h. */
#include "torture.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static const struct strategy *const strategies[STRATEGY_COUNT] = {
	[STRATEGY_NAIVE] = &strategy_naive,
	[STRATEGY_INHIBIT] = &strategy_inhibit,
	[STRATEGY_GPAMAP] = &strategy_gpamap,
};

/* The guest's page is what edits add and take away, so it has to be one of the host's. */
static bool pages_fit(void)
{
	long size = sysconf(_SC_PAGESIZE);

	if (size == (long)PAGE)
		return true;
	fprintf(stderr,
		"gpamap torture: the pages of this host have %ld KiB, and slots are made of them; "
		"the "
		"guest here changes memory in pages of 4 KiB\n",
		size >> 10);
	return false;
}

/* NULL: there's none, and stderr says why. */
static const struct port *choose_port(enum backend backend)
{
	int ret = backend == BACKEND_SIM ? 0 : port_kvm_probe();

	if (backend == BACKEND_SIM)
		return &port_sim;
	if (!ret)
		return &port_kvm;
	fprintf(stderr, "gpamap torture: no KVM at %s: %s%s\n", port_kvm_device(), strerror(-ret),
		backend == BACKEND_AUTO ? "; the simulated VM is used" : "");
	return backend == BACKEND_AUTO ? &port_sim : NULL;
}

/* NULL if the port can't have the hazard its, which stderr then says; else the port. */
static const struct port *check_its(const struct options *o, const struct port *port)
{
	int ret = -ENOTSUP;

	if (!port || !(o->hazards & (1u << HAZARD_ITS)))
		return port;
	if (port->its_probe)
		ret = port->its_probe();
	if (!ret)
		return port;
	fprintf(stderr,
		"gpamap torture: --hazard its: the backend %s has no ITS, a part of arm64's GICv3: "
		"%s\n",
		port->name, strerror(-ret));
	return NULL;
}

static void kick_handler(int signo)
{
	(void)signo;
}

/* The signal that brings vCPU threads out of KVM_RUN does nothing else. */
static int install_kick(void)
{
	struct sigaction sa = {.sa_handler = kick_handler};

	return sigaction(KICK_SIGNAL, &sa, NULL) ? -errno : 0;
}

static int run_strategy(const struct options *o, const struct port *port, struct result *res)
{
	double seconds = o->seconds / options_cells(o);
	int ret = 0;

	for (unsigned i = 0; !ret && i < MAX_CELLS; i++) {
		struct cell *c = &res->cell[res->cells];

		c->hazard = (enum hazard)(i / MODE_COUNT);
		c->mode = (enum mode)(i % MODE_COUNT);
		if (!options_cell(o, c->hazard, c->mode))
			continue;
		ret = cell_run(o, port, seconds, c, res);
		tally_add(&res->total, &c->tally);
		res->cells++;
	}
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	samples_sort(&res->blackout_us);
	return ret;
}

static enum verdict judge(const struct report *r)
{
	bool ran = false, control = false;

	for (unsigned i = 0; i < r->results; i++) {
		const struct result *res = &r->result[i];
		bool violated = tally_violated(&res->total);

		if (res->strategy == &strategy_gpamap && violated)
			return VERDICT_BROKEN;
		ran |= res->strategy == &strategy_gpamap;
		control |= res->strategy == &strategy_naive && violated;
	}
	return ran && control ? VERDICT_KEPT : VERDICT_UNPROVEN;
}

static int run_all(struct report *r)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < STRATEGY_COUNT; i++) {
		if (!(r->options->strategies & (1u << i)))
			continue;
		r->result[r->results].strategy = strategies[i];
		ret = run_strategy(r->options, r->port, &r->result[r->results++]);
	}
	return ret;
}

static int write_reports(const struct report *r, FILE *json)
{
	int ret = 0;

	report_table(r, json == stdout ? stderr : stdout);
	if (json)
		ret = report_json(r, json);
	if (ret)
		fprintf(stderr, "gpamap torture: --json: %s: %s\n", r->options->json,
			strerror(-ret));
	return ret;
}

/* pre: the port is chosen. Returns the exit status. */
static int run_and_report(struct report *r, FILE *json)
{
	int ret = run_all(r);

	r->verdict = judge(r);
	if (!ret)
		ret = write_reports(r, json);
	for (unsigned i = 0; i < r->results; i++)
		samples_free(&r->result[i].blackout_us);
	return ret ? EX_SOFTWARE : (int)r->verdict;
}

/* Before the run, which may be long. *@ret is NULL if none is wanted. 0 or -errno. */
static int open_json(const char *name, FILE **ret)
{
	FILE *f = NULL;

	if (name)
		f = strcmp(name, "-") ? fopen(name, "we") : stdout;
	if (name && !f)
		return -errno;
	*ret = f;
	return 0;
}

int torture(const struct options *o)
{
	struct report r = {.options = o};
	FILE *json = NULL;
	int ret = install_kick(), status;

	if (ret) {
		fprintf(stderr, "gpamap torture: %s\n", strerror(-ret));
		return EX_SOFTWARE;
	}
	r.port = pages_fit() ? check_its(o, choose_port(o->backend)) : NULL;
	if (!r.port)
		return EX_UNAVAILABLE;
	ret = open_json(o->json, &json);
	if (ret) {
		fprintf(stderr,
			"gpamap torture: --json: '%s' can't be written: %s; it takes the name of a "
			"file in a directory that is there, or -\n",
			o->json, strerror(-ret));
		return EX_USAGE;
	}
	status = run_and_report(&r, json);
	if (json && json != stdout && fclose(json) && status != EX_SOFTWARE) {
		fprintf(stderr, "gpamap torture: --json: %s: %s\n", o->json, strerror(errno));
		status = EX_SOFTWARE;
	}
	return status;
}
