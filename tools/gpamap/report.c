/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables at the end of a torture. */
#include <inttypes.h>
#include <string.h>

#include "torture.h"

static void print_quantile(FILE *f, const struct result *res, double fraction)
{
	if (res->blackout_us.count)
		fprintf(f, " %8.0f", samples_quantile(&res->blackout_us, fraction));
	else
		fprintf(f, " %8s", "-");
}

static void print_result(FILE *f, const struct result *res)
{
	const struct tally *t = &res->total;

	fprintf(f, "%-8s %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %11.0f %9" PRIu64 " %7" PRIu64,
		res->strategy->name, t->commits, t->gate_shut, t->slot_ioctls,
		(double)t->guest_ops / t->seconds, t->spurious_exits, t->internal_errors);
	fprintf(f, " %7" PRIu64 " %7" PRIu64 " %7" PRIu64 " %7" PRIu64, t->lost_stores,
		t->wrong_reads, t->lost_dirty, t->mixes);
	print_quantile(f, res, 0.5);
	print_quantile(f, res, 0.99);
	print_quantile(f, res, 1);
	fputc('\n', f);
}

static void print_totals(FILE *f, const struct report *r)
{
	fprintf(f, "%-8s %8s %8s %8s %11s %9s %7s %7s %7s %7s %7s %26s\n", "", "", "gate", "slot",
		"guest", "spurious", "vCPU", "lost", "wrong", "lost", "", "blackout, us");
	fprintf(f, "%-8s %8s %8s %8s %11s %9s %7s %7s %7s %7s %7s %8s %8s %8s\n", "strategy",
		"commits", "shut", "ioctls", "ops/s", "exits", "deaths", "stores", "reads", "dirty",
		"mixes", "p50", "p99", "max");
	for (unsigned i = 0; i < r->results; i++)
		print_result(f, &r->result[i]);
}

/* Exits, deaths, and what else went wrong, for each hazard and mode. */
static void print_cells(FILE *f, const struct report *r)
{
	const struct result *first = &r->result[0];

	fprintf(f, "\nspurious exits / vCPU deaths / lost, wrong and mixed\n%-10s %-10s", "hazard",
		"mode");
	for (unsigned i = 0; i < r->results; i++)
		fprintf(f, " %24s", r->result[i].strategy->name);
	fputc('\n', f);
	for (unsigned c = 0; c < first->cells; c++) {
		fprintf(f, "%-10s %-10s", hazard_names[first->cell[c].hazard],
			mode_names[first->cell[c].mode]);
		for (unsigned i = 0; i < r->results; i++) {
			const struct tally *t = &r->result[i].cell[c].tally;
			char text[72];

			snprintf(text, sizeof(text), "%" PRIu64 " / %" PRIu64 " / %" PRIu64,
				 t->spurious_exits, t->internal_errors,
				 t->lost_stores + t->wrong_reads + t->lost_dirty + t->mixes +
					 t->lost_interrupts + t->stray_interrupts + t->lost_saves);
			fprintf(f, " %24s", text);
		}
		fputc('\n', f);
	}
}

/* How often guests asked whether a change had arrived, and compared pages on show: so how much it says that
 * they found nothing. */
static void print_looks(FILE *f, const struct report *r)
{
	fprintf(f, "\n%-21s", "changes checked");
	for (unsigned i = 0; i < r->results; i++)
		fprintf(f, " %24" PRIu64, r->result[i].total.asks);
	if (r->options->edit == EDIT_INSTANT)
		fprintf(f, "\n%-21s", "pages compared");
	for (unsigned i = 0; r->options->edit == EDIT_INSTANT && i < r->results; i++)
		fprintf(f, " %24" PRIu64, r->result[i].total.looks);
}

static void print_share(FILE *f, uint64_t part, uint64_t all)
{
	char text[48];

	snprintf(text, sizeof(text), "%" PRIu64 " / %" PRIu64, part, all);
	fprintf(f, " %24s", text);
}

/* Of the hazard its: what it is there for. */
static void print_interrupts(FILE *f, const struct report *r)
{
	fprintf(f, "\n%-21s", "lost interrupts/all");
	for (unsigned i = 0; i < r->results; i++)
		print_share(f, r->result[i].total.lost_interrupts, r->result[i].total.messages);
	fprintf(f, "\n%-21s", "interrupts astray");
	for (unsigned i = 0; i < r->results; i++)
		fprintf(f, " %24" PRIu64, r->result[i].total.stray_interrupts);
	fprintf(f, "\n%-21s", "tables not saved/all");
	for (unsigned i = 0; i < r->results; i++)
		print_share(f, r->result[i].total.lost_saves, r->result[i].total.saves);
}

static const char *verdict_text(const struct report *r)
{
	if (r->verdict == VERDICT_BROKEN)
		return "gpamap showed a violation";
	if (r->verdict == VERDICT_KEPT)
		return "no violation with gpamap, and the control shows that there could be";
	if (!(r->options->strategies & (1u << STRATEGY_GPAMAP)))
		return "nothing proven: gpamap did not run";
	if (!(r->options->strategies & (1u << STRATEGY_NAIVE)))
		return "nothing proven: no violation with gpamap, but naive, the control, did not "
		       "run";
	return "nothing proven: no violation with gpamap, but naive, the control, showed none "
	       "either";
}

void report_table(const struct report *r, FILE *f)
{
	const struct options *o = r->options;

	fprintf(f, "\n%s, %u vCPUs, %" PRIu64 " MiB, edit %s, seed %" PRIu64 ", %g s each\n\n",
		r->port->name, o->vcpus, o->memory >> 20, edit_names[o->edit], o->seed, o->seconds);
	print_totals(f, r);
	print_cells(f, r);
	print_looks(f, r);
	if (o->hazards & (1u << HAZARD_ITS))
		print_interrupts(f, r);
	fputc('\n', f);
	for (unsigned i = 0; i < r->results; i++) {
		const struct result *res = &r->result[i];

		if (res->total.failed)
			fprintf(f, "\n%s: %" PRIu64 " commits failed, the first with: %s\n",
				res->strategy->name, res->total.failed, res->message);
	}
	fprintf(f, "\n%s\n", verdict_text(r));
}
