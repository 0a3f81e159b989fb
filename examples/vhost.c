/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost - a device in a thread of its own, which reads guest memory by a table of its own, as vhost-user devices
 * do. The map changes under it: a listener keeps its table right. This is how to write one.
 *
 *     vhost                     each request meets the old map or the new one
 *     vhost without-listener    the device asks the map for each access: right for each, and wrong for the request
 *
 * cc vhost.c $(pkg-config --cflags --libs gpamap-sim) -pthread */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <gpamap.h>
#include <gpamap-listener.h>
#include <gpamap-sim.h>

#define PAGE 0x10000
#define RING 0x100000	/* here the driver puts what it wants */
#define BUFFER 0x800000 /* there the data is; somewhere else altogether */
#define SPARE 0x900000	/* and here the old data, from then on */
#define CHANGES 200
#define MAX_RANGES 8

struct descriptor {
	uint64_t generation; /* of the driver's work; the data must be of the same */
	uint64_t buffer;     /* where the data is */
};

/* What a device knows of guest memory. */
struct table {
	size_t n;
	struct gpamap_segment range[MAX_RANGES];
};

struct device {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t moved; /* busy or stops has changed */
	unsigned stops;	      /* reasons not to begin a request */
	bool busy;	      /* with a request */
	bool end;
	unsigned long requests, mixed;
	struct table *using;	 /* by requests: one of the next two */
	struct table *old, *new; /* of the map as it is, and as a commit on its way will make it */
	struct gpamap *map;	 /* without a listener: to be asked */
};

static void must(int r, const char *what)
{
	if (r < 0)
		errx(1, "%s: %s", what, strerror(-r));
}

/* ---------------------------------------------------------------------------- the device --- */

static const char *within(const struct gpamap_segment *s, uint64_t gpa)
{
	return gpa - s->gpa < s->size ? (char *)s->hva + (gpa - s->gpa) : NULL;
}

static const char *translate(struct device *d, uint64_t gpa)
{
	const char *found = NULL;
	struct gpamap_segment s;

	if (d->map)
		return gpamap_lookup(d->map, 0, gpa, &s) ? NULL : within(&s, gpa);
	for (size_t i = 0; i < d->using->n && !found; i++)
		found = within(&d->using->range[i], gpa);
	return found;
}

/* Is the data that which the descriptor speaks of? */
static bool request(struct device *d)
{
	volatile struct descriptor *desc = (struct descriptor *)translate(d, RING);
	uint64_t generation;
	volatile uint64_t *found;

	if (!desc)
		return false;
	generation = desc->generation;
	usleep(200); /* what a device does in the meantime */
	found = (uint64_t *)translate(d, desc->buffer);
	return found && *found == generation;
}

