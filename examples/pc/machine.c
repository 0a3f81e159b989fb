/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine, from its options to its end. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch.h"
#include "end.h"
#include "serial_16550.h"
#include "vcpu.h"

/* ---------------------------------------------------------------------------------- the VM --- */

static int open_kvm(struct pc *pc)
{
	const char *device = getenv("GPAMAP_KVM_DEVICE");
	int version;

	device = device ? device : "/dev/kvm";
	pc->kvm = open(device, O_RDWR | O_CLOEXEC);
	if (pc->kvm < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
		return pc_fail(&pc->error, -errno,
			       "no %s: this processor has no virtualization, its firmware keeps "
			       "it, or KVM "
			       "is not loaded (on x86: modprobe kvm_intel or kvm_amd)",
			       device);
	if (pc->kvm < 0 && errno == EACCES)
		return pc_fail(&pc->error, -errno,
			       "%s: permission denied: become a member of the group kvm", device);
	if (pc->kvm < 0)
		return pc_fail(&pc->error, -errno, "%s: %s", device, strerror(errno));
	version = ioctl(pc->kvm, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		return pc_fail(&pc->error, -ENOTSUP, "%s is not a KVM of version %d", device,
			       KVM_API_VERSION);
	return 0;
}

static int check_cpus(struct pc *pc)
{
	int max = ioctl(pc->kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	if (max <= 0)
		max = ioctl(pc->kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
	if (pc->options.cpus >= 1 && pc->options.cpus <= (unsigned)(max > 0 ? max : 1))
		return 0;
	return pc_fail(&pc->error, -EINVAL, "%u vCPUs: this KVM has 1 to %d", pc->options.cpus,
		       max > 0 ? max : 1);
}

static int new_map(struct pc *pc)
{
	struct gpamap_options *map = &pc->options.map;
	char why[256] = "";
	int r;

	if (!map->kick_signal)
		map->kick_signal = PC_KICK_SIGNAL;
	pc->kick_signal = map->kick_signal;
	r = gpamap_kick_install(pc->kick_signal);
	if (r < 0 && r != -EBUSY)
		return pc_fail(&pc->error, r, "no handler for signal %d: %s", pc->kick_signal,
			       strerror(-r));
	map->message = why;
	map->message_size = sizeof(why);
	r = gpamap_new_kvm(pc->vm, map, &pc->map);
	map->message = NULL;
	map->message_size = 0;
	if (r < 0)
		return pc_fail(&pc->error, r, "no map for the VM: %s: %s", strerror(-r), why);
	return 0;
}

static int new_vm(struct pc *pc)
{
	unsigned long type = 0;
	int r = open_kvm(pc);

	r = r < 0 ? r : check_cpus(pc);
	r = r < 0 ? r : arch_vm_type(pc, &type);
	if (r < 0)
		return r;
	do {
		pc->vm = ioctl(pc->kvm, KVM_CREATE_VM, type);
	} while (pc->vm < 0 && errno == EINTR);
	if (pc->vm < 0)
		return pc_fail(&pc->error, -errno, "KVM makes no VM: %s", strerror(errno));
	return new_map(pc);
}

/* ------------------------------------------------------------------------------------- RAM --- */

/* The default: a region for each range. */
static int map_range(struct pc *pc, const struct pc_ram_range *range)
{
	struct gpamap_region_desc desc = {.kind = GPAMAP_RAM,
					  .name = "ram",
					  .size = range->size,
					  .hva = (char *)pc->ram.host + range->offset};
	struct gpamap_region *region = NULL;
	struct gpamap_txn *txn = NULL;
	int r = gpamap_region_new(pc->map, &desc, &region);

	if (r == 0)
		r = gpamap_begin(pc->map, &txn);
	if (r == 0)
		r = gpamap_add(txn, gpamap_root(pc->map, 0), range->gpa, region, 0);
	if (r == 0)
		r = gpamap_commit(txn, NULL, NULL);
	if (r < 0)
		pc_fail(&pc->error, r, "the map: %s", txn ? gpamap_message(txn) : strerror(-r));
	gpamap_abort(txn);
	gpamap_region_put(region);
	return r;
}

static int add_ram(struct pc *pc)
{
	int r = arch_ram_ranges(pc);

	if (r == 0)
		r = pc_ram_new(&pc->ram, pc->options.memory, &pc->error);
	for (unsigned i = 0; i < pc->ram.ranges && r == 0; i++) {
		const struct pc_ram_range *range = &pc->ram.range[i];

		if (!pc->options.map_ram) {
			r = map_range(pc, range);
			continue;
		}
		r = pc->options.map_ram(pc->options.opaque, pc, range->gpa, range->size, pc->ram.fd,
					range->offset, (char *)pc->ram.host + range->offset);
		if (r < 0)
			pc_fail(&pc->error, r, "RAM at 0x%llx: %s", (unsigned long long)range->gpa,
				strerror(-r));
	}
	return r;
}

/* ---------------------------------------------------------------------------- from new to free --- */

int pc_new(const struct pc_options *options, struct pc **ret, struct pc_error *error)
{
	struct pc *pc = calloc(1, sizeof(*pc));
	int r;

	if (!pc)
		return pc_fail(error, -ENOMEM, "no memory");
	pc->options = *options;
	pc->kvm = pc->vm = pc->ram.fd = -1;
	pthread_mutex_init(&pc->lock, NULL);
	pthread_cond_init(&pc->changed, NULL);
	r = new_vm(pc);
	r = r < 0 ? r : add_ram(pc);
	r = r < 0 ? r : arch_init_vm(pc);
	r = r < 0 ? r : pc_vcpus_new(pc);
	r = r < 0 ? r : arch_init_devices(pc);
	r = r < 0 ? r : arch_load(pc);
	if (r < 0) {
		*error = pc->error;
		pc_free(pc);
		return r;
	}
	*ret = pc;
	return 0;
}

int pc_start(struct pc *pc)
{
	int r = pc_vcpus_start(pc);

	/* Those that run already are no use without the others. */
	if (r < 0)
		pc_end(pc, NULL, PC_ERROR, "%s", pc->error.text);
	return r;
}

const struct pc_end *pc_wait(struct pc *pc)
{
	pthread_mutex_lock(&pc->lock);
	while (pc->end.how == PC_RUNS)
		pthread_cond_wait(&pc->changed, &pc->lock);
	pthread_mutex_unlock(&pc->lock);
	pc_vcpus_join(pc);
	if (pc->serial)
		pc_serial_hang_up(pc->serial);
	return &pc->end;
}

void pc_quit(struct pc *pc)
{
	pc_end(pc, NULL, PC_QUIT, "ended from outside");
}

void pc_type(struct pc *pc, const void *bytes, size_t count)
{
	pc_serial_type(pc->serial, bytes, count);
}

void pc_free(struct pc *pc)
{
	if (!pc)
		return;
	if (pc->vcpus) {
		pc_quit(pc);
		pc_vcpus_join(pc);
	}
	pc_vcpus_free(pc);
	arch_free(pc);
	if (pc->map)
		gpamap_free(pc->map);
	if (pc->vm >= 0)
		close(pc->vm);
	if (pc->kvm >= 0)
		close(pc->kvm);
	pc_ram_free(&pc->ram);
	pthread_cond_destroy(&pc->changed);
	pthread_mutex_destroy(&pc->lock);
	free(pc);
}
