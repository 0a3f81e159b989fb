/* SPDX-License-Identifier: BSD-3-Clause */
/* What other programs did with the processors meanwhile. */
#include "others.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "bench.h"

/* Of all processors since boot, in seconds; guests are in user and nice. Negative: unknown. */
static double busy_seconds(void)
{
	double user, nice, system, idle, iowait, irq, softirq, steal;
	FILE *f = fopen("/proc/stat", "re");
	int n;

	if (!f)
		return -1;
	n = fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &user, &nice, &system, &idle, &iowait,
		   &irq, &softirq, &steal);
	fclose(f);
	if (n != 8)
		return -1;
	return (user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
}

static double seconds(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static double own_seconds(void)
{
	struct rusage own;

	getrusage(RUSAGE_SELF, &own);
	return seconds(&own.ru_utime) + seconds(&own.ru_stime);
}

void others_begin(struct others *o)
{
	o->wall = now_us() / 1e6;
	o->busy = busy_seconds();
	o->own = own_seconds();
}

double others_end(const struct others *o)
{
	double wall = now_us() / 1e6 - o->wall, busy = busy_seconds();
	double used;

	if (o->busy < 0 || busy < 0 || wall <= 0)
		return -1;
	used = (busy - o->busy) - (own_seconds() - o->own);
	return used > 0 ? used / wall : 0;
}
