/* SPDX-License-Identifier: BSD-3-Clause */
/* The control of test_live.c: slots that are changed under running vCPUs, with nobody held. The same guests, which
 * see nothing there, do notice. */
#include "guest.h"

#include <linux/kvm.h>
#include <pthread.h>

struct naive {
	struct gpamap_sim *sim;
	atomic_bool stop;
};

struct naive_runner {
	struct naive *naive;
	pthread_t thread;
	struct guest guest;
	struct gpamap_sim_vcpu *vcpu;
	atomic_uint runs;
	uint64_t spurious;
	uint64_t failed;
};

/* A VMM that takes an exit for what it seems to be: there is no device, so reads give ones, and writes nothing. */
static void *run_naive(void *opaque)
{
	struct naive_runner *r = opaque;
	struct kvm_run *run = gpamap_sim_vcpu_kvm_run(r->vcpu);

	while (!atomic_load(&r->naive->stop)) {
		r->failed += gpamap_sim_vcpu_run(r->vcpu) != 0;
		atomic_fetch_add(&r->runs, 1);
		if (run->exit_reason == KVM_EXIT_HLT)
			continue;
		r->spurious++;
		if (run->exit_reason != KVM_EXIT_MMIO)
			r->guest.chosen = false;
		else if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
	}
	return NULL;
}

/* Pages whose counter is not the sum of what the guests have added. */
static uint64_t lost_adds(const struct naive_runner r[2])
{
	uint64_t word, lost = 0;

	for (uint64_t page = 0; page < 32; page++) {
		memcpy(&word, ram_hva[0] + page * PAGE + 32, 8);
		lost += word != r[0].guest.added[page] + r[1].guest.added[page];
	}
	return lost;
}

static void begin(struct naive_runner *r, struct naive *naive, unsigned id)
{
	r->naive = naive;
	r->guest.id = id;
	r->guest.random.state = id;
	ok(gpamap_sim_vcpu_new(naive->sim, id, id % 2 ? GPAMAP_SIM_EMULATED : 0, guest_step,
			       &r->guest, &r->vcpu));
	ok(pthread_create(&r->thread, NULL, run_naive, r));
	while (!atomic_load(&r->runs))
		sleep_ms(1);
}

static void set_slot(struct gpamap_sim *sim, uint32_t id, uint64_t page, uint64_t pages,
		     const uint8_t *hva)
{
	struct gpamap_sim_slot slot = {
		.slot = id,
		.gpa = pages ? page * PAGE : 0,
		.size = pages * PAGE,
		.hva = (uint64_t)(uintptr_t)hva,
	};

	ok(gpamap_sim_set_slot(sim, &slot));
}

/* Slots split and made whole again under running vCPUs: the guests above notice. */
static void control(void **state)
{
	static struct naive naive;
	static struct naive_runner r[2];

	(void)state;
	guest_clear_memory();
	ok(gpamap_sim_new(NULL, &naive.sim));
	gpamap_sim_stretch(naive.sim, GPAMAP_SIM_AFTER_DELETE, 200);
	set_slot(naive.sim, 0, 0, 32, ram_hva[0]);
	set_slot(naive.sim, 1, PLAIN_RO_AT, 32, plain_hva[0]);
	set_slot(naive.sim, 2, MOVER_AT, 16, mover_hva);
	for (unsigned i = 0; i < 2; i++)
		begin(&r[i], &naive, i);
	for (int i = 0; i < 200; i++) {
		set_slot(naive.sim, 0, 0, 0, NULL);
		set_slot(naive.sim, 0, 0, 8, ram_hva[0]);
		set_slot(naive.sim, 3, 8, 24, ram_hva[1] + 8 * PAGE);
		set_slot(naive.sim, 3, 0, 0, NULL);
		set_slot(naive.sim, 0, 0, 0, NULL);
		set_slot(naive.sim, 0, 0, 32, ram_hva[0]);
	}
	atomic_store(&naive.stop, true);
	for (unsigned i = 0; i < 2; i++)
		ok(pthread_join(r[i].thread, NULL));
	for (unsigned i = 0; i < 2; i++) {
		printf("control: %llu spurious exits, %llu wrong reads\n",
		       (unsigned long long)r[i].spurious, (unsigned long long)r[i].guest.wrong);
		assert_int_equal(r[i].failed, 0);
		assert_true(r[i].spurious > 0 && r[i].guest.wrong > 0);
		gpamap_sim_vcpu_free(r[i].vcpu);
	}
	assert_true(lost_adds(r) > 0);
	gpamap_sim_free(naive.sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control),
	};

	return cmocka_run_group_tests(tests, guest_memory, NULL);
}
