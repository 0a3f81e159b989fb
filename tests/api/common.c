/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the whole library share; see common.h. */
#define _GNU_SOURCE
#include "common.h"

#include <linux/kvm.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MEMS 16
#define PROBE_ID 1000
/* The library takes the lowest free id; no test but one comes near this one. */
#define PROBE_SLOT 32763

void expect_txn(const struct gpamap_txn *txn, int got, int want, const char *call, const char *file,
		int line)
{
	if (got != want)
		print_error("%s: %d, not %d: %s\n", call, got, want, gpamap_message(txn));
	_assert_int_equal(cast_to_largest_integral_type(got), cast_to_largest_integral_type(want),
			  file, line);
	if (want && !gpamap_message(txn)[0]) {
		print_error("%s: no message\n", call);
		_fail(file, line);
	}
}

/* ------------------------------------------------------------------------------- allocation --- */

void counting_fail(struct counting *c, unsigned long nth, bool forever)
{
	atomic_store(&c->forever, forever);
	atomic_store(&c->fail, nth ? atomic_load(&c->calls) + nth : 0);
}

static void *counting_alloc(void *opaque, size_t size)
{
	struct counting *c = opaque;
	unsigned long call = atomic_fetch_add(&c->calls, 1) + 1;
	unsigned long fails = atomic_load(&c->fail);
	void *ptr;

	if (fails && (call == fails || (call > fails && atomic_load(&c->forever))))
		return NULL;
	ptr = malloc(size);
	if (ptr) {
		memset(ptr, 0xa5, size);
		atomic_fetch_add(&c->live, 1);
	}
	return ptr;
}

static void counting_free(void *opaque, void *ptr)
{
	struct counting *c = opaque;

	if (c->on_free)
		c->on_free(ptr);
	atomic_fetch_sub(&c->live, 1);
	free(ptr);
}

/* ------------------------------------------------------------------------------------ memory --- */

static int mem_fd[MEMS];

uint8_t *mem_again(uint32_t id, size_t pages)
{
	void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mem_fd[id], 0);

	assert_true(p != MAP_FAILED);
	return p;
}

uint8_t *mem_new(uint32_t id, size_t pages)
{
	uint8_t *p;

	assert_true(id < MEMS);
	if (!mem_fd[id])
		mem_fd[id] = memfd_create("gpamap-test", MFD_CLOEXEC);
	assert_true(mem_fd[id] > 0);
	ok(ftruncate(mem_fd[id], (off_t)(pages * PAGE)));
	p = mem_again(id, pages);
	for (size_t i = 0; i < pages; i++) {
		uint64_t tag = mem_tag(id, i);

		memcpy(p + i * PAGE, &tag, sizeof(tag));
	}
	return p;
}

uint8_t *mem_a, *mem_b, *mem_c;

void mems_new(size_t pages)
{
	mem_a = mem_new(A, pages);
	mem_b = mem_new(B, pages);
	mem_c = mem_new(C, pages);
}

/* -------------------------------------------------------------------------------------- VMs --- */

/* The probe's guest: load, load the second word and store it again, stop. */
static int look_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	struct vm *vm = opaque;
	int r;

	if (vm->look.at == vm->look.end)
		return gpamap_sim_halt(vcpu);
	if (vm->look.at == 0)
		r = gpamap_sim_load(vcpu, vm->look.gpa, &vm->look.word, 8);
	else if (vm->look.at == 1)
		r = gpamap_sim_load(vcpu, vm->look.gpa + 8, &vm->look.mark, 8);
	else
		r = gpamap_sim_store(vcpu, vm->look.gpa + 8, &vm->look.mark, 8);
	if (!r)
		vm->look.at++;
	return r;
}

/* The first @steps of them. */
static struct seen look(struct vm *vm, uint64_t gpa, int steps)
{
	struct kvm_run *run = gpamap_sim_vcpu_kvm_run(vm->probe);
	bool writable = true;

