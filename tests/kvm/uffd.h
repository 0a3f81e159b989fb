/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory whose pages are missing until it is said that they may come: a userfaultfd, with its handler's thread. */
#ifndef TEST_KVM_UFFD_H
#define TEST_KVM_UFFD_H

#include <semaphore.h>

#include "vm.h"

struct uffd {
	int fd;
	uint8_t *page; /* of this process, in which everything is missing */
	size_t size;
	uint8_t *content; /* that it will have */
	pthread_t thread;
	bool running;
	sem_t faulted;
	sem_t place;
	atomic_int err;
};

/* May faults of the kernel be had? If not, it prints why: return 77 then. */
bool uffd_available(void);

/* From now on @page is missing. When it comes it begins with @len bytes from @content; all else will be 0. */
void uffd_open(struct uffd *u, void *page, size_t size, const void *content, size_t len);
/* Wait until somebody has touched it; he sleeps then. */
void uffd_await_fault(struct uffd *u);
/* Is there a fault that has not been waited for, now? */
bool uffd_again(struct uffd *u);
/* Let it come. */
void uffd_place(struct uffd *u);
/* No more faults; who waits for one goes on. After uffd_place(), or a test that failed. */
void uffd_close(struct uffd *u);

#endif
