/* SPDX-License-Identifier: BSD-3-Clause */
/* The benchmark of the gate: liburcu's read lock in the flavour that a program would take. It is quicker than
 * liburcu-bp's, since each reader registers, and its header inlines it. */
#define _LGPL_SOURCE
#define URCU_INLINE_SMALL_FUNCTIONS
#include <urcu/urcu-memb.h>

#include "gate_rivals.h"

void memb_thread_begin(void)
{
	urcu_memb_register_thread();
}

void memb_thread_end(void)
{
	urcu_memb_unregister_thread();
}

void memb_pass(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		urcu_memb_read_lock();
		urcu_memb_read_unlock();
	}
}
