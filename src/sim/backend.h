/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated VM as a backend of the library. */
#ifndef GM_SIM_BACKEND_H
#define GM_SIM_BACKEND_H

#include "api/private.h"

/* A gm_backend_maker; @vm is a struct gpamap_sim. -ENOMEM. */
int gm_sim_new(void *vm, const struct gm_alloc *alloc, struct gm_msg *msg, struct gm_backend **ret);
/* A gm_engine_maker; @vcpu is a struct gpamap_sim_vcpu. */
int gm_sim_engine(struct gm_backend *b, void *vcpu, struct gm_engine *ret);

#endif
