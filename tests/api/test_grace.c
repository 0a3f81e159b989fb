/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The grace period: what a reader has found in the published views is neither freed nor released before it is
 * out of its read section (P5), where a commit has replaced them, and where an undo has taken them back.
 *
 * The public functions stay in such a section for moments only, so the reader here is one of its own, that
 * stays until the views are no longer the published ones, and some time longer.
 */
#include "common.h"

#include <pthread.h>
#include <semaphore.h>

#include "api/impl.h"
#include "gpamap-listener.h"

#define LINGER_MS 100 /* for a commit that does not wait to go on and free */
#define GIVE_UP_MS 60000

static struct reader {
	pthread_t thread;
	sem_t inside;
	bool started;
	const struct gm_views *views;
	const struct gm_node *root;
	atomic_bool in;
	atomic_bool replaced; /* it has seen other views published */
	atomic_bool freed_early;
	atomic_bool released_early;
	atomic_int released;
} reader;

static void *read_views(void *opaque)
{
	struct gpamap *map = opaque;

	gm_read_lock();
	reader.views = gm_views_get(&map->publish);
	reader.root = reader.views->root[0];
	atomic_store(&reader.in, true);
	sem_post(&reader.inside);
	for (unsigned ms = 0; ms < GIVE_UP_MS && !atomic_load(&reader.replaced); ms++) {
		sleep_ms(1);
		atomic_store(&reader.replaced, gm_views_get(&map->publish) != reader.views);
	}
	sleep_ms(LINGER_MS);
	atomic_store(&reader.in, false);
	gm_read_unlock();
	return NULL;
}

static void start_reader(void)
{
	reader.started = !pthread_create(&reader.thread, NULL, read_views, vm.map);
	while (reader.started && sem_wait(&reader.inside) && errno == EINTR)
		;
}

static void on_free(void *ptr)
{
	if (atomic_load(&reader.in) && (ptr == reader.views || ptr == reader.root))
		atomic_store(&reader.freed_early, true);
}

static void on_release(void *opaque)
{
	(void)opaque;
	atomic_fetch_add(&reader.released, 1);
	if (atomic_load(&reader.in))
		atomic_store(&reader.released_early, true);
}

/* The commit has returned: so the reader had met what it was here for, and was out. */
static void check_reader(void)
{
	bool in = atomic_load(&reader.in);

	assert_true(reader.started);
	ok(pthread_join(reader.thread, NULL));
	assert_false(in);
	assert_true(atomic_load(&reader.replaced));
	assert_false(atomic_load(&reader.freed_early));
	assert_false(atomic_load(&reader.released_early));
}

static struct gpamap_region *owned(uint8_t *hva, uint64_t pages)
{
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM, .size = pages * PAGE, .hva = hva, .release = on_release};

	return vm_region(&vm, &desc);
}

static int setup(void **state)
{
	(void)state;
	vm_open(&vm, NULL, NULL);
	reader = (struct reader){.started = false};
	ok(sem_init(&reader.inside, 0, 0));
	vm.alloc.on_free = on_free;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_close(&vm);
	sem_destroy(&reader.inside);
	return 0;
}

static void replaced_by_a_commit(void **state)
{
	struct gpamap_region *r = owned(mem_a, 4);
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, r, 0));
	vm_commit(&vm, txn);
	start_reader();
	assert_non_null(reader.root);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, r));
	gpamap_region_put(r);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	check_reader();
	assert_int_equal(atomic_load(&reader.released), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(replaced_by_a_commit, setup, teardown),
	};

	mems_new(16);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
