/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated VM: how it begins and ends. */
#include <errno.h>
#include <unistd.h>

#include "sim/impl.h"
#include "base/alloc.h"

#define KNOWN_FLAGS                                                                \
	(GPAMAP_SIM_NO_READONLY | GPAMAP_SIM_NO_REGION2 | GPAMAP_SIM_GMEM_EEXIST | \
	 GPAMAP_SIM_DIRTY_RING)

static int read_options(struct gpamap_sim *sim, const struct gpamap_sim_options *opt)
{
	static const struct gpamap_sim_options none;
	unsigned bits;

	if (!opt)
		opt = &none;
	sim->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	sim->flags = opt->flags;
	sim->nr_spaces = opt->spaces ? opt->spaces : 1;
	sim->nr_slots = opt->slots ? opt->slots : 32764;
	bits = opt->gpa_bits ? opt->gpa_bits : 52;
	if (opt->flags & ~(unsigned)KNOWN_FLAGS)
		return -EINVAL;
	if (sim->nr_spaces > SIM_MAX_SPACES || sim->nr_slots > SIM_MAX_SLOTS)
		return -EINVAL;
	if (bits > 64 || bits < 16)
		return -EINVAL;
	sim->last_gpa = UINT64_MAX >> (64 - bits);
	sim->hidden_gpa = opt->hidden_gpa;
	sim->hidden_size = opt->hidden_size;
	if ((opt->hidden_gpa | opt->hidden_size) % sim->page_size ||
	    opt->hidden_gpa + opt->hidden_size < opt->hidden_gpa)
		return -EINVAL;
	return 0;
}

static int make_space(struct gpamap_sim *sim, struct sim_space *space)
{
	struct sim_table *t = gm_calloc(&gm_alloc_default, 1, sizeof(*t));

	space->by_id = gm_calloc(&gm_alloc_default, sim->nr_slots, sizeof(space->by_id[0]));
	atomic_store(&space->table, t);
	return t && space->by_id ? 0 : -ENOMEM;
}

static void free_space(struct sim_space *space)
{
	struct sim_table *t = atomic_load(&space->table);

	for (size_t i = 0; t && i < t->n; i++)
		sim_slot_free(t->slot[i]);
	gm_free(&gm_alloc_default, t);
	gm_free(&gm_alloc_default, space->spare[0]);
	gm_free(&gm_alloc_default, space->spare[1]);
	gm_free(&gm_alloc_default, space->by_id);
}

static void free_spaces(struct gpamap_sim *sim)
{
	for (unsigned i = 0; i < sim->nr_spaces; i++)
		free_space(&sim->space[i]);
}

static int init(struct gpamap_sim *sim, const struct gpamap_sim_options *opt)
{
	int r = read_options(sim, opt);

	if (r)
		return r;
	for (unsigned i = 0; i < sim->nr_spaces && !r; i++)
		r = make_space(sim, &sim->space[i]);
	if (r)
		goto spaces;
	r = -pthread_mutex_init(&sim->slot_lock, NULL);
	if (r)
		goto spaces;
	r = sim_faults_init(sim);
	if (r)
		goto lock;
	return 0;
lock:
	pthread_mutex_destroy(&sim->slot_lock);
spaces:
	free_spaces(sim);
	return r;
}

int gpamap_sim_new(const struct gpamap_sim_options *opt, struct gpamap_sim **ret)
{
	struct gpamap_sim *sim = gm_calloc(&gm_alloc_default, 1, sizeof(*sim));
	int r;

	if (!sim)
		return -ENOMEM;
	r = init(sim, opt);
	if (r) {
		gm_free(&gm_alloc_default, sim);
		return r;
	}
	*ret = sim;
	return 0;
}

void gpamap_sim_free(struct gpamap_sim *sim)
{
	if (!sim)
		return;
	sim_faults_destroy(sim);
	pthread_mutex_destroy(&sim->slot_lock);
	free_spaces(sim);
	gm_free(&gm_alloc_default, sim);
}
