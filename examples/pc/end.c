/* SPDX-License-Identifier: BSD-3-Clause */
/* How a machine ends. */
#include "end.h"

#include <stdarg.h>
#include <stdio.h>

/* A signal alone is lost on a thread that is just about to enter KVM_RUN. immediate_exit isn't, and the thread takes it
 * back under the lock when it has seen what it was for. */
void pc_call_attention(struct pc *pc)
{
	pc->attention = true;
	for (unsigned i = 0; i < pc->options.cpus; i++) {
		struct pc_vcpu *vcpu = &pc->vcpus[i];

		if (!vcpu->started)
			continue;
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vcpu->thread, pc->kick_signal);
	}
	pthread_cond_broadcast(&pc->changed);
}

void pc_end(struct pc *pc, const struct pc_vcpu *vcpu, enum pc_ending how, const char *format, ...)
{
	va_list list;

	pthread_mutex_lock(&pc->lock);
	if (pc->end.how == PC_RUNS) {
		pc->end.how = how;
		pc->end.vcpu = vcpu ? (int)vcpu->id : -1;
		pc->end.exit_reason = vcpu ? vcpu->run->exit_reason : 0;
		va_start(list, format);
		vsnprintf(pc->end.why.text, sizeof(pc->end.why.text), format, list);
		va_end(list);
		pc_call_attention(pc);
	}
	pthread_mutex_unlock(&pc->lock);
}

bool pc_ended(struct pc *pc)
{
	bool ended;

	pthread_mutex_lock(&pc->lock);
	ended = pc->end.how != PC_RUNS;
	pthread_mutex_unlock(&pc->lock);
	return ended;
}
