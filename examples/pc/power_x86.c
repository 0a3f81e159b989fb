/* SPDX-License-Identifier: BSD-3-Clause */
/* How a PC is powered off and reset: ACPI's PM1a registers, the chipset's reset port, the keyboard controller's line. */
#include <errno.h>
#include <string.h>

#include "end.h"
#include "layout_x86.h"
#include "x86.h"

enum {
	CONTROL = 4, /* where it is among the PM1a registers */
	SCI_ENABLED = 0x01,
	SLEEP_TYPE_SHIFT = 10 - 8, /* in the control register's upper byte */
	SLEEP_NOW = 0x20,
	RESET_NOW = 0x04,
	KEYBOARD_RESET = 0xfe,
};

/* No event ever comes, so status is 0, and what is enabled makes no difference. It is in ACPI mode from the first. */
static int pm_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
	static const uint8_t registers[X86_PM_SIZE] = {[CONTROL] = SCI_ENABLED};

	(void)opaque;
	memcpy(data, registers + offset, len);
	return 0;
}

static int pm_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	const uint8_t *bytes = data;

	if (offset <= CONTROL + 1 && offset + len > CONTROL + 1) {
		uint8_t upper = bytes[CONTROL + 1 - offset];

		if ((upper & SLEEP_NOW) && (upper >> SLEEP_TYPE_SHIFT & 7) == X86_SLEEP_OFF)
			pc_end(opaque, NULL, PC_POWER_OFF, "the guest has powered off");
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
	static const struct gpamap_mmio_ops pm = {pm_read, pm_write};
	static const struct gpamap_mmio_ops reset = {reads_zero, reset_write};
	/* There is no keyboard. Its controller's status says that it takes commands. */
	static const struct gpamap_mmio_ops keyboard = {reads_zero, keyboard_write};
	int r = pc_ports_add(&pc->ports, X86_PM_PORT, X86_PM_SIZE, &pm, pc);

	r = r < 0 ? r : pc_ports_add(&pc->ports, X86_RESET_PORT, 1, &reset, pc);
	r = r < 0 ? r : pc_ports_add(&pc->ports, X86_KEYBOARD_PORT, 1, &keyboard, pc);
	return r < 0 ? pc_fail(&pc->error, r, "power ports: %s", strerror(-r)) : 0;
}
