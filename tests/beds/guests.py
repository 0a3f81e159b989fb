# SPDX-License-Identifier: BSD-3-Clause
"""Linux as the guest of a VM in a test bed: what the bed and the guest have to be so that the emulator's faults don't show.

QEMU delivers an interrupt that KVM gives its guest as it enters it (EVENTINJ) a second time, whether the guest lets
interrupts in or not, if anything but the guest's next exit comes first. doc/judge.md has what was seen. Three things keep
that gap small on x86:

- The bed's kernel has timers at its own tick only (highres=off). So the interrupt of a guest's timer is given right after a
  tick, and nothing is to come until the next one. Otherwise two guest processors seem to have their ticks at nearly the same
  time, and the second one's timer falls right behind the first one's interrupt.
- The guest ends each interrupt by an exit (no PV EOI), which closes the gap before most handlers have taken a lock.
- The bed has one processor, so that QEMU does not leave one in order to run the other.
"""

import dataclasses

# No PCI, which these VMs don't have, and no looking at whether the TSC and the timer keep time.
APPEND = {
    "amd64": "console=ttyS0 lpj=4000000 pci=off tsc=reliable no_timer_check nokaslr",
    "arm64": "console=ttyS0 nokaslr",
}


def bed_kind(kind):
    """The kind of bed for such guests. Its clock counts instructions."""
    kind = kind.by_instructions()
    return dataclasses.replace(kind, append=f"{kind.append} highres=off") if kind.arch == "amd64" else kind


def processors(arch):
    """How many the bed has."""
    return 1 if arch == "amd64" else 2


def no_pv_eoi(arch):
    """Has the guest to do without?"""
    return arch == "amd64"
