/* SPDX-License-Identifier: BSD-3-Clause */
/* What KVM itself has counted, by name. */
#include "stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int read_at(int fd, void *to, size_t size, uint64_t at)
{
	ssize_t n = pread(fd, to, size, (off_t)at);

	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EBADMSG;
}

/* @d has room for a descriptor with its name. */
static int find(int fd, const struct kvm_stats_header *h, struct kvm_stats_desc *d,
		const char *name, uint64_t *at)
{
	size_t size = sizeof(*d) + h->name_size;

	for (uint64_t i = 0; i < h->num_desc; i++) {
		int err = read_at(fd, d, size, h->desc_offset + i * size);

		if (err)
			return err;
		/* It has no end; or, in a file of zeros, no place. */
		if (strnlen(d->name, h->name_size) == h->name_size)
			return -EBADMSG;
		if (strcmp(d->name, name))
			continue;
		if (d->size != 1)
			return -ENOENT;
		*at = (uint64_t)h->data_offset + d->offset;
		return 0;
	}
	return -ENOENT;
}

int stats_find(int fd, const char *name, uint64_t *at)
{
	struct kvm_stats_desc *d;
	struct kvm_stats_header h;
	int err = read_at(fd, &h, sizeof(h), 0);

	if (err)
		return err;
	d = malloc(sizeof(*d) + h.name_size);
	if (!d)
		return -ENOMEM;
	err = find(fd, &h, d, name, at);
	free(d);
	return err;
}

int stats_read(int fd, uint64_t at, uint64_t *value)
{
	uint64_t read;
	int err = read_at(fd, &read, sizeof(read), at);

	if (!err)
		*value = read;
	return err;
}
