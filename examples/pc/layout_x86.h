/* SPDX-License-Identifier: BSD-3-Clause */
/* Where things are in a PC: guest-physical addresses, ports, interrupts. */
#ifndef PC_LAYOUT_X86_H
#define PC_LAYOUT_X86_H

enum {
	/* What the boot protocol wants in low memory. Linux takes what it needs of it and then uses the memory. */
	X86_GDT = 0x6000,
	X86_ZERO_PAGE = 0x7000,
	X86_PAGE_TABLES = 0x9000, /* six pages: 4 GiB, as they are */
	X86_COMMAND_LINE = 0x20000,
	X86_COMMAND_LINE_MAX = 0x10000,
	X86_LOW_END = 0xa0000, /* video memory and ROMs from here to 1 MiB */
	X86_ACPI = 0xe0000,
	X86_ACPI_SIZE = 0x10000,
	X86_HIGH = 0x100000,
};

/* RAM ends here and goes on at 4 GiB: interrupt controllers, and room for devices. */
#define X86_HOLE 0xc0000000ULL
#define X86_HOLE_END 0x100000000ULL
/* Of KVM's own, on Intel's processors: a page, and three pages. */
#define X86_IDENTITY_MAP 0xfffbc000ULL
#define X86_TSS 0xfffbd000ULL
#define X86_IOAPIC 0xfec00000U
#define X86_LAPIC 0xfee00000U

enum {
	X86_KEYBOARD_PORT = 0x64,
	X86_COM1_PORT = 0x3f8,
	X86_PM_PORT = 0x600, /* ACPI's PM1a: status, enable, control, of 2 bytes each */
	X86_PM_SIZE = 6,
	X86_RESET_PORT = 0xcf9,
	X86_RESET_VALUE = 6,
	X86_COM1_IRQ = 4,
	X86_SCI_IRQ = 9,
	/* What \_S5 in the DSDT says that "off" is. */
	X86_SLEEP_OFF = 5,
	/* APIC ids are those of the xAPIC, of which the last is for all. */
	X86_CPUS_MAX = 255,
};

#endif
