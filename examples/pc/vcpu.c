/* SPDX-License-Identifier: BSD-3-Clause */
/* vCPUs: the run loop, and what brings it to a stop. */
#include "vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch.h"
#include "end.h"

/* ------------------------------------------------------------------------------------ exits --- */

/* As on a bus: where nothing answers, reads are all ones and writes are lost. */
static int mmio(struct pc_vcpu *vcpu)
{
	int r;

	if (!vcpu->run->mmio.is_write)
		memset(vcpu->run->mmio.data, 0xff, sizeof(vcpu->run->mmio.data));
	if (vcpu->pc->options.mmio)
		vcpu->pc->options.mmio(vcpu->pc->options.opaque, vcpu->run);
	r = gpamap_vcpu_mmio(vcpu->gate, 0);
	if (r != -ENXIO && r != -EROFS && r != -EACCES)
		return r;
	vcpu->strays++;
	return 0;
}

/* What a guest asks of its firmware, where KVM is the firmware. */
static int system_event(struct pc *pc, struct pc_vcpu *vcpu)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		pc_end(pc, vcpu, PC_POWER_OFF, "the guest has powered off");
		return 0;
	case KVM_SYSTEM_EVENT_RESET:
		pc_end(pc, vcpu, PC_RESET, "the guest has asked for a reset");
		return 0;
	}
	pc_end(pc, vcpu, PC_ERROR, "vCPU %u: a system event of type %u", vcpu->id,
	       vcpu->run->system_event.type);
	return 0;
}

static int internal_error(struct pc *pc, struct pc_vcpu *vcpu)
{
	pc_end(pc, vcpu, PC_ERROR, "vCPU %u: KVM can't go on at 0x%llx: internal error %u",
	       vcpu->id, (unsigned long long)arch_instruction(vcpu), vcpu->run->internal.suberror);
	return 0;
}

static int exited(struct pc *pc, struct pc_vcpu *vcpu)
{
	int r;

	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_MMIO:
		return mmio(vcpu);
	case KVM_EXIT_SYSTEM_EVENT:
		return system_event(pc, vcpu);
	case KVM_EXIT_INTERNAL_ERROR:
		return internal_error(pc, vcpu);
	case KVM_EXIT_FAIL_ENTRY:
		pc_end(pc, vcpu, PC_ERROR,
		       "vCPU %u: the processor refuses to enter the guest: reason 0x%llx", vcpu->id,
		       (unsigned long long)vcpu->run->fail_entry.hardware_entry_failure_reason);
		return 0;
	case KVM_EXIT_INTR:
		return 0;
	}
	r = arch_exit(pc, vcpu);
	if (r == -ENOSYS) {
		pc_end(pc, vcpu, PC_ERROR,
		       "vCPU %u: an exit for reason %u, which this program does not know", vcpu->id,
		       vcpu->run->exit_reason);
		return 0;
	}
	return r;
}

/* --------------------------------------------------------------------------------- the loop --- */

/* Wait while all is paused. false: it is time to end. */
static bool may_run(struct pc *pc, struct pc_vcpu *vcpu)
{
	bool runs;

	if (!pc->attention)
		return true;
	pthread_mutex_lock(&pc->lock);
	while (pc->pauses && pc->end.how == PC_RUNS) {
		vcpu->parked = true;
		pthread_cond_broadcast(&pc->changed);
		pthread_cond_wait(&pc->changed, &pc->lock);
	}
	vcpu->parked = false;
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	runs = pc->end.how == PC_RUNS;
	pthread_mutex_unlock(&pc->lock);
	return runs;
}

/* -EINTR says that there may have been a signal: may_run() looks at what it was for, if for anything. -EAGAIN comes when
 * the guest has started a vCPU that waited for it. */
static void *run(void *arg)
{
	struct pc_vcpu *vcpu = arg;
	struct pc *pc = vcpu->pc;

	while (may_run(pc, vcpu)) {
		int r = gpamap_vcpu_run(vcpu->gate);

		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r < 0) {
			vcpu->run->exit_reason = 0;
			pc_end(pc, vcpu, PC_ERROR, "vCPU %u: KVM_RUN fails at 0x%llx: %s", vcpu->id,
			       (unsigned long long)arch_instruction(vcpu), strerror(-r));
			continue;
		}
		r = exited(pc, vcpu);
		if (r < 0)
			pc_end(pc, vcpu, PC_ERROR, "vCPU %u: an access to a device fails: %s",
			       vcpu->id, strerror(-r));
	}
	pthread_mutex_lock(&pc->lock);
	vcpu->parked = true;
	pthread_cond_broadcast(&pc->changed);
	pthread_mutex_unlock(&pc->lock);
	return NULL;
}

