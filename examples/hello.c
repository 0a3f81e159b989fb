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

/* 16-bit x86 at 0x1000: again: mov eax, [0x8000]; inc dword [0x3000]; jmp again */
static const unsigned char guest_code[] = "\x66\xa1\x00\x80\x66\xff\x06\x00\x30\xeb\xf5";

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

/* Another protection for the page that the guest reads. KVM can do it only by deleting the slot under the
 * guest and making others in its place. */
static void protect(struct gpamap *map, enum gpamap_prot prot, volatile unsigned *counter)
{
	struct gpamap_commit_report done;
	struct gpamap_txn *txn;
	unsigned before = *counter;

	must(gpamap_begin(map, &txn), "begin");
	must(gpamap_protect_pages(txn, 0, 0x8000, 0x1000, prot), "protect");
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
		mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
	struct kvm_sregs sregs;

	if (state == MAP_FAILED || memory == MAP_FAILED || ioctl(fd, KVM_GET_SREGS, &sregs) < 0)
		err(1, "no VM");
	sregs.cs.base = sregs.cs.selector = 0;
	if (ioctl(fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(fd, KVM_SET_REGS, &regs) < 0)
		err(1, "no registers");
	memcpy(memory + 0x1000, guest_code, sizeof(guest_code));
	must(gpamap_kick_install(SIGUSR1), "kick signal");

	/* A map for the VM, the memory in it from address 0 on, and the vCPU under the gate. */
	struct gpamap_options options = {.kick_signal = SIGUSR1};
	struct gpamap *map;
	struct gpamap_txn *txn;
	struct gpamap_vcpu *vcpu;

	must(gpamap_new_kvm(vm, &options, &map), "map");
	must(gpamap_begin(map, &txn), "begin");
	must(gpamap_map_pages(txn, 0, 0, 0x10000, memory, GPAMAP_RW), "map pages");
	must(gpamap_commit(txn, NULL, NULL), "commit");
	must(gpamap_vcpu_attach(map, fd, state, 0, &vcpu), "attach");

	pthread_t thread;
	if (pthread_create(&thread, NULL, run, vcpu) != 0)
		errx(1, "no thread");
	protect(map, GPAMAP_RO, (unsigned *)(memory + 0x3000));
	protect(map, GPAMAP_RW, (unsigned *)(memory + 0x3000));

	/* Stop the guest, as with plain KVM, and take all apart. */
	__atomic_store_n(&state->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	printf("the guest counted to %u and noticed nothing\n", *(unsigned *)(memory + 0x3000));
	gpamap_vcpu_detach(vcpu);
	gpamap_free(map);
	return 0;
}
