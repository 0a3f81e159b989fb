/* SPDX-License-Identifier: BSD-3-Clause */
/* What the benchmarks found: statistics by GSL, a table, and JSON by jansson. */
#include <err.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "bench.h"

struct results {
	json_t *rows;
	json_t *ratios;
	json_t *notes;
	double others; /* negative: unknown */
};

void series_add(struct series *s, double value)
{
	if (s->n == s->room) {
		s->room = s->room ? 2 * s->room : 256;
		s->v = realloc(s->v, s->room * sizeof(*s->v));
		if (!s->v)
			err(1, "series");
	}
	s->v[s->n++] = value;
}

void series_free(struct series *s)
{
	free(s->v);
	*s = (struct series){0};
}

struct results *results_new(void)
{
	struct results *r = calloc(1, sizeof(*r));

	if (!r)
		err(1, "results");
	r->rows = json_array();
	r->ratios = json_array();
	r->notes = json_array();
	return r;
}

void results_free(struct results *r)
{
	json_decref(r->rows);
	json_decref(r->ratios);
	json_decref(r->notes);
	free(r);
}

static void append(json_t *array, json_t *object)
{
	if (!object || json_array_append_new(array, object) < 0)
		errx(1, "no memory for JSON");
}

static double quantile(const struct series *s, double f)
{
	return gsl_stats_quantile_from_sorted_data(s->v, 1, s->n, f);
}

double result_row(struct bench *b, const char *section, const char *what, uint64_t size,
		  const char *unit, struct series *s)
{
	double p10, p50;

	if (!s->n)
		errx(1, "%s: nothing was measured of %s", section, what);
	gsl_sort(s->v, 1, s->n);
	p10 = quantile(s, 0.1);
	p50 = quantile(s, 0.5);
	append(b->results->rows,
	       json_pack("{ss ss sI ss sI sf sf sf sf sf sf}", "section", section, "what", what,
			 "size", (json_int_t)size, "unit", unit, "samples", (json_int_t)s->n, "min",
			 s->v[0], "p10", p10, "p50", p50, "p90", quantile(s, 0.9), "p99",
			 quantile(s, 0.99), "max", s->v[s->n - 1]));
	return b->quick ? p10 : p50;
}

void result_ratio(struct bench *b, const char *section, const char *what, double value,
		  double limit)
{
	bool ok = limit == 0 || value <= limit;

	b->failed = b->failed || !ok;
	append(b->results->ratios, json_pack("{ss ss sf sf sb}", "section", section, "what", what,
					     "value", value, "limit", limit, "ok", ok));
}

void result_note(struct bench *b, const char *section, const char *text)
{
	append(b->results->notes, json_pack("{ss ss}", "section", section, "text", text));
}

void result_others(struct bench *b, double processors)
{
	b->results->others = processors;
}

const char *size_text(uint64_t size)
{
	static char text[32];

	if (size >= GIB && size % GIB == 0)
		snprintf(text, sizeof(text), "%" PRIu64 " GiB", size / GIB);
	else if (size >= MIB && size % MIB == 0)
		snprintf(text, sizeof(text), "%" PRIu64 " MiB", size / MIB);
	else if (size)
		snprintf(text, sizeof(text), "%" PRIu64, size);
	else
		snprintf(text, sizeof(text), "-");
	return text;
}

static double number(const json_t *row, const char *key)
{
	return json_number_value(json_object_get(row, key));
}

static const char *string(const json_t *row, const char *key)
{
	return json_string_value(json_object_get(row, key));
}

static void print_rows(const json_t *rows)
{
	const char *last = "";
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row)
	{
		if (strcmp(last, string(row, "section"))) {
			last = string(row, "section");
			printf("%s%-14s %-38s %8s %8s %10s %10s %10s %10s  unit\n", i ? "\n" : "",
			       last, "of", "size", "samples", "p50", "p90", "p99", "max");
		}
		printf("%-14s %-38s %8s %8.0f %10.2f %10.2f %10.2f %10.2f  %s\n", "",
		       string(row, "what"), size_text((uint64_t)number(row, "size")),
		       number(row, "samples"), number(row, "p50"), number(row, "p90"),
		       number(row, "p99"), number(row, "max"), string(row, "unit"));
	}
}

static void print_ratios(const json_t *ratios, bool quick)
{
	size_t i;
	json_t *row;

	if (json_array_size(ratios))
		printf("\n%-14s %-60s %10s %10s\n", "ratios",
		       quick ? "of 10th percentiles" : "of medians", "value", "at most");
	json_array_foreach(ratios, i, row)
	{
		double limit = number(row, "limit");

		printf("%-14s %-60s %10.2f ", string(row, "section"), string(row, "what"),
		       number(row, "value"));
		if (limit > 0)
			printf("%10.2f%s\n", limit,
			       json_is_true(json_object_get(row, "ok")) ? "" : "  MISSED");
		else
			printf("%10s\n", "-");
	}
}

void results_print(const struct bench *b)
{
	const struct results *r = b->results;
	size_t i;
	json_t *note;

	print_rows(r->rows);
	print_ratios(r->ratios, b->quick);
	putchar('\n');
	json_array_foreach(r->notes, i, note)
		printf("%s: %s\n", string(note, "section"), string(note, "text"));
	if (r->others >= 0)
		printf("other programs, and the kernel's threads, had %.2f processors meanwhile\n",
		       r->others);
}

void results_json(const struct bench *b, const char *path)
{
	const struct results *r = b->results;
	struct utsname system;
	json_t *all;
	int failed;

	if (uname(&system) < 0)
		err(1, "uname");
	all = json_pack("{sO sO sO sf sb ss}", "rows", r->rows, "ratios", r->ratios, "notes",
			r->notes, "others", r->others, "quick", b->quick, "kernel", system.release);
	if (!all)
		errx(1, "no memory for JSON");
	if (!strcmp(path, "-"))
		failed = json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) < 0 ||
			 putchar('\n') == EOF;
	else
		failed = json_dump_file(all, path, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) < 0;
	if (failed)
		err(1, "%s", path);
	json_decref(all);
}
