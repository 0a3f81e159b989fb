# SPDX-License-Identifier: BSD-3-Clause
"""Linux as the guest of a VM in a test bed: what the bed and the guest have to be so that the emulator's faults don't show.

QEMU delivers an interrupt that KVM gives its guest as it enters it (EVENTINJ) a second time, whether the guest lets
interrupts in or not, if anything but the guest's next exit comes first. doc/judge.md has what was seen. So the guest ends
each interrupt by an exit (no PV EOI), which closes that gap before most handlers have taken a lock, and the bed has one
processor, so that QEMU does not leave one in order to run the other.
"""

# No PCI, which these VMs don't have, and no looking at whether the TSC and the timer keep time.
APPEND = {
    "amd64": "console=ttyS0 lpj=4000000 pci=off tsc=reliable no_timer_check nokaslr",
    "arm64": "console=ttyS0 nokaslr",
}


def processors(arch):
    """How many the bed has."""
    return 1 if arch == "amd64" else 2


def no_pv_eoi(arch):
    """Has the guest to do without?"""
    return arch == "amd64"
