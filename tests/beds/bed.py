# SPDX-License-Identifier: BSD-3-Clause
"""Test beds: small Linux systems with a genuine KVM, in QEMU without acceleration, that run programs and are gone.

A boot runs a batch of commands. What each prints, its exit status and its time come out through serial ports: one
for the kernel's log, one for results, two for standard output and standard error.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

import archive
import kinds
from packages import say
from ports import Ports, Stream

# A machine that is busy with other things needs many times the three seconds of a boot.
BOOT_SECONDS = 180
# How long the bed may take to say that a command has reached its limit.
GRACE_SECONDS = 30
COMPLAINT = re.compile(r"(?:WARNING: |BUG: |Oops|KASAN: |Kernel panic|Internal error: |general protection fault).*")
# QEMU before 8.1 may translate code that another processor is patching, and then keeps what it was before: the
# breakpoint that the kernel plants meanwhile. It is no fault of what runs in the bed.
EMULATOR_FAULT = "Oops: int3"
EMULATOR_TRIES = 3

TIMED_OUT, FAILED, SKIPPED = 124, 125, 77


@dataclass
class Command:
    """A program with its arguments. With a slash it is a file of this machine, without one a command of busybox."""

    argv: list
    timeout: float = 120
    env: dict = field(default_factory=dict)


@dataclass
class Result:
    """@status: None if the bed died under the command. @note: why, if it was not the program that ended itself."""

    status: int = None
    seconds: float = 0
    out: bytes = b""
    err: bytes = b""
    note: str = ""
    log: str = ""


class Died(Exception):
    """The bed did not come up, twice."""


# How many beds may run at once whose processors share a thread of this machine.
TURNS = min(2, os.cpu_count() or 1)


def lock_turns(locks, alone):
    """Lock all of them, or any one."""
    if alone:
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_EX)
        return
    while True:
        for lock in locks:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
        time.sleep(0.5)


@contextlib.contextmanager
def turn(alone):
    """Beds that want more processors than there are would be ten times as slow, so all of a user's take turns. One
    with a thread for each of its processors runs @alone."""
    name = os.path.join(tempfile.gettempdir(), f"gpamap-beds-{os.getuid()}-")
    with contextlib.ExitStack() as stack:
        locks = [stack.enter_context(open(f"{name}{number}.lock", "w", encoding="utf-8")) for number in range(TURNS)]
        start = time.monotonic()
        lock_turns(locks, alone)
        if time.monotonic() - start > 1:
            say("waited for another bed to end")
        yield


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


# --------------------------------------------------------------------------------- the bed ---


class Bed:
    """One kind of bed, and how it is to be."""

    def __init__(self, kind, modules=(), files=(), memory=1024, cpus=2, verbose=False):
        self.kind = kind
        self.parameters = list(modules)
        self.files = list(files)
        self.memory = memory
        self.cpus = cpus
        self.verbose = verbose
        self.live = None  # (sink of output, sink of errors), as they come
        self.boots = []

    def _pack_file(self, a, here, there):
        machine, folders = kinds.MACHINES[self.kind.arch]
        folders = [folder.format(sysroot=kinds.sysroot(self.kind.arch)) for folder in folders]
        a.file(there, kinds.read(here), 0o755 if os.access(here, os.X_OK) else 0o644)
        if archive.is_elf(here):
            for name, path in archive.closure(here, folders, machine).items():
                a.file(name, kinds.read(path))

    def _pack(self, folder, commands, mark):
        """The part of the initramfs that belongs to these commands: {their number: command}"""
        a = archive.Archive()
        with open(os.path.join(folder, "modules"), encoding="utf-8") as f:
            names = f.read().split()
        given = {}
        for parameter in self.parameters:
            module, _, value = parameter.partition(".")
            given.setdefault(module.replace("-", "_"), []).append(value)
        unknown = set(given) - set(names)
        if unknown:
            raise ValueError(f"{self.kind.name} loads no module {', '.join(sorted(unknown))}")
        a.file("bed/modules/list", "".join(" ".join([name, *given.get(name, [])]) + "\n" for name in names).encode())
        a.file("init", kinds.read(os.path.join(kinds.HERE, "init")))
        a.file("bed/keep", kinds.read(os.path.join(folder, "keep")))
        a.file("bed/mark", mark)
        for here, there in self.files:
            self._pack_file(a, here, there)
        places = {}
        for number, command in commands.items():
            program, *arguments = command.argv
            if "/" in program:
                here = os.path.realpath(program)
                if here not in places:
                    places[here] = f"/bed/{len(places)}/{os.path.basename(program)}"
                    self._pack_file(a, here, places[here])
                program = places[here]
            words = ["exec", "env", *(f"{name}={value}" for name, value in command.env.items()), program, *arguments]
            a.file(f"bed/command-{number}", (" ".join(map(shlex.quote, words)) + "\n").encode())
        a.file("bed/list", "".join(f"{number} {max(1, round(command.timeout))}\n"
                                   for number, command in commands.items()).encode())
        return a.content()

    def _qemu(self, folder, initrd, writers):
        level = 7 if self.verbose else 5
        line = [*self.kind.qemu, "-smp", str(self.cpus), "-m", str(self.memory),
                "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot",
                "-kernel", os.path.join(folder, "kernel"), "-initrd", initrd,
                "-append", f"console={self.kind.console} loglevel={level} panic=-1 rcupdate.rcu_cpu_stall_suppress=1 "
                           f"nowatchdog {self.kind.append}"]
        for name, writer in writers.items():
            line += ["-chardev", f"file,id={name},path=/dev/fd/{writer}"]
        line += ["-serial", "chardev:log"]
        for slot, name in ((0x10, "result"), (0x11, "out"), (0x12, "err")):
            line += ["-device", f"pci-serial,chardev={name},addr={slot:#x}"]
        return line

    def _boot(self, commands):
        """Boot once for these commands, {number: command}."""
        token = secrets.token_hex(16).encode()
        folder = kinds.make(self.kind)
        with tempfile.TemporaryDirectory(prefix="gpamap-bed-") as temporary:
            initrd = os.path.join(temporary, "initrd")
            with open(initrd, "wb") as f, open(os.path.join(folder, "base.cpio"), "rb") as base:
                shutil.copyfileobj(base, f)
                f.write(self._pack(folder, commands, token))
            with turn(self.kind.threads):
                ports = Ports()
                writers = ports.writers()
                process = subprocess.Popen(self._qemu(folder, initrd, writers), stdin=subprocess.DEVNULL,
                                           stderr=subprocess.PIPE, pass_fds=writers.values(),
                                           preexec_fn=die_with_parent)
                ports.started()
                boot = Boot(commands, ports, b"\0" + token + b"\n", self.live, self.verbose)
                try:
                    boot.watch()
                finally:
                    process.kill()
                    said = process.communicate()[1].decode(errors="replace").strip()
                    ports.close()
                boot.log += f"QEMU: {said}\n" if said else ""
                return boot

    def run(self, commands):
        """Run the commands in order, in as few boots as it can; those are in .boots then. A list of results."""
        todo, results, self.boots = dict(enumerate(commands)), {}, []
        tries, died = EMULATOR_TRIES, 0
        while todo:
            boot = self._boot(todo)
            self.boots.append(boot)
            died = 0 if boot.results else died + 1
            if died > 1:
                raise Died(boot.log)
            if died:
                say(f"{self.kind.name} died at boot; once more")
            if boot.current is not None:
                boot.keep_log(os.path.join(kinds.CACHE, self.kind.name, "died.log"))
            if boot.current is not None and boot.emulator_fault() and tries:
                tries -= 1
                del boot.results[boot.current]
                say(f"{self.kind.name}: a fault of the emulator; once more")
            for number, result in boot.results.items():
                results[number] = result
                del todo[number]
        return [results[number] for number in sorted(results)]


class Boot:
    """One boot: what came from which port, and until when the next thing has to happen.

    .results has those of the commands that began; the rest is to be done in another boot.
    """

    def __init__(self, commands, ports, mark, live=None, verbose=False):
        self.commands = commands
        self.ports = ports
        self.live = live
        self.verbose = verbose
        self.release = ""
        self.seconds = 0
        self.log = ""
        self.results = {}
        self.current = None
        self.began = self.start = time.monotonic()
        self.until = self.start + BOOT_SECONDS
        self.lines = b""
        self.finished = False
        self.streams = {name: Stream(mark, lambda data, name=name: self._output(name, data))
                        for name in ("out", "err")}

    def emulator_fault(self):
        return EMULATOR_FAULT in self.log

    def keep_log(self, path):
        """Of a bed that died under a command."""
        with open(path, "w", encoding="utf-8") as f:
            f.write(self.log)
        self.results[self.current].note += f", see {os.path.relpath(path)}"

    def complaints(self):
        """What its kernel warned of."""
        return [] if self.emulator_fault() else COMPLAINT.findall(self.log)

    def _result(self, number):
        # Either its first output or the line that says that it began comes first: ports have buffers.
        return self.results.setdefault(number, Result(note="the bed died"))

    def _output(self, name, data):
        # What comes late still belongs to the command whose mark has not come.
        number = list(self.commands)[min(self.streams[name].ended, len(self.commands) - 1)]
        if data:
            result = self._result(number)
            setattr(result, name, getattr(result, name) + data)
            if self.live:
                self.live[name == "err"](data)

    def _line(self, line):
        what, *rest = line.split(" ", 1)
        now = time.monotonic()
        if what == "ready":
            self.release = rest[0]
            self.seconds = now - self.start
        elif what == "begin":
            self.current = int(rest[0])
            self.began = now
            self.until = now + self.commands[self.current].timeout + GRACE_SECONDS
            self._result(self.current)
        elif what == "end":
            number, status = map(int, rest[0].split())
            limit = self.commands[number].timeout
            result = self._result(number)
            result.seconds = now - self.began
            result.status, result.note = status, ""
            # The bed's clock is not this machine's.
            if status in (128 + signal.SIGTERM, 128 + signal.SIGKILL) and result.seconds >= 0.9 * limit:
                result.status, result.note = TIMED_OUT, f"still ran after {limit:.0f} s"
            self.current = None
            self.until = now + GRACE_SECONDS
        elif what == "done":
            self.finished = True
        else:
            self.log += f"bed: {line}\n"

    def _feed(self, name, data):
        if name == "log":
            text = data.decode(errors="replace").replace("\r\n", "\n")
            self.log += text
            if self.verbose:
                os.sys.stderr.write(text)
        elif name == "result":
            self.lines += data
            *lines, self.lines = self.lines.split(b"\n")
            for line in lines:
                self._line(line.decode(errors="replace"))
        else:
            self.streams[name].feed(data)

    def _complete(self):
        return self.finished and all(s.ended == len(self.commands) for s in self.streams.values())

    def watch(self):
        while not self._complete():
            found = self.ports.read(self.until)
            if found is None:
                break
            if not found and time.monotonic() >= self.until:
                if self.current is not None:
                    self.results[self.current].note = "the bed hung"
                break
            for name, data in found:
                self._feed(name, data)
        if self.current is not None:
            self.results[self.current].seconds = time.monotonic() - self.began
            self.results[self.current].log = self.log
        return self.results
