/* SPDX-License-Identifier: BSD-3-Clause */
/* What the kernel itself finds to be wrong in what it has done, and says in its log. */
#include <stdio.h>

#include "fact.h"
#include "kvm.h"

/* Of what /proc/sys/kernel/tainted has: a warning has been. */
#define TAINT_WARN 512ul
#define VCPUS 2
/* Without a warning. Where it comes, it comes within some. */
#define QUIET_SECONDS 60.0

static bool has_warned(bool *ret)
{
	unsigned long taints;
	FILE *f = fopen("/proc/sys/kernel/tainted", "r");
	bool told = f && fscanf(f, "%lu", &taints) == 1;

	if (f)
		fclose(f);
	*ret = told && taints & TAINT_WARN;
	return told;
}

/*
 * One vCPU meets the gap, which ends, and another one maps the new slot before the first one comes to an end of what it
 * began: two faults at one place that have found different things there.
 */
static void create_under_two(struct kvm *k, struct vcpu *v, struct outcome *o)
{
	double start = seconds();
	unsigned changes = 0;
	bool warned = false;

	while (!warned && seconds() - start < QUIET_SECONDS) {
		need(!slot_delete(k, SLOT_TEST));
		need(!slot_put_test(k, 0, TEST));
		changes++;
		for (unsigned i = 0; i < VCPUS; i++) {
			if (!spin_await(&v[i], 1))
				return;
		}
		has_warned(&warned);
	}
	expect(o, !warned, "it warns after %u changes, see dmesg", changes);
	measured(o, "%u changes", changes);
}

static void two_faults(struct outcome *o)
{
	struct kvm k;
	struct vcpu v[VCPUS];
	bool warned;

	if (guest_missing) {
		not_here(o, "%s", guest_missing);
		return;
	}
	if (!has_warned(&warned) || warned) {
		not_here(o, "%s", warned ? "the kernel has warned before" : "no telling");
		return;
	}
	kvm_open(&k);
	for (unsigned i = 0; i < VCPUS; i++) {
		vcpu_open(&v[i], &k);
		vcpu_set(&v[i], USER, LOOP, TEST, false);
	}
	for (unsigned i = 0; i < VCPUS; i++)
		spin_start(&v[i]);
	create_under_two(&k, v, o);
	for (unsigned i = 0; i < VCPUS; i++)
		vcpu_close(&v[i]);
	kvm_close(&k);
}

const struct fact warning_facts[] = {
	{"K67", "DELETE and CREATE under two vCPUs: the kernel finds nothing wrong", false,
	 two_faults},
	{0},
};
