/* SPDX-License-Identifier: BSD-3-Clause */
/* Kernel images of arm64: what is taken, what is refused and with what words, and what goes where. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "image_arm64.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static uint8_t header[PC_IMAGE_HEADER];

static void put(size_t offset, uint64_t value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		header[offset + i] = (uint8_t)(value >> 8 * i);
}

/* As the kernel's documentation describes it. */
static void good(uint64_t text_offset, uint64_t image_size, uint64_t flags)
{
	memset(header, 0, sizeof(header));
	memcpy(header, "MZ", 2);
	put(8, text_offset, 8);
	put(16, image_size, 8);
	put(24, flags, 8);
	put(56, 0x644d5241, 4);
}

static void refused(size_t size, const char *word, const char *other)
{
	struct pc_image image = {1, 2, 3};
	struct pc_error error = {""};

	assert_int_equal(pc_image_check(header, size, "FILE", &image, &error), -EINVAL);
	if (!strstr(error.text, word) || !strstr(error.text, other) || !strstr(error.text, "FILE"))
		fail_msg("no \"%s\" and \"%s\" in: %s", word, other, error.text);
	assert_int_equal(image.offset, 1);
}

static void test_good(void **state)
{
	static const unsigned pages[] = {0, 4, 16, 64};
	struct pc_error error = {""};
	struct pc_image image;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		good(0x80000, 0x123456789, 8 | i << 1);
		assert_int_equal(pc_image_check(header, 64, "FILE", &image, &error), 0);
		assert_int_equal(image.offset, 0x80000);
		assert_int_equal(image.size, 0x123456789);
		assert_int_equal(image.page, pages[i]);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *begin, *unpack;
	} packed[] = {{"\x1f\x8b\x08", "zcat <FILE"},
		      {"\xfd\x37zXZ", "xzcat <FILE"},
		      {"\x28\xb5\x2f\xfd", "zstdcat <FILE"},
		      {"\x02\x21\x4c\x18", "lz4cat <FILE"},
		      {"BZh9", "bzcat <FILE"}};

	(void)state;
	for (unsigned i = 0; i < sizeof(packed) / sizeof(packed[0]); i++) {
		memset(header, 0, sizeof(header));
		memcpy(header, packed[i].begin, strlen(packed[i].begin));
		refused(sizeof(header), "compressed", packed[i].unpack);
	}
	memset(header, 0, sizeof(header));
	refused(sizeof(header), "not an arm64 Image", "byte 56");
	memcpy(header + 0x202, "HdrS", 4);
	refused(sizeof(header), "x86", "Image");
	memcpy(header, "\177ELF", 4);
	memset(header + 0x202, 0, 4);
	refused(sizeof(header), "ELF", "arch/arm64/boot/Image");
	good(0, 0, 0);
	refused(sizeof(header), "3.17", "how large");
}

static void test_zboot(void **state)
{
	(void)state;
	memset(header, 0, sizeof(header));
	memcpy(header, "MZ\0\0zimg", 8);
	put(8, 0x6d58, 4);
	put(12, 1234567, 4);
	memcpy(header + 24, "gzip", 4);
	refused(sizeof(header), "zboot, gzip",
		"tail -c +27993 FILE | head -c 1234567 | zcat >Image");
	memcpy(header + 24, "zstd", 4);
	refused(sizeof(header), "zboot, zstd", "| zstdcat >Image");
	/* A name without an end does not reach beyond its place. */
	memset(header + 24, 'x', 40);
	refused(sizeof(header), "zboot, xxxxxxx)", "| xxxxxxxcat");
}

/* Files that end before the header does. What stands behind their end is never looked at. */
static void test_short(void **state)
{
	struct pc_error error;
	struct pc_image image;

	(void)state;
	for (size_t size = 0; size < 64; size++) {
		good(0, MIB, 10);
		assert_int_equal(pc_image_check(header, size, "FILE", &image, &error), -EINVAL);
	}
	memset(header, 0, sizeof(header));
	memcpy(header, "MZ\0\0zimg", 8);
	memcpy(header + 0x202, "HdrS", 4);
	refused(0x205, "zboot", "FILE");
	memcpy(header, "\0\0", 2);
	refused(0x205, "not an arm64 Image", "FILE");
	refused(0x206, "x86", "FILE");
}

