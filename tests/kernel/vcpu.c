/* SPDX-License-Identifier: BSD-3-Clause */
/* The vCPU, and the thread in which it spins; see kvm.h. */
#define _GNU_SOURCE /* affinity */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fact.h"
#include "kvm.h"

const char *const mode_name[] = {"user", "supervisor"};

void vcpu_open(struct vcpu *v, struct kvm *k)
{
	memset(v, 0, sizeof(*v));
	v->k = k;
	v->fd = ioctl(k->fd, KVM_CREATE_VCPU, k->nr_vcpus++);
	need(v->fd >= 0);
	v->run_size = (size_t)ioctl(k->sys, KVM_GET_VCPU_MMAP_SIZE, 0);
	v->run = mmap(NULL, v->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	need(v->run != MAP_FAILED);
	need(!guest_init(v));
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
}

void vcpu_close(struct vcpu *v)
{
	if (v->spins)
		spin_stop(v);
	munmap(v->run, v->run_size);
	close(v->fd);
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
}

void vcpu_set(struct vcpu *v, enum mode mode, enum program program, unsigned watched, bool rings)
{
	guest_write(v->k, mode, PAGE_TABLES, watched);
	need(!guest_set(v, mode, program, watched, PAGE_TABLES, rings));
}

void vcpu_set_tables(struct vcpu *v, enum mode mode, unsigned watched, unsigned tables, bool rings)
{
	guest_write(v->k, mode, tables, watched);
	need(!guest_set(v, mode, LOOP, watched, tables, rings));
}

int vcpu_run(struct vcpu *v)
{
	return kvm_ioctl(v->fd, KVM_RUN, NULL);
}

int vcpu_run_limited(struct vcpu *v)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = KICK_SIGNAL};
	struct itimerspec once = {.it_value.tv_sec = STUCK_SECONDS};
	timer_t timer;
	int err;

	need(!timer_create(CLOCK_MONOTONIC, &event, &timer));
	need(!timer_settime(timer, 0, &once, NULL));
	err = vcpu_run(v);
	timer_delete(timer);
	return err;
}

bool vcpu_is_at(const struct vcpu *v, unsigned page, bool is_write)
{
	return v->run->exit_reason == KVM_EXIT_MMIO && v->run->mmio.is_write == is_write &&
	       v->run->mmio.phys_addr / v->k->page == page;
}

bool vcpu_round(struct vcpu *v)
{
	return !vcpu_run(v) && vcpu_is_at(v, DOOR, true);
}

uint64_t vcpu_count(const struct vcpu *v)
{
	return *own_word(v->k, 0);
}

uint64_t vcpu_saw(const struct vcpu *v)
{
	return *own_word(v->k, 1);
}

const char *exit_name(uint32_t reason)
{
	static const char *const names[] = {
		[KVM_EXIT_UNKNOWN] = "unknown",
		[KVM_EXIT_EXCEPTION] = "exception",
		[KVM_EXIT_IO] = "I/O",
		[KVM_EXIT_HLT] = "halt",
		[KVM_EXIT_MMIO] = "MMIO",
		[KVM_EXIT_SHUTDOWN] = "shutdown",
		[KVM_EXIT_FAIL_ENTRY] = "failed entry",
		[KVM_EXIT_INTR] = "signal",
		[KVM_EXIT_INTERNAL_ERROR] = "internal error",
		[39] = "memory fault",
	};
	bool known = reason < sizeof(names) / sizeof(names[0]) && names[reason];

	return known ? names[reason] : "another exit";
}

/* ----------------------------------------------------------------------------- the spinning --- */

static void end_of(struct vcpu *v, const char *why)
{
	snprintf(v->why, sizeof(v->why), "%s", why);
	atomic_fetch_add(&v->holes, 1);
	atomic_store(&v->over, true);
}

/* What is read where no memory is doesn't matter: the guest goes on, and the exit counts. */
static void judge(struct vcpu *v)
{
	uint64_t page = v->run->mmio.phys_addr / v->k->page;

	if (v->run->exit_reason != KVM_EXIT_MMIO)
		end_of(v, exit_name(v->run->exit_reason));
	else if (guest_is_exception(v->run))
		end_of(v, "abort");
	else if (page != DOOR)
		atomic_fetch_add(&v->holes, 1);
	memset(v->run->mmio.data, 0, sizeof(v->run->mmio.data));
}

/* Between two runs. False: the thread is to end. */
static bool between(struct vcpu *v)
{
	bool stop;

	pthread_mutex_lock(&v->lock);
	while (v->hold && !v->stop) {
		v->held = true;
		pthread_cond_broadcast(&v->changed);
		pthread_cond_wait(&v->changed, &v->lock);
	}
	v->held = false;
	/* Under the lock: no request can be lost by this. */
	v->run->immediate_exit = 0;
	stop = v->stop;
	pthread_mutex_unlock(&v->lock);
	return !stop;
}

/* A change and a vCPU on one processor take turns, and never meet: that one stays on the first, this goes to the second.
 */
static int processor_of_vcpu(void)
{
	static int second = -1;
	cpu_set_t all, first;

	if (second >= 0 || sched_getaffinity(0, sizeof(all), &all) || CPU_COUNT(&all) < 2)
		return second;
	CPU_ZERO(&first);
	for (int cpu = 0; cpu < CPU_SETSIZE && second < 0; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		if (CPU_COUNT(&first))
			second = cpu;
		else
			CPU_SET(cpu, &first);
	}
	sched_setaffinity(0, sizeof(first), &first);
	return second;
}

static void go_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *spin(void *opaque)
{
	struct vcpu *v = opaque;

	if (v->cpu >= 0)
		go_to(v->cpu);
	while (between(v)) {
		int err = atomic_load(&v->over) ? EINTR : vcpu_run(v);

		if (!err)
			judge(v);
		else if (err == EINTR)
			atomic_fetch_add(&v->eintrs, 1);
		else
			end_of(v, strerror(err));
		if (atomic_load(&v->over))
			sleep_us(1000);
	}
	return NULL;
}

/* With the lock held. */
static void kick(struct vcpu *v)
{
	v->run->immediate_exit = 1;
	pthread_cond_broadcast(&v->changed);
	pthread_kill(v->thread, KICK_SIGNAL);
}

void spin_start(struct vcpu *v)
{
	v->spins = true;
	v->cpu = processor_of_vcpu();
	v->stop = v->hold = false;
	need(!pthread_create(&v->thread, NULL, spin, v));
}

void spin_stop(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	v->stop = true;
	kick(v);
	pthread_mutex_unlock(&v->lock);
	pthread_join(v->thread, NULL);
	v->spins = false;
}

void spin_hold(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	v->hold = true;
	kick(v);
	while (!v->held)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

void spin_release(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	v->hold = false;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

/* A vCPU that is inside and gets nowhere: it is taken out before that is said, so that nothing else is said meanwhile. */
static void give_up(struct vcpu *v)
{
	spin_hold(v);
	if (!atomic_load(&v->over))
		end_of(v, "KVM_RUN has no end");
	spin_release(v);
}

bool spin_await(struct vcpu *v, uint64_t n)
{
	uint64_t until = vcpu_count(v) + n;
	double start = seconds();

	while (vcpu_count(v) < until && !atomic_load(&v->over)) {
		if (seconds() - start > STUCK_SECONDS)
			give_up(v);
		sleep_us(20);
	}
	return !atomic_load(&v->over);
}
