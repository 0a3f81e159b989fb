/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of KVM's ioctls: is it whole, in order, and right about the headers that are installed? */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "ioctl_names.h"

#define KINDS 4

static const char *const kind_names[KINDS] = {"system", "vm", "vcpu", "device"};

#define for_each_row(row, kind)                                                  \
	for (size_t n_, i_ = 0; i_ < (gm_kvm_ioctls((kind), &n_), n_) &&         \
				((row) = gm_kvm_ioctls((kind), &n_) + i_, true); \
	     i_++)

static bool has_row(enum gm_fd_kind kind, const char *name)
{
	const struct gm_kvm_ioctl *row;

	for_each_row(row, kind)
	{
		if (!strcmp(row->name, name))
			return true;
	}
	return false;
}

static bool has_any(const char *name)
{
	for (unsigned kind = 0; kind < KINDS; kind++) {
		if (has_row(kind, name))
			return true;
	}
	return false;
}

static unsigned direction(unsigned long request)
{
	return (_IOC_DIR(request) & _IOC_READ ? GM_DIR_READ : 0) |
	       (_IOC_DIR(request) & _IOC_WRITE ? GM_DIR_WRITE : 0);
}

static void test_rows_are_filled_in(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		const struct gm_kvm_ioctl *row;

		for_each_row(row, kind)
		{
			assert_memory_equal(row->name, "KVM_", 4);
			assert_true(row->reason[0]);
			assert_true(row->function[0]);
			assert_true(row->arch);
			assert_in_range(row->dir, 0, GM_DIR_READ | GM_DIR_WRITE);
			assert_in_range(row->how, 0, GM_IOCTL_GATE | GM_IOCTL_SLOTS);
			/* I4; and there's no wrapper for those of the system. */
			if (kind != GM_FD_VM)
				assert_false(row->how & GM_IOCTL_SLOTS);
			if (kind == GM_FD_SYSTEM)
				assert_int_equal(row->how, 0);
		}
	}
}

static int order(const struct gm_kvm_ioctl *a, const struct gm_kvm_ioctl *b)
{
	return (a->nr << 8 | a->dir) - (b->nr << 8 | b->dir);
}

/* Sorted; and on no architecture are there two rows for the same, unless they say the same (and differ in the
 * size of the argument). */
static void test_rows_are_in_order(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		size_t n;
		const struct gm_kvm_ioctl *rows = gm_kvm_ioctls(kind, &n);

		for (size_t i = 0; i + 1 < n; i++)
			assert_true(order(&rows[i], &rows[i + 1]) <= 0);
		for (size_t i = 0; i < n; i++) {
			for (size_t k = i + 1; k < n && !order(&rows[i], &rows[k]); k++) {
				if (!(rows[i].arch & rows[k].arch))
					continue;
				assert_string_not_equal(rows[i].name, rows[k].name);
				assert_string_equal(rows[i].function, rows[k].function);
				assert_int_equal(rows[i].how, rows[k].how);
			}
		}
	}
}

static const struct covered *find_covered(const char *name)
{
	for (unsigned i = 0; i < nr_covered; i++) {
		if (!strcmp(covered[i].name, name))
			return &covered[i];
	}
	return NULL;
}

static void test_all_names_have_rows(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nr_covered; i++) {
		for (unsigned kind = 0; kind < KINDS; kind++) {
			bool should = covered[i].kinds >> kind & 1;

			if (has_row(kind, covered[i].name) == should)
				continue;
			fail_msg("%s: a row for %s fds is %s", covered[i].name, kind_names[kind],
				 should ? "missing" : "too much");
		}
	}
}

static void test_all_rows_have_names(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		const struct gm_kvm_ioctl *row;

		for_each_row(row, kind)
		{
			if (!find_covered(row->name))
				fail_msg("%s is not in kvm_ioctls.txt", row->name);
		}
	}
}

