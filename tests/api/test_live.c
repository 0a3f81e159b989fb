/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commits under running vCPUs (P1, P2, P8). Guests store, load, add, fetch and walk in pages that are always
 * backed, and check what they find; threads read and write guest memory, make regions, and hold the gate; and
 * the map changes all the time. No access may leave the guest, and none may be lost or find other memory. See test_naive.c for the control.
 */
#include "guest.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <time.h>

#define VCPUS 4
#define SECONDS 2

/* ----------------------------------------------------------------------------------- threads --- */

struct live {
	struct vm vm;
	atomic_bool stop;
	struct gpamap_region *ram;
	struct gpamap_region *window;
	struct gpamap_region *mover;
	atomic_ulong regions_made;
	atomic_ulong regions_released;
};

struct runner {
	struct live *live;
	pthread_t thread;
	struct guest guest;
	unsigned flags;
	bool own_loop; /* by enter and leave */
	bool commits;  /* at times, from its exit handler */
	uint64_t spurious;
	uint64_t failed;
	uint64_t commits_done;
};

/* A part of the plain pages, read-only or not. */
static int edit_protect(struct gpamap_txn *txn, struct random *r)
{
	uint64_t first = random_below(r, 16), n = 1 + random_below(r, 16 - first);

	return gpamap_protect_pages(txn, 0, (PLAIN_RO_AT + first) * PAGE, n * PAGE,
				    random_below(r, 2) ? GPAMAP_RO : GPAMAP_RW);
}

static void commit_from_handler(struct runner *r)
{
	struct gpamap_txn *txn;

	if (gpamap_begin(r->live->vm.map, &txn)) {
		r->failed++;
		return;
	}
	if (edit_protect(txn, &r->guest.random) || gpamap_commit(txn, NULL, NULL)) {
		gpamap_abort(txn);
		r->failed++;
		return;
	}
	r->commits_done++;
}

static int run_once(struct runner *r, struct gpamap_vcpu *vcpu, struct gpamap_sim_vcpu *sim_vcpu)
{
	int err;

	if (!r->own_loop)
		return run_on(vcpu);
	do {
		err = gpamap_vcpu_enter(vcpu);
		if (err)
			return err;
		err = gpamap_sim_vcpu_run(sim_vcpu);
		gpamap_vcpu_leave(vcpu);
	} while (err == -EINTR);
	return err;
}

static void run_attached(struct runner *r, struct gpamap_sim_vcpu *sim_vcpu)
{
	struct kvm_run *run = gpamap_sim_vcpu_kvm_run(sim_vcpu);
	struct gpamap_vcpu *vcpu;

	if (gpamap_sim_vcpu_attach(r->live->vm.map, sim_vcpu, &vcpu)) {
		r->failed++;
		return;
	}
	for (int i = 0; i < 20 && !atomic_load(&r->live->stop); i++) {
		if (run_once(r, vcpu, sim_vcpu)) {
			r->failed++;
			break;
		}
		if (run->exit_reason != KVM_EXIT_HLT) {
			r->spurious++;
			r->guest.chosen = false;
		} else if (r->commits && i % 4 == 0) {
			commit_from_handler(r);
		}
	}
	gpamap_vcpu_detach(vcpu);
}

static void *run_vcpu(void *opaque)
{
	struct runner *r = opaque;
	struct gpamap_sim_vcpu *sim_vcpu;

	if (gpamap_sim_vcpu_new(r->live->vm.sim, r->guest.id, r->flags, guest_step, &r->guest,
				&sim_vcpu)) {
		r->failed++;
		return NULL;
	}
	while (!atomic_load(&r->live->stop))
		run_attached(r, sim_vcpu);
	gpamap_sim_vcpu_free(sim_vcpu);
	return NULL;
}

/* Reads and writes guest memory, in a word of its own in each page; looks up; holds the gate. */
static void *access_memory(void *opaque)
{
	struct runner *r = opaque;
	struct gpamap *map = r->live->vm.map;
	struct guest *g = &r->guest;

	while (!atomic_load(&r->live->stop)) {
		struct gpamap_segment s;
		uint64_t word, gpa;
		int err = 0;

		guest_choose(g);
		gpa = g->page * PAGE;
		if (guest_may_write(g->page)) {
			word = g->stored[g->page] + 1;
			err |= gpamap_write(map, 0, gpa + 512, &word, 8);
			err |= gpamap_read(map, 0, gpa + 512, &word, 8);
			g->wrong += word != ++g->stored[g->page];
		}
		err |= gpamap_read(map, 0, gpa, &word, 8);
		g->wrong += !guest_right_tag(g->page, word);
		err |= gpamap_lookup(map, 0, gpa, &s);
		g->wrong += s.gpa > gpa || gpa - s.gpa >= s.size;
		err |= gpamap_enter(map);
		err |= gpamap_enter(map);
		gpamap_leave(map);
		gpamap_leave(map);
		r->failed += err != 0;
		/* Not all the time, for there are few processors. */
		sleep_ms(++g->ops % 64 == 0);
	}
	return NULL;
}