/* ID_AA64MMFR0_EL1: 4 KiB in bits 31 to 28, 64 KiB in 27 to 24, 16 KiB in 23 to 20; 0xf, or 0 for 16 KiB, is no. */
static void test_pages(void **state)
{
	static const struct {
		uint64_t mmfr0;
		unsigned has[4];
		const char *words;
	} processor[] = {
		{0x00001124, {0, 4, 64, 0}, "has those of 4 64 KiB"}, /* Cortex-A72 */
		{0x00101122, {0, 4, 16, 64}, NULL},		      /* Neoverse N1 */
		{0xff100000, {0, 16, 0, 0}, "has those of 16 KiB"},
		{0x1f200000, {0, 4, 16, 0}, "has those of 4 16 KiB"}, /* with 52 bits */
	};
	static const unsigned all[] = {0, 4, 16, 64};

	(void)state;
	for (unsigned p = 0; p < sizeof(processor) / sizeof(processor[0]); p++) {
		for (unsigned i = 0; i < 4; i++) {
			struct pc_image image = {0, MIB, all[i]};
			struct pc_error error;
			int want = -ENOTSUP;

			for (unsigned k = 0; k < 4; k++)
				want = processor[p].has[k] == all[i] ? 0 : want;
			assert_int_equal(pc_image_check_pages(&image, processor[p].mmfr0, "FILE",
							      &error),
					 want);
			if (want && !strstr(error.text, processor[p].words))
				fail_msg("no \"%s\" in: %s", processor[p].words, error.text);
		}
	}
}

/* Nothing meets anything else, and all is in RAM. */
static void test_places(void **state)
{
	static const uint64_t offsets[] = {0, 0x80000, 5 * MIB},
			      sizes[] = {1, 2 * MIB, 45 * MIB + 4096};
	static const uint64_t initrds[] = {0, 1, 10 * MIB};

	(void)state;
	for (unsigned i = 0; i < 27; i++) {
		struct pc_image image = {offsets[i % 3], sizes[i / 3 % 3], 4};
		uint64_t initrd = initrds[i / 9], need;
		struct pc_image_places at = {0, 0, 0};
		struct pc_error error = {""};

		assert_int_equal(pc_image_place(&image, initrd, GIB, 256 * MIB, &at, &error), 0);
		assert_int_equal(at.kernel, GIB + image.offset);
		assert_true(at.fdt >= at.kernel + image.size);
		assert_int_equal(at.fdt % (2 * MIB), 0);
		assert_true(at.initrd >= at.fdt + PC_FDT_ROOM);
		assert_int_equal(at.initrd % 4096, 0);
		/* Just enough is enough, and a byte less isn't. */
		need = at.initrd + initrd - GIB;
		assert_int_equal(pc_image_place(&image, initrd, GIB, need, &at, &error), 0);
		assert_int_equal(pc_image_place(&image, initrd, GIB, need - 1, &at, &error),
				 -ENOMEM);
	}
}

static void test_places_refused(void **state)
{
	static const uint64_t huge[] = {UINT64_C(1) << 48, UINT64_MAX, UINT64_MAX - 4096};
	struct pc_image_places at = {7, 7, 7};
	struct pc_error error = {""};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct pc_image far = {huge[i], MIB, 4}, large = {0, huge[i], 4},
				fine = {0, MIB, 4};

		assert_int_equal(pc_image_place(&far, 0, GIB, GIB, &at, &error), -EINVAL);
		assert_int_equal(pc_image_place(&large, 0, GIB, GIB, &at, &error), -EINVAL);
		assert_int_equal(pc_image_place(&fine, huge[i], GIB, GIB, &at, &error), -EINVAL);
	}
	assert_int_equal(pc_image_place(&(struct pc_image){0, 45 * MIB, 4}, 3 * MIB + 1, GIB,
					32 * MIB, &at, &error),
			 -ENOMEM);
	/* 45 MiB, to 46; the tree's 2; the initrd's 3 and a bit. */
	assert_non_null(strstr(error.text, "-m 52M; it is 32M"));
	assert_int_equal(at.kernel, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),	       cmocka_unit_test(test_refused),
		cmocka_unit_test(test_zboot),	       cmocka_unit_test(test_short),
		cmocka_unit_test(test_pages),	       cmocka_unit_test(test_places),
		cmocka_unit_test(test_places_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