/* What the headers have is found under the right number. Those that are newer than the table, it need not know. */
static void test_installed_headers(void **state)
{
	unsigned known = 0;

	(void)state;
	for (unsigned i = 0; i < nr_installed; i++) {
		const char *name = installed[i].name;
		unsigned long request = installed[i].request;

		if (!has_any(name)) {
			print_message(
				"note: %s of Linux %u.%u is not in the table, so it is gated\n",
				name, installed_version >> 16, installed_version >> 8 & 0xff);
			assert_true(installed_version > covered_version);
			continue;
		}
		known++;
		for (unsigned kind = 0; kind < KINDS; kind++) {
			const struct gm_kvm_ioctl *row, *found;

			for_each_row(row, kind)
			{
				if (strcmp(row->name, name))
					continue;
				assert_int_equal(row->nr, _IOC_NR(request));
				assert_int_equal(row->dir, direction(request));
				if (!gm_kvm_ioctl_is_here(row))
					continue;
				found = gm_kvm_ioctl_find(kind, request);
				assert_non_null(found);
				assert_string_equal(found->function, row->function);
				assert_int_equal(found->how, row->how);
			}
		}
	}
	assert_true(known > 100);
}

static void test_unknown_is_gated(void **state)
{
	static const unsigned long unknown[] = {
		_IO(KVMIO, 0xff),	_IO(KVMIO, 0x73),	_IO(0xad, 0x03),
		_IOR(KVMIO, 0x03, int), _IOW(KVMIO, 0x81, int), 0,
	};

	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
			assert_null(gm_kvm_ioctl_find(kind, unknown[i]));
			assert_int_equal(gm_kvm_ioctl_how(kind, unknown[i]), GM_IOCTL_GATE);
		}
	}
	/* Known, but of another sort of fd. */
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_DEVICE, KVM_CHECK_EXTENSION), GM_IOCTL_GATE);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, KVM_GET_REGS), GM_IOCTL_GATE);
}

/* By number and direction: the struct may have grown, and the kernel looks at 32 bits. */
static void test_other_sizes(void **state)
{
	const unsigned long high = sizeof(long) > 4 ? ~0ul << 31 << 1 : 0;
	struct larger {
		char more[3000];
	};

	(void)state;
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, KVM_CHECK_EXTENSION), 0);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, _IOW(KVMIO, 0x46, struct larger)),
			 GM_IOCTL_SLOTS);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, KVM_SET_USER_MEMORY_REGION | high),
			 GM_IOCTL_SLOTS);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VCPU, _IOR(KVMIO, 0x81, struct larger)), 0);
	assert_true(gm_kvm_ioctl_is_run(KVM_RUN));
	assert_true(gm_kvm_ioctl_is_run(KVM_RUN | high));
	assert_false(gm_kvm_ioctl_is_run(KVM_GET_REGS));
}

/* Numbers of other architectures stand for nothing here, or for something else. */
static void test_other_architectures(void **state)
{
	unsigned others = 0;

	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		const struct gm_kvm_ioctl *row, *found;

		for_each_row(row, kind)
		{
			unsigned dir = (row->dir & GM_DIR_READ ? _IOC_READ : 0) |
				       (row->dir & GM_DIR_WRITE ? _IOC_WRITE : 0);

			if (gm_kvm_ioctl_is_here(row))
				continue;
			others++;
			found = gm_kvm_ioctl_find(kind,
						  _IOC(dir ? dir : _IOC_NONE, KVMIO, row->nr, 0));
			assert_true(!found || gm_kvm_ioctl_is_here(found));
		}
	}
	assert_true(others > 20);
}

