/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Linux on x86-64, by the 64-bit boot protocol (Documentation/arch/x86/boot.rst): a bzImage, or the vmlinux that is in it,
 * which has the same entry and needs not be unpacked by the guest. A file says what it likes: all of it is checked.
 */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "layout_x86.h"
#include "load_file.h"
#include "x86.h"

enum {
	HEADER_AT = 0x1f1,  /* in the file and in the zero page */
	HEADER_END = 0x202, /* with as many bytes more as stand before this */
	BOOT_FLAG = 0xaa55,
	MAGIC = 0x53726448,    /* HdrS */
	LEAST_VERSION = 0x20c, /* the first one with a 64-bit entry */
	SECTOR = 512,
	ENTRY_64 = 0x200, /* from where the kernel is loaded */
	OTHER_LOADER = 0xff,
	PAGE = 0x1000,
	COMMAND_LINE_OF_VMLINUX = 2047, /* Linux has had this for long */
	MOST_SEGMENTS = 64,
	E820_FREE = 1,
	E820_KEPT = 2,
	ARM64_MAGIC_AT = 56,
	ARM64_MAGIC = 0x644d5241,
};

/* What is known of a kernel once it is in memory. */
struct kernel {
	struct pc_file file;
	uint64_t entry, end;	    /* guest-physical; memory that it needs ends here */
	uint64_t command_line;	    /* how long it may be */
	uint64_t initrd_last;	    /* address of the last byte that an initrd may have */
	struct setup_header header; /* for the zero page */
};

static int refuse(struct pc *pc, const struct kernel *k, const char *why)
{
	return pc_fail(&pc->error, -EINVAL, "kernel %s: %s", k->file.path, why);
}

/* The kernel's own memory has to be RAM, and above what else is put there. */
static int check_place(struct pc *pc, const struct kernel *k, uint64_t gpa, uint64_t size)
{
	if (gpa < X86_HIGH)
		return refuse(pc, k, "it wants to be below 1 MiB, where tables are");
	if (!pc_ram_at(&pc->ram, gpa, size))
		return pc_fail(
			&pc->error, -ENOMEM,
			"kernel %s: too little memory: it needs [0x%llx, 0x%llx), and -m says"
			" %llu MiB",
			k->file.path, (unsigned long long)gpa, (unsigned long long)(gpa + size),
			(unsigned long long)pc->options.memory >> 20);
	return 0;
}

/* ----------------------------------------------------------------------------------- bzImage --- */

static int check_header(struct pc *pc, const struct kernel *k)
{
	const struct setup_header *h = &k->header;

	if (h->version < LEAST_VERSION)
		return pc_fail(&pc->error, -ENOTSUP,
			       "kernel %s: its boot protocol is %u.%02u; the first one with a "
			       "64-bit entry is"
			       " 2.12 (Linux 3.8)",
			       k->file.path, h->version >> 8, h->version & 0xff);
	if (!(h->loadflags & LOADED_HIGH))
		return refuse(pc, k, "a zImage, which is loaded low; a bzImage is needed");
	if (!(h->xloadflags & XLF_KERNEL_64))
		return refuse(pc, k, "it has no 64-bit entry: a kernel for x86-64 is needed");
	return 0;
}

/* A header says how far it reaches. What comes after it is code. */
static void cut_header(struct setup_header *h)
{
	size_t size = HEADER_END - HEADER_AT + (h->jump >> 8);

	if (size < sizeof(*h))
		memset((char *)h + size, 0, sizeof(*h) - size);
}

static int load_bzimage(struct pc *pc, struct kernel *k)
{
	struct setup_header *h = &k->header;
	uint64_t setup = (uint64_t)(h->setup_sects ? h->setup_sects + 1 : 5) * SECTOR;
	uint64_t size, needed;
	int r;

	cut_header(h);
	r = check_header(pc, k);
	if (r < 0)
		return r;
	if (k->file.size <= setup + ENTRY_64)
		return refuse(pc, k,
			      "the file is cut short: there is no kernel after its setup sectors");
	size = k->file.size - setup;
	/* Where it is loaded it also is unpacked, and for that it says what it needs. */
	needed = size > h->init_size ? size : h->init_size;
	r = check_place(pc, k, h->pref_address, needed);
	if (r == 0)
		r = pc_file_load(&k->file, setup, size, &pc->ram, h->pref_address, &pc->error);
	k->entry = h->pref_address + ENTRY_64;
	k->end = h->pref_address + needed;
	k->command_line = h->cmdline_size;
	k->initrd_last = h->initrd_addr_max;
	return r;
}

