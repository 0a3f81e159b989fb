/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The least of ACPI by which an operating system finds its processors and powers off: RSDP, XSDT, FADT, FACS, MADT, and a
 * DSDT that has only \_S5. Numbers are offsets of the ACPI specification, 6.5.
 */
#include <string.h>

#include "layout_x86.h"
#include "x86.h"

enum {
	HEADER = 36,
	RSDP_SIZE = 36,
	FADT_SIZE = 276,
	FACS_SIZE = 64,
	ALIGN = 64, /* of the FACS; does no harm to the others */
	IO_SPACE = 1,
};

/* Where the next table goes. */
struct tables {
	uint8_t *to;
	uint32_t room, used;
	bool full;
};

static void put(uint8_t *table, uint32_t offset, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		table[offset + i] = (uint8_t)(value >> 8 * i);
}

/* All bytes of a table give 0. */
static void seal(uint8_t *table, uint32_t size, uint32_t sum_at)
{
	uint8_t sum = 0;

	for (uint32_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + table[i]);
	table[sum_at] = (uint8_t)-sum;
}

/* Copies the table, and returns its address for the guest. */
static uint64_t place(struct tables *all, const uint8_t *table, uint32_t size)
{
	uint32_t at = all->used;

	if (size > all->room - at) {
		all->full = true;
		return 0;
	}
	memcpy(all->to + at, table, size);
	all->used = (at + size + ALIGN - 1) & ~(uint32_t)(ALIGN - 1);
	if (all->used > all->room)
		all->used = all->room;
	return X86_ACPI + at;
}

static uint64_t place_table(struct tables *all, const char *signature, unsigned revision,
			    uint8_t *table, uint32_t size)
{
	memcpy(table, signature, 4);
	put(table, 4, size, 4);
	put(table, 8, revision, 1);
	memcpy(table + 10, "GPAMAPPC      ", 14); /* whose it is, and which table of theirs */
	put(table, 24, 1, 4);
	memcpy(table + 28, "GPAM", 4);
	put(table, 32, 1, 4);
	seal(table, size, 9);
	return place(all, table, size);
}

static uint64_t place_dsdt(struct tables *all)
{
	/* Name (\_S5, Package (4) {off, 0, 0, 0}) */
	static const uint8_t code[] = {0x08, '_',  'S',		  '5', '_', 0x12, 7,
				       4,    0x0a, X86_SLEEP_OFF, 0,   0,   0};
	uint8_t table[HEADER + sizeof(code)] = {0};

	memcpy(table + HEADER, code, sizeof(code));
	return place_table(all, "DSDT", 2, table, sizeof(table));
}

static uint64_t place_facs(struct tables *all)
{
	uint8_t facs[FACS_SIZE] = "FACS";

	put(facs, 4, FACS_SIZE, 4);
	put(facs, 32, 2, 1);
	return place(all, facs, FACS_SIZE);
}

/* A generic address: a port. */
static void put_port(uint8_t *table, uint32_t offset, unsigned port, unsigned bits)
{
	put(table, offset, IO_SPACE, 1);
	put(table, offset + 1, bits, 1);
	put(table, offset + 3, bits == 8 ? 1 : 2, 1);
	put(table, offset + 4, port, 8);
}

static uint64_t place_fadt(struct tables *all, uint64_t facs, uint64_t dsdt)
{
	/* WBINVD works, C1 works, no power nor sleep button here, a reset register. */
	const uint32_t flags = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 10;
	/* Devices of old; but no keyboard controller (bit 1), no VGA (2), no CMOS clock (5). */
	const uint32_t boot = 1 << 0 | 1 << 2 | 1 << 5;
	uint8_t fadt[FADT_SIZE] = {0};

	put(fadt, 36, facs, 4);
	put(fadt, 40, dsdt, 4);
	put(fadt, 46, X86_SCI_IRQ, 2);
	put(fadt, 56, X86_PM_PORT, 4);
	put(fadt, 64, X86_PM_PORT + 4, 4);
	put(fadt, 88, 4, 1); /* bytes of status and enable, of control */
	put(fadt, 89, 2, 1);
	put(fadt, 96, 0xffff, 2); /* C2, C3: none */
	put(fadt, 98, 0xffff, 2);
	put(fadt, 109, boot, 2);
	put(fadt, 112, flags, 4);
	put_port(fadt, 116, X86_RESET_PORT, 8);
	put(fadt, 128, X86_RESET_VALUE, 1);
	put(fadt, 131, 5, 1); /* 6.5, with the revision */
	put(fadt, 140, dsdt, 8);
	put_port(fadt, 148, X86_PM_PORT, 32);
	put_port(fadt, 172, X86_PM_PORT + 4, 16);
	return place_table(all, "FACP", 6, fadt, FADT_SIZE);
}

static uint64_t place_madt(struct tables *all, unsigned cpus)
{
	/* Interrupts are on the pins of their numbers: KVM has the timer on pin 0, not 2, unless it is told otherwise. The SCI
	 * is active high and level triggered. NMI is LINT1 of all. */
	static const uint8_t rest[] = {1, 12, 0,   0, 0, 0, 0xc0, 0xfe, 0,  0, 0, 0, /* I/O APIC */
				       2, 10, 0,   9, 9, 0, 0,	  0,	13, 0,	     /* the SCI */
				       4, 6,  255, 0, 0, 1};
	uint8_t madt[HEADER + 8 + 8 * X86_CPUS_MAX + sizeof(rest)] = {0};
	uint32_t at = HEADER + 8;

	_Static_assert(X86_IOAPIC == 0xfec00000 && X86_SCI_IRQ == 9, "as above");
	put(madt, HEADER, X86_LAPIC, 4);
	put(madt, HEADER + 4, 1, 4); /* there are also PICs */
	for (unsigned i = 0; i < cpus; i++, at += 8) {
		put(madt, at + 1, 8, 1); /* type 0: a local APIC */
		put(madt, at + 2, i, 1);
		put(madt, at + 3, i, 1);
		put(madt, at + 4, 1, 4); /* enabled */
	}
	memcpy(madt + at, rest, sizeof(rest));
	return place_table(all, "APIC", 5, madt, at + (uint32_t)sizeof(rest));
}

uint32_t x86_write_acpi(void *to, uint32_t room, unsigned cpus)
{
	/* The RSDP comes first: that is where it is looked for. */
	struct tables all = {to, room, ALIGN, room < ALIGN || cpus > X86_CPUS_MAX};
	uint8_t rsdp[RSDP_SIZE] = "RSD PTR ", xsdt[HEADER + 16] = {0};

	if (all.full)
		return 0;
	put(xsdt, HEADER, place_fadt(&all, place_facs(&all), place_dsdt(&all)), 8);
	put(xsdt, HEADER + 8, place_madt(&all, cpus), 8);
	memcpy(rsdp + 9, "GPAMAP", 6);
	put(rsdp, 15, 2, 1);
	put(rsdp, 20, RSDP_SIZE, 4);
	put(rsdp, 24, place_table(&all, "XSDT", 1, xsdt, sizeof(xsdt)), 8);
	seal(rsdp, 20, 8);
	seal(rsdp, RSDP_SIZE, 32);
	memcpy(to, rsdp, RSDP_SIZE);
	return all.full ? 0 : all.used;
}
