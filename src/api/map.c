/* SPDX-License-Identifier: BSD-3-Clause */
/* Maps: making, ending, and what can be asked of them. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/impl.h"
#include "api/private.h"

#define DEFAULT_TIMEOUT_MS 5000
#define DEFAULT_MAX_SLOT_SIZE (UINT64_C(1) << 30)
/* KVM refuses a slot of more than 2^31 - 1 pages: this is the greatest power of two below. */
#define MAX_SLOT_PAGES (UINT64_C(1) << 30)
#define KNOWN_FLAGS (GPAMAP_NO_MEMBARRIER | GPAMAP_FAULTS_MAY_BLOCK | GPAMAP_ZAP_SLOT_ONLY)

static struct gm_alloc alloc_of(const struct gpamap_options *opt)
{
	if (!opt->alloc)
		return gm_alloc_default;
	return (struct gm_alloc){opt->alloc, opt->free, opt->alloc_opaque};
}

/* Before anything else, since all else may allocate. */
static int check_alloc(const struct gpamap_options *opt, struct gm_msg *msg)
{
	if ((opt->alloc != NULL) == (opt->free != NULL))
		return 0;
	return gm_fail(msg, -EINVAL, "the options have %s without %s",
		       opt->alloc ? "alloc" : "free", opt->alloc ? "free" : "alloc");
}

/* Slots are cut at multiples of these, so none is larger (P3: no limit is left for KVM to find). */
static void set_slot_sizes(struct gpamap *m, const struct gpamap_options *opt, uint64_t page_size)
{
	uint64_t size = opt->max_slot_size ? opt->max_slot_size : DEFAULT_MAX_SLOT_SIZE;

	m->most_slot_size = MAX_SLOT_PAGES * page_size;
	m->max_slot_size = size < m->most_slot_size ? size : m->most_slot_size;
}

static bool can_be_caught(int signo)
{
	return signo != SIGKILL && signo != SIGSTOP && !sigaction(signo, NULL, NULL);
}

static int check_options(const struct gpamap_options *opt, const struct gm_caps *caps,
			 struct gm_msg *msg)
{
	uint64_t max = opt->max_slot_size;

	if (opt->flags & ~(unsigned)KNOWN_FLAGS)
		return gm_fail(msg, -EINVAL, "unknown flags 0x%x in the options", opt->flags);
	if (opt->flags & GPAMAP_ZAP_SLOT_ONLY && !caps->zap_slot_only)
		return gm_fail(msg, -ENOTSUP,
			       "this KVM drops the mappings of all slots with each that goes, and "
			       "can't be told not to");
	if (opt->spaces > caps->limits.nr_spaces)
		return gm_fail(msg, -ENOTSUP, "%u address spaces asked for, this VM has %u",
			       opt->spaces, caps->limits.nr_spaces);
	if (max && (max < caps->limits.page_size || (max & (max - 1))))
		return gm_fail(msg, -EINVAL,
			       "max_slot_size 0x%llx is no power of two of at least a page",
			       (unsigned long long)max);
	if (opt->kick_signal && !can_be_caught(opt->kick_signal))
		return gm_fail(msg, -EINVAL, "kick_signal %d is no signal that can be caught",
			       opt->kick_signal);
	return 0;
}

/* Everything that is an array over the address spaces. On failure free_spaces() takes back what there is. */
static int make_spaces(struct gpamap *m, const struct gpamap_options *opt)
{
	const struct gm_caps *caps = &m->backend->caps;
	uint32_t most = opt->max_slots && opt->max_slots < caps->limits.nr_slots
				? opt->max_slots
				: caps->limits.nr_slots;
	unsigned n = m->nr_spaces;

	m->views = gm_calloc(&m->alloc, n, sizeof(*m->views));
	m->slots = gm_calloc(&m->alloc, n, sizeof(*m->slots));
	m->windows = gm_calloc(&m->alloc, n, sizeof(*m->windows));
	m->next_roots = gm_calloc(&m->alloc, n, sizeof(*m->next_roots));
	m->old_roots = gm_calloc(&m->alloc, n, sizeof(*m->old_roots));
	m->stale = gm_calloc(&m->alloc, n, sizeof(*m->stale));
	gm_logged_init(&m->logged, &m->alloc);
	if (!m->views || !m->slots || !m->windows || !m->next_roots || !m->old_roots || !m->stale)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		gm_tree_init(&m->views[i], &gm_seg_type, &m->alloc);
		gm_tree_init(&m->slots[i].tree, &gm_slot_type, &m->alloc);
	}
	for (unsigned i = 0; i < n; i++) {
		int err = gm_ids_init(&m->slots[i].ids, &m->alloc, caps->limits.nr_slots, most);

		if (err)
			return err;
	}
	return 0;
}

