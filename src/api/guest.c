/* SPDX-License-Identifier: BSD-3-Clause */
/* What touches the guest: vCPUs, the gate for other threads, access, dirty pages. */
#include <errno.h>
#include <string.h>

#include "api/impl.h"
#include "api/private.h"
#include "ops/access.h"
#include "ops/dirty.h"

int gm_private_vcpu_attach(struct gpamap *m, gm_engine_maker *make, void *vcpu, unsigned id,
			   struct gpamap_vcpu **ret)
{
	struct gm_msg msg = {""};
	struct gm_engine engine;
	int err = make(m->backend, vcpu, &engine);

	if (err)
		gm_fail(&msg, err, "vCPU %u is not of this map's sort of VM", id);
	else
		err = gm_vcpu_new(m, &m->gate, &engine, id, &m->alloc, &msg, ret);
	return err ? gm_map_fail(m, err, &msg) : 0;
}

struct kvm_vcpu {
	int fd;
	struct kvm_run *run;
};

static int kvm_engine(struct gm_backend *b, void *vcpu, struct gm_engine *ret)
{
	const struct kvm_vcpu *v = vcpu;

	return gm_kvm_engine(b, v->fd, v->run, ret);
}

int gpamap_vcpu_attach(struct gpamap *m, int vcpu_fd, struct kvm_run *run, unsigned id,
		       struct gpamap_vcpu **ret)
{
	struct kvm_vcpu vcpu = {vcpu_fd, run};

	return gm_private_vcpu_attach(m, kvm_engine, &vcpu, id, ret);
}

void gpamap_vcpu_detach(struct gpamap_vcpu *vcpu)
{
	gm_vcpu_free(vcpu);
}

int gpamap_enter(struct gpamap *m)
{
	int err = gm_gate_enter(&m->gate);

	return err ? gm_map_fail(m, err, NULL) : 0;
}

void gpamap_leave(struct gpamap *m)
{
	gm_gate_leave(&m->gate);
}

static int access_guest(struct gpamap *m, unsigned space, uint64_t gpa, void *buf, size_t len,
			bool is_write)
{
	struct gm_msg msg;
	bool reap = false;
	int err;

	msg.text[0] = '\0';
	err = gm_access(&m->memory, space, gpa, buf, len, is_write, &msg, &reap);
	if (gm_unlikely(reap))
		gm_reap(m);
	return gm_unlikely(err) ? gm_map_fail(m, err, &msg) : 0;
}

int gpamap_read(struct gpamap *m, unsigned space, uint64_t gpa, void *buf, size_t len)
{
	return access_guest(m, space, gpa, buf, len, false);
}

int gpamap_write(struct gpamap *m, unsigned space, uint64_t gpa, const void *buf, size_t len)
{
	/* Not written to: is_write only reads it. */
	return access_guest(m, space, gpa, (void *)buf, len, true);
}

int gpamap_vcpu_mmio(struct gpamap_vcpu *vcpu, unsigned space)
{
	struct gm_mmio mmio;
	int err = gm_engine_mmio(&vcpu->engine, &mmio);

	if (err) {
		struct gm_msg msg;

		gm_fail(&msg, 0, "the last exit of vCPU %u is no KVM_EXIT_MMIO", vcpu->pass.id);
		return gm_map_fail(vcpu->map, err, &msg);
	}
	return access_guest(vcpu->map, space, mmio.gpa, mmio.data, mmio.len, mmio.is_write);
}

int gpamap_lookup(struct gpamap *m, unsigned space, uint64_t gpa, struct gpamap_segment *ret)
{
	int err = gm_lookup(&m->publish, space, gpa, ret);

	return err ? gm_map_fail(m, err, NULL) : 0;
}

/* ----------------------------------------------------------------------- dirty pages --- */

/* A fetch on its way. */
struct fetch {
	struct gpamap *m;
	uint64_t *scratch; /* for the bits of one slot */
	size_t words;	   /* that it has room for */
};

/* Bring what a slot has logged to the bits of its region. The kernel gives and clears all of a slot's bits at once. */
static int sync_slot(void *arg, const struct gm_slot *s)
{
	struct fetch *f = arg;
	struct gpamap *m = f->m;
	size_t need = gm_dirty_words(s, m->map.page_size);

	if (need > f->words) {
		gm_free(&m->alloc, f->scratch);
		f->scratch = gm_calloc(&m->alloc, need, sizeof(*f->scratch));
		f->words = f->scratch ? need : 0;
	}
	return f->scratch ? gm_dirty_harvest(m->backend, s, f->scratch) : -ENOMEM;
}

/* Bring what has been logged of a part of @r to the bits of @r. pre: slots_lock. */
static int sync_dirty(struct gpamap *m, struct gpamap_region *r, struct gm_range offsets)
{
	struct fetch f = {.m = m};
	int err = gm_leftovers_settle(m);

	if (!err)
		err = gm_logged_follow(&m->logged, m->slots, m->nr_spaces);
	if (!err)
		err = gm_logged_each(&m->logged, r, offsets, sync_slot, &f);
	gm_free(&m->alloc, f.scratch);
	return err;
}

static int check_fetch(struct gpamap *m, struct gpamap_region *r, uint64_t offset, uint64_t size,
		       struct gm_msg *msg)
{
	const struct gm_region_state *s;
	uint64_t most;
	bool logged;

	if (r->map != &m->map)
		return gm_fail(msg, -EXDEV, "the region belongs to another map");
	if (gm_may_wait(m, "fetch", msg))
		return -EDEADLK;
	pthread_mutex_lock(&m->edit);
	s = r->touched ? &r->was : &r->now;
	logged = s->log;
	most = r->resizable ? r->max_size : s->size;
	pthread_mutex_unlock(&m->edit);
	if (!logged)
		return gm_fail(msg, -ENODATA, "region \"%s\" is not logged", r->name);
	if ((offset | size) & (m->map.page_size - 1))
		return gm_fail(msg, -EINVAL,
			       "offset 0x%llx or size 0x%llx is no multiple of 0x%llx",
			       (unsigned long long)offset, (unsigned long long)size,
			       (unsigned long long)m->map.page_size);
	if (!size || offset > most || size > most - offset)
		return gm_fail(msg, -ERANGE, "0x%llx bytes at 0x%llx are not in region \"%s\"",
			       (unsigned long long)size, (unsigned long long)offset, r->name);
	return 0;
}

int gpamap_dirty_fetch(struct gpamap *m, struct gpamap_region *r, uint64_t offset, uint64_t size,
		       uint64_t *bitmap)
{
	uint64_t page = m->map.page_size;
	struct gm_msg msg = {""};
	int err = check_fetch(m, r, offset, size, &msg);

	if (err)
		return gm_map_fail(m, err, &msg);
	gm_slots_lock(m);
	err = sync_dirty(m, r, (struct gm_range){offset, offset + (size - 1)});
	gm_slots_unlock(m);
	if (err) {
		gm_fail(&msg, 0, "can't read a dirty log: %s", strerror(-err));
		return gm_map_fail(m, err, &msg);
	}
	gm_dirty_take(r, offset / page, size / page, bitmap);
	return 0;
}
