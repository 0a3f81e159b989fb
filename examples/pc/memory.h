/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's RAM: one memfd, shown to the guest in one range or more. */
#ifndef PC_MEMORY_H
#define PC_MEMORY_H

#include <stdint.h>

#include "error.h"

/* Where a part of the RAM is for the guest, and in the file. */
struct pc_ram_range {
	uint64_t gpa, size, offset;
};

enum { PC_RAM_RANGES = 2 };

struct pc_ram {
	int fd;	    /* whoever likes may map it once more */
	void *host; /* all of it */
	uint64_t size;
	struct pc_ram_range range[PC_RAM_RANGES];
	unsigned ranges;
};

/* Make @size bytes, all zero; the caller has filled in the ranges. */
int pc_ram_new(struct pc_ram *ram, uint64_t size, struct pc_error *error);
void pc_ram_free(struct pc_ram *ram);

/* Where the guest's [@gpa, @gpa + @size) is in this process, or NULL if that isn't all RAM. */
void *pc_ram_at(const struct pc_ram *ram, uint64_t gpa, uint64_t size);

#endif
