/* SPDX-License-Identifier: BSD-3-Clause */
/* The lists of ioctls that ioctl_names.py writes. */
#ifndef TEST_IOCTL_NAMES_H
#define TEST_IOCTL_NAMES_H

#include "backend/kvm_ioctls.h"

/* As LINUX_VERSION_CODE, without the last number. */
extern const unsigned covered_version;
extern const unsigned installed_version;

/* From kvm_ioctls.txt. */
struct covered {
	const char *name;
	unsigned kinds; /* a bit for each gm_fd_kind */
};
extern const struct covered covered[];
extern const unsigned nr_covered;

/* From <linux/kvm.h>. */
struct installed {
	const char *name;
	unsigned long request;
};
extern const struct installed installed[];
extern const unsigned nr_installed;

#endif