/* What doc and header say of a few. */
static void test_some_classes(void **state)
{
	(void)state;
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VCPU, KVM_RUN), GM_IOCTL_GATE);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VCPU, KVM_SET_SREGS), GM_IOCTL_GATE);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VCPU, KVM_TRANSLATE), GM_IOCTL_GATE);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VCPU, KVM_GET_REGS), 0);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, KVM_IRQ_LINE), GM_IOCTL_GATE);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, KVM_IOEVENTFD), 0);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, KVM_CREATE_VCPU), GM_IOCTL_SLOTS);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, KVM_GET_DIRTY_LOG), GM_IOCTL_SLOTS);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_DEVICE, KVM_SET_DEVICE_ATTR), GM_IOCTL_GATE);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_DEVICE, KVM_HAS_DEVICE_ATTR), 0);
#ifdef __x86_64__
	/* The same number twice: the direction tells. */
	assert_int_equal(_IOC_NR(KVM_GET_TSC_KHZ), _IOC_NR(KVM_ENABLE_CAP));
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, KVM_GET_TSC_KHZ), 0);
	assert_int_equal(gm_kvm_ioctl_how(GM_FD_VM, KVM_ENABLE_CAP), GM_IOCTL_GATE);
	/* And on two architectures. */
	assert_string_equal(gm_kvm_ioctl_find(GM_FD_VM, KVM_SET_PMU_EVENT_FILTER)->name,
			    "KVM_SET_PMU_EVENT_FILTER");
#endif
}

static void test_slot_ids(void **state)
{
	struct kvm_userspace_memory_region region = {.slot = 0x10007};
	struct kvm_dirty_log log = {.slot = 5};
	struct kvm_clear_dirty_log clear = {.slot = 6};
	uint32_t id = 0;

	(void)state;
	assert_true(gm_kvm_ioctl_slot(KVM_SET_USER_MEMORY_REGION, &region, &id));
	assert_int_equal(id, 0x10007);
	assert_true(gm_kvm_ioctl_slot(_IOW(KVMIO, 0x49, char[160]), &region, &id));
	assert_true(gm_kvm_ioctl_slot(KVM_GET_DIRTY_LOG, &log, &id));
	assert_int_equal(id, 5);
	assert_true(gm_kvm_ioctl_slot(KVM_CLEAR_DIRTY_LOG, &clear, &id));
	assert_int_equal(id, 6);
	assert_false(gm_kvm_ioctl_slot(KVM_SET_USER_MEMORY_REGION, NULL, &id));
	assert_false(gm_kvm_ioctl_slot(KVM_CREATE_VCPU, &log, &id));
	assert_false(gm_kvm_ioctl_slot(_IO(KVMIO, 0xff), &log, &id));
	assert_int_equal(id, 6);
}

static void test_blocked_kick(void **state)
{
	struct {
		uint32_t len;
		unsigned char set[8];
	} mask = {.len = 8};
	const struct {
		uint32_t len;
	} none = {0};
	sigset_t set;

	(void)state;
	for (int blocked = 1; blocked <= 64; blocked++) {
		sigemptyset(&set);
		memset(mask.set, 0, sizeof(mask.set));
		/* The C library begins its set as the kernel does. */
		if (!sigaddset(&set, blocked))
			memcpy(mask.set, &set, sizeof(mask.set));
		for (int signo = 1; signo <= 64; signo++)
			assert_int_equal(gm_kvm_ioctl_blocks(KVM_SET_SIGNAL_MASK, &mask, signo),
					 sigismember(&set, signo) == 1);
	}
	memset(mask.set, 0xff, sizeof(mask.set));
	assert_true(gm_kvm_ioctl_blocks(KVM_SET_SIGNAL_MASK, &mask, SIGUSR1));
	assert_false(gm_kvm_ioctl_blocks(KVM_SET_SIGNAL_MASK, &mask, 0));
	assert_false(gm_kvm_ioctl_blocks(KVM_SET_SIGNAL_MASK, NULL, SIGUSR1));
	assert_false(gm_kvm_ioctl_blocks(KVM_SET_SIGNAL_MASK, &none, SIGUSR1));
	assert_false(gm_kvm_ioctl_blocks(KVM_SET_REGS, &mask, SIGUSR1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_are_filled_in),
		cmocka_unit_test(test_rows_are_in_order),
		cmocka_unit_test(test_all_names_have_rows),
		cmocka_unit_test(test_all_rows_have_names),
		cmocka_unit_test(test_installed_headers),
		cmocka_unit_test(test_unknown_is_gated),
		cmocka_unit_test(test_other_sizes),
		cmocka_unit_test(test_other_architectures),
		cmocka_unit_test(test_some_classes),
		cmocka_unit_test(test_slot_ids),
		cmocka_unit_test(test_blocked_kick),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
