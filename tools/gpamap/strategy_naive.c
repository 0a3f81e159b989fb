/* SPDX-License-Identifier: BSD-3-Clause */
/* The control: slots are deleted and created while the vCPUs run on. Blackout: from the first delete to
 * the last create, which is how long memory that should be there is not. */
#include <errno.h>
#include <stdlib.h>

#include "engine.h"

static int naive_start(struct run *r)
{
	struct engine *e = calloc(1, sizeof(*e));
	int ret = e ? engine_init(e, r) : -ENOMEM;

	if (ret)
		free(e);
	else
		r->state = e;
	return ret;
}

static void naive_stop(struct run *r)
{
	engine_destroy(r->state);
	free(r->state);
	r->state = NULL;
}

static int naive_apply(struct run *r, const struct change *changes, unsigned count,
		       struct applied *ret)
{
	struct engine *e = r->state;
	uint64_t ns;
	int err;

	for (unsigned i = 0; i < count; i++)
		change_apply(&r->arena.state, &changes[i]);
	engine_plan(e);
	err = engine_do(e, false, &ns);
	*ret = (struct applied){.blackout = ns, .blackout_us = (double)ns / 1000};
	return err;
}

static int naive_fetch_dirty(struct run *r, uint64_t *bitmap)
{
	return engine_fetch_dirty(r->state, bitmap);
}

static int naive_run_vcpu(struct run *r, unsigned vcpu)
{
	return r->port->run(r->vm, vcpu);
}

static int naive_ioctl(struct run *r, unsigned vcpu, int device, unsigned long request, void *arg)
{
	(void)vcpu;
	return r->port->ioctl(r->vm, device, request, arg);
}

static uint64_t naive_slot_ioctls(struct run *r)
{
	return ((struct engine *)r->state)->ioctls;
}

const struct strategy strategy_naive = {
	.name = "naive",
	.start = naive_start,
	.stop = naive_stop,
	.apply = naive_apply,
	.fetch_dirty = naive_fetch_dirty,
	.run_vcpu = naive_run_vcpu,
	.ioctl = naive_ioctl,
	.slot_ioctls = naive_slot_ioctls,
};
