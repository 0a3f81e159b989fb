/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine on KVM: its ends, pauses and kicks, and who shows it its RAM. Its kernel is a bzImage of a few instructions,
 * which counts until it is told what to do.
 */
#define _GNU_SOURCE
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "pc.h"

#define PREFERRED 0x1000000
#define COUNTER 0x1800000

enum { SETUP = 2 * 512, ENTRY = 0x200, ROUNDS = 50 };
enum { COUNT, POWER_OFF, RESET, TRIPLE_FAULT };

extern const char guest_begin[], guest_end[];

/* Says A on COM1. Then counts until the byte behind the counter is not 0. */
__asm__(".pushsection .rodata\n"
	"guest_begin:\n"
	"	mov $0x3f8, %edx\n"
	"	mov $'A', %al\n"
	"	out %al, %dx\n"
	"	mov $0x1800000, %edi\n"
	"1:	lock incq (%rdi)\n"
	"	mov 8(%rdi), %al\n"
	"	test %al, %al\n"
	"	jz 1b\n"
	"	cmp $1, %al\n"
	"	je 2f\n"
	"	cmp $2, %al\n"
	"	je 3f\n"
	"	lidt 16(%rdi)\n" /* an empty table */
	"	ud2\n"
	"2:	mov $0x604, %edx\n"
	"	mov $0x3400, %eax\n"
	"	out %ax, %dx\n"
	"	jmp .\n"
	"3:	mov $0xcf9, %edx\n"
	"	mov $6, %al\n"
	"	out %al, %dx\n"
	"	jmp .\n"
	"guest_end:\n"
	"	.popsection\n");

static char kernel_path[64];

struct seen {
	char sent[16];
	_Atomic size_t count;
	unsigned mapped;
	int refuse;
};

static void output(void *opaque, const void *bytes, size_t count)
{
	struct seen *seen = opaque;

	if (seen->count + count < sizeof(seen->sent))
		memcpy(seen->sent + seen->count, bytes, count);
	seen->count += count;
}

static int write_kernel(void **state)
{
	struct setup_header h = {
		.setup_sects = 1,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb,
		.header = 0x53726448,
		.version = 0x20f,
		.loadflags = LOADED_HIGH,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 100,
		.pref_address = PREFERRED,
		.init_size = 0x10000,
	};
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	size_t size = (size_t)(guest_end - guest_begin);

	(void)state;
	snprintf(kernel_path, sizeof(kernel_path), "/proc/self/fd/%d", fd);
	return pwrite(fd, &h, sizeof(h), 0x1f1) == sizeof(h) &&
			       pwrite(fd, guest_begin, size, SETUP + ENTRY) == (ssize_t)size
		       ? 0
		       : -1;
}

static struct pc_options options(struct seen *seen)
{
	return (struct pc_options){.kernel = kernel_path,
				   .memory = 64 << 20,
				   .cpus = 2,
				   .output = output,
				   .opaque = seen};
}

static struct pc *started(const struct pc_options *o)
{
	struct pc_error error;
	struct pc *pc = NULL;

	if (pc_new(o, &pc, &error) < 0)
		fail_msg("%s", error.text);
	assert_int_equal(pc_start(pc), 0);
	return pc;
}

static volatile uint64_t *counter(struct pc *pc)
{
	return pc_ram_at(&pc->ram, COUNTER, 16);
}

static void tell(struct pc *pc, uint64_t what)
{
	counter(pc)[1] = what;
}

static void see_counting(struct pc *pc)
{
	uint64_t before = *counter(pc);

	while (*counter(pc) == before)
		usleep(1000);
}

static void ends(uint64_t what, enum pc_ending how, const char *words, uint32_t exit_reason)
{
	struct seen seen = {.count = 0};
	struct pc_options o = options(&seen);
	struct pc *pc = started(&o);
	const struct pc_end *end;

	see_counting(pc);
	tell(pc, what);
	end = pc_wait(pc);
	assert_int_equal(end->how, how);
	assert_int_equal(end->exit_reason, exit_reason);
	assert_non_null(strstr(end->why.text, words));
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.sent[0], 'A');
	pc_free(pc);
}

static void test_ends(void **state)
{
	(void)state;
	ends(POWER_OFF, PC_POWER_OFF, "the guest has powered off", 0);
	ends(RESET, PC_RESET, "the guest has asked for a reset", 0);
	ends(TRIPLE_FAULT, PC_TRIPLE_FAULT, "vCPU 0: a triple fault", KVM_EXIT_SHUTDOWN);
}

/* The vCPUs' threads write it under the lock, and may do so again while they are parked. */
static bool both_parked(struct pc *pc)
{
	bool both;

	pthread_mutex_lock(&pc->lock);
	both = pc->vcpus[0].parked && pc->vcpus[1].parked;
	pthread_mutex_unlock(&pc->lock);
	return both;
}

