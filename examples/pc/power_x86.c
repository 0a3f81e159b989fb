/* SPDX-License-Identifier: BSD-3-Clause */
/* How a PC is powered off and reset: ACPI's PM1a registers, the chipset's reset port, the keyboard controller's line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "end.h"
#include "layout_x86.h"
#include "x86.h"

enum {
	ENABLE = 2, /* where they are among the PM1a registers */
	CONTROL = 4,
	SCI_ENABLED = 0x01,
	SLEEP_TYPE_SHIFT = 10 - 8, /* in the control register's upper byte */
	SLEEP_NOW = 0x20,
	RESET_NOW = 0x04,
	KEYBOARD_RESET = 0xfe,
};

/* ACPI's registers, of which only what is enabled changes. Written by one processor at a time: the guest's own business,
 * since nothing here rests on it. */
struct pm {
	struct pc *pc;
	uint8_t registers[X86_PM_SIZE];
};

/* No event ever comes, so the status is 0. It is in ACPI mode from the first. */
static int pm_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
	const struct pm *pm = opaque;

	memcpy(data, pm->registers + offset, len);
	return 0;
}

static int pm_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	struct pm *pm = opaque;
	const uint8_t *bytes = data;

	for (unsigned i = 0; i < len; i++, offset++) {
		if (offset >= ENABLE && offset < CONTROL)
			pm->registers[offset] = bytes[i];
		if (offset == CONTROL + 1 && (bytes[i] & SLEEP_NOW) &&
		    (bytes[i] >> SLEEP_TYPE_SHIFT & 7) == X86_SLEEP_OFF)
			pc_end(pm->pc, NULL, PC_POWER_OFF, "the guest has powered off");
	}
	return 0;
}

static int reads_zero(void *opaque, uint64_t offset, void *data, unsigned len)
{
	(void)opaque;
	(void)offset;
	memset(data, 0, len);
	return 0;
}

static int reset_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	(void)offset;
	(void)len;
	if (*(const uint8_t *)data & RESET_NOW)
		pc_end(opaque, NULL, PC_RESET, "the guest has asked for a reset");
	return 0;
}

static int keyboard_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	(void)offset;
	(void)len;
	if (*(const uint8_t *)data == KEYBOARD_RESET)
		pc_end(opaque, NULL, PC_RESET, "the guest has asked for a reset");
	return 0;
}

int x86_add_power(struct pc *pc)
{
	static const struct gpamap_mmio_ops pm_ops = {pm_read, pm_write};
	static const struct gpamap_mmio_ops reset = {reads_zero, reset_write};
	/* There is no keyboard. Its controller's status says that it takes commands. */
	static const struct gpamap_mmio_ops keyboard = {reads_zero, keyboard_write};
	struct pm *pm = calloc(1, sizeof(*pm));
	int r;

	if (!pm)
		return pc_fail(&pc->error, -ENOMEM, "no memory for the power ports");
	pm->pc = pc;
	pm->registers[CONTROL] = SCI_ENABLED;
	pc->arch = pm;
	r = pc_ports_add(&pc->ports, X86_PM_PORT, X86_PM_SIZE, &pm_ops, pm);
	r = r < 0 ? r : pc_ports_add(&pc->ports, X86_RESET_PORT, 1, &reset, pc);
	r = r < 0 ? r : pc_ports_add(&pc->ports, X86_KEYBOARD_PORT, 1, &keyboard, pc);
	return r < 0 ? pc_fail(&pc->error, r, "power ports: %s", strerror(-r)) : 0;
}
