/* SPDX-License-Identifier: BSD-3-Clause */
/* The KVM backend on the real /dev/kvm: each operation, and the errno of each refusal. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <time.h>

#include "../base/part.h"
#include "backend/backend.h"
#include "real_vm.h"

#define PAGE ((uint64_t)sysconf(_SC_PAGESIZE))

/* Not in the headers of Linux 6.1. */
struct create_guest_memfd {
	uint64_t size;
	uint64_t flags;
	uint64_t zero[6];
};
#define CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct create_guest_memfd)

#define CAP_DIRTY_LOG_RING_WITH_BITMAP 225

struct fix {
	struct real_vm vm;
	struct gm_backend *b;
};

static bool old_ioctl; /* as on a kernel without KVM_SET_USER_MEMORY_REGION2 */

static int setup(void **state)
{
	static struct fix f;
	struct gm_msg msg;

	assert_true(real_vm_open(&f.vm));
	assert_int_equal(gm_kvm_new(f.vm.vm, &gm_alloc_default, &msg, &f.b), 0);
	if (old_ioctl)
		f.b->caps.region2 = false;
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	f->b->ops->destroy(f->b);
	real_vm_close(&f->vm);
	return 0;
}

/* Pages @first to @first + @n - 1 of the memory, at the GPA of page @at. */
static struct gm_slot slot(struct fix *f, uint32_t id, uint64_t at, uint64_t n, uint64_t first)
{
	return (struct gm_slot){
		.gpa = {at * PAGE, (at + n) * PAGE - 1},
		.hva = (uintptr_t)f->vm.mem + first * PAGE,
		.id = id,
	};
}

static int create(struct fix *f, struct gm_slot s)
{
	struct gm_op op = {.kind = GM_OP_CREATE, .to = s};

	return f->b->ops->slot(f->b, &op);
}

static int delete_slot(struct fix *f, struct gm_slot s)
{
	struct gm_op op = {.kind = GM_OP_DELETE, .from = s};

	return f->b->ops->slot(f->b, &op);
}

static int change(struct fix *f, enum gm_op_kind kind, struct gm_slot from, struct gm_slot to)
{
	struct gm_op op = {.kind = kind, .from = from, .to = to};

	return f->b->ops->slot(f->b, &op);
}

/* Is there a slot at page @at? Another can't be made there. */
static bool taken(struct fix *f, uint64_t at)
{
	struct gm_slot probe = slot(f, 77, at, 1, 0);
	int err = create(f, probe);

	if (err == -EEXIST)
		return true;
	assert_int_equal(err, 0);
	assert_int_equal(delete_slot(f, probe), 0);
	return false;
}

static void capabilities(void **state)
{
	struct fix *f = *state;
	struct gm_caps *c = &f->b->caps;

	assert_int_equal(c->limits.page_size, sysconf(_SC_PAGESIZE));
	assert_int_equal(c->limits.nr_slots,
			 ioctl(f->vm.vm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS));
	assert_true(c->limits.nr_slots >= 32);
	assert_true(c->limits.nr_spaces >= 1);
	if (old_ioctl)
		return;
	assert_int_equal(c->region2, ioctl(f->vm.vm, KVM_CHECK_EXTENSION, 231) > 0);
	printf("slots %u, spaces %u, readonly %d, region2 %d, guest_memfd %d, zap_slot_only %d\n",
	       c->limits.nr_slots, c->limits.nr_spaces, c->limits.readonly_mem, c->region2,
	       c->limits.guest_memfd, c->zap_slot_only);
}

static bool fits(struct fix *f, uint64_t gpa, uint64_t hva)
{
	struct gm_slot s = {.gpa = {gpa, gpa + (PAGE - 1)}, .hva = hva, .id = 70};
	int err = create(f, s);

	if (!err)
		assert_int_equal(delete_slot(f, s), 0);
	return !err;
}

