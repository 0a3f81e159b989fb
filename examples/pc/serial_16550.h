/* SPDX-License-Identifier: BSD-3-Clause */
/* A 16550A serial port: eight registers of a byte each, on I/O ports or as memory ("ns16550a"). */
#ifndef PC_SERIAL_16550_H
#define PC_SERIAL_16550_H

#include <gpamap.h>
#include <stdbool.h>
#include <stddef.h>

enum { PC_SERIAL_SIZE = 8 };

struct pc_serial_wiring {
	void (*output)(void *opaque, const void *bytes,
		       size_t count); /* NULL: to standard output */
	void *output_opaque;
	/* The level of its interrupt. Called with the serial port's lock held. */
	void (*interrupt)(void *opaque, bool level);
	void *interrupt_opaque;
};

struct pc_serial *pc_serial_new(const struct pc_serial_wiring *wiring);
/* Nobody may be in pc_serial_type() any more: hang up first. NULL is fine. */
void pc_serial_free(struct pc_serial *serial);

/* The device; its opaque is the pc_serial. */
extern const struct gpamap_mmio_ops pc_serial_ops;

/* Bytes for the guest. Waits until it has room for the last one, or someone hangs up. */
void pc_serial_type(struct pc_serial *serial, const void *bytes, size_t count);
void pc_serial_hang_up(struct pc_serial *serial);

#endif