/* The second vCPU waits in KVM_RUN for the guest to start it, and has to come out of there as well. */
static void test_pause(void **state)
{
	struct seen seen = {.count = 0};
	struct pc_options o = options(&seen);
	struct pc *pc = started(&o);

	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t before;

		see_counting(pc);
		pc_pause(pc);
		pc_pause(pc);
		before = *counter(pc);
		pc_resume(pc);
		usleep(2000);
		assert_int_equal(*counter(pc), before);
		assert_true(both_parked(pc));
		pc_resume(pc);
	}
	/* An end comes through a pause, and a pause through an end. */
	pc_pause(pc);
	pc_quit(pc);
	assert_int_equal(pc_wait(pc)->how, PC_QUIT);
	pc_resume(pc);
	pc_pause(pc);
	pc_resume(pc);
	pc_free(pc);
}

static void test_kicks(void **state)
{
	struct seen seen = {.count = 0};
	struct pc_options o = options(&seen);
	struct pc *pc = started(&o);

	(void)state;
	for (unsigned i = 0; i < 4 * ROUNDS; i++) {
		see_counting(pc);
		pc_kick(pc, i & 1);
	}
	see_counting(pc);
	assert_int_equal(pc->end.how, PC_RUNS);
	/* Freed while it runs. */
	pc_free(pc);
}

/* Slots of the caller's own, which the library must leave alone. */
static int map_by_hand(void *opaque, struct pc *pc, uint64_t gpa, uint64_t size, int fd,
		       uint64_t offset, void *host)
{
	struct seen *seen = opaque;
	struct kvm_userspace_memory_region slot = {.slot = 100 + seen->mapped,
						   .guest_phys_addr = gpa,
						   .memory_size = size,
						   .userspace_addr = (uintptr_t)host};
	int r;

	if (seen->refuse)
		return seen->refuse;
	assert_int_equal(fd, pc->ram.fd);
	assert_ptr_equal(host, (char *)pc->ram.host + offset);
	seen->mapped++;
	r = gpamap_reserve_slots(pc->map, 0, slot.slot, 1);
	return r < 0 ? r : gpamap_vm_ioctl(pc->map, KVM_SET_USER_MEMORY_REGION, &slot);
}

static void test_map_ram(void **state)
{
	struct seen seen = {.count = 0};
	struct pc_options o = options(&seen);
	struct gpamap_stats stats;
	struct pc_error error;
	struct pc *pc;

	(void)state;
	o.map_ram = map_by_hand;
	pc = started(&o);
	assert_int_equal(seen.mapped, 1);
	gpamap_get_stats(pc->map, &stats);
	assert_int_equal(stats.slots, 0);
	tell(pc, POWER_OFF);
	assert_int_equal(pc_wait(pc)->how, PC_POWER_OFF);
	pc_free(pc);

	seen.refuse = -ENOSPC;
	pc = NULL;
	assert_int_equal(pc_new(&o, &pc, &error), -ENOSPC);
	assert_null(pc);
	assert_string_equal(error.text, "RAM at 0x0: No space left on device");
}

static void refused(const struct pc_options *o, int err, const char *words)
{
	struct pc_error error = {""};
	struct pc *pc = NULL;

	assert_int_equal(pc_new(o, &pc, &error), err);
	assert_null(pc);
	if (!strstr(error.text, words))
		fail_msg("%s, not: %s", error.text, words);
}

static void test_refused(void **state)
{
	struct seen seen = {.count = 0};
	struct pc_options o = options(&seen);

	(void)state;
	o.cpus = 0;
	refused(&o, -EINVAL, "0 vCPUs: this KVM has 1 to ");
	o.cpus = 65535;
	refused(&o, -EINVAL, "65535 vCPUs: ");
	o.cpus = 1;
	o.memory = 1 << 20;
	refused(&o, -EINVAL, "a PC needs 2 MiB or more, in whole pages");
	o.memory = (64 << 20) + 1;
	refused(&o, -EINVAL, "a PC needs 2 MiB or more, in whole pages");
	o.memory = 16 << 20;
	refused(&o, -ENOMEM, "too little memory");
	o.memory = 1ULL << 62;
	refused(&o, -ENOMEM, "MiB of memory for the guest: ");
	o = options(&seen);
	o.kernel = "/nonexistent";
	refused(&o, -ENOENT, "kernel /nonexistent: No such file or directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),	cmocka_unit_test(test_pause),
		cmocka_unit_test(test_kicks),	cmocka_unit_test(test_map_ram),
		cmocka_unit_test(test_refused),
	};
	const char *device = getenv("GPAMAP_KVM_DEVICE");
	int kvm = open(device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0) {
		puts("SKIP: no KVM");
		return 77;
	}
	close(kvm);
	return cmocka_run_group_tests_name("kvm/pc", tests, write_kernel, NULL);
}