	vm->look.gpa = gpa;
	vm->look.at = 0;
	vm->look.end = steps;
	for (;;) {
		ok(gpamap_sim_vcpu_run(vm->probe));
		if (run->exit_reason == KVM_EXIT_HLT)
			return (struct seen){vm->look.word, writable};
		assert_int_equal(run->exit_reason, KVM_EXIT_MMIO);
		assert_int_equal(run->mmio.len, 8);
		if (run->mmio.is_write)
			writable = false;
		else
			memset(run->mmio.data, 0xff, 8);
	}
}

struct seen vm_see(struct vm *vm, uint64_t gpa)
{
	return look(vm, gpa, 3);
}

uint64_t vm_load(struct vm *vm, uint64_t gpa)
{
	return look(vm, gpa, 1).word;
}

bool vm_slot_at(struct vm *vm, unsigned space, uint64_t gpa)
{
	struct gpamap_sim_slot slot = {
		.slot = space << 16 | PROBE_SLOT,
		.gpa = gpa,
		.size = PAGE,
		.hva = (uint64_t)(uintptr_t)vm->spare,
	};
	int r = gpamap_sim_set_slot(vm->sim, &slot);

	if (r == -EEXIST)
		return true;
	ok(r);
	slot.size = 0;
	ok(gpamap_sim_set_slot(vm->sim, &slot));
	return false;
}

void vm_alloc_options(struct vm *vm, struct gpamap_options *opt)
{
	opt->alloc = counting_alloc;
	opt->free = counting_free;
	opt->alloc_opaque = &vm->alloc;
}

void vm_open(struct vm *vm, const struct gpamap_sim_options *sim, const struct gpamap_options *opt)
{
	struct gpamap_options o = opt ? *opt : (struct gpamap_options){0};
	char message[128] = "";
	int err = gpamap_kick_install(KICK);

	assert_true(err == 0 || err == -EBUSY);
	*vm = (struct vm){.spaces = o.spaces ? o.spaces : 1};
	vm->spare = mem_fd[0] ? mem_again(0, 1) : mem_new(0, 1);
	vm_alloc_options(vm, &o);
	o.kick_signal = KICK;
	o.message = message;
	o.message_size = sizeof(message);
	ok(gpamap_sim_new(sim, &vm->sim));
	err = gpamap_new_sim(vm->sim, &o, &vm->map);
	if (err)
		print_error("gpamap_new_sim: %s\n", message);
	ok(err);
	ok(gpamap_sim_vcpu_new(vm->sim, PROBE_ID, 0, look_step, vm, &vm->probe));
}

void vm_close_map(struct vm *vm)
{
	gpamap_free(vm->map);
	vm->map = NULL;
}

void vm_close_sim(struct vm *vm)
{
	gpamap_sim_vcpu_free(vm->probe);
	gpamap_sim_free(vm->sim);
	munmap(vm->spare, PAGE);
	assert_int_equal(atomic_load(&vm->alloc.live), 0);
}

void vm_close(struct vm *vm)
{
	vm_close_map(vm);
	vm_close_sim(vm);
}

struct vm vm;

int vm_setup(void **state)
{
	(void)state;
	vm_open(&vm, NULL, NULL);
	return 0;
}