static void *device_main(void *opaque)
{
	struct device *d = opaque;

	pthread_mutex_lock(&d->lock);
	while (!d->end) {
		if (d->stops) {
			pthread_cond_wait(&d->moved, &d->lock);
			continue;
		}
		d->busy = true;
		pthread_mutex_unlock(&d->lock);
		bool right = request(d);
		pthread_mutex_lock(&d->lock);
		d->requests++;
		d->mixed += !right;
		d->busy = false;
		pthread_cond_broadcast(&d->moved);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* No request is on its way when this has returned 0, and none begins until go_on(). */
static int stop(struct device *d, const struct timespec *until)
{
	int err = 0;

	pthread_mutex_lock(&d->lock);
	d->stops++;
	while (d->busy && !err)
		err = until ? pthread_cond_timedwait(&d->moved, &d->lock, until)
			    : pthread_cond_wait(&d->moved, &d->lock);
	if (d->busy)
		d->stops--;
	else
		err = 0;
	pthread_mutex_unlock(&d->lock);
	return -err;
}

static void go_on(struct device *d, struct table *with)
{
	pthread_mutex_lock(&d->lock);
	d->using = with;
	d->stops--;
	pthread_cond_broadcast(&d->moved);
	pthread_mutex_unlock(&d->lock);
}

/* -------------------------------------------------------------------------- the listener --- */

/* The table of the new map. A device that has room for so many ranges and no more can say no here. */
static int prepare(void *opaque, const struct gpamap_change *change)
{
	struct device *d = opaque;
	struct gpamap_segment s;

	d->new = calloc(1, sizeof(*d->new));
	if (!d->new)
		return -ENOMEM;
	for (uint64_t at = 0; gpamap_change_after(change, 0, at, &s) == 0; at = s.gpa + s.size) {
		if (s.prot != GPAMAP_NONE && d->new->n == MAX_RANGES) {
			free(d->new);
			d->new = NULL;
			return -ENOSPC;
		}
		if (s.prot != GPAMAP_NONE)
			d->new->range[d->new->n++] = s;
		if (s.size >= UINT64_MAX - s.gpa)
			break; /* the end of the address space */
	}
	return 0;
}

/* No vCPU runs, so no new requests come; finish the one on its way. Its thread never waits for the gate, nor for a
 * commit, or this would wait in vain. */
static int quiesce(void *opaque, uint64_t deadline_ns)
{
	struct timespec until = {(time_t)(deadline_ns / 1000000000),
				 (long)(deadline_ns % 1000000000)};

	return stop(opaque, &until);
}

/* Both tables are kept: if the rest of the commit fails, quiesce and resume(false) lead back. */
static void resume(void *opaque, bool changed)
{
	struct device *d = opaque;

	go_on(d, changed ? d->new : d->old);
}

/* Where nothing was critical, this is where the device learns of the change. */
static void applied(void *opaque, const struct gpamap_change *change)
{
	struct device *d = opaque;

	(void)change;
	stop(d, NULL);
	free(d->old);
	d->old = d->new;
	d->new = NULL;
	go_on(d, d->old);
}

static void cancelled(void *opaque)
{
	struct device *d = opaque;

	stop(d, NULL);
	free(d->new);
	d->new = NULL;
	go_on(d, d->old);
}

static const struct gpamap_listener_desc listener = {
	.name = "vhost",
	.prepare = prepare,
	.quiesce = quiesce,
	.resume = resume,
	.applied = applied,
	.cancelled = cancelled,
};

/* --------------------------------------------------------------------------- the program --- */

static struct gpamap *map;
static struct gpamap_sim *sim;
static char *ring[2], *data[2]; /* memory of two generations */

static void start(void)
{
	const char *device = getenv("GPAMAP_KVM_DEVICE");
	int kvm = open(device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(1, "memory");
	for (int i = 0; i < 2; i++) {
		ring[i] = p + i * PAGE;
		data[i] = p + (2 + i) * PAGE;
	}
	if (vm < 0)
		must(gpamap_sim_new(NULL, &sim), "simulated VM");
	must(sim ? gpamap_new_sim(sim, NULL, &map) : gpamap_new_kvm(vm, NULL, &map), "map");
}

/* The next generation: another ring at the same place, and data that changes places with the old. */
static void show(uint64_t generation)
{
	unsigned new = generation % 2, old = !new;
	struct gpamap_txn *txn;

	*(struct descriptor *)ring[new] = (struct descriptor){generation, BUFFER};
	*(uint64_t *)data[new] = generation;
	must(gpamap_begin(map, &txn), "begin");
	must(gpamap_map_pages(txn, 0, RING, PAGE, ring[new], GPAMAP_RW), "ring");
	must(gpamap_map_pages(txn, 0, BUFFER, PAGE, data[new], GPAMAP_RW), "data");
	must(gpamap_map_pages(txn, 0, SPARE, PAGE, data[old], GPAMAP_RW), "old data");
	must(gpamap_commit(txn, NULL, NULL), "commit");
	/* Nobody uses the old ones any more. */
	memset(ring[old], 0, PAGE);
	memset(data[old], 0, PAGE);
}

/* A few requests on the map as it is. */
static void wait_for_requests(struct device *d)
{
	pthread_mutex_lock(&d->lock);
	for (unsigned long n = d->requests; d->requests < n + 2;)
		pthread_cond_wait(&d->moved, &d->lock);
	pthread_mutex_unlock(&d->lock);
}

int main(int argc, char **argv)
{
	struct device d = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct gpamap_listener_desc desc = listener;
	struct gpamap_listener *l = NULL;
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&d.moved, &monotonic);
	start();
	show(0);
	/* When it is added a listener is told the whole map, so the device has its table when it starts. */
	desc.opaque = &d;
	if (argc > 1 && !strcmp(argv[1], "without-listener"))
		d.map = map;
	else
		must(gpamap_listener_add(map, &desc, &l), "listener");
	if (pthread_create(&d.thread, NULL, device_main, &d) != 0)
		errx(1, "no thread");
	for (uint64_t generation = 1; generation <= CHANGES; generation++) {
		wait_for_requests(&d);
		usleep(generation % 20 * 10); /* at any moment of a request */
		show(generation);
	}
	pthread_mutex_lock(&d.lock);
	d.end = true;
	pthread_mutex_unlock(&d.lock);
	pthread_join(d.thread, NULL);

	printf("%s: %lu requests during %d changes, %lu of them met a mix of old and new\n",
	       sim ? "simulated VM" : "KVM", d.requests, CHANGES, d.mixed);
	gpamap_listener_remove(l);
	free(d.old);
	gpamap_free(map);
	gpamap_sim_free(sim);
	return d.mixed != 0;
}
