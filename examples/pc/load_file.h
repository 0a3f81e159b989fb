/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that go into the guest's memory. */
#ifndef PC_LOAD_FILE_H
#define PC_LOAD_FILE_H

#include <stdint.h>

#include "memory.h"

struct pc_file {
	int fd;
	uint64_t size;
	const char *path;
	const char *what; /* "kernel", "initrd": for messages */
};

/* An ordinary file that isn't empty. */
int pc_file_open(struct pc_file *file, const char *what, const char *path, struct pc_error *error);
void pc_file_close(struct pc_file *file);

/* Read [@offset, @offset + @size) of it. An error if it is not that long. */
int pc_file_read(const struct pc_file *file, uint64_t offset, void *to, uint64_t size,
		 struct pc_error *error);
/* The same, to @gpa. An error if that isn't all RAM. */
int pc_file_load(const struct pc_file *file, uint64_t offset, uint64_t size,
		 const struct pc_ram *ram, uint64_t gpa, struct pc_error *error);

#endif
