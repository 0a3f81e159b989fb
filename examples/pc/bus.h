/* SPDX-License-Identifier: BSD-3-Clause */
/* Which device an access is for. Devices are the same on either bus: what gpamap calls for an MMIO region. */
#ifndef PC_BUS_H
#define PC_BUS_H

#include <gpamap.h>
#include <stdbool.h>
#include <stdint.h>

#include "error.h"

enum { PC_PORT_RANGES = 32 };

/* The I/O ports of a PC. Filled before vCPUs run, so nothing is locked. */
struct pc_ports {
	unsigned count;
	struct pc_port_range {
		uint16_t first, size;
		const struct gpamap_mmio_ops *ops;
		void *opaque;
	} range[PC_PORT_RANGES];
};

/* -EBUSY: some of these ports are another device's. -ENOSPC: more devices than there is room for. */
int pc_ports_add(struct pc_ports *ports, uint16_t first, uint16_t size,
		 const struct gpamap_mmio_ops *ops, void *opaque);

/* One access of 1, 2 or 4 bytes. 0 or a negative errno of the device. As on an open bus, where no device is reads are
 * all ones and writes are lost. */
int pc_ports_access(struct pc_ports *ports, uint16_t port, void *data, unsigned size, bool write);

/* Put a device at @gpa: an MMIO region of the map, which keeps it until the map's end. */
int pc_mmio_add(struct gpamap *map, const char *name, uint64_t gpa, uint64_t size,
		const struct gpamap_mmio_ops *ops, void *opaque, struct pc_error *error);

#endif
