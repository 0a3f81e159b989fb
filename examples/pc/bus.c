/* SPDX-License-Identifier: BSD-3-Clause */
/* Which device an access is for. */
#include "bus.h"

#include <errno.h>
#include <string.h>

int pc_ports_add(struct pc_ports *ports, uint16_t first, uint16_t size,
		 const struct gpamap_mmio_ops *ops, void *opaque)
{
	for (unsigned i = 0; i < ports->count; i++) {
		const struct pc_port_range *r = &ports->range[i];

		if (first < r->first + r->size && r->first < first + size)
			return -EBUSY;
	}
	if (ports->count == PC_PORT_RANGES)
		return -ENOSPC;
	ports->range[ports->count++] = (struct pc_port_range){first, size, ops, opaque};
	return 0;
}

int pc_ports_access(struct pc_ports *ports, uint16_t port, void *data, unsigned size, bool write)
{
	for (unsigned i = 0; i < ports->count; i++) {
		const struct pc_port_range *r = &ports->range[i];

		if (port < r->first || port + size > r->first + r->size)
			continue;
		if (write)
			return r->ops->write(r->opaque, port - r->first, data, size);
		return r->ops->read(r->opaque, port - r->first, data, size);
	}
	if (!write)
		memset(data, 0xff, size);
	return 0;
}

int pc_mmio_add(struct gpamap *map, const char *name, uint64_t gpa, uint64_t size,
		const struct gpamap_mmio_ops *ops, void *opaque, struct pc_error *error)
{
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_MMIO, .name = name, .size = size, .ops = ops, .opaque = opaque};
	struct gpamap_region *region = NULL;
	struct gpamap_txn *txn = NULL;
	int r = gpamap_region_new(map, &desc, &region);

	if (r == 0)
		r = gpamap_begin(map, &txn);
	if (r == 0)
		r = gpamap_add(txn, gpamap_root(map, 0), gpa, region, 0);
	if (r == 0)
		r = gpamap_commit(txn, NULL, NULL);
	if (r < 0)
		pc_fail(error, r, "%s can't be put at 0x%llx: %s", name, (unsigned long long)gpa,
			txn ? gpamap_message(txn) : strerror(-r));
	gpamap_abort(txn);
	gpamap_region_put(region);
	return r;
}
