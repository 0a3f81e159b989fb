/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What of a file goes into a PC's memory, and what is refused and how: a bzImage, a vmlinux, an initrd, a command line,
 * ACPI tables. The RAM stands between pages that can't be touched. Without KVM.
 */
#define _GNU_SOURCE
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "layout_x86.h"
#include "x86.h"

#define RAM (64ULL << 20)
#define GUARD (1ULL << 20)
#define PREFERRED 0x1000000ULL

enum { SETUP = 2 * 512, KERNEL_BYTES = 8192, FILE_BYTES = SETUP + KERNEL_BYTES, ROUNDS = 20000 };

struct machine {
	struct pc pc;
	char *guarded;
	int kernel, initrd; /* memfds */
	char kernel_path[64], initrd_path[64];
	unsigned char file[FILE_BYTES];
};

/* ------------------------------------------------------------------------------- the fixture --- */

static int file_of(char *path, size_t size, const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	assert_true(fd >= 0);
	snprintf(path, size, "/proc/self/fd/%d", fd);
	return fd;
}

static void write_file(int fd, const void *bytes, size_t count)
{
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, bytes, count, 0), count);
}

static struct setup_header *header(struct machine *m)
{
	return (struct setup_header *)(m->file + 0x1f1);
}

/* The least that is a bzImage. */
static void good_bzimage(struct machine *m)
{
	struct setup_header h = {
		.setup_sects = 1,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, /* the header ends at 0x26c */
		.header = 0x53726448,
		.version = 0x20f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = PREFERRED,
		.init_size = 0x100000,
		.kernel_alignment = 0x200000,
	};

	memset(m->file, 0x5a, sizeof(m->file));
	memcpy(m->file + 0x1f1, &h, sizeof(h));
}

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->guarded = mmap(NULL, RAM + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(m->guarded, MAP_FAILED);
	assert_int_equal(mprotect(m->guarded + GUARD, RAM, PROT_READ | PROT_WRITE), 0);
	m->kernel = file_of(m->kernel_path, sizeof(m->kernel_path), "kernel");
	m->initrd = file_of(m->initrd_path, sizeof(m->initrd_path), "initrd");
	m->pc.ram = (struct pc_ram){.fd = -1,
				    .host = m->guarded + GUARD,
				    .size = RAM,
				    .range = {{0, RAM, 0}},
				    .ranges = 1};
	m->pc.options = (struct pc_options){
		.kernel = m->kernel_path, .append = "quiet", .memory = RAM, .cpus = 2};
	good_bzimage(m);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	munmap(m->guarded, RAM + 2 * GUARD);
	close(m->kernel);
	close(m->initrd);
	free(m);
	return 0;
}

static int load(struct machine *m, size_t size, uint64_t *entry)
{
	write_file(m->kernel, m->file, size);
	m->pc.error.text[0] = '\0';
	return x86_load_linux(&m->pc, entry);
}

/* It is refused, with these words, which say which file it was. */
static void refused(struct machine *m, size_t size, int err, const char *words)
{
	uint64_t entry = 1;

	assert_int_equal(load(m, size, &entry), err);
	assert_int_equal(entry, 1);
	if (!strstr(m->pc.error.text, words) || !strstr(m->pc.error.text, "/proc/self/fd/"))
		fail_msg("%s, not: %s", m->pc.error.text, words);
}

static struct boot_params *zero_page(struct machine *m)
{
	return pc_ram_at(&m->pc.ram, X86_ZERO_PAGE, sizeof(struct boot_params));
}

/* ----------------------------------------------------------------------------------- bzImage --- */

static void test_bzimage(void **state)
{
	struct machine *m = *state;
	struct boot_params *zero = zero_page(m);
	uint64_t entry = 0;
	char *code;

	assert_int_equal(load(m, FILE_BYTES, &entry), 0);
	assert_int_equal(entry, PREFERRED + 0x200);
	code = pc_ram_at(&m->pc.ram, PREFERRED, KERNEL_BYTES);
	assert_memory_equal(code, m->file + SETUP, KERNEL_BYTES);
	assert_int_equal(zero->hdr.header, 0x53726448);
	assert_int_equal(zero->hdr.type_of_loader, 0xff);
	assert_int_equal(zero->acpi_rsdp_addr, X86_ACPI);
	assert_string_equal(pc_ram_at(&m->pc.ram, zero->hdr.cmd_line_ptr, 6), "quiet");
	/* Nothing of the code behind the header. */
	assert_int_equal(zero->hdr.kernel_info_offset, 0);
	assert_int_equal(zero->e820_entries, 3);
	assert_int_equal(zero->e820_table[2].addr, X86_HIGH);
	assert_int_equal(zero->e820_table[2].size, RAM - X86_HIGH);
}