static void free_spaces(struct gpamap *m)
{
	for (unsigned i = 0; m->views && m->slots && i < m->nr_spaces; i++) {
		if (!m->views[i].type)
			continue;
		gm_tree_destroy(&m->views[i]);
		gm_tree_destroy(&m->slots[i].tree);
		gm_ids_destroy(&m->slots[i].ids);
	}
	gm_free(&m->alloc, m->views);
	gm_free(&m->alloc, m->slots);
	gm_free(&m->alloc, m->windows);
	gm_free(&m->alloc, m->next_roots);
	gm_free(&m->alloc, m->old_roots);
	gm_free(&m->alloc, m->stale);
	gm_logged_destroy(&m->logged);
}

static int make_views(struct gpamap *m)
{
	struct gm_views *v =
		gm_calloc(&m->alloc, 1, sizeof(*v) + m->nr_spaces * sizeof(v->root[0]));

	if (!v)
		return -ENOMEM;
	v->nr_spaces = m->nr_spaces;
	gm_views_set(&m->publish, v);
	return 0;
}

static struct gpamap *alloc_map(const struct gm_alloc *alloc)
{
	void *raw;
	struct gpamap *m = gm_calloc_aligned(alloc, sizeof(*m), GM_MAP_ALIGN, &raw);

	if (!m)
		return NULL;
	m->raw = raw;
	m->alloc = *alloc;
	return m;
}

/* Ends when the handle and every region is gone (A4). */
void gm_map_put(struct gpamap *m)
{
	struct gm_alloc alloc = m->alloc;

	if (atomic_fetch_sub(&m->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&m->edit);
	gm_free(&alloc, m->raw);
}

static int make_gates(struct gpamap *m, const struct gpamap_options *opt)
{
	int err = gm_gate_init(&m->gate, opt->kick_signal, opt->flags & GPAMAP_NO_MEMBARRIER);

	if (err)
		return err;
	/* No membarrier: it would be for passes, and this one has none. */
	err = gm_gate_init(&m->accessors, 0, true);
	if (err)
		gm_gate_destroy(&m->gate);
	m->memory =
		(struct gm_memory){&m->accessors, &m->publish, m->backend->caps.limits.page_size};
	return err;
}

static void destroy_gates(struct gpamap *m)
{
	gm_gate_destroy(&m->accessors);
	gm_gate_destroy(&m->gate);
}

int gm_map_new(struct gm_backend *backend, const struct gm_alloc *alloc,
	       const struct gpamap_options *opt, struct gm_msg *msg, struct gpamap **ret)
{
	struct gpamap *m = alloc_map(alloc);
	int err;

	if (!m) {
		backend->ops->destroy(backend);
		return -ENOMEM;
	}
	m->backend = backend;
	m->nr_spaces = opt->spaces ? opt->spaces : 1;
	m->timeout_ms = opt->timeout_ms ? opt->timeout_ms : DEFAULT_TIMEOUT_MS;
	m->faults_may_block = opt->flags & GPAMAP_FAULTS_MAY_BLOCK;
	set_slot_sizes(m, opt, backend->caps.limits.page_size);
	backend->alloc = &m->alloc; /* the caller's was on its stack */
	atomic_init(&m->refs, 1);
	pthread_mutex_init(&m->edit, NULL);
	gm_turn_init(&m->txn_turn);
	gm_turn_init(&m->slots_lock);
	m->txn.map = m;
	m->pid = getpid();
	m->born_ns = gm_now_ns();
	err = check_options(opt, &backend->caps, msg);
	if (err)
		goto no_gates;
	err = make_gates(m, opt);
	if (err)
		goto no_gates;
	err = gm_map_init(&m->map, &m->alloc, m->nr_spaces, backend->caps.limits.page_size);
	if (err)
		goto no_map;
	err = make_spaces(m, opt);
	if (!err)
		err = make_views(m);
	if (err)
		goto no_spaces;
	/* Last: it can't be taken back, and a call that fails leaves the VM as it was. */
	if (opt->flags & GPAMAP_ZAP_SLOT_ONLY)
		err = backend->ops->zap_slot_only(backend);
	if (err)
		goto no_views;
	*ret = m;
	return 0;

no_views:
	gm_free(&m->alloc, gm_views_set(&m->publish, NULL));
no_spaces:
	free_spaces(m);
	gm_map_destroy(&m->map);
	gm_reap(m); /* its roots */
no_map:
	destroy_gates(m);
no_gates:
	gm_turn_destroy(&m->slots_lock);
	gm_turn_destroy(&m->txn_turn);
	backend->ops->destroy(backend);
	gm_map_put(m);
	return err;
}

static const struct gpamap_options no_options;

int gm_private_map_new(gm_backend_maker *make, void *vm, const struct gpamap_options *opt,
		       struct gpamap **ret)
{
	const struct gpamap_options *o = opt ? opt : &no_options;
	struct gm_alloc alloc = alloc_of(o);
	struct gm_msg msg = {""};
	struct gm_backend *b = NULL;
	int err = check_alloc(o, &msg);

	if (!err)
		err = make(vm, &alloc, &msg, &b);
	if (!err)
		err = gm_map_new(b, &alloc, o, &msg, ret);
	if (err)
		gm_explain(&msg, err);
	if (err && o->message && o->message_size)
		snprintf(o->message, o->message_size, "%s", msg.text);
	return err;
}

static int make_kvm(void *vm, const struct gm_alloc *alloc, struct gm_msg *msg,
		    struct gm_backend **ret)
{
	const int *fd = vm;

	return gm_kvm_new(*fd, alloc, msg, ret);
}

int gpamap_new_kvm(int vm_fd, const struct gpamap_options *opt, struct gpamap **ret)
{
	return gm_private_map_new(make_kvm, &vm_fd, opt, ret);
}

static void delete_slot(struct gpamap *m, const struct gm_slot *s)
{
	struct gm_op op = {.kind = GM_OP_DELETE, .from = *s};

	/* Errors are of no use to anyone here: a slot that can't be deleted goes with its VM. */
	m->backend->ops->slot(m->backend, &op);
}

/* Also what is left over. One that is missing is refused, and no more; but its id may have been reserved since. */
static void delete_slots(struct gpamap *m)
{
	struct gm_range all = {0, UINT64_MAX};

	for (size_t i = 0; i < m->leftovers.n; i++) {
		if (m->leftovers.l[i].kind == GM_STRAY)
			delete_slot(m, &m->leftovers.l[i].slot);
	}
	for (unsigned i = 0; i < m->nr_spaces; i++) {
		gm_tree_for_each (node, m->slots[i].tree.base, all) {
			if (!gm_ids_reserved(&m->slots[i].ids, gm_slot_of(node)->id))
				delete_slot(m, gm_slot_of(node));
		}
	}
}

void gpamap_free(struct gpamap *m)
{
	struct gm_views *v;

	if (!m)
		return;
	gm_listen_end(m);
	delete_slots(m);
	v = gm_views_set(&m->publish, NULL);
	gm_synchronize();
	gm_free(&m->alloc, v);
	free_spaces(m);
	gm_leftovers_forget(m);
	pthread_mutex_lock(&m->edit);
	gm_map_destroy(&m->map);
	pthread_mutex_unlock(&m->edit);
	gm_reap(m);
	m->backend->ops->destroy(m->backend);
	destroy_gates(m);
	gm_turn_destroy(&m->slots_lock);
	gm_turn_destroy(&m->txn_turn);
	gm_map_put(m);
}

void gm_reap(struct gpamap *m)
{
	struct gpamap_region *dead;
	int cancel;

	/* A callback may be a point at which a thread can be cancelled, and the rest of the dead would stay so. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&m->edit);
	dead = gm_map_reap(&m->map);
	pthread_mutex_unlock(&m->edit);
	while (dead) {
		struct gpamap_region *next = dead->next_dead;
		bool counted = !dead->internal && !dead->is_root;

		/* With no lock held: the callback may call the library. */
		gm_region_release(&m->alloc, dead);
		if (counted)
			gm_map_put(m);
		dead = next;
	}
	pthread_setcancelstate(cancel, NULL);
}

