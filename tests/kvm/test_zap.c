/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * GPAMAP_ZAP_SLOT_ONLY: refused where KVM can't, and true where it can. KVM counts the pages that it has mapped, so
 * what a commit leaves of them can be read and need not be timed.
 */
#include "../base/part.h"
#include "vm.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Newer than the headers of Linux 6.1. */
#define CAP_DISABLE_QUIRKS2 213
#define QUIRK_SLOT_ZAP_ALL 0x80

/* Flipped, and never touched by the guest. */
#define FLIPPED (PAGE_TEST + 16)

static struct vm vm;

static int close_vm(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

/* Other processors have no such quirk, so there is nothing to refuse. */
static bool possible(void)
{
#ifdef __x86_64__
	int quirks = ioctl(vm.fd, KVM_CHECK_EXTENSION, CAP_DISABLE_QUIRKS2);

	return quirks > 0 && quirks & QUIRK_SLOT_ZAP_ALL;
#else
	return true;
#endif
}

/* A second map of a VM, which stays empty. */
static void refused_where_it_cannot_be(void **state)
{
	char why[256] = "";
	const struct gpamap_options opt = {
		.flags = GPAMAP_ZAP_SLOT_ONLY,
		.message = why,
		.message_size = sizeof(why),
	};
	struct gpamap *map = NULL;

	(void)state;
	vm_open(&vm, 0);
	if (possible()) {
		ok(gpamap_new_kvm(vm.fd, &opt, &map));
		gpamap_free(map);
		return;
	}
	assert_int_equal(gpamap_new_kvm(vm.fd, &opt, &map), -ENOTSUP);
	assert_null(map);
	assert_true(strlen(why) > 0);
}

/* ----------------------------------------------------------------------------- KVM's statistics --- */

/* The number with this name from the VM's binary statistics; -1: it has none. */
static long statistic(int fd, const struct kvm_stats_header *h, const char *name)
{
	size_t size = sizeof(struct kvm_stats_desc) + h->name_size;
	struct kvm_stats_desc *d = calloc(1, size);
	uint64_t value = 0;
	long found = -1;

	assert_non_null(d);
	for (uint32_t i = 0; i < h->num_desc && found < 0; i++) {
		assert_int_equal(pread(fd, d, size, (off_t)(h->desc_offset + i * size)), size);
		if (strcmp(d->name, name))
			continue;
		assert_int_equal(pread(fd, &value, sizeof(value), h->data_offset + d->offset),
				 sizeof(value));
		found = (long)value;
	}
	free(d);
	return found;
}

/* How many small pages KVM has mapped for the guest; -1: it doesn't say. */
static long mapped_pages(void)
{
	int fd = ioctl(vm.fd, KVM_GET_STATS_FD, NULL);
	struct kvm_stats_header h;
	long n;

	if (fd < 0)
		return -1;
	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	n = statistic(fd, &h, "pages_4k");
	close(fd);
	return n;
}

/* ------------------------------------------------------------------------------ what a commit leaves --- */

static void flip(void)
{
	struct gpamap_commit_report r;

	ok(vm_flip_page(&vm, FLIPPED, &r));
	/* A slot has gone and another has come. */
	assert_int_equal(r.critical, 2);
}

/* What the guest's pages are before and after a commit that changes another one. */
static void mapped_around_commit(unsigned flags, long *before, long *after)
{
	struct vcpu *v;

	vm_open(&vm, flags);
	v = vcpu_new(&vm, 0);
	vcpu_set(v, USER, LOOP, PAGE_TEST, false);
	/* The first one cuts the large slot in pieces. */
	ok(vm_flip_page(&vm, FLIPPED, NULL));
	vcpu_start(v);
	vcpu_await(v, 100);
	vcpu_stop(v);
	*before = mapped_pages();
	if (*before < 0)
		part_skip("this KVM doesn't count mapped pages");
	flip();
	*after = mapped_pages();
	printf("flags %u: %ld pages mapped before the commit, %ld after it\n", flags, *before,
	       *after);
}

static void others_stay_mapped(void **state)
{
	long before, after;

	(void)state;
	vm_open(&vm, 0);
	if (!possible())
		part_skip("this KVM can't keep the mappings of slots that stay");
	vm_close(&vm);
	mapped_around_commit(GPAMAP_ZAP_SLOT_ONLY, &before, &after);
	/* Its code, its own page, and what it watches, at least. */
	assert_true(before >= 3);
	assert_int_equal(after, before);
}

/* The control: what KVM does if it isn't told. */
static void without_it_all_go(void **state)
{
	long before, after;

	(void)state;
	mapped_around_commit(0, &before, &after);
	assert_true(before >= 3);
#ifdef __x86_64__
	assert_true(after < before);
#else
	assert_int_equal(after, before);
#endif
}

/* ------------------------------------------------------------------------------------ main --- */

#define TEST(f) cmocka_unit_test_teardown(f, close_vm)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(refused_where_it_cannot_be),
		TEST(others_stay_mapped),
		TEST(without_it_all_go),
	};

	if (!part_choose(tests, sizeof(tests) / sizeof(tests[0]), argc, argv))
		return 64;
	if (!vm_available())
		return 77;
	watchdog(100);
	return part_status(cmocka_run_group_tests(tests, NULL, NULL));
}
