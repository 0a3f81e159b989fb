#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What gpamap-pc says of a command line, and of a machine without KVM: test_command.py PROGRAM."""

import os
import re
import subprocess
import sys

DONE, FAILED = 0, 1
# Options, the KVM device, and all that is to be said, as a regular expression.
REFUSED = [
    ([], None, "no kernel: -kernel FILE is needed"),
    (["-append", "quiet"], None, "no kernel: -kernel FILE is needed"),
    (["vmlinuz"], None, "vmlinuz: not an option; a kernel is given by -kernel FILE"),
    (["-hda", "disk"], None, "-hda: no such option; -help shows all there are"),
    (["--hda", "disk"], None, "--hda: no such option; -help shows all there are"),
    (["-"], None, "-: no such option; -help shows all there are"),
    (["-kernel"], None, "-kernel: what comes after it is missing"),
    (["-kernel", "k", "-m"], None, "-m: what comes after it is missing"),
    *((["-kernel", "k", "-m", size], None, re.escape(f"-m {size}: a size is needed, as in -m 256M"))
      for size in ("", "0", "-1", "x", "1X", "1MM", " 1", "256MB", "18446744073709551616", "99999999T")),
    *((["-kernel", "k", "-smp", n], None, re.escape(f"-smp {n}: a number of processors is needed, 1 or more, as in -smp 2"))
      for n in ("", "0", "-1", "two", "2x", "65536", "99999999999999999999")),
    *((["-kernel", "k", "-cpu", cpu], None, re.escape(f"-cpu {cpu}: there is host, and on x86 host,kvm-pv-eoi=off"))
      for cpu in ("", "max", "host,", "host,kvm-pv-eoi", "host,kvm-pv-eoi=no", "host,kvm=off")),
    (["-kernel", "k", "-cpu", "host,kvm-pv-eoi=off"], "/dev/null", "/dev/null is not a KVM of version 12"),
    (["-kernel", "k"], "/nonexistent", "no /nonexistent: this processor has no virtualization, its firmware keeps it, or KVM "
                                       r"is not loaded \(on x86: modprobe kvm_intel or kvm_amd\)"),
    (["-kernel", "k"], "/dev/null", "/dev/null is not a KVM of version 12"),
    (["-kernel", "k"], "/", "/: Is a directory"),
]
HELP = ["-h", "-help", "--help"]


def run(program, options, device):
    env = {**os.environ, "LC_ALL": "C"}
    if device:
        env["GPAMAP_KVM_DEVICE"] = device
    return subprocess.run([program, *options], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def main():
    program = sys.argv[1]
    wrong = 0
    for options, device, words in REFUSED:
        result = run(program, options, device)
        if (result.returncode, result.stdout) != (FAILED, "") \
                or not re.fullmatch(f"gpamap-pc: {words}\n", result.stderr):
            print(f"{options}: exit status {result.returncode}, said {result.stderr!r}, not {words!r}")
            wrong += 1
    for option in HELP:
        result = run(program, [option], None)
        if (result.returncode, result.stderr) != (DONE, "") or not result.stdout.startswith("usage: gpamap-pc -kernel "):
            print(f"{option}: {result}")
            wrong += 1
    print(f"{len(REFUSED) + len(HELP)} command lines, {wrong} with another answer than they should have")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