static void count_release(void *opaque)
{
	struct live *live = opaque;

	atomic_fetch_add(&live->regions_released, 1);
}

/* Makes regions, and forgets them, and shows some of them for a while. */
static void *make_regions(void *opaque)
{
	struct runner *r = opaque;
	struct gpamap *map = r->live->vm.map;
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM,
		.name = "passing",
		.size = 4 * PAGE,
		.hva = mover_hva,
		.opaque = r->live,
		.release = count_release,
	};

	while (!atomic_load(&r->live->stop)) {
		struct gpamap_region *region;
		struct gpamap_txn *txn;
		int err = gpamap_region_new(map, &desc, &region);

		if (err) {
			r->failed++;
			continue;
		}
		atomic_fetch_add(&r->live->regions_made, 1);
		gpamap_region_put(gpamap_region_get(region));
		if (++r->guest.ops % 8 == 0 && !gpamap_begin(map, &txn)) {
			err = gpamap_add(txn, gpamap_root(map, 0), (HOTPLUG_AT + 20) * PAGE, region,
					 0);
			if (!err)
				err = gpamap_commit(txn, NULL, NULL);
			if (err)
				gpamap_abort(txn);
			if (!err && !(err = gpamap_begin(map, &txn))) {
				err = gpamap_remove(txn, region);
				err |= gpamap_commit(txn, NULL, NULL);
			}
			r->failed += err != 0;
		}
		gpamap_region_put(region);
		sleep_ms(r->guest.ops % 16 == 0);
	}
	return NULL;
}

/* ------------------------------------------------------------------------------------- edits --- */

static int edit_random(struct live *l, struct gpamap_txn *txn, struct random *r)
{
	uint64_t first = random_below(r, 16), n = 1 + random_below(r, 16 - first);

	switch (random_below(r, 9)) {
	case 0:
		return edit_protect(txn, r);
	case 1:
		return gpamap_set_enabled(txn, l->window, random_below(r, 2));
	case 2:
		return gpamap_set_readonly(txn, l->window, random_below(r, 2));
	case 3:
		return gpamap_reback(txn, l->ram, ram_hva[random_below(r, 3)]);
	case 4:
		return gpamap_resize(txn, l->ram, (32 + random_below(r, 17)) * PAGE);
	case 5:
		return gpamap_move(txn, l->mover, (MOVER_AT + random_below(r, 5)) * PAGE);
	case 6:
		return gpamap_set_log(txn, l->ram, random_below(r, 2));
	case 7: /* The same memory, by another address. */
		return gpamap_map_pages(txn, 0, (PLAIN_RW_AT + first) * PAGE, n * PAGE,
					plain_hva[random_below(r, 2)] + (16 + first) * PAGE,
					GPAMAP_RW);
	default:
		if (random_below(r, 2))
			return gpamap_unmap_pages(txn, 0, (HOTPLUG_AT + first) * PAGE, n * PAGE);
		return gpamap_map_pages(txn, 0, (HOTPLUG_AT + first) * PAGE, n * PAGE, mover_hva,
					GPAMAP_RW);
	}
}

/* So that each race is hit: every step takes its time, now the one and then the other. */
static void stretch(struct live *l, struct random *r)
{
	for (int step = GPAMAP_SIM_WHILE_INVALID; step <= GPAMAP_SIM_IN_GET_DIRTY; step++)
		gpamap_sim_stretch(l->vm.sim, (enum gpamap_sim_step)step,
				   random_below(r, 4) ? 0 : 1 + (unsigned)random_below(r, 60));
}