int vm_teardown(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

struct gpamap_txn *vm_begin(struct vm *vm)
{
	struct gpamap_txn *txn;

	ok(gpamap_begin(vm->map, &txn));
	return txn;
}

struct gpamap_commit_report vm_commit_flags(struct vm *vm, struct gpamap_txn *txn, unsigned flags)
{
	struct gpamap_commit_options opt = {.flags = flags};
	struct gpamap_commit_report report;

	ok_txn(txn, gpamap_commit(txn, &opt, &report));
	vm_check_slots(vm, WORLD_PAGES);
	return report;
}

struct gpamap_commit_report vm_commit(struct vm *vm, struct gpamap_txn *txn)
{
	return vm_commit_flags(vm, txn, 0);
}

struct gpamap_stats vm_stats(struct vm *vm)
{
	struct gpamap_stats stats;

	gpamap_get_stats(vm->map, &stats);
	return stats;
}

struct gpamap_region *vm_region(struct vm *vm, const struct gpamap_region_desc *desc)
{
	struct gpamap_region *region = NULL;
	int err = gpamap_region_new(vm->map, desc, &region);
	char message[256];

	gpamap_last_message(vm->map, message, sizeof(message));
	if (err)
		print_error("gpamap_region_new: %s\n", message);
	ok(err);
	assert_non_null(region);
	return region;
}

static void not_needed_any_more(void *opaque)
{
	(void)opaque;
}

/* With a release callback: its slots may be deleted late. */
struct gpamap_region *vm_ram(struct vm *vm, void *hva, uint64_t pages, uint64_t max_pages)
{
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM,
		.name = "ram",
		.size = pages * PAGE,
		.max_size = max_pages * PAGE,
		.hva = hva,
		.release = not_needed_any_more,
	};

	return vm_region(vm, &desc);
}

struct gpamap_commit_report vm_add(struct vm *vm, struct gpamap_region *region, uint64_t page)
{
	struct gpamap_txn *txn = vm_begin(vm);

	ok_txn(txn, gpamap_add(txn, gpamap_root(vm->map, 0), page * PAGE, region, 0));
	return vm_commit(vm, txn);
}

struct seen vm_say(struct vm *vm, unsigned space, uint64_t gpa)
{
	struct seen hole = {HOLE, false}, seen;
	struct gpamap_segment s;
	int err = gpamap_lookup(vm->map, space, gpa, &s);

	if (err == -ENOENT)
		return hole;
	ok(err);
	/* A page that isn't memory as a whole is none. */
	if (s.gpa > gpa || s.prot == GPAMAP_NONE || s.size - (gpa - s.gpa) < PAGE)
		return hole;
	memcpy(&seen.word, (uint8_t *)s.hva + (gpa - s.gpa), sizeof(seen.word));
	seen.writable = s.prot == GPAMAP_RW;
	return seen;
}

void vm_check_slots(struct vm *vm, size_t pages)
{
	for (uint64_t gpa = 0; gpa < pages * PAGE; gpa += PAGE) {
		struct seen want = vm_say(vm, 0, gpa), got = vm_see(vm, gpa);

		if (want.word != got.word || want.writable != got.writable)
			print_error("at %#llx: %#llx %d, not %#llx %d\n", (unsigned long long)gpa,
				    (unsigned long long)got.word, got.writable,
				    (unsigned long long)want.word, want.writable);
		assert_int_equal(got.word, want.word);
		assert_int_equal(got.writable, want.writable);
		for (unsigned i = 1; i < vm->spaces; i++)
			assert_int_equal(vm_slot_at(vm, i, gpa), vm_say(vm, i, gpa).word != HOLE);
	}
}

void vm_check_pages(struct vm *vm, uint64_t first, uint64_t n, uint32_t mem, uint64_t page,
		    bool writable)
{
	for (uint64_t i = 0; i < n; i++) {
		struct seen s = vm_see(vm, (first + i) * PAGE);

		assert_int_equal(s.word, mem_tag(mem, page + i));
		assert_int_equal(s.writable, writable);
	}
}

void vm_check_hole(struct vm *vm, uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(vm_see(vm, (first + i) * PAGE).word, HOLE);
}

/* -------------------------------------------------------------------------------- snapshots --- */

