/* SPDX-License-Identifier: BSD-3-Clause */
/* KVM's counters are found by name in a file that describes itself: here one that was made up. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../bench/stats.h"

enum { NAME_SIZE = 24, ID_SIZE = 40, GAP = 16, MAX_DESCS = 8 };

struct made_up {
	const char *name;
	uint16_t size;
	uint32_t offset; /* among the values */
};

/* Of a descriptor as KVM writes it: the name follows at once. */
#define DESC_SIZE (sizeof(struct kvm_stats_desc) + NAME_SIZE)

static const struct made_up three[] = {
	{"pf_taken", 1, 8}, {"halt_hist", 4, 16}, {"pf_fixed", 1, 48}};

/* Header, id, descriptors and values, with gaps. Values are 100, 101, 102 ... */
static int make_file(const struct made_up *m, uint32_t n)
{
	struct kvm_stats_header h = {
		.name_size = NAME_SIZE,
		.num_desc = n,
		.id_offset = sizeof(h),
		.desc_offset = sizeof(h) + ID_SIZE + GAP,
		.data_offset = (uint32_t)(sizeof(h) + ID_SIZE + 2 * GAP + n * DESC_SIZE),
	};
	int fd = fileno(tmpfile());

	assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
	for (uint32_t i = 0; i < n; i++) {
		struct kvm_stats_desc d = {.size = m[i].size, .offset = m[i].offset};
		off_t at = h.desc_offset + (off_t)(i * DESC_SIZE);
		char name[NAME_SIZE] = {0};

		/* A name that fills its place has no end. */
		memcpy(name, m[i].name, strnlen(m[i].name, NAME_SIZE));
		assert_int_equal(pwrite(fd, &d, sizeof(d), at), sizeof(d));
		assert_int_equal(pwrite(fd, name, sizeof(name), at + (off_t)sizeof(d)),
				 sizeof(name));
	}
	for (uint64_t i = 0; i < MAX_DESCS; i++) {
		uint64_t value = 100 + i;
		off_t at = h.data_offset + (off_t)(i * sizeof(value));

		assert_int_equal(pwrite(fd, &value, sizeof(value), at), sizeof(value));
	}
	return fd;
}

static void found_by_name(void **state)
{
	int fd = make_file(three, 3);
	uint64_t at, value;

	(void)state;
	assert_int_equal(stats_find(fd, "pf_taken", &at), 0);
	assert_int_equal(stats_read(fd, at, &value), 0);
	assert_int_equal(value, 101);
	assert_int_equal(stats_find(fd, "pf_fixed", &at), 0);
	assert_int_equal(stats_read(fd, at, &value), 0);
	assert_int_equal(value, 106);
	close(fd);
}

static void not_there(void **state)
{
	int fd = make_file(three, 3);
	uint64_t at = 7;

	(void)state;
	assert_int_equal(stats_find(fd, "pf", &at), -ENOENT);
	assert_int_equal(stats_find(fd, "pf_fixed_too", &at), -ENOENT);
	assert_int_equal(stats_find(fd, "", &at), -ENOENT);
	/* That is a histogram. */
	assert_int_equal(stats_find(fd, "halt_hist", &at), -ENOENT);
	assert_int_equal(at, 7);
	close(fd);
}

static void no_such_file(void **state)
{
	static const struct made_up endless[] = {{"four-and-twenty letters!", 1, 0}};
	uint64_t at = 7, value = 7;
	int fd = fileno(tmpfile());
	struct kvm_stats_header h = {.num_desc = 1};

	(void)state;
	assert_int_equal(stats_find(fd, "pf_fixed", &at), -EBADMSG);
	assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
	assert_int_equal(stats_find(fd, "pf_fixed", &at), -EBADMSG);
	close(fd);
	fd = make_file(endless, 1);
	assert_int_equal(stats_find(fd, "pf_fixed", &at), -EBADMSG);
	close(fd);
	/* It ends among the descriptors; and before the value. */
	fd = make_file(three, 3);
	assert_int_equal(ftruncate(fd, sizeof(h) + ID_SIZE + GAP + 2 * DESC_SIZE + 8), 0);
	assert_int_equal(stats_find(fd, "pf_fixed", &at), -EBADMSG);
	assert_int_equal(stats_read(fd, 1000, &value), -EBADMSG);
	close(fd);
	assert_int_equal(stats_find(-1, "pf_fixed", &at), -EBADF);
	assert_int_equal(at, 7);
	assert_int_equal(value, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found_by_name),
		cmocka_unit_test(not_there),
		cmocka_unit_test(no_such_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
