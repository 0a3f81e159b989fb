/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hello - a VM with one vCPU, whose memory is split in the middle while it runs.
 *
 * The guest reads a page and counts in another, for ever. We write-protect the page that it reads, which
 * KVM can do only by deleting the slot under the guest and making three in its place, and undo that again.
 * The guest must not notice. Build: cc hello.c $(pkg-config --cflags --libs gpamap) -pthread
 */
#include <err.h>
#include <errno.h>
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

enum { PAGE = 0x1000, CODE = 0x1000, COUNTER = 0x3000, MIDDLE = 0x8000, SIZE = 0x10000 };

/* 16-bit x86: again: mov eax, [MIDDLE]; inc dword [COUNTER]; jmp again */
static const unsigned char guest_code[] = "\x66\xa1\x00\x80\x66\xff\x06\x00\x30\xeb\xf5";

/* The run loop of a VMM: here no exit is expected, but for the signal that ends it (-EINTR). */
static void *run(void *vcpu)
{
	return (void *)(intptr_t)gpamap_vcpu_run(vcpu);
}

/* Wait until the guest has counted on. */
static uint32_t progress(volatile uint32_t *counter, uint32_t then)
{
	for (int ms = 0; *counter == then && ms < 5000; ms++)
		usleep(1000);
	if (*counter == then)
		errx(1, "the guest stands still");
	return *counter;
}

/* Change the protection of the page in the middle, under the running guest. */
static void protect(struct gpamap *map, enum gpamap_prot prot, volatile uint32_t *counter)
{
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;
	uint32_t then;
	int r;

	if ((r = gpamap_begin(map, &txn)) < 0 ||
	    (r = gpamap_protect_pages(txn, 0, MIDDLE, PAGE, prot)) < 0 ||
	    (r = gpamap_commit(txn, NULL, &report)) < 0)
		errx(1, "protect: %s", strerror(-r));
	then = *counter;
	printf("%s: %u slot operations, %u with the guest held for %.0f us; counter %u, then %u\n",
	       prot == GPAMAP_RO ? "read-only " : "read-write",
	       report.early + report.critical + report.late, report.critical,
	       report.blackout_ns / 1e3, then, progress(counter, then));
}

/* Real mode, from CODE on. */
static void set_registers(int fd)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	struct kvm_sregs sregs;

	if (ioctl(fd, KVM_GET_SREGS, &sregs) < 0)
		err(1, "KVM_GET_SREGS");
	sregs.cs.base = sregs.cs.selector = 0;
	if (ioctl(fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(fd, KVM_SET_REGS, &regs) < 0)
		err(1, "KVM_SET_REGS");
}

int main(void)
{
	const char *device = getenv("GPAMAP_KVM_DEVICE");
	struct gpamap_options options = {.kick_signal = SIGUSR1};
	struct gpamap *map;
	struct gpamap_txn *txn;
	struct gpamap_vcpu *vcpu;
	pthread_t thread;
	void *result;
	int kvm, vm, fd, r;

	kvm = open(device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		printf("SKIP: %s: %s\n", device ? device : "/dev/kvm", strerror(errno));
		return 77;
	}

	/* The VM, its vCPU and its memory are yours; gpamap is told of them. */
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	fd = ioctl(vm, KVM_CREATE_VCPU, 0);
	struct kvm_run *state = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
				     PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (vm < 0 || fd < 0 || state == MAP_FAILED || memory == MAP_FAILED)
		err(1, "no VM");
	memcpy(memory + CODE, guest_code, sizeof(guest_code));

	/* A map for the VM, the memory in it from address 0 on, and the vCPU under the gate. */
	if ((r = gpamap_kick_install(SIGUSR1)) < 0 ||
	    (r = gpamap_new_kvm(vm, &options, &map)) < 0 || (r = gpamap_begin(map, &txn)) < 0 ||
	    (r = gpamap_map_pages(txn, 0, 0, SIZE, memory, GPAMAP_RW)) < 0 ||
	    (r = gpamap_commit(txn, NULL, NULL)) < 0 ||
	    (r = gpamap_vcpu_attach(map, fd, state, 0, &vcpu)) < 0)
		errx(1, "no map: %s", strerror(-r));

	set_registers(fd);
	if (pthread_create(&thread, NULL, run, vcpu) != 0)
		errx(1, "no thread");

	volatile uint32_t *counter = (volatile uint32_t *)(memory + COUNTER);
	progress(counter, 0);
	protect(map, GPAMAP_RO, counter);
	protect(map, GPAMAP_RW, counter);

	/* Stop it: as with plain KVM. */
	__atomic_store_n(&state->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, &result);
	if ((intptr_t)result != -EINTR)
		errx(1, "the guest left by itself: exit %u, %s", state->exit_reason,
		     strerror(-(int)(intptr_t)result));
	printf("the guest counted to %u and noticed nothing\n", *counter);

	gpamap_vcpu_detach(vcpu);
	gpamap_free(map);
	return 0;
}
