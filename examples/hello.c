/* SPDX-License-Identifier: BSD-3-Clause */
/* hello - split a VM's memory under the running guest, which must not notice.
 * cc hello.c $(pkg-config --cflags --libs gpamap) -pthread */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <gpamap.h>

/* The guest's memory: two pieces, each a page or some on any host. In the first one are its code and what it
 * counts; it reads from the second one. */
enum { PIECE = 0x10000, CODE = 0x1000, TABLE = 0x2000, COUNTER = 0x3000, WATCHED = PIECE };

#if defined(__x86_64__)

/* 16-bit: again: mov eax, es:[0]; inc dword [COUNTER]; jmp again */
static const unsigned char guest_code[] = "\x26\x66\xa1\x00\x00\x66\xff\x06\x00\x30\xeb\xf4";

static int boot(int vm, int fd, char *memory)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	struct kvm_sregs sregs;

	(void)vm;
	memcpy(memory + CODE, guest_code, sizeof(guest_code));
	if (ioctl(fd, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.es.base = WATCHED;
	sregs.es.selector = WATCHED >> 4;
	return ioctl(fd, KVM_SET_SREGS, &sregs) < 0 ? -1 : ioctl(fd, KVM_SET_REGS, &regs);
}

#elif defined(__aarch64__)

/* again: ldr w2, [x0]; ldr w2, [x1]; add w2, w2, #1; str w2, [x1]; b again */
static const uint32_t guest_code[] = {0xb9400002, 0xb9400022, 0x11000442, 0xb9000022, 0x17fffffc};

#define CORE(name) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.name))

/* With its caches off it might not see the same memory as we, so it needs a page table. */
static int boot(int vm, int fd, char *memory)
{
	const uint64_t first_gib = 0x701; /* a block of normal memory, shareable, accessed */
	const uint64_t registers[][2] = {
		{CORE(pc), CODE},
		{CORE(regs[0]), WATCHED},
		{CORE(regs[1]), COUNTER},
		{ARM64_SYS_REG(3, 0, 10, 2, 0), 0xff},	   /* MAIR_EL1: write-back */
		{ARM64_SYS_REG(3, 0, 2, 0, 2), 0x803519},  /* TCR_EL1: 39 bits, 4 KiB */
		{ARM64_SYS_REG(3, 0, 2, 0, 0), TABLE},	   /* TTBR0_EL1 */
		{ARM64_SYS_REG(3, 0, 1, 0, 0), 0x30d01805} /* SCTLR_EL1: MMU and caches */
	};
	struct kvm_vcpu_init init;
	int r = ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init);

	memcpy(memory + CODE, guest_code, sizeof(guest_code));
	memcpy(memory + TABLE, &first_gib, sizeof(first_gib));
	r = r < 0 ? r : ioctl(fd, KVM_ARM_VCPU_INIT, &init);
	for (unsigned i = 0; r == 0 && i < sizeof(registers) / sizeof(registers[0]); i++) {
		struct kvm_one_reg one = {registers[i][0], (uint64_t)&registers[i][1]};

		r = ioctl(fd, KVM_SET_ONE_REG, &one);
	}
	return r;
}

#else

static int boot(int vm, int fd, char *memory)
{
	(void)vm, (void)fd, (void)memory;
	puts("SKIP: no guest code for this processor");
	exit(77);
}

#endif

/* All of gpamap answers with 0 or a negative errno. */
static void must(int r, const char *what)
{
	if (r < 0)
		errx(1, "%s: %s", what, strerror(-r));
}

static void *
run(void *vcpu) /* the run loop: no exit is expected here, but for the signal at the end */
{
	return (void *)(intptr_t)gpamap_vcpu_run(vcpu);
}

/* Another protection for what the guest reads. KVM can do it only by deleting the slot under the
 * guest and making others in its place. */
static void protect(struct gpamap *map, enum gpamap_prot prot, volatile unsigned *counter)
{
	struct gpamap_commit_report done;
	struct gpamap_txn *txn;
	unsigned before = *counter;

	must(gpamap_begin(map, &txn), "begin");
	must(gpamap_protect_pages(txn, 0, WATCHED, PIECE, prot), "protect");
	must(gpamap_commit(txn, NULL, &done), "commit");
	while (*counter == before)
		usleep(1000); /* it lives */
	printf("%s: %u slot operations in %.0f us with the guest held\n",
	       prot == GPAMAP_RO ? "read-only" : "read-write", done.critical,
	       done.blackout_ns / 1e3);
}

int main(void)
{
	/* The VM, its vCPU, its memory and the kick signal are yours. */
	const char *device = getenv("GPAMAP_KVM_DEVICE");
	int kvm = open(device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0) {
		puts("SKIP: no KVM");
		return 77;
	}
	int vm = ioctl(kvm, KVM_CREATE_VM, 0), fd = ioctl(vm, KVM_CREATE_VCPU, 0);
	struct kvm_run *state = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
				     PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *memory =
		mmap(NULL, 2 * PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (state == MAP_FAILED || memory == MAP_FAILED || boot(vm, fd, memory) < 0)
		err(1, "no VM");
	must(gpamap_kick_install(SIGUSR1), "kick signal");

	/* A map for the VM, the memory in it from address 0 on, and the vCPU under the gate. */
	struct gpamap_options options = {.kick_signal = SIGUSR1};
	struct gpamap *map;
	struct gpamap_txn *txn;
	struct gpamap_vcpu *vcpu;

	must(gpamap_new_kvm(vm, &options, &map), "map");
	must(gpamap_begin(map, &txn), "begin");
	must(gpamap_map_pages(txn, 0, 0, 2 * PIECE, memory, GPAMAP_RW), "map pages");
	must(gpamap_commit(txn, NULL, NULL), "commit");
	must(gpamap_vcpu_attach(map, fd, state, 0, &vcpu), "attach");

	pthread_t thread;
	if (pthread_create(&thread, NULL, run, vcpu) != 0)
		errx(1, "no thread");
	protect(map, GPAMAP_RO, (unsigned *)(memory + COUNTER));
	protect(map, GPAMAP_RW, (unsigned *)(memory + COUNTER));

	/* Stop the guest, as with plain KVM, and take all apart. */
	__atomic_store_n(&state->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	printf("the guest counted to %u and noticed nothing\n", *(unsigned *)(memory + COUNTER));
	gpamap_vcpu_detach(vcpu);
	gpamap_free(map);
	return 0;
}
