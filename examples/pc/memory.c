/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's RAM. */
#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int pc_ram_new(struct pc_ram *ram, uint64_t size, struct pc_error *error)
{
	int err;

	ram->host = NULL;
	ram->size = size;
	ram->fd = memfd_create("guest-ram", MFD_CLOEXEC);
	if (ram->fd >= 0 && ftruncate(ram->fd, (off_t)size) == 0) {
		ram->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ram->fd, 0);
		if (ram->host != MAP_FAILED)
			return 0;
		ram->host = NULL;
	}
	err = errno;
	pc_ram_free(ram);
	return pc_fail(error, -err, "no %llu MiB of memory for the guest: %s",
		       (unsigned long long)size >> 20, strerror(err));
}

void pc_ram_free(struct pc_ram *ram)
{
	if (ram->host)
		munmap(ram->host, ram->size);
	if (ram->fd >= 0)
		close(ram->fd);
	ram->host = NULL;
	ram->fd = -1;
}

void *pc_ram_at(const struct pc_ram *ram, uint64_t gpa, uint64_t size)
{
	for (unsigned i = 0; i < ram->ranges; i++) {
		const struct pc_ram_range *r = &ram->range[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->size && size <= r->size - (gpa - r->gpa))
			return (char *)ram->host + r->offset + (gpa - r->gpa);
	}
	return NULL;
}
