/* SPDX-License-Identifier: BSD-3-Clause */
/* The result of a torture as JSON (by jansson). */
#include <errno.h>
#include <jansson.h>

#include "torture.h"

static int set_count(json_t *o, const char *name, uint64_t value)
{
	return json_object_set_new(o, name, json_integer((json_int_t)value));
}

/* The counts of a run or a cell, under their public names. */
static int set_tally(json_t *o, const struct tally *t)
{
	int bad = set_count(o, "commits", t->commits) | set_count(o, "guest_ops", t->guest_ops) |
		  set_count(o, "spurious_exits", t->spurious_exits) |
		  set_count(o, "expected_exits", t->expected_exits) |
		  set_count(o, "internal_errors", t->internal_errors) |
		  set_count(o, "shutdowns", t->shutdowns) |
		  set_count(o, "lost_stores", t->lost_stores) |
		  set_count(o, "wrong_reads", t->wrong_reads) |
		  set_count(o, "lost_dirty", t->lost_dirty) | set_count(o, "asks", t->asks) |
		  set_count(o, "looks", t->looks) | set_count(o, "mixes", t->mixes) |
		  set_count(o, "messages", t->messages) |
		  set_count(o, "lost_interrupts", t->lost_interrupts) |
		  set_count(o, "stray_interrupts", t->stray_interrupts) |
		  set_count(o, "saves", t->saves) | set_count(o, "lost_saves", t->lost_saves) |
		  set_count(o, "gate_shut", t->gate_shut) |
		  set_count(o, "slot_ioctls", t->slot_ioctls) |
		  set_count(o, "failed_commits", t->failed);

	bad |= json_object_set_new(o, "seconds", json_real(t->seconds));
	bad |= json_object_set_new(o, "guest_ops_per_second",
				   json_real((double)t->guest_ops / t->seconds));
	return bad;
}

/* null where nothing was measured. */
static json_t *quantile(const struct samples *s, double fraction)
{
	return s->count ? json_real(samples_quantile(s, fraction)) : json_null();
}

static json_t *blackout_json(const struct samples *s)
{
	return json_pack("{s:o, s:o, s:o, s:I}", "p50", quantile(s, 0.5), "p99", quantile(s, 0.99),
			 "max", quantile(s, 1), "samples", (json_int_t)s->count);
}

static json_t *cells_json(const struct result *res)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < res->cells; i++) {
		const struct cell *c = &res->cell[i];
		json_t *o = json_pack("{s:s, s:s}", "hazard", hazard_names[c->hazard], "mode",
				      mode_names[c->mode]);

		/* On failure the list has fewer elements, which the caller finds. */
		if (o && !set_tally(o, &c->tally))
			json_array_append_new(list, o);
		else
			json_decref(o);
	}
	return list;
}

/* NULL: no memory. */
static json_t *run_json(const struct report *r, const struct result *res)
{
	json_t *cells = cells_json(res), *o;

	if (json_array_size(cells) != res->cells) {
		json_decref(cells);
		return NULL;
	}
	o = json_pack("{s:s, s:s, s:I, s:o, s:o}", "strategy", res->strategy->name, "backend",
		      r->port->name, "vcpus", (json_int_t)r->options->vcpus, "blackout_us",
		      blackout_json(&res->blackout_us), "hazards", cells);
	if (o && set_tally(o, &res->total)) {
		json_decref(o);
		o = NULL;
	}
	return o;
}

static json_t *report_object(const struct report *r)
{
	static const char *const verdicts[] = {"kept", "broken", "unproven"};
	const struct options *opt = r->options;
	json_t *runs = json_array();

	for (unsigned i = 0; i < r->results; i++) {
		if (json_array_append_new(runs, run_json(r, &r->result[i]))) {
			json_decref(runs);
			return NULL;
		}
	}
	return json_pack("{s:s, s:s, s:b, s:I, s:I, s:f, s:s, s:o}", "backend", r->port->name,
			 "edit", edit_names[opt->edit], "one_instant", options_one_instant(opt),
			 "seed", (json_int_t)opt->seed, "memory", (json_int_t)opt->memory,
			 "seconds", opt->seconds, "verdict", verdicts[r->verdict], "runs", runs);
}

int report_json(const struct report *r, FILE *f)
{
	const size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
	json_t *o = report_object(r);
	int ret = 0;

	if (!o)
		return -ENOMEM;
	errno = 0;
	if (json_dumpf(o, f, flags) || fputc('\n', f) == EOF || fflush(f))
		ret = errno ? -errno : -EIO;
	json_decref(o);
	return ret;
}