/* What was learnt when the map was made is what KVM does, and nothing is left of it. */
static void limits(void **state)
{
	struct fix *f = *state;
	struct gm_kvm_limits *l = &f->b->caps.limits;
	uint64_t hva = (uintptr_t)f->vm.mem;

	printf("last_gpa 0x%llx, last_hva 0x%llx\n", (unsigned long long)l->last_gpa,
	       (unsigned long long)l->last_hva);
	assert_true(l->last_gpa != GM_NO_LIMIT);
	assert_true(fits(f, (l->last_gpa >> 1) + 1, hva));
	assert_false(fits(f, l->last_gpa + 1, hva));
#if defined(__x86_64__) || defined(__aarch64__)
	assert_true(fits(f, l->last_gpa + 1 - PAGE, hva));
#endif
	/* The memory of this very process is within, and all that is beyond is refused. */
	assert_true(hva + MEM_SIZE - 1 <= l->last_hva);
	assert_true((uintptr_t)&l <= l->last_hva);
	if (l->last_hva != GM_NO_LIMIT)
		assert_false(fits(f, 16 * PAGE, l->last_hva + 1));
	for (uint32_t i = 1; i <= 8; i++)
		assert_int_equal(delete_slot(f, slot(f, l->nr_slots - i, 0, 1, 0)), -EINVAL);
}

static double us_between(const struct timespec *a, const struct timespec *b)
{
	return (double)(b->tv_sec - a->tv_sec) * 1e6 + (double)(b->tv_nsec - a->tv_nsec) / 1e3;
}

/* Whose is an id? Before there is a slot of ours, and after. */
static void ids_in_use(void **state)
{
	static const uint32_t ids[] = {3, 4, 5};
	struct fix *f = *state;
	struct gm_slot ours = slot(f, 1, 8, 4, 0), other = slot(f, 4, 20, 1, 5);
	uint32_t in_use = 77;

	for (int with = 0; with < 2; with++) {
		const struct gm_slot *known = with ? &ours : NULL;

		if (with)
			assert_int_equal(create(f, ours), 0);
		assert_int_equal(f->b->ops->ids_free(f->b, 0, ids, 3, known, &in_use), 0);
		assert_int_equal(create(f, other), 0);
		assert_int_equal(f->b->ops->ids_free(f->b, 0, ids, 3, known, &in_use), -EBUSY);
		assert_int_equal(in_use, 4);
		/* It is still there, and nothing else is. */
		assert_true(taken(f, 20));
		assert_int_equal(delete_slot(f, other), 0);
		assert_int_equal(delete_slot(f, slot(f, 3, 0, 1, 0)), -EINVAL);
		assert_int_equal(delete_slot(f, slot(f, 5, 0, 1, 0)), -EINVAL);
	}
}

