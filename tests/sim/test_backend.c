/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated VM as a backend: what of a plan's operations reaches its slots, its limits, its engine. */
#include "guest.h"

#include "backend/backend.h"
#include "sim/backend.h"

struct backend_test {
	struct gpamap_sim *sim;
	struct gm_backend *b;
	uint8_t *memory;
	struct gpamap_sim_vcpu *vcpu;
	struct once once;
};

static int setup(void **state)
{
	struct backend_test *t = calloc(1, sizeof(*t));
	struct gpamap_sim_options opt = {.spaces = 2, .slots = 10};

	t->sim = new_sim(&opt);
	t->memory = new_memory(8);
	t->vcpu = new_vcpu(t->sim, 3, 0, once_guest, &t->once);
	assert_int_equal(gm_sim_new(t->sim, &gm_alloc_default, NULL, &t->b), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct backend_test *t = *state;

	t->b->ops->destroy(t->b);
	gpamap_sim_vcpu_free(t->vcpu);
	gpamap_sim_free(t->sim);
	free_memory(t->memory, 8);
	free(t);
	return 0;
}

static struct gm_slot slot(struct backend_test *t, uint32_t space, uint32_t id, uint64_t gpa,
			   uint32_t flags)
{
	struct gm_slot s = {
		.hva = (uintptr_t)t->memory,
		.space = space,
		.id = id,
		.flags = flags,
		/* Looked at with GM_SLOT_GUEST_MEMFD only. */
		.gmem_fd = 5,
		.gmem_offset = page_size,
	};

	assert_true(gm_range_make(gpa * page_size, 4 * page_size, &s.gpa));
	return s;
}

static int create(struct backend_test *t, struct gm_slot to)
{
	struct gm_op op = {.phase = GM_EARLY, .kind = GM_OP_CREATE, .to = to};

	return t->b->ops->slot(t->b, &op);
}

static int destroy(struct backend_test *t, struct gm_slot from)
{
	struct gm_op op = {.phase = GM_LATE, .kind = GM_OP_DELETE, .from = from};

	return t->b->ops->slot(t->b, &op);
}

static int change(struct backend_test *t, enum gm_op_kind kind, struct gm_slot from,
		  struct gm_slot to)
{
	struct gm_op op = {.phase = GM_CRITICAL, .kind = kind, .from = from, .to = to};

	return t->b->ops->slot(t->b, &op);
}

static uint32_t store(struct backend_test *t, uint64_t gpa)
{
	memset(&t->once, 0, sizeof(t->once));
	t->once.op = ONCE_STORE;
	t->once.gpa = gpa * page_size;
	t->once.len = 8;
	return run_exit(t->vcpu);
}

static void test_caps(void **state)
{
	struct backend_test *t = *state;
	struct gpamap_sim_options less = {
		.flags = GPAMAP_SIM_NO_READONLY | GPAMAP_SIM_NO_REGION2,
	};
	struct gpamap_sim *sim = new_sim(&less);
	struct gm_backend *b;

	assert_int_equal(t->b->caps.limits.page_size, page_size);
	assert_int_equal(t->b->caps.limits.nr_slots, 10);
	assert_int_equal(t->b->caps.limits.nr_spaces, 2);
	assert_true(t->b->caps.limits.readonly_mem && t->b->caps.region2 &&
		    t->b->caps.limits.guest_memfd);
	/* There is nothing to zap. */
	assert_true(t->b->caps.zap_slot_only);
	assert_int_equal(t->b->ops->zap_slot_only(t->b), 0);
	assert_int_equal(gm_sim_new(sim, &gm_alloc_default, NULL, &b), 0);
	assert_int_equal(b->caps.limits.nr_slots, 32764);
	assert_int_equal(b->caps.limits.nr_spaces, 1);
	assert_false(b->caps.limits.readonly_mem || b->caps.region2 || b->caps.limits.guest_memfd);
	b->ops->destroy(b);
	gpamap_sim_free(sim);
}

static void *no_memory(void *opaque, size_t size)
{
	(void)opaque;
	(void)size;
	return NULL;
}

static void test_no_memory(void **state)
{
	struct backend_test *t = *state;
	struct gm_alloc none = {.alloc = no_memory};
	struct gm_backend *b = NULL;
	struct gm_msg msg = {""};

	assert_int_equal(gm_sim_new(t->sim, &none, &msg, &b), -ENOMEM);
	assert_null(b);
	assert_string_not_equal(msg.text, "");
}

static void test_operations(void **state)
{
	struct backend_test *t = *state;
	struct gm_slot s = slot(t, 0, 9, 16, 0), moved = slot(t, 0, 9, 32, 0);
	struct gm_slot logs = slot(t, 0, 9, 32, GM_SLOT_LOG);

	assert_int_equal(create(t, s), 0);
	assert_int_equal(store(t, 19), KVM_EXIT_HLT);
	assert_int_equal(store(t, 20), KVM_EXIT_MMIO);
	assert_int_equal(change(t, GM_OP_MOVE, s, moved), 0);
	assert_int_equal(store(t, 16), KVM_EXIT_MMIO);
	assert_int_equal(store(t, 32), KVM_EXIT_HLT);
	assert_int_equal(change(t, GM_OP_FLAGS, moved, logs), 0);
	assert_int_equal(store(t, 34), KVM_EXIT_HLT);
	assert_int_equal(dirty_bits(t->sim, 9), 1 << 2);
	assert_int_equal(destroy(t, logs), 0);
	assert_int_equal(store(t, 32), KVM_EXIT_MMIO);
	assert_int_equal(gpamap_sim_calls(t->sim, GPAMAP_SIM_CREATE), 1);
	assert_int_equal(gpamap_sim_calls(t->sim, GPAMAP_SIM_MOVE), 1);
	assert_int_equal(gpamap_sim_calls(t->sim, GPAMAP_SIM_FLAGS), 1);
	assert_int_equal(gpamap_sim_calls(t->sim, GPAMAP_SIM_DELETE), 1);
}

static void test_errors(void **state)
{
	struct backend_test *t = *state;
	struct gm_slot s = slot(t, 0, 1, 16, 0);

	assert_int_equal(create(t, s), 0);
	assert_int_equal(create(t, slot(t, 0, 2, 18, 0)), -EEXIST);
	assert_int_equal(create(t, slot(t, 0, 10, 64, 0)), -EINVAL);
	assert_int_equal(destroy(t, slot(t, 0, 2, 18, 0)), -EINVAL);
	gpamap_sim_fail(t->sim, GPAMAP_SIM_DELETE, 1, ENOMEM, false);
	assert_int_equal(destroy(t, s), -ENOMEM);
	assert_int_equal(destroy(t, s), 0);
}

static void test_readonly(void **state)
{
	struct backend_test *t = *state;

	assert_int_equal(create(t, slot(t, 0, 1, 16, GM_SLOT_READONLY)), 0);
	assert_int_equal(store(t, 16), KVM_EXIT_MMIO);
	t->once.op = ONCE_LOAD;
	assert_int_equal(run_exit(t->vcpu), KVM_EXIT_HLT);
}

static void test_dirty(void **state)
{
	struct backend_test *t = *state;
	struct gm_slot s = slot(t, 0, 1, 16, GM_SLOT_LOG), other = slot(t, 1, 1, 16, GM_SLOT_LOG);
	uint64_t bits = 0;

	assert_int_equal(create(t, s), 0);
	assert_int_equal(create(t, other), 0);
	assert_int_equal(store(t, 17), KVM_EXIT_HLT);
	assert_int_equal(t->b->ops->dirty(t->b, &other, &bits), 0);
	assert_int_equal(bits, 0);
	assert_int_equal(t->b->ops->dirty(t->b, &s, &bits), 0);
	assert_int_equal(bits, 1 << 1);
	assert_int_equal(destroy(t, other), 0);
	bits = 42;
	assert_int_equal(t->b->ops->dirty(t->b, &other, &bits), -ENOENT);
	assert_int_equal(bits, 42);
}

static void test_guest_memfd(void **state)
{
	struct backend_test *t = *state;
	struct gm_slot s = slot(t, 0, 1, 16, GM_SLOT_GUEST_MEMFD);
	/* As s is bound if both the fd and the offset have arrived. */
	struct gpamap_sim_slot same = {
		.slot = 2,
		.flags = GPAMAP_SIM_GUEST_MEMFD,
		.gpa = 64 * page_size,
		.size = page_size,
		.guest_memfd = 5,
		.guest_memfd_offset = 4 * page_size,
	};

	assert_int_equal(create(t, s), 0);
	assert_int_equal(gpamap_sim_set_slot(t->sim, &same), -EINVAL);
	same.guest_memfd_offset = 0;
	assert_int_equal(gpamap_sim_set_slot(t->sim, &same), 0);
	assert_int_equal(destroy(t, s), 0);
	s.gmem_fd = -1;
	assert_int_equal(create(t, s), -EBADF);
}

static void test_engine(void **state)
{
	struct backend_test *t = *state;
	struct gpamap_sim *sim = new_sim(NULL);
	struct gm_backend_ops no_ops = {0};
	struct gm_backend foreign = {.ops = &no_ops}, *b;
	struct gm_engine e = {0};

	assert_int_equal(gm_sim_engine(&foreign, t->vcpu, &e), -ENOTSUP);
	assert_int_equal(gm_sim_new(sim, &gm_alloc_default, NULL, &b), 0);
	assert_int_equal(gm_sim_engine(b, t->vcpu, &e), -EINVAL);
	assert_null(e.kvm_run);
	b->ops->destroy(b);
	gpamap_sim_free(sim);

	assert_int_equal(gm_sim_engine(t->b, t->vcpu, &e), 0);
	assert_ptr_equal(e.kvm_run, gpamap_sim_vcpu_kvm_run(t->vcpu));
	t->once.op = ONCE_LOAD;
	t->once.gpa = page_size;
	t->once.len = 4;
	assert_int_equal(e.run(&e), 0);
	assert_int_equal(e.kvm_run->exit_reason, KVM_EXIT_MMIO);
	set_immediate_exit(t->vcpu, 2);
	assert_int_equal(e.run(&e), -EINTR);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_caps),	TEST(test_no_memory), TEST(test_operations),
		TEST(test_errors),	TEST(test_readonly),  TEST(test_dirty),
		TEST(test_guest_memfd), TEST(test_engine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