static void take_segments(struct vm *vm, unsigned space, struct world *w)
{
	uint64_t gpa = 0;
	size_t n = 0;

	for (;;) {
		struct gpamap_segment s;
		int err = gpamap_lookup(vm->map, space, gpa, &s);

		if (err == -ENOENT)
			break;
		ok(err);
		assert_true(n < WORLD_SEGMENTS);
		memset(&w->segment[space][n], 0, sizeof(s));
		w->segment[space][n++] = s;
		if (s.size == GPAMAP_SIZE_MAX || s.gpa + s.size == 0)
			break;
		gpa = s.gpa + s.size;
	}
	w->nr_segments[space] = n;
}

static void take_slots(struct vm *vm, struct world *w)
{
	for (uint64_t i = 0; i < WORLD_PAGES; i++) {
		w->page[i] = vm_see(vm, i * PAGE);
		for (unsigned space = 1; space < vm->spaces; space++)
			w->slot[space][i] = vm_slot_at(vm, space, i * PAGE);
	}
}

void world_take_views(struct vm *vm, struct world *ret)
{
	for (unsigned space = 0; space < vm->spaces; space++)
		take_segments(vm, space, ret);
}

void world_take(struct vm *vm, struct world *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->spaces = vm->spaces;
	take_slots(vm, ret);
	world_take_views(vm, ret);
}

static bool same_segment(const struct gpamap_segment *a, const struct gpamap_segment *b)
{
	return a->gpa == b->gpa && a->size == b->size && a->kind == b->kind && a->prot == b->prot &&
	       a->log == b->log && a->hva == b->hva && a->offset == b->offset;
}

static bool same_page(const struct seen *a, const struct seen *b, uint64_t i)
{
	if (a->word == b->word && a->writable == b->writable)
		return true;
	print_error("page %llu: %#llx %d and %#llx %d\n", (unsigned long long)i,
		    (unsigned long long)a->word, a->writable, (unsigned long long)b->word,
		    b->writable);
	return false;
}

bool world_same(const struct world *a, const struct world *b)
{
	for (uint64_t i = 0; i < WORLD_PAGES; i++) {
		if (!same_page(&a->page[i], &b->page[i], i))
			return false;
		for (unsigned space = 1; space < a->spaces; space++) {
			if (a->slot[space][i] != b->slot[space][i])
				return false;
		}
	}
	for (unsigned space = 0; space < a->spaces; space++) {
		if (a->nr_segments[space] != b->nr_segments[space])
			return false;
		for (size_t i = 0; i < a->nr_segments[space]; i++) {
			if (!same_segment(&a->segment[space][i], &b->segment[space][i]))
				return false;
		}
	}
	return true;
}

void world_check(struct vm *vm, const struct world *want)
{
	struct world now;

	world_take(vm, &now);
	assert_true(world_same(&now, want));
}

void vm_check_settled(struct vm *vm)
{
	struct gpamap_txn *txn = vm_begin(vm);
	struct gpamap_plan *plan;

	ok_txn(txn, gpamap_preview(txn, GPAMAP_COMMIT_ONE_INSTANT, &plan));
	assert_int_equal(gpamap_plan_count(plan), 0);
	gpamap_plan_free(plan);
	gpamap_abort(txn);
}

/* ----------------------------------------------------------------------------------- random --- */

struct random random_new(const char *test, uint64_t seed)
{
	const char *given = getenv("GPAMAP_TEST_SEED");

	if (given)
		seed = strtoull(given, NULL, 0);
	printf("%s: GPAMAP_TEST_SEED=%#llx\n", test, (unsigned long long)seed);
	return (struct random){seed};
}

uint64_t random_next(struct random *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t random_below(struct random *r, uint64_t n)
{
	return random_next(r) % n;
}

/* ---------------------------------------------------------------------------------- threads --- */

int run_on(struct gpamap_vcpu *vcpu)
{
	int err;

	do {
		err = gpamap_vcpu_run(vcpu);
	} while (err == -EINTR);
	return err;
}

void sleep_ms(unsigned ms)
{
	struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

int thread_id(void)
{
	return (int)syscall(SYS_gettid);
}
