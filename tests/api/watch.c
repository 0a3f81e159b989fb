/* SPDX-License-Identifier: BSD-3-Clause */
/* Watchers: guests and accessors that note what they meet; see order.h. */
#define _GNU_SOURCE
#include "order.h"

#include <linux/kvm.h>
#include <time.h>

#define BURST 64 /* accesses until a watcher rests */

enum { TAG, STORE, OWN, FETCH, KINDS };

static enum phase phase_of(const struct order *o)
{
	return (enum phase)atomic_load(&o->phase);
}

/* Each place in turn, and there each kind in turn. */
static void choose(struct watcher *w)
{
	struct order *o = w->o;
	struct place *p;

	do {
		w->place = (unsigned)(w->turn % o->nr_places);
		w->kind = (unsigned)(w->turn / o->nr_places % KINDS);
		w->turn++;
		p = &o->place[w->place];
	} while ((w->kind == OWN && !p->has_own) ||
		 (w->kind == FETCH && (w->id == ACCESSOR || !p->side[OLD].loads)));
	w->others_saw_new = atomic_load(&p->seen_new);
	w->start = phase_of(o);
	w->exited = w->refused = w->died = false;
	w->word = w->met[w->place].stored + 1;
	w->chosen = true;
}

static void met_side(struct watcher *w, int side)
{
	struct met *m = &w->met[w->place];

	m->n[side]++;
	m->new_before += side == NEW && phase_of(w->o) == BEFORE;
	m->since[0][side] += w->start >= RETURNED;
	m->since[1][side] += w->start >= CLEARED;
	m->back += side == OLD && m->is_new;
	m->back_of_others += side == OLD && w->others_saw_new;
	if (side == NEW) {
		m->is_new = true;
		atomic_store(&w->o->place[w->place].seen_new, true);
	}
}

/* What was met says @is_old and @is_new of the two maps: it may be either, one, or none of them. */
static void met_either(struct watcher *w, bool is_old, bool is_new)
{
	if (!is_old && !is_new)
		w->met[w->place].neither++;
	else if (is_old != is_new)
		met_side(w, is_new);
}

static void stored(struct watcher *w)
{
	const struct side *s = w->o->place[w->place].side;
	struct met *m = &w->met[w->place];
	bool accepted = !w->refused;

	if (accepted) {
		m->expected = ++m->stored;
		if (phase_of(w->o) == BEFORE)
			m->stored_before = m->stored;
		if (w->start < RETURNED)
			m->stored_by_return = m->stored;
	}
	met_either(w, accepted == (s[OLD].store != NOBODY), accepted == (s[NEW].store != NOBODY));
}

static void loaded_own(struct watcher *w)
{
	const struct side *s = w->o->place[w->place].side;
	struct met *m = &w->met[w->place];

	if (w->refused) {
		met_either(w, s[OLD].load == HOLE, s[NEW].load == HOLE);
	} else if (w->word != m->expected) {
		/* The new map's is a fresh one, once. */
		if (w->word || m->moved || s[OLD].load == s[NEW].load) {
			m->neither++;
			return;
		}
		m->moved = true;
		m->expected = 0;
		met_side(w, NEW);
	}
}

/* An access is over. */
static void conclude(struct watcher *w)
{
	const struct side *s = w->o->place[w->place].side;
	struct met *m = &w->met[w->place];
	uint64_t found = w->refused ? HOLE : w->word;

	if (w->kind == STORE)
		m->store_exits += w->exited;
	else
		m->load_exits += w->exited;
	if (w->kind == STORE)
		stored(w);
	else if (w->kind == OWN)
		loaded_own(w);
	else if (w->died)
		met_either(w, !s[OLD].loads, !s[NEW].loads);
	else
		met_either(w, found == s[OLD].load, found == s[NEW].load);
	w->chosen = false;
	atomic_fetch_add(&w->accesses, 1);
}

static uint64_t gpa_of(const struct watcher *w)
{
	uint64_t gpa = w->o->place[w->place].gpa;

	return w->kind == TAG || w->kind == FETCH ? gpa : gpa + own_word(w->place, w->id);
}

static bool is_a_refusal(int err)
{
	return err == -ENXIO || err == -EACCES || err == -EROFS;
}

