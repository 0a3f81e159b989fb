/* SPDX-License-Identifier: BSD-3-Clause */
/* Transactions on the VM of vm.h, a stream of them, and the watchdog. */
#include "vm.h"

#include <semaphore.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* -------------------------------------------------------------------------------- the map --- */

struct gpamap_txn *vm_begin(struct vm *vm)
{
	struct gpamap_txn *txn = NULL;

	ok(gpamap_begin(vm->map, &txn));
	return txn;
}

static void *hva_of(struct vm *vm, unsigned page)
{
	struct gpamap_segment s;

	if (gpamap_lookup(vm->map, 0, vm_gpa(vm, page), &s) || s.gpa > vm_gpa(vm, page))
		return NULL;
	return (uint8_t *)s.hva + (vm_gpa(vm, page) - s.gpa);
}

static void *next_hva(struct vm *vm, unsigned page)
{
	uint8_t *hva = vm->memory + vm_gpa(vm, page);

	return hva_of(vm, page) == hva ? vm->other + vm_gpa(vm, page) : hva;
}

static uint64_t word_at(const void *p)
{
	return __atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE);
}

uint64_t vm_flip(struct vm *vm, struct gpamap_txn *txn, unsigned page)
{
	void *hva = next_hva(vm, page);

	ok(gpamap_map_pages(txn, 0, vm_gpa(vm, page), vm->page, hva, GPAMAP_RW));
	return word_at(hva);
}

uint64_t vm_word(struct vm *vm, unsigned page)
{
	return word_at(hva_of(vm, page));
}

struct kvm_userspace_memory_region vm_own_region(const struct vm *vm, uint32_t slot, unsigned page)
{
	return (struct kvm_userspace_memory_region){
		.slot = slot,
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.guest_phys_addr = vm_gpa(vm, page),
		.memory_size = vm->page,
		.userspace_addr = (uintptr_t)vm->other,
	};
}

void vm_add_own_slot(struct vm *vm, uint32_t slot, unsigned page)
{
	struct kvm_userspace_memory_region r = vm_own_region(vm, slot, page);

	ok(gpamap_reserve_slots(vm->map, 0, slot, 1));
	ok(gpamap_enter(vm->map));
	ok(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r));
	gpamap_leave(vm->map);
}

int vm_flip_page(struct vm *vm, unsigned page, struct gpamap_commit_report *ret)
{
	const struct gpamap_commit_options opt = {.timeout_ms = LONG_MS};
	struct gpamap_txn *txn;
	int err = gpamap_begin(vm->map, &txn);

	if (err)
		return err;
	err = gpamap_map_pages(txn, 0, vm_gpa(vm, page), vm->page, next_hva(vm, page), GPAMAP_RW);
	if (!err)
		err = gpamap_commit(txn, &opt, ret);
	if (err)
		gpamap_abort(txn);
	return err;
}

void vm_commit(struct gpamap_txn *txn, unsigned flags, struct gpamap_commit_report *ret)
{
	const struct gpamap_commit_options opt = {.flags = flags, .timeout_ms = LONG_MS};
	int err = gpamap_commit(txn, &opt, ret);

	if (err)
		fail_msg("commit: %d: %s", err, gpamap_message(txn));
}

struct gpamap_stats vm_stats(struct vm *vm)
{
	struct gpamap_stats s;

	gpamap_get_stats(vm->map, &s);
	return s;
}

/* ------------------------------------------------------------------------ stream of commits --- */

static void *stream_thread(void *opaque)
{
	struct vm *vm = opaque;
	struct stream *s = &vm->stream;

	while (!atomic_load(&s->stop)) {
		int err = vm_flip_page(vm, s->page, NULL);

		if (err) {
			atomic_store(&s->err, err);
			break;
		}
		atomic_fetch_add(&s->commits, 1);
	}
	return NULL;
}

void stream_start(struct vm *vm, unsigned page)
{
	vm->stream = (struct stream){.page = page};
	ok(pthread_create(&vm->stream.thread, NULL, stream_thread, vm));
	vm->stream.running = true;
}

void stream_await(struct vm *vm, unsigned long n)
{
	struct stream *s = &vm->stream;
	unsigned long until = atomic_load(&s->commits) + n;

	wait_until(atomic_load(&s->commits) >= until || atomic_load(&s->err));
	assert_int_equal(atomic_load(&s->err), 0);
}

void stream_stop(struct vm *vm)
{
	struct stream *s = &vm->stream;

	atomic_store(&s->stop, true);
	ok(pthread_join(s->thread, NULL));
	s->running = false;
	assert_int_equal(atomic_load(&s->err), 0);
}

/* ------------------------------------------------------------------------------------ time --- */

static _Atomic(const char *) doing = "starting";

void step(const char *what)
{
	atomic_store(&doing, what);
}

void sleep_ms(unsigned ms)
{
	struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

void wait_sem(void *sem)
{
	while (sem_wait(sem) && errno == EINTR)
		;
}

/* A thread and no alarm(): a signal would disturb the vCPUs. */
static void *bark(void *opaque)
{
	unsigned *seconds = opaque;
	char text[256];
	int n;

	sleep_ms(*seconds * 1000);
	n = snprintf(text, sizeof(text), "HUNG for %u s: %s\n", *seconds, atomic_load(&doing));
	if (write(STDERR_FILENO, text, (size_t)n) < 0)
		_exit(2);
	_exit(1);
}

void watchdog(unsigned seconds)
{
	static unsigned given;
	sigset_t all, before;
	pthread_t thread;

	given = seconds;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ok(pthread_create(&thread, NULL, bark, &given));
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_detach(thread);
}