static bool all_parked(const struct pc *pc)
{
	for (unsigned i = 0; i < pc->options.cpus; i++) {
		if (pc->vcpus[i].started && !pc->vcpus[i].parked)
			return false;
	}
	return true;
}

void pc_pause(struct pc *pc)
{
	pthread_mutex_lock(&pc->lock);
	pc->pauses++;
	pc_call_attention(pc);
	while (!all_parked(pc))
		pthread_cond_wait(&pc->changed, &pc->lock);
	pthread_mutex_unlock(&pc->lock);
}

void pc_resume(struct pc *pc)
{
	pthread_mutex_lock(&pc->lock);
	if (--pc->pauses == 0) {
		pc->attention = pc->end.how != PC_RUNS;
		pthread_cond_broadcast(&pc->changed);
	}
	pthread_mutex_unlock(&pc->lock);
}

void pc_kick(struct pc *pc, unsigned vcpu)
{
	pthread_mutex_lock(&pc->lock);
	if (vcpu < pc->options.cpus && pc->vcpus[vcpu].started)
		pthread_kill(pc->vcpus[vcpu].thread, pc->kick_signal);
	pthread_mutex_unlock(&pc->lock);
}

/* ---------------------------------------------------------------------------- from new to free --- */

static int new_vcpu(struct pc *pc, struct pc_vcpu *vcpu)
{
	char why[256];
	int r;

	vcpu->fd = gpamap_vm_ioctl(pc->map, KVM_CREATE_VCPU, (void *)(uintptr_t)vcpu->id);
	if (vcpu->fd < 0)
		return pc_fail(&pc->error, vcpu->fd, "KVM makes no vCPU %u: %s", vcpu->id,
			       strerror(-vcpu->fd));
	vcpu->run = mmap(NULL, pc->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		return pc_fail(&pc->error, -errno, "vCPU %u can't be mapped: %s", vcpu->id,
			       strerror(errno));
	}
	r = arch_init_vcpu(pc, vcpu);
	if (r < 0)
		return r;
	r = gpamap_vcpu_attach(pc->map, vcpu->fd, vcpu->run, vcpu->id, &vcpu->gate);
	if (r < 0) {
		gpamap_last_message(pc->map, why, sizeof(why));
		return pc_fail(&pc->error, r, "vCPU %u: %s: %s", vcpu->id, strerror(-r), why);
	}
	return 0;
}

int pc_vcpus_new(struct pc *pc)
{
	unsigned count = pc->options.cpus;
	int r = ioctl(pc->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (r < 0)
		return pc_fail(&pc->error, -errno, "KVM_GET_VCPU_MMAP_SIZE: %s", strerror(errno));
	pc->run_size = (size_t)r;
	pc->vcpus = calloc(count, sizeof(*pc->vcpus));
	if (!pc->vcpus)
		return pc_fail(&pc->error, -ENOMEM, "no memory for %u vCPUs", count);
	for (unsigned i = 0; i < count; i++) {
		pc->vcpus[i].pc = pc;
		pc->vcpus[i].id = i;
		pc->vcpus[i].fd = -1;
	}
	r = 0;
	for (unsigned i = 0; i < count && r == 0; i++)
		r = new_vcpu(pc, &pc->vcpus[i]);
	return r;
}

int pc_vcpus_start(struct pc *pc)
{
	for (unsigned i = 0; i < pc->options.cpus; i++) {
		struct pc_vcpu *vcpu = &pc->vcpus[i];
		int err;

		/* The lock keeps pauses away until its thread is known. */
		pthread_mutex_lock(&pc->lock);
		err = pthread_create(&vcpu->thread, NULL, run, vcpu);
		vcpu->started = err == 0;
		pthread_mutex_unlock(&pc->lock);
		if (err)
			return pc_fail(&pc->error, -err, "no thread for vCPU %u: %s", vcpu->id,
				       strerror(err));
	}
	return 0;
}

void pc_vcpus_join(struct pc *pc)
{
	for (unsigned i = 0; pc->vcpus && i < pc->options.cpus; i++) {
		if (!pc->vcpus[i].started)
			continue;
		pthread_join(pc->vcpus[i].thread, NULL);
		pthread_mutex_lock(&pc->lock);
		pc->vcpus[i].started = false;
		pthread_mutex_unlock(&pc->lock);
	}
}

void pc_vcpus_free(struct pc *pc)
{
	for (unsigned i = 0; pc->vcpus && i < pc->options.cpus; i++) {
		struct pc_vcpu *vcpu = &pc->vcpus[i];

		if (vcpu->gate)
			gpamap_vcpu_detach(vcpu->gate);
		if (vcpu->run)
			munmap(vcpu->run, pc->run_size);
		if (vcpu->fd >= 0)
			close(vcpu->fd);
	}
	free(pc->vcpus);
	pc->vcpus = NULL;
}
