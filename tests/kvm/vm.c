/* SPDX-License-Identifier: BSD-3-Clause */
/* The VM and its vCPUs; see vm.h. */
#include "vm.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

/* ------------------------------------------------------------------------------ the machine --- */

static const char *device(void)
{
	const char *path = getenv("GPAMAP_KVM_DEVICE");

	return path ? path : "/dev/kvm";
}

bool vm_available(void)
{
	int kvm, vm = -1;

	if (guest_missing) {
		printf("SKIP: %s\n", guest_missing);
		return false;
	}
	kvm = open(device(), O_RDWR | O_CLOEXEC);
	if (kvm >= 0)
		vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (kvm < 0)
		printf("SKIP: can't open %s\n", device());
	else if (vm < 0)
		printf("SKIP: %s makes no VM\n", device());
	if (vm >= 0)
		close(vm);
	if (kvm >= 0)
		close(kvm);
	return vm >= 0;
}

bool vm_can_copy(void)
{
	return guest_has_copy;
}

unsigned vm_spaces(void)
{
	int kvm = open(device(), O_RDWR | O_CLOEXEC), vm, n;

	assert_true(kvm >= 0);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	assert_true(vm >= 0);
	n = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE);
	close(vm);
	close(kvm);
	return n > 0 ? (unsigned)n : 1;
}

uint64_t vm_gpa(const struct vm *vm, unsigned page)
{
	return (uint64_t)page * vm->page;
}

static uint8_t *new_memory(const struct vm *vm, uint64_t tag)
{
	uint8_t *p = mmap(NULL, VM_PAGES * vm->page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	for (unsigned i = PAGE_TEST; i < VM_PAGES; i++) {
		uint64_t word = tag << 32 | i;

		memcpy(p + vm_gpa(vm, i), &word, sizeof(word));
	}
	return p;
}

void vm_open(struct vm *vm, unsigned flags)
{
	vm_open_spaces(vm, flags, 1);
}

void vm_open_spaces(struct vm *vm, unsigned flags, unsigned spaces)
{
	vm_open_options(vm, (struct gpamap_options){.spaces = spaces, .flags = flags});
}

void vm_open_options(struct vm *vm, struct gpamap_options opt)
{
	char why[256] = "";
	struct gpamap_txn *txn;
	int err = gpamap_kick_install(KICK_SIGNAL);

	assert_true(!err || err == -EBUSY);
	opt.kick_signal = KICK_SIGNAL;
	opt.message = why;
	opt.message_size = sizeof(why);
	memset(vm, 0, sizeof(*vm));
	vm->page = (size_t)sysconf(_SC_PAGESIZE);
	vm->kvm = open(device(), O_RDWR | O_CLOEXEC);
	assert_true(vm->kvm >= 0);
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	assert_true(vm->fd >= 0);
	vm->run_size = (size_t)ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->memory = new_memory(vm, 1);
	vm->other = new_memory(vm, 2);
	guest_write(vm);
	err = gpamap_new_kvm(vm->fd, &opt, &vm->map);
	if (err)
		fail_msg("no map: %s", why);
	txn = vm_begin(vm);
	ok(gpamap_map_pages(txn, 0, 0, vm_gpa(vm, VM_PAGES), vm->memory, GPAMAP_RW));
	vm_commit(txn, 0, NULL);
}

/* ------------------------------------------------------------------------------------ vCPUs --- */

struct vcpu *vcpu_new_raw(struct vm *vm, unsigned id)
{
	struct vcpu *v = calloc(1, sizeof(*v));

	assert_non_null(v);
	assert_true(id < VM_VCPUS && !vm->vcpus[id]);
	v->vm = vm;
	v->id = id;
	v->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)id);
	assert_true(v->fd >= 0);
	v->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	assert_true(v->run != MAP_FAILED);
	ok(guest_init(v));
	vm->vcpus[id] = v;
	return v;
}

struct vcpu *vcpu_new(struct vm *vm, unsigned id)
{
	struct vcpu *v = vcpu_new_raw(vm, id);

	ok(gpamap_vcpu_attach(vm->map, v->fd, v->run, id, &v->gate));
	return v;
}

void vcpu_free(struct vcpu *v)
{
	gpamap_vcpu_detach(v->gate);
	munmap(v->run, v->vm->run_size);
	close(v->fd);
	v->vm->vcpus[v->id] = NULL;
	free(v);
}

static uint64_t own_gpa(const struct vcpu *v)
{
	return vm_gpa(v->vm, PAGE_OWN + v->id);
}

void vcpu_set(struct vcpu *v, enum mode mode, enum program program, unsigned page, bool rings)
{
	uint64_t door = rings || program == COPY ? vm_gpa(v->vm, PAGE_DOOR)
						 : own_gpa(v) + OWN_DOOR * sizeof(uint64_t);

	vcpu_set_at(v, mode, program, vm_gpa(v->vm, page), door);
}

void vcpu_set_at(struct vcpu *v, enum mode mode, enum program program, uint64_t watched,
		 uint64_t door)
{
	ok(guest_set(v, mode, program, own_gpa(v), watched, door));
	v->rung = vcpu_count(v);
}