static void test_not_a_kernel(void **state)
{
	struct machine *m = *state;
	const uint32_t arm64 = 0x644d5241;

	header(m)->boot_flag = 0;
	refused(m, FILE_BYTES, -EINVAL, "not a kernel: neither a bzImage");
	refused(m, 1, -EINVAL, "not a kernel: neither a bzImage");
	memcpy(m->file, "\x1f\x8b", 2);
	refused(m, FILE_BYTES, -EINVAL, "compressed by gzip: unpack it first");
	memcpy(m->file + 56, &arm64, sizeof(arm64));
	refused(m, FILE_BYTES, -EINVAL, "a kernel for arm64");
}

static void test_old_and_narrow(void **state)
{
	struct machine *m = *state;

	header(m)->version = 0x20b;
	refused(m, FILE_BYTES, -ENOTSUP,
		"its boot protocol is 2.11; the first one with a 64-bit entry is 2.12");
	good_bzimage(m);
	header(m)->xloadflags = 0;
	refused(m, FILE_BYTES, -EINVAL, "it has no 64-bit entry");
	good_bzimage(m);
	header(m)->loadflags = 0;
	refused(m, FILE_BYTES, -EINVAL, "a zImage");
	/* Flags that lie behind the end of the header are none. */
	good_bzimage(m);
	header(m)->jump = 0x20eb;
	refused(m, FILE_BYTES, -EINVAL, "it has no 64-bit entry");
}

static void test_cut_short(void **state)
{
	struct machine *m = *state;

	refused(m, SETUP + 0x200, -EINVAL, "the file is cut short");
	header(m)->setup_sects = 64;
	refused(m, FILE_BYTES, -EINVAL, "the file is cut short");
	header(m)->setup_sects = 0; /* stands for 4 */
	refused(m, 5 * 512 + 0x200, -EINVAL, "the file is cut short");
}

static void test_too_little_memory(void **state)
{
	struct machine *m = *state;
	uint64_t entry;

	header(m)->init_size = (uint32_t)(RAM - PREFERRED + 1);
	refused(m, FILE_BYTES, -ENOMEM,
		"too little memory: it needs [0x1000000, 0x4000001), and -m says 64 MiB");
	header(m)->init_size = (uint32_t)(RAM - PREFERRED);
	assert_int_equal(load(m, FILE_BYTES, &entry), 0);
	header(m)->pref_address = UINT64_MAX;
	refused(m, FILE_BYTES, -ENOMEM, "too little memory");
	header(m)->pref_address = X86_HIGH - 1;
	refused(m, FILE_BYTES, -EINVAL, "below 1 MiB");
}

/* ------------------------------------------------------------------------------------- vmlinux --- */

static Elf64_Phdr *good_vmlinux(struct machine *m)
{
	Elf64_Ehdr e = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_entry = PREFERRED + 0x10,
		.e_phoff = sizeof(e),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 1,
	};
	Elf64_Phdr p = {.p_type = PT_LOAD,
			.p_offset = SETUP,
			.p_paddr = PREFERRED,
			.p_filesz = KERNEL_BYTES,
			.p_memsz = 2 * KERNEL_BYTES};

	memset(m->file, 0x5a, sizeof(m->file));
	memcpy(m->file, &e, sizeof(e));
	memcpy(m->file + sizeof(e), &p, sizeof(p));
	return (Elf64_Phdr *)(m->file + sizeof(e));
}

static void test_vmlinux(void **state)
{
	struct machine *m = *state;
	Elf64_Ehdr *e = (Elf64_Ehdr *)m->file;
	Elf64_Phdr *p = good_vmlinux(m);
	uint64_t entry = 0;

	assert_int_equal(load(m, FILE_BYTES, &entry), 0);
	assert_int_equal(entry, PREFERRED + 0x10);
	assert_memory_equal(pc_ram_at(&m->pc.ram, PREFERRED, KERNEL_BYTES), m->file + SETUP,
			    KERNEL_BYTES);
	assert_int_equal(zero_page(m)->hdr.header, 0x53726448);

	e->e_entry = PREFERRED - 1;
	refused(m, FILE_BYTES, -EINVAL, "whose entry is not a physical address in it");
	p = good_vmlinux(m);
	p->p_filesz = p->p_memsz + 1;
	refused(m, FILE_BYTES, -EINVAL, "more in the file than in memory");
	p = good_vmlinux(m);
	p->p_offset = FILE_BYTES - 1;
	refused(m, FILE_BYTES, -EINVAL, "the file is cut short: it ends at byte 9216");
	p->p_offset = UINT64_MAX - 5;
	refused(m, FILE_BYTES, -EINVAL, "the file is cut short");
	p = good_vmlinux(m);
	p->p_memsz = RAM;
	refused(m, FILE_BYTES, -ENOMEM, "too little memory");
	p->p_memsz = UINT64_MAX;
	refused(m, FILE_BYTES, -ENOMEM, "too little memory");
	p = good_vmlinux(m);
	p->p_paddr = X86_ZERO_PAGE;
	refused(m, FILE_BYTES, -EINVAL, "below 1 MiB");
}

