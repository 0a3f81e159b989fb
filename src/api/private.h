/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The seam for a backend that stands outside of the library: a map over it, and its vCPUs under the gate. libgpamap-sim
 * is the one that there is, and calls nothing else of the library's inside. The shared library exports these functions,
 * under a node of their own (GPAMAP_PRIVATE in gpamap.map.in); no public header has them.
 */
#ifndef GM_API_PRIVATE_H
#define GM_API_PRIVATE_H

#include "backend/backend.h"
#include "gpamap.h"

/* Make a backend of @vm, which is what gm_private_map_new() was given. *@ret is untouched on failure. */
typedef int gm_backend_maker(void *vm, const struct gm_alloc *alloc, struct gm_msg *msg,
			     struct gm_backend **ret);
/* A map over the backend that @make makes. As gpamap_new_kvm(), with @make's errors; @opt may be NULL. */
int gm_private_map_new(gm_backend_maker *make, void *vm, const struct gpamap_options *opt,
		       struct gpamap **ret);

/* The engine of @vcpu, which is what gm_private_vcpu_attach() was given. -ENOTSUP: @b is another sort of backend.
 * -EINVAL: of another VM. */
typedef int gm_engine_maker(struct gm_backend *b, void *vcpu, struct gm_engine *ret);
/* Bring a vCPU under the gate. As gpamap_vcpu_attach(), with @make's errors. */
int gm_private_vcpu_attach(struct gpamap *map, gm_engine_maker *make, void *vcpu, unsigned id,
			   struct gpamap_vcpu **ret);

#endif
