/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernel's image on arm64, and what goes where in RAM. Has no KVM in it, so it is tested on any host. */
#ifndef PC_IMAGE_ARM64_H
#define PC_IMAGE_ARM64_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum {
	PC_IMAGE_HEADER =
		1024, /* so many bytes of the file tell what it is, or all if it has less */
	PC_COMMAND_LINE = 2047, /* the longest that Linux takes */
};

/* The device tree has a block of its own. */
#define PC_FDT_ROOM (UINT64_C(2) << 20)

struct pc_image {
	uint64_t offset; /* from a multiple of 2 MiB */
	uint64_t size;	 /* in memory, what the file does not have included */
	unsigned page;	 /* KiB; 0: it does not say */
};

/* What @header of the file at @path says. */
int pc_image_check(const void *header, size_t size, const char *path, struct pc_image *ret,
		   struct pc_error *error);

/* -ENOTSUP: processors with this ID_AA64MMFR0_EL1 don't have the pages that the kernel is built for. */
int pc_image_check_pages(const struct pc_image *image, uint64_t mmfr0, const char *path,
			 struct pc_error *error);

struct pc_image_places {
	uint64_t kernel, fdt, initrd;
};

/* In @size bytes of RAM at @ram, a multiple of 2 MiB. */
int pc_image_place(const struct pc_image *image, uint64_t initrd_size, uint64_t ram, uint64_t size,
		   struct pc_image_places *ret, struct pc_error *error);

#endif