int gpamap_reserve_slots(struct gpamap *m, unsigned space, uint32_t first, uint32_t count)
{
	struct gm_msg msg = {""};
	int err;

	if (space >= m->nr_spaces) {
		gm_fail(&msg, 0, "no address space %u, there are %u", space, m->nr_spaces);
		return gm_map_fail(m, -ERANGE, &msg);
	}
	if (gm_may_wait(m, "slots are reserved", &msg))
		return gm_map_fail(m, -EDEADLK, &msg);
	gm_slots_lock(m);
	err = gm_ids_reserve(&m->slots[space].ids, first, count);
	gm_slots_unlock(m);
	if (err) {
		gm_fail(&msg, 0, "slots %u to %u of address space %u %s", first, first + count - 1,
			space, err == -EBUSY ? "are in use" : "are not all there");
		return gm_map_fail(m, err, &msg);
	}
	return 0;
}

void gpamap_get_stats(struct gpamap *m, struct gpamap_stats *ret)
{
	const struct gm_counters *c = &m->counters;

	*ret = (struct gpamap_stats){
		.commits = atomic_load(&c->commits),
		.failed = atomic_load(&c->failed),
		.gate_shut = atomic_load(&c->gate_shut),
		.slot_ioctls = atomic_load(&c->slot_ioctls),
		.kicks = atomic_load(&m->gate.kicks),
		.timeouts = atomic_load(&c->timeouts),
		.undone = atomic_load(&c->undone),
		.merges = atomic_load(&c->merges),
		.pending = (uint32_t)atomic_load(&c->pending),
		.slots = (uint32_t)atomic_load(&c->slots),
		.membarrier = m->gate.membarrier,
		.broken = atomic_load(&c->broken),
	};
}
