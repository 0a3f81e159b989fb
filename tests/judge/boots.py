# SPDX-License-Identifier: BSD-3-Clause
"""Boots of the judge's guest: build/tests/judge/judge in a test bed, or on this machine's KVM. For scripts/judge, which
does many, and scripts/check-nested, which does a few."""

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "beds"))

# pylint: disable=wrong-import-position
import bed
import cross
import guests
import image
import kinds
from packages import Unavailable

STRATEGIES = ("none", "kicks", "naive", "inhibit", "gpamap", "gpamap-zap-slot-only")
WITHOUT_CHANGES = ("none", "kicks")
PROGRAM = "tests/judge/judge"

# Lines of the kernel's log are most of a boot's time in a bed: each character is an exit. Panics come all the same.
QUIET = "loglevel=5 nowatchdog rcupdate.rcu_cpu_stall_suppress=1 judge.rounds=1"
# From the end of a change to the next, in ms, and how long a boot may take and the guest may say nothing, in s: by the
# bed's clock, by which a boot takes 6 to 10.
EVERY, LIMIT, SILENT = 10, 40, 12
# The same in seconds of this machine, should it be busy, or the judge hang. One of the bed's takes several, and most where
# a guest spins.
BED_LIMIT = 20 * LIMIT


@dataclasses.dataclass(frozen=True)
class Boot:
    """One boot. @number is also the seed of its changes."""

    strategy: str
    number: int

    def cpus(self):
        return 1 + self.number % 2

    def arguments(self, kernel, initrd, arch):
        return ["--kernel", kernel, "--initrd", initrd, "--append", f"{guests.APPEND[arch]} {QUIET}",
                "--strategy", self.strategy, "--smp", str(self.cpus()), "--seed", str(self.number),
                "--every", str(EVERY), "--limit", str(LIMIT), "--silent", str(SILENT)]

    def died(self, why):
        """The result if the judge has not told any."""
        return {"right": False, "strategy": self.strategy, "ended": why, "cpus": self.cpus(), "seed": self.number,
                "seconds": 0, "changes": 0, "kicks": 0, "gate_shut": 0, "merges": 0, "exits": 0, "dirty": 0,
                "dirty_known": 0, "dirty_lost": 0, "last": ""}

    def result(self, status, out, note=""):
        text = out.decode(errors="replace").strip()
        if status == bed.SKIPPED:
            raise Unavailable(text.removeprefix("SKIP: "))
        try:
            return json.loads(text.splitlines()[-1])
        except (IndexError, ValueError):
            return self.died(note or f"exit status {status}: {text[-200:]}")


def program(build, arch):
    """The judge, built in @build for this machine, and below it for another one."""
    if arch != kinds.HOST_ARCH:
        build = os.path.join(build, "judge", arch)
        if not os.path.exists(os.path.join(build, "build.ninja")):
            subprocess.run(["meson", "setup", build, ROOT, "--cross-file", cross.make()], check=True,
                           stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", build, "--quiet", PROGRAM], check=True)
    return os.path.join(build, PROGRAM)


class InBed:
    """Boots in a test bed, whose clock counts instructions. @program: the judge, for its processor."""

    def __init__(self, kind, judge):
        self.kind = guests.bed_kind(kind)
        kinds.make(self.kind)
        self.program = judge
        self.files = list(zip(image.make(kind.arch), ("/kernel", "/initrd")))
        self.place = {"emulator": describe(self.kind), "Linux": "?", "guest": image.version(kind.arch)}

    def boot(self, several):
        """Results of these boots, one after the other in one bed, or in another one when it dies."""
        arch = self.kind.arch
        more = ["--no-pv-eoi"] if guests.no_pv_eoi(arch) else []
        commands = [bed.Command([self.program, *one.arguments("/kernel", "/initrd", arch), *more], BED_LIMIT)
                    for one in several]
        this = bed.Bed(self.kind, files=self.files, cpus=guests.processors(arch))
        results = this.run(commands)
        options = self.kind.append.strip()
        self.place["Linux"] = this.boots[-1].release + (f" `{options}`" if options else "")
        return [one.result(result.status, result.out, result.note) for one, result in zip(several, results)]


class Here:
    """Boots on this machine's KVM."""

    def __init__(self, build):
        if not os.access(os.environ.get("GPAMAP_KVM_DEVICE", "/dev/kvm"), os.R_OK | os.W_OK):
            raise Unavailable("no KVM that can be used here")
        self.program = program(build, kinds.HOST_ARCH)
        self.kernel, self.initrd = image.make(kinds.HOST_ARCH)
        self.place = {"Linux": platform.release(), "guest": image.version(kinds.HOST_ARCH)}

    def boot(self, several):
        return [self._boot(one) for one in several]

    def _boot(self, one):
        run = subprocess.run([self.program, *one.arguments(self.kernel, self.initrd, kinds.HOST_ARCH)],
                             stdout=subprocess.PIPE)
        return one.result(run.returncode, run.stdout)


def describe(kind):
    """Which QEMU, and how it is called."""
    said = subprocess.run([kind.qemu[0], "--version"], capture_output=True, text=True).stdout
    found = re.search(r"version (\S+)", said)
    return f"QEMU {found[1] if found else '?'} `{' '.join(kind.qemu[1:])}`"


# ------------------------------------------------------------------------- a few of them, as a test ---


def quick(kind, judge):
    """[(name, why it failed or None, why it was skipped or None)]: two boots of gpamap, with one vCPU and with two, one of
    naive and one of kicks. gpamap has to be right if kicks is, and naive wrong in any case."""
    ours = [Boot("gpamap", 1), Boot("gpamap", 2)]
    kicks, naive, *results = InBed(kind, judge).boot([Boot("kicks", 1), Boot("naive", 2), *ours])
    lame = None if kicks["right"] else f"a guest that only gets signals is wrong here, too: {kicks['ended']}"
    yield "judge/naive", "its guest was right" if naive["right"] else None, None
    for one in results:
        why = None if one["right"] else f"{one['ended']}; {one['last']}"
        yield f"judge/gpamap-{one['seed']}", None if lame else why, lame if why else None
