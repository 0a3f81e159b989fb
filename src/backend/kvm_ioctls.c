/* SPDX-License-Identifier: BSD-3-Clause */
/* Finding an ioctl in the table, and what has to be seen in its argument. */
#include "backend/kvm_ioctls.h"

#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

/* Slot ids are the first thing in the structs of these. By number, for headers that don't have them all. */
enum {
	NR_GET_DIRTY_LOG = 0x42,
	NR_SET_USER_MEMORY_REGION = 0x46,
	NR_SET_USER_MEMORY_REGION2 = 0x49,
	NR_SET_SIGNAL_MASK = 0x8b,
	NR_CLEAR_DIRTY_LOG = 0xc0,
};

/* The kernel takes 32 bits of what it is given, and so does the table. */
static uint32_t seen(unsigned long request)
{
	return (uint32_t)request;
}

static unsigned direction(uint32_t request)
{
	unsigned dir = _IOC_DIR(request);

	return (dir & _IOC_READ ? GM_DIR_READ : 0) | (dir & _IOC_WRITE ? GM_DIR_WRITE : 0);
}

const struct gm_kvm_ioctl *gm_kvm_ioctl_find(enum gm_fd_kind kind, unsigned long request)
{
	uint32_t r = seen(request);
	size_t n, first = 0, end;
	const struct gm_kvm_ioctl *rows = gm_kvm_ioctls(kind, &n);

	if (_IOC_TYPE(r) != KVMIO)
		return NULL;
	for (end = n; first < end;) {
		size_t middle = first + (end - first) / 2;

		if (rows[middle].nr < _IOC_NR(r))
			first = middle + 1;
		else
			end = middle;
	}
	for (; first < n && rows[first].nr == _IOC_NR(r); first++) {
		if (rows[first].dir == direction(r) && gm_kvm_ioctl_is_here(&rows[first]))
			return &rows[first];
	}
	return NULL;
}

unsigned gm_kvm_ioctl_how(enum gm_fd_kind kind, unsigned long request)
{
	const struct gm_kvm_ioctl *row = gm_kvm_ioctl_find(kind, request);

	return row ? row->how : GM_IOCTL_GATE;
}

bool gm_kvm_ioctl_is_run(unsigned long request)
{
	return seen(request) == (uint32_t)KVM_RUN;
}

bool gm_kvm_ioctl_slot(unsigned long request, const void *arg, uint32_t *ret)
{
	const struct gm_kvm_ioctl *row = gm_kvm_ioctl_find(GM_FD_VM, request);

	if (!row || !arg)
		return false;
	switch (row->nr) {
	case NR_GET_DIRTY_LOG:
	case NR_SET_USER_MEMORY_REGION:
	case NR_SET_USER_MEMORY_REGION2:
	case NR_CLEAR_DIRTY_LOG:
		memcpy(ret, arg, sizeof(*ret));
		return true;
	default:
		return false;
	}
}

/* The set is that of the kernel: words of a long each, not the C library's. One of another size is refused by it. */
bool gm_kvm_ioctl_blocks(unsigned long request, const void *arg, int signo)
{
	const struct gm_kvm_ioctl *row = gm_kvm_ioctl_find(GM_FD_VCPU, request);
	const struct kvm_signal_mask *mask = arg;
	unsigned bit = (unsigned)signo - 1;
	unsigned long word;
	size_t at = bit / (8 * sizeof(word)) * sizeof(word);

	if (!row || row->nr != NR_SET_SIGNAL_MASK || !mask || signo <= 0 ||
	    at + sizeof(word) > mask->len)
		return false;
	memcpy(&word, mask->sigset + at, sizeof(word));
	return word >> bit % (8 * sizeof(word)) & 1;
}
