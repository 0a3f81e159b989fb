/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What KVM itself has counted, by name. The file that KVM_GET_STATS_FD gives describes itself: a header, a descriptor
 * with a name for each value, and the values.
 */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stdint.h>

/* Where a counter is in the file. -ENOENT: there's none of that name, or it is no single value. -EBADMSG: that is no
 * such file. */
int stats_find(int fd, const char *name, uint64_t *at);
int stats_read(int fd, uint64_t at, uint64_t *value);

#endif
