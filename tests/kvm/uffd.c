/* SPDX-License-Identifier: BSD-3-Clause */
/* See uffd.h. */
#include "uffd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of Linux 6.0. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* The system call needs a privilege for faults of the kernel, the device its file's mode. */
static int new_fd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int dev;

	if (fd >= 0)
		return fd;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -1;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	close(dev);
	return fd;
}

bool uffd_available(void)
{
	int fd = new_fd();

	if (fd < 0) {
		printf("SKIP: no userfaultfd for faults of the kernel: %s\n", strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

static void *handler(void *opaque)
{
	struct uffd *u = opaque;
	struct uffdio_copy copy = {
		.dst = (uintptr_t)u->page, .src = (uintptr_t)u->content, .len = u->size};
	struct pollfd p = {.fd = u->fd, .events = POLLIN};
	struct uffd_msg msg;

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	if (read(u->fd, &msg, sizeof(msg)) != sizeof(msg) || msg.event != UFFD_EVENT_PAGEFAULT)
		atomic_store(&u->err, EPROTO);
	sem_post(&u->faulted);
	wait_sem(&u->place);
	/* This wakes all who wait for it, also those who have come since. */
	if (ioctl(u->fd, UFFDIO_COPY, &copy))
		atomic_store(&u->err, errno);
	return NULL;
}

void uffd_open(struct uffd *u, void *page, size_t size, const void *content, size_t len)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {
		.range = {(uintptr_t)page, size},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	*u = (struct uffd){.fd = new_fd(), .page = page, .size = size};
	assert_true(u->fd >= 0);
	u->content = calloc(1, size);
	assert_non_null(u->content);
	if (len)
		memcpy(u->content, content, len);
	sem_init(&u->faulted, 0, 0);
	sem_init(&u->place, 0, 0);
	ok(ioctl(u->fd, UFFDIO_API, &api));
	ok(ioctl(u->fd, UFFDIO_REGISTER, &reg));
	ok(madvise(page, size, MADV_DONTNEED));
	ok(pthread_create(&u->thread, NULL, handler, u));
	u->running = true;
}

void uffd_await_fault(struct uffd *u)
{
	wait_sem(&u->faulted);
	assert_int_equal(atomic_load(&u->err), 0);
}

bool uffd_again(struct uffd *u)
{
	struct pollfd p = {.fd = u->fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

void uffd_place(struct uffd *u)
{
	sem_post(&u->place);
	ok(pthread_join(u->thread, NULL));
	u->running = false;
	assert_int_equal(atomic_load(&u->err), 0);
}

void uffd_close(struct uffd *u)
{
	struct uffdio_range range = {(uintptr_t)u->page, u->size};

	if (!u->page)
		return;
	if (u->running) {
		/* Somebody has to have touched it, for the handler to end. */
		sem_post(&u->place);
		(void)*(volatile uint8_t *)u->page;
		pthread_join(u->thread, NULL);
	}
	ioctl(u->fd, UFFDIO_UNREGISTER, &range);
	close(u->fd);
	free(u->content);
	memset(u, 0, sizeof(*u));
}