static void bad_exit(struct vcpu *v)
{
	if (v->run->exit_reason == KVM_EXIT_MMIO)
		atomic_store(&v->bad_gpa, v->run->mmio.phys_addr);
	atomic_store(&v->bad_exit, (int)v->run->exit_reason);
}

static void answer_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint64_t value = atomic_load(&v->rings) + 1;

	if (run->exit_reason == KVM_EXIT_MMIO && v->on_mmio) {
		if (!v->on_mmio(v))
			bad_exit(v);
		return;
	}
	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.len != sizeof(value) ||
	    run->mmio.phys_addr != vm_gpa(v->vm, PAGE_DOOR)) {
		bad_exit(v);
		return;
	}
	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, sizeof(value));
		if (value != v->rung + 1) {
			atomic_store(&v->bad_exit, -1);
			return;
		}
		v->rung = value;
	} else {
		memcpy(run->mmio.data, &value, sizeof(value));
	}
	atomic_fetch_add(&v->rings, 1);
	if (v->on_ring)
		v->on_ring(v);
}

static void answer_eintr(struct vcpu *v)
{
	uint8_t one = 1;

	if (__atomic_load_n(&v->run->immediate_exit, __ATOMIC_SEQ_CST) != 1) {
		atomic_fetch_add(&v->kicked_out, 1);
		return;
	}
	if (v->on_eintr)
		v->on_eintr(v);
	/* Ours, set by vcpu_stop(): there may be a request of it before stop is looked at, but not after. */
	__atomic_compare_exchange_n(&v->run->immediate_exit, &one, 0, false, __ATOMIC_SEQ_CST,
				    __ATOMIC_SEQ_CST);
	atomic_fetch_add(&v->eintrs, 1);
}

bool vcpu_step(struct vcpu *v)
{
	int err = v->once ? v->once(v) : gpamap_vcpu_run(v->gate);

	if (!err) {
		answer_exit(v);
		/* Not the end, were it asked to stop: KVM may have to finish an instruction in its next run. */
		return !atomic_load(&v->bad_exit);
	}
	if (err == -EINTR) {
		answer_eintr(v);
		return !atomic_load(&v->stop);
	}
	atomic_store(&v->err, err);
	return false;
}

static void *vcpu_thread(void *opaque)
{
	struct vcpu *v = opaque;

	atomic_store(&v->tid, (int)syscall(SYS_gettid));
	while (vcpu_step(v))
		;
	return NULL;
}

void vcpu_start(struct vcpu *v)
{
	atomic_store(&v->stop, false);
	ok(pthread_create(&v->thread, NULL, vcpu_thread, v));
	v->running = true;
}

static void end_thread(struct vcpu *v)
{
	atomic_store(&v->stop, true);
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(v->thread, KICK_SIGNAL);
	pthread_join(v->thread, NULL);
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	v->running = false;
}

/* Has the thread ended by itself? */
static void check(const struct vcpu *v)
{
	if (atomic_load(&v->bad_exit) == -1)
		fail_msg("vCPU %u: a ring was lost or came twice after %lu", v->id,
			 atomic_load(&v->rings));
	if (atomic_load(&v->bad_exit))
		fail_msg("vCPU %u: exit %d at 0x%llx", v->id, atomic_load(&v->bad_exit),
			 (unsigned long long)atomic_load(&v->bad_gpa));
	if (atomic_load(&v->err))
		fail_msg("vCPU %u: its run ended with %d", v->id, atomic_load(&v->err));
}

void vcpu_stop(struct vcpu *v)
{
	end_thread(v);
	check(v);
}

int vcpu_run_raw(struct vcpu *v)
{
	return ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

static uint64_t own_word(const struct vcpu *v, unsigned i)
{
	uint64_t *words = (uint64_t *)(v->vm->memory + own_gpa(v));

	return __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);
}

uint64_t vcpu_count(const struct vcpu *v)
{
	return own_word(v, OWN_COUNT);
}

uint64_t vcpu_saw(const struct vcpu *v)
{
	return own_word(v, OWN_SAW);
}

void vcpu_await(struct vcpu *v, uint64_t n)
{
	uint64_t until = vcpu_count(v) + n;

	while (vcpu_count(v) < until) {
		check(v);
		sleep_ms(1);
	}
}

char thread_state(int tid)
{
	char path[64], line[512], state = '?';
	const char *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (!f)
		return state;
	/* The name before it may hold anything, brackets, too. */
	if (fgets(line, sizeof(line), f)) {
		p = strrchr(line, ')');
		if (p && p[1] == ' ')
			state = p[2];
	}
	fclose(f);
	return state;
}

void vm_close(struct vm *vm)
{
	/* After a test that failed. */
	if (vm->stream.running)
		stream_stop(vm);
	for (unsigned i = 0; i < VM_VCPUS; i++) {
		struct vcpu *v = vm->vcpus[i];

		if (v && v->running)
			end_thread(v);
		if (v)
			vcpu_free(v);
	}
	gpamap_free(vm->map);
	close(vm->fd);
	close(vm->kvm);
	munmap(vm->memory, VM_PAGES * vm->page);
	munmap(vm->other, VM_PAGES * vm->page);
	memset(vm, 0, sizeof(*vm));
}
