/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * GPAMAP_COMMIT_ONE_INSTANT (P2): all vCPUs go from the old map to the new one at one instant, though nothing
 * overlaps. Each transaction lets a page of memory with the next number appear at one GPA, and the one before
 * disappear at another. So at any time there is just one of them:
 *  - who has seen the new one does not find the old one any more,
 *  - who does not find the old one any more finds the new one, unless the next transaction has begun.
 * Without the flag the new one comes early and the old one goes late, and guests see both.
 *
 * The same holds for two address spaces together. A simulated guest loads from the first one only, so there it is
 * looked at from inside the gate: while a vCPU runs no slot changes, and both views are of one generation.
 */
#include "common.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <time.h>

#define MEM 1
#define GENERATIONS 150
#define SPREAD 8 /* GPAs that are used in turn, each with a page between */

static atomic_ulong begun; /* the newest generation whose commit may have begun */

static uint64_t place(uint64_t generation)
{
	return 2 * (generation % SPREAD) * PAGE;
}

struct watcher {
	pthread_t thread;
	atomic_bool stop;
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	enum { HERE, AHEAD, BEFORE, NEXT } look;
	uint64_t newest; /* seen, or concluded from what was not */
	uint64_t word;
	uint64_t both;
	uint64_t none;
	uint64_t seen;
	uint64_t failed;
	unsigned steps;
};

/* What the guest makes of the page that it has looked at. */
static void conclude(struct watcher *w)
{
	bool there = w->word != HOLE;

	switch (w->look) {
	case HERE:
		w->look = there ? AHEAD : NEXT;
		break;
	case AHEAD:
		w->look = there ? BEFORE : HERE;
		break;
	case BEFORE:
		w->both += there && w->word < w->newest;
		w->look = HERE;
		break;
	case NEXT:
		/* The map is that of newest + 1 at least; and if that isn't there, either, that of one more. */
		w->none += !there && atomic_load(&begun) < w->newest + 2;
		w->newest++;
		w->look = there ? BEFORE : NEXT;
	}
	if (there && w->word > w->newest)
		w->newest = w->word;
	w->seen += there;
}

static int watch_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	struct watcher *w = opaque;
	static const int from_newest[] = {[HERE] = 0, [AHEAD] = 1, [BEFORE] = -1, [NEXT] = 1};
	uint64_t at = w->newest + (uint64_t)from_newest[w->look];
	int r;

	if (w->steps == 100) {
		r = gpamap_sim_halt(vcpu);
		if (!r)
			w->steps = 0;
		return r;
	}
	r = gpamap_sim_load(vcpu, place(at), &w->word, 8);
	if (r)
		return r;
	w->steps++;
	if (w->word != HOLE)
		w->word = (uint32_t)w->word;
	conclude(w);
	return 0;
}

static void *watch(void *opaque)
{
	struct watcher *w = opaque;
	struct kvm_run *run = gpamap_sim_vcpu_kvm_run(w->sim_vcpu);

	while (!atomic_load(&w->stop)) {
		w->failed += run_on(w->vcpu) != 0;
		/* Nothing there: which map that is can't be told. */
		if (run->exit_reason == KVM_EXIT_MMIO)
			memset(run->mmio.data, 0xff, 8);
	}
	return NULL;
}

static void begin(struct watcher *w, struct vm *vm, unsigned id)
{
	memset(w, 0, sizeof(*w));
	w->newest = 1;
	ok(gpamap_sim_vcpu_new(vm->sim, id, id ? GPAMAP_SIM_EMULATED : 0, watch_step, w,
			       &w->sim_vcpu));
	ok(gpamap_sim_vcpu_attach(vm->map, w->sim_vcpu, &w->vcpu));
	ok(pthread_create(&w->thread, NULL, watch, w));
}

static void end(struct watcher *w)
{
	atomic_store(&w->stop, true);
	ok(pthread_join(w->thread, NULL));
	gpamap_vcpu_detach(w->vcpu);
	gpamap_sim_vcpu_free(w->sim_vcpu);
	assert_int_equal(w->failed, 0);
	assert_true(w->seen > 0);
}

static void next_generation(struct vm *vm, uint8_t *mem, uint64_t g, unsigned flags)
{
	/* Something else that comes, and goes before the old page does. */
	uint64_t other = UINT64_C(1000) * PAGE;
	struct gpamap_commit_options opt = {.flags = flags};
	struct gpamap_txn *txn = vm_begin(vm);

	ok_txn(txn, gpamap_map_pages(txn, 0, place(g), PAGE, mem + g * PAGE, GPAMAP_RO));
	ok_txn(txn, gpamap_unmap_pages(txn, 0, place(g - 1), PAGE));
	ok_txn(txn, gpamap_map_pages(txn, 0, other + g % 2 * 2 * PAGE, PAGE, mem, GPAMAP_RW));
	ok_txn(txn, gpamap_unmap_pages(txn, 0, other + (g + 1) % 2 * 2 * PAGE, PAGE));
	atomic_store(&begun, g);
	ok_txn(txn, gpamap_commit(txn, &opt, NULL));
}