/* What it costs to ask, to be seen in the log. */
static void cost_of_asking(void **state)
{
	enum { N = 1000 };
	struct fix *f = *state;
	struct gm_slot ours = slot(f, 1, 8, 4, 0);
	struct timespec begin, end;
	uint32_t ids[N], in_use;
	struct gm_backend *b;
	struct gm_msg msg;

	for (uint32_t i = 0; i < N; i++)
		ids[i] = 2 + i % (f->b->caps.limits.nr_slots - 2);
	assert_int_equal(create(f, ours), 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	assert_int_equal(f->b->ops->ids_free(f->b, 0, ids, N, &ours, &in_use), 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("an id: %.2f us\n", us_between(&begin, &end) / N);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	assert_int_equal(gm_kvm_new(f->vm.vm, &gm_alloc_default, &msg, &b), 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("a backend, with its limits: %.0f us\n", us_between(&begin, &end));
	b->ops->destroy(b);
}

/* Such a VM has no logs: what vCPUs write goes to the ring. */
static void dirty_ring(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL, .args = {65536}};
	struct kvm_enable_cap bitmap = {.cap = CAP_DIRTY_LOG_RING_WITH_BITMAP};
	struct fix *f = *state;

	assert_true(f->b->ops->has_log(f->b));
	if (ioctl(f->vm.vm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING_ACQ_REL) < 65536)
		part_skip("VMs have no dirty rings here");
	assert_int_equal(ioctl(f->vm.vm, KVM_ENABLE_CAP, &cap), 0);
	assert_false(f->b->ops->has_log(f->b));
	/* With bitmaps beside it, too. */
	if (ioctl(f->vm.vm, KVM_CHECK_EXTENSION, CAP_DIRTY_LOG_RING_WITH_BITMAP) > 0)
		assert_int_equal(ioctl(f->vm.vm, KVM_ENABLE_CAP, &bitmap), 0);
	assert_false(f->b->ops->has_log(f->b));
}

static void check_no_vm(int fd)
{
	struct gm_backend *b = NULL;
	struct gm_msg msg = {""};

	assert_int_equal(gm_kvm_new(fd, &gm_alloc_default, &msg, &b), -EINVAL);
	assert_string_not_equal(msg.text, "");
	assert_null(b);
}

static void other_fds_are_refused(void **state)
{
	struct fix *f = *state;
	int pipes[2];
	int vcpu = ioctl(f->vm.vm, KVM_CREATE_VCPU, 0);

	assert_int_equal(pipe(pipes), 0);
	check_no_vm(-1);
	check_no_vm(pipes[0]);
	check_no_vm(f->vm.kvm);
	check_no_vm(vcpu);
	close(vcpu);
	close(pipes[0]);
	close(pipes[1]);
}

static void *no_memory(void *opaque, size_t size)
{
	(void)opaque;
	(void)size;
	return NULL;
}

static void out_of_memory(void **state)
{
	struct fix *f = *state;
	struct gm_alloc none = {.alloc = no_memory, .free = gm_alloc_default.free};
	struct gm_backend *b = NULL;
	struct gm_msg msg;

	assert_int_equal(gm_kvm_new(f->vm.vm, &none, &msg, &b), -ENOMEM);
	assert_null(b);
}

static void create_and_delete(void **state)
{
	struct fix *f = *state;
	struct gm_slot a = slot(f, 0, 4, 2, 0), b = slot(f, 1, 6, 1, 2);

	assert_int_equal(create(f, a), 0);
	assert_int_equal(create(f, b), 0);
	assert_false(taken(f, 3));
	assert_true(taken(f, 4) && taken(f, 5) && taken(f, 6));
	assert_false(taken(f, 7));
	assert_int_equal(delete_slot(f, a), 0);
	assert_false(taken(f, 4) || taken(f, 5));
	assert_true(taken(f, 6));
	/* The id and the place can be used again. */
	assert_int_equal(create(f, slot(f, 0, 4, 1, 8)), 0);
	assert_int_equal(delete_slot(f, a), 0);
	assert_int_equal(delete_slot(f, b), 0);
}

static void refusals(void **state)
{
	struct fix *f = *state;
	struct gm_slot a = slot(f, 0, 4, 2, 0), s;

	assert_int_equal(delete_slot(f, a), -EINVAL); /* absent */
	assert_int_equal(create(f, a), 0);
	assert_int_equal(create(f, slot(f, 1, 5, 2, 4)), -EEXIST);
	assert_int_equal(create(f, slot(f, 0, 4, 2, 1)), -EINVAL); /* another HVA */
	assert_int_equal(create(f, slot(f, 0, 4, 3, 0)), -EINVAL); /* another size */
	s = a;
	s.flags = GM_SLOT_READONLY;
	assert_int_equal(change(f, GM_OP_FLAGS, a, s), -EINVAL);
	s = slot(f, f->b->caps.limits.nr_slots, 8, 1, 0);
	assert_int_equal(create(f, s), -EINVAL);
	s = slot(f, 1, 8, 1, 0);
	s.space = f->b->caps.limits.nr_spaces;
	assert_int_equal(create(f, s), -EINVAL);
	s = slot(f, 1, 8, 1, 0);
	s.hva++;
	assert_int_equal(create(f, s), -EINVAL);
	s = slot(f, 1, 8, 1, 0);
	s.gpa.last--;
	assert_int_equal(create(f, s), -EINVAL);
	s = slot(f, 1, 8, 1, 0);
	s.gpa = (struct gm_range){0, UINT64_MAX};
	assert_int_equal(create(f, s), -EINVAL);
	assert_false(taken(f, 8));
	assert_true(taken(f, 4) && taken(f, 5));
}

/* KVM looks at the size, then for overlaps, then allocates: gigabytes, for a slot as large as this, so there is none
 * that works. */
static void greatest_size(void **state)
{
	const uint64_t most = (UINT64_C(1) << 31) - 1;
	struct fix *f = *state;
	struct gm_slot s = slot(f, 1, 0, most, 0);

	s.hva = PAGE; /* user memory ends too soon after what is mapped */
	assert_int_equal(create(f, slot(f, 0, 4, 2, 0)), 0);
	assert_int_equal(create(f, s), -EEXIST);
	s.gpa.last += PAGE;
	assert_int_equal(create(f, s), -EINVAL);
}

static void move(void **state)
{
	struct fix *f = *state;
	struct gm_slot a = slot(f, 0, 4, 2, 0), there = slot(f, 0, 10, 2, 0);
	struct gm_slot b = slot(f, 1, 7, 1, 4), onto_b = slot(f, 0, 6, 2, 0);

	assert_int_equal(create(f, a), 0);
	assert_int_equal(create(f, b), 0);
	assert_int_equal(change(f, GM_OP_MOVE, a, there), 0);
	assert_false(taken(f, 4) || taken(f, 5));
	assert_true(taken(f, 10) && taken(f, 11));
	/* One that fails leaves the slot where it is. */
	assert_int_equal(change(f, GM_OP_MOVE, there, onto_b), -EEXIST);
	assert_true(taken(f, 10) && taken(f, 11) && !taken(f, 6));
	/* By a page: the new place overlaps the old one. */
	assert_int_equal(change(f, GM_OP_MOVE, there, slot(f, 0, 11, 2, 0)), 0);
	assert_true(!taken(f, 10) && taken(f, 11) && taken(f, 12));
}

static void flags(void **state)
{
	struct fix *f = *state;
	struct gm_slot plain = slot(f, 0, 4, 2, 0), logged = plain;
	uint64_t bitmap = 0;

	logged.flags = GM_SLOT_LOG;
	assert_int_equal(create(f, plain), 0);
	assert_int_equal(f->b->ops->dirty(f->b, &plain, &bitmap), -ENOENT);
	assert_int_equal(change(f, GM_OP_FLAGS, plain, logged), 0);
	bitmap = UINT64_MAX;
	assert_int_equal(f->b->ops->dirty(f->b, &logged, &bitmap), 0);
	assert_int_equal(bitmap, 0);
	assert_int_equal(change(f, GM_OP_FLAGS, logged, plain), 0);
	assert_int_equal(f->b->ops->dirty(f->b, &plain, &bitmap), -ENOENT);
	assert_int_equal(delete_slot(f, plain), 0);
	assert_int_equal(f->b->ops->dirty(f->b, &plain, &bitmap), -ENOENT);
}

static void readonly(void **state)
{
	struct fix *f = *state;
	struct gm_slot s = slot(f, 0, 4, 1, 0);

	if (!f->b->caps.limits.readonly_mem)
		part_skip("VMs have no read-only slots here");
	s.flags = GM_SLOT_READONLY;
	assert_int_equal(create(f, s), 0);
	assert_true(taken(f, 4));
	assert_int_equal(delete_slot(f, s), 0);
}

static void address_spaces(void **state)
{
	struct fix *f = *state;
	struct gm_slot s = slot(f, 0, 4, 1, 0);

	if (f->b->caps.limits.nr_spaces < 2)
		part_skip("VMs have one address space here");
	assert_int_equal(create(f, s), 0);
	s.space = 1;
	assert_int_equal(create(f, s), 0); /* the same place and id in another space */
	assert_int_equal(delete_slot(f, s), 0);
	assert_int_equal(delete_slot(f, s), -EINVAL);
	assert_true(taken(f, 4));
}

/* Newer than the headers of Linux 6.1. */
#define CAP_DISABLE_QUIRKS2 213
#define QUIRK_SLOT_ZAP_ALL 0x80

/* What it does to the guest's mappings is a test of the whole library. */
static void zap_slot_only(void **state)
{
	struct fix *f = *state;
	bool can = true;

#ifdef __x86_64__
	int quirks = ioctl(f->vm.vm, KVM_CHECK_EXTENSION, CAP_DISABLE_QUIRKS2);

	can = quirks > 0 && quirks & QUIRK_SLOT_ZAP_ALL;
#endif
	assert_int_equal(f->b->caps.zap_slot_only, can);
	assert_int_equal(f->b->ops->zap_slot_only(f->b), can ? 0 : -EINVAL);
	/* Slots go and come as before. */
	create_and_delete(state);
	move(state);
}

static void guest_memfd(void **state)
{
	struct fix *f = *state;
	struct create_guest_memfd args = {.size = 2 * PAGE};
	struct gm_slot s = slot(f, 0, 4, 1, 0), moved;
	int fd;

	if (old_ioctl)
		return; /* see below */
	s.flags = GM_SLOT_GUEST_MEMFD;
	fd = f->b->caps.limits.guest_memfd ? ioctl(f->vm.vm, CREATE_GUEST_MEMFD, &args) : -1;
	if (fd < 0)
		part_skip("VMs have no guest_memfd here");
	s.gmem_fd = f->vm.kvm;
	assert_int_not_equal(create(f, s), 0);
	s.gmem_fd = fd;
	s.gmem_offset = PAGE;
	assert_int_equal(create(f, s), 0);
	moved = s;
	moved.gpa = (struct gm_range){8 * PAGE, 9 * PAGE - 1};
	assert_int_equal(change(f, GM_OP_MOVE, s, moved), -EINVAL);
	assert_true(taken(f, 4));
	assert_int_equal(delete_slot(f, s), 0);
	assert_false(taken(f, 4));
	close(fd);
}

/* It has no such flag. */
static void older_ioctl_refuses_guest_memfd(void **state)
{
	struct fix *f = *state;
	struct gm_slot s = slot(f, 0, 4, 1, 0);

	f->b->caps.region2 = false;
	s.flags = GM_SLOT_GUEST_MEMFD;
	s.gmem_fd = f->vm.kvm;
	assert_int_equal(create(f, s), -EINVAL);
	assert_false(taken(f, 4));
}

#ifdef __x86_64__
static void engine_and_dirty_pages(void **state)
{
	/* mov %al, 0x5000; hlt; mov %al, 0x9000 (no slot there) */
	static const uint8_t code[] = {0xa2, 0x00, 0x50, 0xf4, 0xa2, 0x00, 0x90};
	struct fix *f = *state;
	struct gm_slot low = slot(f, 0, 0, 4, 0), logged = slot(f, 1, 4, 4, 4);
	struct gm_engine e = {0};
	struct gm_mmio mmio;
	uint64_t bitmap = UINT64_MAX;

	logged.flags = GM_SLOT_LOG;
	assert_int_equal(create(f, low), 0);
	assert_int_equal(create(f, logged), 0);
	assert_true(real_vm_add_vcpu(&f->vm, code, sizeof(code)));
	assert_int_equal(gm_kvm_engine(f->b, f->vm.vcpu, f->vm.run, &e), 0);
	assert_ptr_equal(gm_engine_immediate_exit(&e), &f->vm.run->immediate_exit);

	assert_int_equal(e.run(&e), 0);
	assert_int_equal(f->vm.run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(gm_engine_mmio(&e, &mmio), -EINVAL);
	assert_int_equal(f->b->ops->dirty(f->b, &logged, &bitmap), 0);
	assert_int_equal(bitmap, 1u << 1);
	assert_int_equal(f->b->ops->dirty(f->b, &logged, &bitmap), 0);
	assert_int_equal(bitmap, 0); /* read once */

	assert_int_equal(e.run(&e), 0);
	assert_int_equal(gm_engine_mmio(&e, &mmio), 0);
	assert_int_equal(mmio.gpa, 0x9000);
	assert_int_equal(mmio.len, 1);
	assert_true(mmio.is_write);

	*gm_engine_immediate_exit(&e) = 1;
	assert_int_equal(e.run(&e), -EINTR);
}
#endif

static void engine_of_another_backend(void **state)
{
	static const struct gm_backend_ops other_ops;
	struct gm_backend other = {.ops = &other_ops};
	struct fix *f = *state;
	struct gm_engine e;

	assert_int_equal(gm_kvm_engine(&other, f->vm.vm, NULL, &e), -ENOTSUP);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(capabilities),
		TEST(limits),
		TEST(ids_in_use),
		TEST(cost_of_asking),
		TEST(dirty_ring),
		TEST(other_fds_are_refused),
		TEST(out_of_memory),
		TEST(create_and_delete),
		TEST(refusals),
		TEST(greatest_size),
		TEST(move),
		TEST(flags),
		TEST(readonly),
		TEST(address_spaces),
		TEST(zap_slot_only),
		TEST(guest_memfd),
		TEST(older_ioctl_refuses_guest_memfd),
#ifdef __x86_64__
		TEST(engine_and_dirty_pages),
#endif
		TEST(engine_of_another_backend),
	};
	struct real_vm probe;
	int failed;

	if (!part_choose(tests, sizeof(tests) / sizeof(tests[0]), argc, argv))
		return 64;
	if (!real_vm_open(&probe))
		return 77;
	real_vm_close(&probe);
	failed = cmocka_run_group_tests_name("kvm", tests, NULL, NULL);
	old_ioctl = true;
	failed += cmocka_run_group_tests_name("kvm, the older ioctl", tests, NULL, NULL);
	return part_status(failed);
}
