#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Linux in gpamap-pc: boot.py [--bed BED] [--show] PROGRAM

It is booted with two processors, powers off, resets, ends by a triple fault, and does what is typed into its shell; and
files and options are refused that only a machine with KVM can judge. Without --bed, on this machine's KVM, with the kernel
$GPAMAP_PC_KERNEL and a static busybox, $GPAMAP_PC_BUSYBOX or /bin/busybox. With --bed, in that test bed, with its own;
the bed's clock counts instructions then. With --show it is only booted and powers off, and all that it says is printed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "beds"))

# pylint: disable=wrong-import-position
import archive
import bed
import guests
import kinds
from packages import Packages, Unavailable

SKIPPED = 77
# For one boot. An emulated processor under load is slow; none of these boots comes near.
LIMIT = 300
TYPED = r"echo $((6 * 7))-typed\npoweroff -f\n"

# Name: options, exit status, what has to be on standard output and on standard error. {boot} is kernel and initrd.
CASES = {
    "power-off": ("{boot} -m 256M -smp 2", 0, "on 2 processors", ""),
    "reset": ("{boot} -m 256M -append '{append} test=reset'", 2, "on 1 processors", "the guest has asked for a reset"),
    "shell": ("{boot} -m 256M -append '{append} test=shell'", 0, "^42-typed", ""),
    "no-kernel-file": ("-kernel /nonexistent", 1, "", "kernel /nonexistent: No such file or directory"),
    "no-kernel": ("-kernel {initrd}", 1, "", "kernel .*: not a kernel"),
    "memory": ("{boot} -m 16M", 1, "", "too little memory"),
    "processors": ("{boot} -smp 65535", 1, "", "65535 vCPUs: this KVM has 1 to [0-9]+|at most 255"),
}
SHOWN = "power-off"
X86_CASES = {
    "triple-fault": ("{boot} -m 256M -append '{append} reboot=t test=reset'", 2, "", "a triple fault"),
}


def initrd(busybox):
    a = archive.Archive()
    a.file("bin/busybox", kinds.read(busybox))
    a.folder("proc")
    a.device("dev/console", 5, 1)
    a.file("init", kinds.read(os.path.join(HERE, "init")))
    return a.content()


def cases(arch):
    return CASES | X86_CASES if arch == "amd64" else CASES


def shell_line(program, options, kernel, image, arch, cpu="host", quiet=" quiet"):
    """One case, as the shell takes it, with what is typed on standard input."""
    append = guests.APPEND[arch] + quiet
    boot = f"-cpu {cpu} -kernel {kernel} -initrd {image}" + ("" if "-append" in options else f" -append '{append}'")
    options = options.format(boot=boot, initrd=image, append=append)
    return f"printf '{TYPED}' | {program} {options}"


def judge(name, status, out, err):
    """Say whether a case went as it should."""
    _, right, on_out, on_err = (CASES | X86_CASES)[name]
    out, err = out.decode(errors="replace"), err.decode(errors="replace")
    good = (status == right and bool(re.search(on_out, out, re.M)) and bool(re.search(on_err, err)) and
            bool(on_err) == bool(err))
    print(f"{'ok' if good else 'FAILED'} {name}: exit status {status}" + (f": {err.strip()}" if good and err else ""))
    if not good:
        print(out[-2000:] + err[-2000:])
    return good


def in_bed(kind, program, show=False):
    """{case: did it go as it should}"""
    kind = guests.bed_kind(kind)
    packages = Packages(kind.arch, kinds.CACHE)
    kinds.make(kind)
    with tempfile.NamedTemporaryFile() as image:
        image.write(initrd(kinds.find_busybox(packages.fetch("busybox-static"))))
        image.flush()
        files = [(os.path.join(kinds.CACHE, kind.name, "kernel"), "/kernel"), (image.name, "/initrd"),
                 (program, "/gpamap-pc")]
        cpu = "host,kvm-pv-eoi=off" if guests.no_pv_eoi(kind.arch) else "host"
        lines = {name: shell_line("/gpamap-pc", options, "/kernel", "/initrd", kind.arch, cpu, "" if show else " quiet")
                 for name, (options, *_) in cases(kind.arch).items() if not show or name == SHOWN}
        results = bed.Bed(kind, files=files, memory=1536, cpus=guests.processors(kind.arch)).run(
            [bed.Command(["sh", "-c", line], LIMIT) for line in lines.values()])
    if show:
        print(results[0].out.decode(errors="replace"))
    return {name: judge(name, result.status, result.out, result.err + result.note.encode())
            for name, result in zip(lines, results)}


def here(program):
    kernel = os.environ.get("GPAMAP_PC_KERNEL")
    busybox = os.environ.get("GPAMAP_PC_BUSYBOX", "/bin/busybox")
    if not os.access(os.environ.get("GPAMAP_KVM_DEVICE", "/dev/kvm"), os.R_OK | os.W_OK):
        raise Unavailable("no KVM")
    if not kernel:
        raise Unavailable("no kernel: GPAMAP_PC_KERNEL is not set")
    if not os.path.exists(busybox):
        raise Unavailable(f"no {busybox} for the guest, nor GPAMAP_PC_BUSYBOX")
    good = {}
    with tempfile.NamedTemporaryFile() as image:
        image.write(initrd(busybox))
        image.flush()
        for name, (options, *_) in cases(kinds.HOST_ARCH).items():
            line = shell_line(program, options, kernel, image.name, kinds.HOST_ARCH)
            run = subprocess.run(["sh", "-c", line], capture_output=True, timeout=LIMIT)
            good[name] = judge(name, run.returncode, run.stdout, run.stderr)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bed", choices=kinds.KINDS)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("program")
    options = parser.parse_args()
    if options.show and not options.bed:
        parser.error("--show needs a bed")
    try:
        good = in_bed(kinds.KINDS[options.bed], options.program, options.show) if options.bed else here(options.program)
    except Unavailable as why:
        print(f"SKIP: {why}")
        return SKIPPED
    return 0 if all(good.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