/* A guest's step. It halts after each burst, and in the end. */
static int watch_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	struct watcher *w = opaque;
	int r = 0;

	if (!w->chosen) {
		if (atomic_load(&w->o->stop) || w->turn % BURST == 0) {
			r = gpamap_sim_halt(vcpu);
			if (r)
				return r;
		}
		choose(w);
	}
	if (w->died)
		r = 0;
	else if (w->kind == STORE)
		r = gpamap_sim_store(vcpu, gpa_of(w), &w->word, 8);
	else if (w->kind == FETCH)
		r = gpamap_sim_fetch(vcpu, gpa_of(w), &w->word, 8);
	else
		r = gpamap_sim_load(vcpu, gpa_of(w), &w->word, 8);
	if (!r)
		conclude(w);
	return r;
}

void watcher_rest(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* A VMM's exit handler. */
static void handle_exit(struct watcher *w)
{
	struct kvm_run *run = gpamap_sim_vcpu_kvm_run(w->sim_vcpu);
	int err;

	switch (run->exit_reason) {
	case KVM_EXIT_HLT:
		watcher_rest();
		return;
	case KVM_EXIT_MMIO:
		err = gpamap_vcpu_mmio(w->vcpu, 0);
		w->exited = true;
		w->refused = err != 0;
		w->failed += err && !is_a_refusal(err);
		if (err && !run->mmio.is_write)
			memset(run->mmio.data, 0xff, 8);
		return;
	default:
		w->failed += run->exit_reason != KVM_EXIT_INTERNAL_ERROR || w->kind != FETCH;
		w->exited = true;
		w->died = true;
	}
}

static void *run_vcpu(void *opaque)
{
	struct watcher *w = opaque;

	while (!atomic_load(&w->o->stop) || w->chosen) {
		int err = gpamap_vcpu_run(w->vcpu);

		if (!err)
			handle_exit(w);
		else if (err == -ENOTRECOVERABLE)
			watcher_rest();
		else
			w->failed += err != -EINTR;
	}
	return NULL;
}

static void *access_memory(void *opaque)
{
	struct watcher *w = opaque;
	struct gpamap *map = w->o->vm.map;

	while (!atomic_load(&w->o->stop)) {
		int err;

		choose(w);
		if (w->kind == STORE)
			err = gpamap_write(map, 0, gpa_of(w), &w->word, 8);
		else
			err = gpamap_read(map, 0, gpa_of(w), &w->word, 8);
		w->refused = err != 0;
		w->failed += err && !is_a_refusal(err);
		conclude(w);
		if (w->turn % BURST == 0)
			watcher_rest();
	}
	return NULL;
}

void watchers_begin(struct order *o)
{
	for (unsigned i = 0; i < WATCHERS; i++) {
		struct watcher *w = &o->watcher[i];

		w->o = o;
		w->id = i;
		w->turn = i;
		if (i != ACCESSOR) {
			ok(gpamap_sim_vcpu_new(o->vm.sim, i,
					       i == EMULATED ? GPAMAP_SIM_EMULATED : 0, watch_step,
					       w, &w->sim_vcpu));
			ok(gpamap_sim_vcpu_attach(o->vm.map, w->sim_vcpu, &w->vcpu));
		}
		ok(pthread_create(&w->thread, NULL, i == ACCESSOR ? access_memory : run_vcpu, w));
	}
}

void watchers_end(struct order *o)
{
	atomic_store(&o->stop, true);
	for (unsigned i = 0; i < WATCHERS; i++) {
		struct watcher *w = &o->watcher[i];

		ok(pthread_join(w->thread, NULL));
		gpamap_vcpu_detach(w->vcpu);
		gpamap_sim_vcpu_free(w->sim_vcpu);
	}
}

void watchers_wait(struct order *o)
{
	unsigned long from[WATCHERS], n = (KINDS + 1) * o->nr_places;

	for (unsigned i = 0; i < WATCHERS; i++)
		from[i] = atomic_load(&o->watcher[i].accesses);
	for (unsigned i = 0; i < WATCHERS; i++) {
		while (atomic_load(&o->watcher[i].accesses) < from[i] + n)
			watcher_rest();
	}
}