static void test_other_elf(void **state)
{
	struct machine *m = *state;
	Elf64_Ehdr *e = (Elf64_Ehdr *)m->file;

	good_vmlinux(m);
	e->e_ident[EI_CLASS] = ELFCLASS32;
	refused(m, FILE_BYTES, -EINVAL, "not of x86-64: it has no 64-bit entry");
	good_vmlinux(m);
	e->e_machine = EM_AARCH64;
	refused(m, FILE_BYTES, -EINVAL, "not of x86-64");
	good_vmlinux(m);
	e->e_type = ET_DYN;
	refused(m, FILE_BYTES, -EINVAL, "not a vmlinux");
	good_vmlinux(m);
	e->e_phnum = 65;
	refused(m, FILE_BYTES, -EINVAL, "not a vmlinux");
	good_vmlinux(m);
	e->e_phoff = UINT64_MAX;
	refused(m, FILE_BYTES, -EINVAL, "the file is cut short");
	refused(m, 20, -EINVAL, "not a vmlinux");
}

/* ------------------------------------------------------------------- initrd and command line --- */

static void test_initrd(void **state)
{
	struct machine *m = *state;
	struct boot_params *zero = zero_page(m);
	uint64_t entry, room = RAM - PREFERRED - 0x100000;

	m->pc.options.initrd = m->initrd_path;
	refused(m, FILE_BYTES, -EINVAL, "initrd /proc/self/fd/");
	assert_non_null(strstr(m->pc.error.text, "the file is empty"));

	write_file(m->initrd, "an archive", 10);
	assert_int_equal(load(m, FILE_BYTES, &entry), 0);
	assert_int_equal(zero->hdr.ramdisk_size, 10);
	assert_int_equal(zero->hdr.ramdisk_image, RAM - 4096);
	assert_memory_equal(pc_ram_at(&m->pc.ram, RAM - 4096, 10), "an archive", 10);

	/* Not above what the kernel reaches. */
	header(m)->initrd_addr_max = (uint32_t)(RAM / 2 - 1);
	assert_int_equal(load(m, FILE_BYTES, &entry), 0);
	assert_int_equal(zero->hdr.ramdisk_image, RAM / 2 - 4096);
	good_bzimage(m);

	/* As large as there is room above the kernel, and a byte more. */
	assert_int_equal(ftruncate(m->initrd, (off_t)room), 0);
	assert_int_equal(load(m, FILE_BYTES, &entry), 0);
	assert_int_equal(zero->hdr.ramdisk_image, PREFERRED + 0x100000);
	assert_int_equal(ftruncate(m->initrd, (off_t)room + 1), 0);
	refused(m, FILE_BYTES, -ENOMEM,
		"don't fit between the kernel, which needs up to 0x1100000, and 0x4000000");
	assert_int_equal(ftruncate(m->initrd, (off_t)RAM * 2), 0);
	refused(m, FILE_BYTES, -ENOMEM, "a larger -m is needed");
	m->pc.options.initrd = "/nonexistent";
	assert_int_equal(load(m, FILE_BYTES, &entry), -ENOENT);
	assert_string_equal(m->pc.error.text, "initrd /nonexistent: No such file or directory");
	m->pc.options.initrd = "/proc/self";
	assert_int_equal(load(m, FILE_BYTES, &entry), -EINVAL);
	assert_string_equal(m->pc.error.text, "initrd /proc/self: not an ordinary file");
}

static void test_command_line(void **state)
{
	struct machine *m = *state;
	char line[X86_COMMAND_LINE_MAX + 2];
	uint64_t entry;

	memset(line, 'x', sizeof(line));
	m->pc.options.append = line;
	line[2047] = '\0';
	assert_int_equal(load(m, FILE_BYTES, &entry), 0);
	line[2047] = 'x';
	line[2048] = '\0';
	assert_int_equal(load(m, FILE_BYTES, &entry), -E2BIG);
	assert_string_equal(m->pc.error.text,
			    "the command line has 2048 characters; this kernel takes 2047");
	/* What a kernel takes is no more than there is room for. */
	header(m)->cmdline_size = UINT32_MAX;
	line[2048] = 'x';
	line[X86_COMMAND_LINE_MAX] = '\0';
	assert_int_equal(load(m, FILE_BYTES, &entry), -E2BIG);
	line[X86_COMMAND_LINE_MAX - 1] = '\0';
	assert_int_equal(load(m, FILE_BYTES, &entry), 0);
	m->pc.options.append = NULL;
	assert_int_equal(load(m, FILE_BYTES, &entry), 0);
	assert_string_equal(pc_ram_at(&m->pc.ram, X86_COMMAND_LINE, 1), "");
}

