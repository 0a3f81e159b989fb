/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that go into the guest's memory. What is in them is not to be trusted, nor that they stay as they are. */
#include "load_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int pc_file_open(struct pc_file *file, const char *what, const char *path, struct pc_error *error)
{
	struct stat st;
	int err;

	/* A pipe that nobody writes must not make open() wait. */
	*file = (struct pc_file){open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), 0, path, what};
	if (file->fd < 0 || fstat(file->fd, &st) < 0) {
		err = errno;
		pc_file_close(file);
		return pc_fail(error, -err, "%s %s: %s", what, path, strerror(err));
	}
	file->size = (uint64_t)st.st_size;
	if (S_ISREG(st.st_mode) && file->size > 0)
		return 0;
	pc_file_close(file);
	return pc_fail(error, -EINVAL, "%s %s: %s", what, path,
		       S_ISREG(st.st_mode) ? "the file is empty" : "not an ordinary file");
}

void pc_file_close(struct pc_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

int pc_file_read(const struct pc_file *file, uint64_t offset, void *to, uint64_t size,
		 struct pc_error *error)
{
	char *at = to;

	while (size) {
		ssize_t n = offset > INT64_MAX ? 0 : pread(file->fd, at, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return pc_fail(error, -errno, "%s %s: %s", file->what, file->path,
				       strerror(errno));
		if (n == 0)
			return pc_fail(error, -EINVAL,
				       "%s %s: the file is cut short: it ends at byte %llu, where "
				       "%llu more"
				       " should be",
				       file->what, file->path, (unsigned long long)offset,
				       (unsigned long long)size);
		at += n;
		offset += (uint64_t)n;
		size -= (uint64_t)n;
	}
	return 0;
}

int pc_file_load(const struct pc_file *file, uint64_t offset, uint64_t size,
		 const struct pc_ram *ram, uint64_t gpa, struct pc_error *error)
{
	void *to = pc_ram_at(ram, gpa, size);

	if (!to)
		return pc_fail(error, -ENOMEM,
			       "%s %s: too little memory: it needs %llu bytes at 0x%llx; a larger "
			       "-m is needed",
			       file->what, file->path, (unsigned long long)size,
			       (unsigned long long)gpa);
	return pc_file_read(file, offset, to, size, error);
}