/* ------------------------------------------------------------------------------------- vmlinux --- */

static int load_segment(struct pc *pc, struct kernel *k, const Elf64_Phdr *p, bool *has_entry)
{
	int r;

	if (p->p_type != PT_LOAD || p->p_memsz == 0)
		return 0;
	if (p->p_filesz > p->p_memsz)
		return refuse(pc, k, "a segment of it has more in the file than in memory");
	r = check_place(pc, k, p->p_paddr, p->p_memsz);
	if (r == 0 && p->p_filesz)
		r = pc_file_load(&k->file, p->p_offset, p->p_filesz, &pc->ram, p->p_paddr,
				 &pc->error);
	if (r < 0)
		return r;
	if (k->entry >= p->p_paddr && k->entry - p->p_paddr < p->p_filesz)
		*has_entry = true;
	if (k->end < p->p_paddr + p->p_memsz)
		k->end = p->p_paddr + p->p_memsz;
	return 0;
}

static int check_elf(struct pc *pc, const struct kernel *k, const Elf64_Ehdr *e)
{
	if (e->e_machine != EM_X86_64 || e->e_ident[EI_CLASS] != ELFCLASS64)
		return refuse(pc, k, "an ELF file, but not of x86-64: it has no 64-bit entry");
	if (e->e_ident[EI_DATA] != ELFDATA2LSB || e->e_phentsize != sizeof(Elf64_Phdr) ||
	    e->e_phnum == 0 || e->e_phnum > MOST_SEGMENTS || e->e_type != ET_EXEC)
		return refuse(pc, k, "an ELF file, but not a vmlinux, which is a static program");
	return 0;
}

static int load_vmlinux(struct pc *pc, struct kernel *k, const Elf64_Ehdr *e)
{
	Elf64_Phdr segments[MOST_SEGMENTS];
	bool has_entry = false;
	int r = check_elf(pc, k, e);

	if (r == 0)
		r = pc_file_read(&k->file, e->e_phoff, segments, e->e_phnum * sizeof(segments[0]),
				 &pc->error);
	k->entry = e->e_entry;
	for (unsigned i = 0; i < e->e_phnum && r == 0; i++)
		r = load_segment(pc, k, &segments[i], &has_entry);
	if (r == 0 && !has_entry)
		r = refuse(
			pc, k,
			"an ELF file whose entry is not a physical address in it: not a vmlinux");
	k->command_line = COMMAND_LINE_OF_VMLINUX;
	k->initrd_last = X86_HOLE - 1;
	k->header = (struct setup_header){.boot_flag = BOOT_FLAG,
					  .header = MAGIC,
					  .version = LEAST_VERSION,
					  .loadflags = LOADED_HIGH,
					  .kernel_alignment = 0x200000};
	return r;
}

/* ------------------------------------------------------------------------------ which of them --- */

static int not_a_kernel(struct pc *pc, const struct kernel *k, const unsigned char *head,
			size_t size)
{
	uint32_t magic = 0;

	if (size >= ARM64_MAGIC_AT + sizeof(magic))
		memcpy(&magic, head + ARM64_MAGIC_AT, sizeof(magic));
	if (magic == ARM64_MAGIC)
		return refuse(pc, k, "a kernel for arm64; this machine is an x86-64");
	if (size >= 2 && head[0] == 0x1f && head[1] == 0x8b)
		return refuse(pc, k, "compressed by gzip: unpack it first (gunzip)");
	return refuse(pc, k, "not a kernel: neither a bzImage (HdrS at 0x202) nor an ELF vmlinux");
}

static int load_kernel(struct pc *pc, struct kernel *k)
{
	unsigned char head[HEADER_AT + sizeof(struct setup_header)] = {0};
	size_t size = k->file.size < sizeof(head) ? k->file.size : sizeof(head);
	Elf64_Ehdr elf;
	int r = pc_file_read(&k->file, 0, head, size, &pc->error);

	if (r < 0)
		return r;
	memcpy(&k->header, head + HEADER_AT, sizeof(k->header));
	memcpy(&elf, head, sizeof(elf));
	if (memcmp(elf.e_ident, ELFMAG, SELFMAG) == 0)
		return load_vmlinux(pc, k, &elf);
	if (k->header.header == MAGIC && k->header.boot_flag == BOOT_FLAG)
		return load_bzimage(pc, k);
	return not_a_kernel(pc, k, head, size);
}