/* Whatever a file says: it is loaded or refused in words, and nothing beside the RAM is touched. */
static void test_random(void **state)
{
	struct machine *m = *state;
	const char *given = getenv("GPAMAP_TEST_SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
	static const unsigned char edges[] = {0, 1, 0x7f, 0x80, 0xff};
	unsigned loaded = 0;

	printf("seed %u\n", seed);
	write_file(m->initrd, "an archive", 10);
	m->pc.options.initrd = m->initrd_path;
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned changes = 1 + (unsigned)rand_r(&seed) % 4;
		bool elf = i & 1;
		uint64_t entry;
		int r;

		if (elf)
			good_vmlinux(m);
		else
			good_bzimage(m);
		while (changes--) {
			unsigned at = elf ? (unsigned)rand_r(&seed) % 120
					  : 0x1f1 + (unsigned)rand_r(&seed) % 0x80;

			m->file[at] = rand_r(&seed) & 1 ? edges[(unsigned)rand_r(&seed) % 5]
							: (unsigned char)rand_r(&seed);
		}
		r = load(m,
			 rand_r(&seed) & 7 ? FILE_BYTES : 1 + (unsigned)rand_r(&seed) % FILE_BYTES,
			 &entry);
		loaded += r == 0;
		assert_true(r <= 0);
		assert_true(r == 0 || m->pc.error.text[0]);
	}
	/* Both happen, or this looks at one thing only. */
	assert_in_range(loaded, ROUNDS / 20, ROUNDS - ROUNDS / 20);
}

/* --------------------------------------------------------------------------------------- ACPI --- */

static unsigned char sum(const unsigned char *table, uint32_t size)
{
	unsigned char s = 0;

	while (size--)
		s = (unsigned char)(s + *table++);
	return s;
}

static const unsigned char *table_at(struct machine *m, uint64_t gpa, const char *signature)
{
	const unsigned char *table = pc_ram_at(&m->pc.ram, gpa, 36);
	uint32_t size;

	assert_non_null(table);
	memcpy(&size, table + 4, sizeof(size));
	assert_memory_equal(table, signature, 4);
	assert_in_range(gpa, X86_ACPI, X86_ACPI + X86_ACPI_SIZE - size);
	assert_int_equal(sum(table, size), 0);
	return table;
}

static uint64_t number_at(const unsigned char *at, unsigned bytes)
{
	uint64_t n = 0;

	memcpy(&n, at, bytes);
	return n;
}

static void test_acpi(void **state)
{
	struct machine *m = *state;
	const unsigned char *rsdp = pc_ram_at(&m->pc.ram, X86_ACPI, 36), *xsdt, *fadt, *madt, *dsdt;
	static const unsigned char s5[] = {8, '_', 'S', '5', '_', 0x12, 7, 4, 0xa, X86_SLEEP_OFF};
	unsigned processors = 0;

	assert_true(
		x86_write_acpi(pc_ram_at(&m->pc.ram, X86_ACPI, X86_ACPI_SIZE), X86_ACPI_SIZE, 255));
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	xsdt = table_at(m, number_at(rsdp + 24, 8), "XSDT");
	fadt = table_at(m, number_at(xsdt + 36, 8), "FACP");
	madt = table_at(m, number_at(xsdt + 44, 8), "APIC");
	dsdt = table_at(m, number_at(fadt + 140, 8), "DSDT");
	assert_memory_equal(dsdt + 36, s5, sizeof(s5));
	assert_int_equal(number_at(fadt + 64, 4), X86_PM_PORT + 4);
	assert_int_equal(number_at(fadt + 120, 8), X86_RESET_PORT);
	for (uint32_t at = 44, end = (uint32_t)number_at(madt + 4, 4); at < end;
	     at += madt[at + 1]) {
		assert_in_range(madt[at + 1], 2, end - at);
		if (madt[at] == 0)
			assert_int_equal(madt[at + 3], processors++);
	}
	assert_int_equal(processors, 255);
	/* Too little room is said, and nothing is written beyond it. */
	for (uint32_t room = 0; room < 1024; room += 8)
		assert_int_equal(x86_write_acpi(m->guarded + GUARD + RAM - room, room, 255), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bzimage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_a_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_and_narrow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_short, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_little_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vmlinux, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_elf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_initrd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_command_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acpi, setup, teardown),
	};

	return cmocka_run_group_tests_name("pc/load_x86", tests, NULL, NULL);
}
