/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernel's image on arm64: the header that Linux's Documentation/arch/arm64/booting.rst describes. */
#include "image_arm64.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

/* Bytes from the begin. */
enum {
	TEXT_OFFSET = 8,
	IMAGE_SIZE = 16,
	FLAGS = 24,
	MAGIC = 56,
	HEADER_END = 64,
	/* Of an image that EFI unpacks. */
	ZBOOT_MAGIC = 4,
	ZBOOT_OFFSET = 8,
	ZBOOT_SIZE = 12,
	ZBOOT_TYPE = 24,
	/* Of x86's bzImage. */
	X86_MAGIC = 0x202,
};

struct bytes {
	const uint8_t *at;
	size_t size;
};

static uint64_t little(struct bytes b, size_t offset, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = size; i-- > 0;)
		value = value << 8 | b.at[offset + i];
	return value;
}

static bool has(struct bytes b, size_t offset, const char *magic)
{
	size_t size = strlen(magic);

	return offset + size <= b.size && memcmp(b.at + offset, magic, size) == 0;
}

/* What unpacks it, or NULL. */
static const char *packer(struct bytes b)
{
	static const char *const known[][2] = {{"\x1f\x8b", "zcat"},
					       {"\xfd"
						"7zXZ",
						"xzcat"},
					       {"\x28\xb5\x2f\xfd", "zstdcat"},
					       {"\x02\x21\x4c\x18", "lz4cat"},
					       {"BZh", "bzcat"}};

	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (has(b, 0, known[i][0]))
			return known[i][1];
	}
	return NULL;
}

static int fail_zboot(struct bytes b, const char *path, struct pc_error *error)
{
	char type[8] = "";

	snprintf(type, sizeof(type), "%s", (const char *)b.at + ZBOOT_TYPE);
	return pc_fail(error, -EINVAL,
		       "kernel %s: it is packed for EFI (zboot, %s), and this machine has no "
		       "firmware that unpacks"
		       " it. Right is the Image that is in it: tail -c +%llu %s | head -c %llu | "
		       "%scat >Image",
		       path, type, (unsigned long long)little(b, ZBOOT_OFFSET, 4) + 1, path,
		       (unsigned long long)little(b, ZBOOT_SIZE, 4),
		       strcmp(type, "gzip") == 0 ? "z" : type);
}

static int fail_unknown(struct bytes b, const char *path, struct pc_error *error)
{
	const char *unpack = packer(b);

	if (unpack)
		return pc_fail(
			error, -EINVAL,
			"kernel %s: it is compressed. Right is the Image itself: %s <%s >Image",
			path, unpack, path);
	if (b.size >= HEADER_END && has(b, 0, "MZ") && has(b, ZBOOT_MAGIC, "zimg"))
		return fail_zboot(b, path, error);
	if (has(b, X86_MAGIC, "HdrS"))
		return pc_fail(
			error, -EINVAL,
			"kernel %s: it is one for x86. This machine is arm64: an Image is needed",
			path);
	if (has(b, 0, "\177ELF"))
		return pc_fail(error, -EINVAL,
			       "kernel %s: it is an ELF file, perhaps vmlinux. Right is "
			       "arch/arm64/boot/Image of the"
			       " same kernel",
			       path);
	return pc_fail(error, -EINVAL,
		       "kernel %s: not an arm64 Image: it has no \"ARM\\x64\" at byte %d", path,
		       MAGIC);
}

int pc_image_check(const void *header, size_t size, const char *path, struct pc_image *ret,
		   struct pc_error *error)
{
	static const unsigned pages[] = {0, 4, 16, 64};
	struct bytes b = {header, size};
	uint64_t flags;

	if (size < HEADER_END || !has(b, MAGIC, "ARM\x64"))
		return fail_unknown(b, path, error);
	if (little(b, IMAGE_SIZE, 8) == 0)
		return pc_fail(
			error, -EINVAL,
			"kernel %s: it does not say how large it is: Linux 3.17 or newer is needed",
			path);
	flags = little(b, FLAGS, 8);
	*ret = (struct pc_image){little(b, TEXT_OFFSET, 8), little(b, IMAGE_SIZE, 8),
				 pages[flags >> 1 & 3]};
	return 0;
}

/* Each of the three fields has its own way to say so. */
static bool has_pages(uint64_t mmfr0, unsigned page)
{
	unsigned four = mmfr0 >> 28 & 15, sixteen = mmfr0 >> 20 & 15, sixty_four = mmfr0 >> 24 & 15;

	switch (page) {
	case 4:
		return four < 8;
	case 16:
		return sixteen != 0;
	case 64:
		return sixty_four == 0;
	}
	return true;
}

int pc_image_check_pages(const struct pc_image *image, uint64_t mmfr0, const char *path,
			 struct pc_error *error)
{
	if (has_pages(mmfr0, image->page))
		return 0;
	return pc_fail(
		error, -ENOTSUP,
		"kernel %s: it is built for pages of %u KiB. This processor has those of%s%s%s KiB",
		path, image->page, has_pages(mmfr0, 4) ? " 4" : "",
		has_pages(mmfr0, 16) ? " 16" : "", has_pages(mmfr0, 64) ? " 64" : "");
}

int pc_image_place(const struct pc_image *image, uint64_t initrd_size, uint64_t ram, uint64_t size,
		   struct pc_image_places *ret, struct pc_error *error)
{
	const uint64_t limit = UINT64_C(1) << 48;
	uint64_t fdt, initrd, need;

	/* No sum of these wraps. */
	if (image->offset >= limit || image->size >= limit || initrd_size >= limit)
		return pc_fail(
			error, -EINVAL,
			"the kernel says that it needs %llu bytes at %llu: its header is damaged",
			(unsigned long long)image->size, (unsigned long long)image->offset);
	fdt = (image->offset + image->size + PC_FDT_ROOM - 1) / PC_FDT_ROOM * PC_FDT_ROOM;
	initrd = fdt + PC_FDT_ROOM;
	need = initrd + initrd_size;
	if (need > size)
		return pc_fail(
			error, -ENOMEM,
			"too little memory: kernel and initrd alone need -m %lluM; it is %lluM",
			(unsigned long long)((need + MIB - 1) / MIB),
			(unsigned long long)(size / MIB));
	*ret = (struct pc_image_places){ram + image->offset, ram + fdt, ram + initrd};
	return 0;
}