/* -------------------------------------------------------------------------- what it is told --- */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* As high as it may be, so that it is out of the kernel's way. */
static int load_initrd(struct pc *pc, const struct kernel *k, struct boot_params *zero)
{
	uint64_t end = least(least(pc->options.memory, X86_HOLE), k->initrd_last + 1);
	struct pc_file file;
	uint64_t gpa;
	int r = pc_file_open(&file, "initrd", pc->options.initrd, &pc->error);

	if (r < 0)
		return r;
	gpa = file.size < end ? (end - file.size) & ~(uint64_t)(PAGE - 1) : 0;
	if (gpa < k->end)
		r = pc_fail(&pc->error, -ENOMEM,
			    "initrd %s: too little memory: %llu bytes don't fit between the "
			    "kernel, which"
			    " needs up to 0x%llx, and 0x%llx; a larger -m is needed",
			    file.path, (unsigned long long)file.size, (unsigned long long)k->end,
			    (unsigned long long)end);
	else
		r = pc_file_load(&file, 0, file.size, &pc->ram, gpa, &pc->error);
	zero->hdr.ramdisk_image = (uint32_t)gpa;
	zero->hdr.ramdisk_size = (uint32_t)file.size;
	pc_file_close(&file);
	return r;
}

static int write_command_line(struct pc *pc, const struct kernel *k, struct boot_params *zero)
{
	const char *line = pc->options.append ? pc->options.append : "";
	uint64_t most = least(k->command_line, X86_COMMAND_LINE_MAX - 1);
	size_t length = strlen(line);

	if (length > most)
		return pc_fail(&pc->error, -E2BIG,
			       "the command line has %zu characters; this kernel takes %llu",
			       length, (unsigned long long)most);
	memcpy(pc_ram_at(&pc->ram, X86_COMMAND_LINE, length + 1), line, length + 1);
	zero->hdr.cmd_line_ptr = X86_COMMAND_LINE;
	return 0;
}

static void add_e820(struct boot_params *zero, uint64_t from, uint64_t to, uint32_t type)
{
	if (to > from)
		zero->e820_table[zero->e820_entries++] =
			(struct boot_e820_entry){from, to - from, type};
}

static void write_memory_map(const struct pc *pc, struct boot_params *zero)
{
	add_e820(zero, 0, X86_LOW_END, E820_FREE);
	add_e820(zero, X86_ACPI, X86_HIGH, E820_KEPT);
	for (unsigned i = 0; i < pc->ram.ranges; i++) {
		const struct pc_ram_range *r = &pc->ram.range[i];

		add_e820(zero, r->gpa ? r->gpa : X86_HIGH, r->gpa + r->size, E820_FREE);
	}
}

/* All zero but the file's header, without what the loader fills in. */
static void write_header(const struct kernel *k, struct boot_params *zero)
{
	memset(zero, 0, sizeof(*zero));
	memcpy(&zero->hdr, &k->header, sizeof(zero->hdr));
	zero->hdr.type_of_loader = OTHER_LOADER;
	zero->hdr.setup_data = 0;
	zero->hdr.ramdisk_image = zero->hdr.ramdisk_size = 0;
}

int x86_load_linux(struct pc *pc, uint64_t *entry)
{
	struct boot_params *zero = pc_ram_at(&pc->ram, X86_ZERO_PAGE, sizeof(*zero));
	void *acpi = pc_ram_at(&pc->ram, X86_ACPI, X86_ACPI_SIZE);
	struct kernel k = {.entry = 0};
	int r = pc_file_open(&k.file, "kernel", pc->options.kernel, &pc->error);

	if (r < 0)
		return r;
	r = load_kernel(pc, &k);
	pc_file_close(&k.file);
	if (r < 0)
		return r;
	write_header(&k, zero);
	write_memory_map(pc, zero);
	r = write_command_line(pc, &k, zero);
	if (r == 0 && pc->options.initrd)
		r = load_initrd(pc, &k, zero);
	if (r < 0)
		return r;
	if (x86_write_acpi(acpi, X86_ACPI_SIZE, pc->options.cpus) == 0)
		return pc_fail(&pc->error, -ENOSPC, "no room for the ACPI tables of %u processors",
			       pc->options.cpus);
	zero->acpi_rsdp_addr = X86_ACPI;
	*entry = k.entry;
	return 0;
}