/* How often did a guest see both? */
static uint64_t generations(unsigned flags)
{
	static struct watcher w[2];
	uint8_t *mem = mem_new(MEM, GENERATIONS);
	struct vm vm;

	vm_open(&vm, NULL, NULL);
	next_generation(&vm, mem, 1, flags);
	for (unsigned i = 0; i < 2; i++)
		begin(&w[i], &vm, i);
	/* Time enough between two operations. */
	gpamap_sim_stretch(vm.sim, GPAMAP_SIM_BEFORE_CREATE, 50);
	gpamap_sim_stretch(vm.sim, GPAMAP_SIM_WHILE_INVALID, 50);
	gpamap_sim_stretch(vm.sim, GPAMAP_SIM_AFTER_DELETE, 200);
	for (uint64_t g = 2; g < GENERATIONS; g++)
		next_generation(&vm, mem, g, flags);
	for (unsigned i = 0; i < 2; i++) {
		end(&w[i]);
		assert_int_equal(w[i].none, 0);
	}
	vm_close(&vm);
	return w[0].both + w[1].both;
}

static void one_instant(void **state)
{
	(void)state;
	assert_int_equal(generations(GPAMAP_COMMIT_ONE_INSTANT), 0);
}

static void control(void **state)
{
	uint64_t both = generations(0);

	(void)state;
	printf("without the flag: both seen %llu times\n", (unsigned long long)both);
	assert_true(both > 0);
}

/* A vCPU that does nothing but look around. */
struct bystander {
	struct vm *vm;
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong steps;
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	uint64_t calls; /* while it ran */
	uint64_t apart; /* the two views were not of one generation */
	uint64_t failed;
	unsigned turn;
};

static int stand_by(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	const struct timespec a_little = {.tv_nsec = 20000};
	struct bystander *b = opaque;
	uint64_t before = gpamap_sim_calls(b->vm->sim, GPAMAP_SIM_ANY);
	struct gpamap_segment s[2];

	if (b->turn == 8) {
		int r = gpamap_sim_halt(vcpu);

		b->turn = r ? b->turn : 0;
		return r;
	}
	b->turn++;
	b->failed += gpamap_lookup(b->vm->map, 0, 0, &s[0]) != 0;
	nanosleep(&a_little, NULL);
	b->failed += gpamap_lookup(b->vm->map, 1, 0, &s[1]) != 0;
	b->apart += s[0].gpa != s[1].gpa;
	b->calls += gpamap_sim_calls(b->vm->sim, GPAMAP_SIM_ANY) != before;
	atomic_fetch_add(&b->steps, 1);
	return 0;
}

static void *run_bystander(void *opaque)
{
	struct bystander *b = opaque;

	while (!atomic_load(&b->stop))
		b->failed += run_on(b->vcpu) != 0;
	return NULL;
}

/* Generation @g in both spaces: one page comes, the one before goes, and one moves. */
static void next_in_both(struct vm *vm, struct gpamap_region *ram, uint8_t *mem, uint64_t g,
			 unsigned flags)
{
	const uint64_t far = UINT64_C(1000) * PAGE;
	struct gpamap_commit_options opt = {.flags = flags};
	struct gpamap_txn *txn = vm_begin(vm);

	for (unsigned i = 0; i < 2; i++) {
		ok_txn(txn, gpamap_map_region(txn, i, far + place(g), PAGE, ram, 0, GPAMAP_RO));
		ok_txn(txn, gpamap_unmap_pages(txn, i, far + place(g - 1), PAGE));
		ok_txn(txn, gpamap_map_pages(txn, i, place(g), PAGE, mem + g * PAGE, GPAMAP_RO));
		ok_txn(txn, gpamap_unmap_pages(txn, i, place(g - 1), PAGE));
	}
	ok_txn(txn, gpamap_commit(txn, &opt, NULL));
}

/* In how many steps of a guest did slots change? */
static uint64_t two_spaces(unsigned flags)
{
	struct gpamap_sim_options sim = {.spaces = 2};
	struct gpamap_options opt = {.spaces = 2};
	static struct bystander b;
	uint8_t *mem = mem_new(MEM, GENERATIONS);
	struct gpamap_region *ram;
	struct vm vm;

	memset(&b, 0, sizeof(b));
	vm_open(&vm, &sim, &opt);
	ram = vm_ram(&vm, mem, 1, 0);
	next_in_both(&vm, ram, mem, 1, flags);
	b.vm = &vm;
	ok(gpamap_sim_vcpu_new(vm.sim, 0, 0, stand_by, &b, &b.sim_vcpu));
	ok(gpamap_sim_vcpu_attach(vm.map, b.sim_vcpu, &b.vcpu));
	ok(pthread_create(&b.thread, NULL, run_bystander, &b));
	for (uint64_t g = 2; g < GENERATIONS; g++) {
		unsigned long now = atomic_load(&b.steps);

		next_in_both(&vm, ram, mem, g, flags);
		while (atomic_load(&b.steps) < now + 2)
			sleep_ms(1);
	}
	atomic_store(&b.stop, true);
	ok(pthread_join(b.thread, NULL));
	gpamap_vcpu_detach(b.vcpu);
	gpamap_sim_vcpu_free(b.sim_vcpu);
	gpamap_region_put(ram);
	vm_close(&vm);
	assert_int_equal(b.failed, 0);
	if (flags)
		assert_int_equal(b.apart, 0);
	return b.calls;
}

static void one_instant_in_two_spaces(void **state)
{
	(void)state;
	assert_int_equal(two_spaces(GPAMAP_COMMIT_ONE_INSTANT), 0);
}

static void control_in_two_spaces(void **state)
{
	uint64_t calls = two_spaces(0);

	(void)state;
	printf("without the flag: slots changed in %llu steps of a guest\n",
	       (unsigned long long)calls);
	assert_true(calls > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_instant),
		cmocka_unit_test(control),
		cmocka_unit_test(one_instant_in_two_spaces),
		cmocka_unit_test(control_in_two_spaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
