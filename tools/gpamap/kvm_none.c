/* SPDX-License-Identifier: BSD-3-Clause */
/* In place of kvm_port.c and the guest code where there is none for this processor: the simulated VM
 * serves alone. */
#include <errno.h>

#include "guest_image.h"
#include "port.h"

/* For the simulated guest any bytes are code. */
const uint8_t guest_blob[32] = "code for the simulated guest...";
const uint32_t guest_blob_size = sizeof(guest_blob);

int port_kvm_probe(void)
{
	return -ENOTSUP;
}

const char *port_kvm_device(void)
{
	return "/dev/kvm";
}

/* Never used: the probe fails. */
const struct port port_kvm = {.name = "kvm"};