static void no_stretch(struct gpamap_sim *sim)
{
	for (int step = GPAMAP_SIM_WHILE_INVALID; step <= GPAMAP_SIM_IN_GET_DIRTY; step++)
		gpamap_sim_stretch(sim, (enum gpamap_sim_step)step, 0);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void edit_until(struct live *l, struct random *r, double end)
{
	uint64_t bits[1];

	for (unsigned n = 0; now() < end; n++) {
		struct gpamap_commit_options opt = {0};
		struct gpamap_txn *txn = vm_begin(&l->vm);

		if (n % 16 == 0)
			stretch(l, r);
		for (uint64_t k = 1 + random_below(r, 3); k > 0; k--)
			ok_txn(txn, edit_random(l, txn, r));
		if (random_below(r, 8) == 0)
			opt.flags = GPAMAP_COMMIT_ONE_INSTANT;
		if (random_below(r, 16) == 0)
			gpamap_abort(txn);
		else
			ok_txn(txn, gpamap_commit(txn, &opt, NULL));
		if (n % 8 == 0) {
			int err = gpamap_dirty_fetch(l->vm.map, l->ram, 0, 32 * PAGE, bits);

			assert_true(err == 0 || err == -ENODATA);
		}
	}
	no_stretch(l->vm.sim);
}

static void build(struct live *l)
{
	struct gpamap_region_desc desc = {.kind = GPAMAP_ALIAS,
					  .flags = GPAMAP_READONLY,
					  .name = "window",
					  .size = 8 * PAGE,
					  .target_offset = WINDOW_AT * PAGE};
	struct gpamap_region *root = gpamap_root(l->vm.map, 0);
	struct gpamap_txn *txn;

	l->ram = vm_ram(&l->vm, ram_hva[0], 32, 48);
	l->mover = vm_ram(&l->vm, mover_hva, 16, 0);
	desc.target = l->ram;
	l->window = vm_region(&l->vm, &desc);
	txn = vm_begin(&l->vm);
	ok_txn(txn, gpamap_add(txn, root, 0, l->ram, 0));
	ok_txn(txn, gpamap_add(txn, root, WINDOW_AT * PAGE, l->window, 1));
	ok_txn(txn, gpamap_add(txn, root, MOVER_AT * PAGE, l->mover, 0));
	ok_txn(txn, gpamap_map_pages(txn, 0, PLAIN_RO_AT * PAGE, 32 * PAGE,
				     guest_plain_at(PLAIN_RO_AT), GPAMAP_RW));
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

/* Nothing that a guest did is lost. */
static void check_memory(struct runner *r)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		const uint8_t *p = page < 32 ? ram_hva[0] + page * PAGE : NULL;
		uint64_t word, added = 0;

		if (!guest_may_write(page))
			continue;
		if (!p)
			p = guest_plain_at(page);
		for (unsigned i = 0; i < VCPUS; i++) {
			memcpy(&word, p + 64 + 8 * i, 8);
			assert_int_equal(word, r[i].guest.stored[page]);
			added += r[i].guest.added[page];
		}
		memcpy(&word, p + 32, 8);
		assert_int_equal(word, added);
		memcpy(&word, p + 512, 8);
		assert_int_equal(word, r[VCPUS].guest.stored[page]);
	}
}

static void live(const struct gpamap_options *opt, const char *name)
{
	static struct live l;
	static struct runner r[VCPUS + 2];
	struct random random = random_new(name, 11);
	struct gpamap_stats stats;
	uint64_t ops = 0;

	memset(&l, 0, sizeof(l));
	memset(r, 0, sizeof(r));
	guest_clear_memory();
	vm_open(&l.vm, NULL, opt);
	build(&l);
	for (unsigned i = 0; i < VCPUS + 2; i++) {
		void *(*body)(void *) = i < VCPUS    ? run_vcpu
					: i == VCPUS ? access_memory
						     : make_regions;

		r[i].live = &l;
		r[i].guest.id = i;
		r[i].guest.random.state = random_next(&random);
		r[i].flags = i % 2 ? GPAMAP_SIM_EMULATED : 0;
		r[i].own_loop = i == 2;
		r[i].commits = i == 0 || i == 3;
		ok(pthread_create(&r[i].thread, NULL, body, &r[i]));
	}
	edit_until(&l, &random, now() + SECONDS);
	atomic_store(&l.stop, true);
	for (unsigned i = 0; i < VCPUS + 2; i++)
		ok(pthread_join(r[i].thread, NULL));
	stats = vm_stats(&l.vm);
	for (unsigned i = 0; i < VCPUS + 2; i++) {
		assert_int_equal(r[i].spurious, 0);
		assert_int_equal(r[i].failed, 0);
		assert_int_equal(r[i].guest.wrong, 0);
		assert_true(r[i].guest.ops > 0);
		ops += r[i].guest.ops;
	}
	check_memory(r);
	printf("%s: %llu commits, gate shut in %llu, %llu kicks, %llu accesses\n", name,
	       (unsigned long long)stats.commits, (unsigned long long)stats.gate_shut,
	       (unsigned long long)stats.kicks, (unsigned long long)ops);
	assert_true(stats.gate_shut > 20 && stats.kicks > 0 && ops > 1000);
	assert_true(r[0].commits_done > 0);
	assert_int_equal(stats.failed + stats.timeouts + stats.undone, 0);
	vm_check_settled(&l.vm);
	gpamap_region_put(l.ram);
	gpamap_region_put(l.window);
	gpamap_region_put(l.mover);
	vm_close(&l.vm);
	assert_int_equal(atomic_load(&l.regions_made), atomic_load(&l.regions_released));
}

static void with_membarrier(void **state)
{
	(void)state;
	live(NULL, "membarrier");
}

static void with_fences(void **state)
{
	struct gpamap_options opt = {.flags = GPAMAP_NO_MEMBARRIER};

	(void)state;
	live(&opt, "fences");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_membarrier),
		cmocka_unit_test(with_fences),
	};

	return cmocka_run_group_tests(tests, guest_memory, NULL);
}
