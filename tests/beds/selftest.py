#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The parts of the test beds that need no bed: selftest.py PROGRAM, any dynamic program of this machine."""

import contextlib
import fcntl
import gzip
import importlib.machinery
import importlib.util
import io
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import archive
import bed
import emulator
import kernel
import kinds
import packages
from packages import Packages, Unavailable, security_source, suite_sources
from ports import Ports, Stream

PROGRAM = sys.argv.pop(1)
RUN = os.path.join(kinds.HERE, "run")
MARK = b"\0mark\n"


def entries(cpio):
    """{name: (mode, content)} of an archive."""
    found, at = {}, 0
    while at < len(cpio):
        fields = [int(cpio[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        size, length = fields[6], fields[11]
        name = cpio[at + 110:at + 110 + length - 1].decode()
        data = at + (110 + length + 3) // 4 * 4
        found[name] = (fields[1], cpio[data:data + size])
        at = data + (size + 3) // 4 * 4
    return found


def bz_image(payload):
    """A bzImage with one sector of setup code."""
    head = bytearray(1024)
    head[0x1f1] = 1
    head[0x202:0x206] = b"HdrS"
    head[0x248:0x24c] = (0).to_bytes(4, "little")
    head[0x24c:0x250] = (len(payload) + 4).to_bytes(4, "little")
    return bytes(head) + payload + b"size"


@unittest.skipUnless(kinds.HOST_ARCH in kinds.MACHINES, "no beds for programs of this machine")
class ClosureTest(unittest.TestCase):
    def test_closure(self):
        machine, folders = kinds.MACHINES[kinds.HOST_ARCH]
        found = archive.closure(PROGRAM, folders, machine)
        self.assertIn("/lib/libc.so.6", found)
        self.assertTrue(any("/ld-" in name for name in found), found)
        for path in found.values():
            self.assertTrue(os.path.exists(path))

    def test_installed_by_make(self):
        """Where Meson puts libraries on Debian."""
        for machine, triplet in (("amd64", "x86_64-linux-gnu"), ("arm64", "aarch64-linux-gnu")):
            self.assertIn("/usr/local/lib/" + triplet, kinds.MACHINES[machine][1])

    def test_closure_for_another_machine(self):
        with self.assertRaisesRegex(ValueError, "the bed is a PDP-11"):
            archive.closure(PROGRAM, (), "a PDP-11")

    def test_closure_without_a_library(self):
        machine, folders = kinds.MACHINES[kinds.HOST_ARCH]
        program = archive.Elf(PROGRAM)
        program.needed.append("libmissing.so.1")
        with mock.patch.object(archive, "Elf", return_value=program):
            with self.assertRaisesRegex(ValueError, "libmissing"):
                archive.closure(PROGRAM, folders, machine)


class ArchiveTest(unittest.TestCase):
    def test_files_and_their_folders(self):
        a = archive.Archive()
        a.file("/a/b/file", b"12345")
        a.link("a/link", "b/file")
        a.file("a/b/file", b"the first one stays")
        found = entries(a.content())
        self.assertEqual(list(found), ["a", "a/b", "a/b/file", "a/link", "TRAILER!!!"])
        self.assertEqual(found["a/b/file"], (0o100755, b"12345"))
        self.assertEqual(found["a/link"], (0o120777, b"b/file"))


class KernelTest(unittest.TestCase):
    def test_image(self):
        elf = kernel.ELF + b"kernel" * 1000
        self.assertEqual(kernel.image(bz_image(lzma.compress(elf))), elf)
        self.assertEqual(kernel.image(bz_image(gzip.compress(elf))), elf)
        for unknown in (bz_image(b"?"), bz_image(gzip.compress(b"no ELF")), b"MZ" + bytes(1000)):
            self.assertEqual(kernel.image(unknown), unknown)
        self.assertEqual(kernel.image(gzip.compress(b"MZ" + bytes(100))), b"MZ" + bytes(100))

    def test_modules_in_order(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, needs in (("kvm-amd", b"kvm,ccp"), ("kvm", b"irqbypass"), ("irqbypass", b""), ("ccp", b"")):
                content = kernel.ELF + b"\0depends=" + needs + b"\0name=" + name.encode() + b"\0"
                path = os.path.join(folder, name + ".ko")
                if name == "kvm":
                    path, content = path + ".xz", lzma.compress(content)
                with open(path, "wb") as f:
                    f.write(content)
            order = kernel.modules([folder, "/nonexistent"], ["kvm-amd", "built-in"])
            self.assertEqual([name for name, _ in order], ["irqbypass", "kvm", "ccp", "kvm_amd"])
            self.assertTrue(all(content.startswith(kernel.ELF) for _, content in order))


class StreamTest(unittest.TestCase):
    def test_marks_however_it_comes(self):
        text = b"one" + MARK + MARK + b"thr\0ee" + MARK
        for size in range(1, len(text) + 1):
            found = [b"", b"", b"", b""]
            stream = Stream(MARK, lambda data: found.__setitem__(stream.ended, found[stream.ended] + data))
            for at in range(0, len(text), size):
                stream.feed(text[at:at + size])
            self.assertEqual((found, stream.ended), ([b"one", b"", b"thr\0ee", b""], 3), size)


class BootTest(unittest.TestCase):
    """A boot of two commands, played through pipes."""

    def play(self, *said, until=None):
        ports = Ports()
        writers = ports.writers()
        boot = bed.Boot({3: bed.Command(["a"], 10), 5: bed.Command(["b"], 10)}, ports, MARK)
        for name, data in said:
            os.write(writers[name], data)
        if until is not None:
            boot.until = until
        else:
            ports.started()
        boot.watch()
        if until is not None:
            ports.started()
        ports.close()
        return boot

    def test_whole(self):
        boot = self.play(("result", b"ready 6.1\nbegin 3\nend 3 0\nbegin 5\nend 5 7\ndone\n"),
                         ("out", b"A" + MARK + b"B" + MARK), ("err", MARK + b"E" + MARK))
        self.assertEqual(boot.release, "6.1")
        self.assertEqual([(r.status, r.out, r.err, r.note) for r in boot.results.values()],
                         [(0, b"A", b"", ""), (7, b"B", b"E", "")])

    def test_died_at_boot(self):
        boot = self.play(("log", b"Kernel panic - not syncing\n"))
        self.assertEqual((boot.results, boot.complaints()), ({}, ["Kernel panic - not syncing"]))

    def test_died_under_a_command(self):
        boot = self.play(("result", b"ready 6.1\nbegin 3\n"), ("out", b"last words"), ("log", b"Oops: 0002\n"))
        self.assertEqual(list(boot.results), [3])
        one = boot.results[3]
        self.assertEqual((one.status, one.out, one.note), (None, b"last words", "the bed died"))
        self.assertIn("Oops", one.log)

    def test_hung(self):
        boot = self.play(until=0)
        self.assertEqual((boot.results, boot.release), ({}, ""))
        with mock.patch.object(bed, "GRACE_SECONDS", -10):
            boot = self.play(("result", b"ready 6.1\nbegin 3\n"), until=time.monotonic() + 5)
        self.assertEqual((boot.results[3].status, boot.results[3].note), (None, "the bed hung"))

    def test_time_limit(self):
        boot = bed.Boot({0: bed.Command(["a"], 0)}, None, MARK)
        boot._line("begin 0")
        boot._line("end 0 143")
        self.assertEqual(boot.results[0].status, bed.TIMED_OUT)
        boot = bed.Boot({0: bed.Command(["a"], 1000)}, None, MARK)
        boot._line("begin 0")
        boot._line("end 0 143")
        self.assertEqual(boot.results[0].status, 143)


class BedTest(unittest.TestCase):
    def setUp(self):
        cache = tempfile.TemporaryDirectory()
        self.addCleanup(cache.cleanup)
        self.folder = os.path.join(cache.name, "svm-6.1")
        os.mkdir(self.folder)
        patch = mock.patch.object(kinds, "CACHE", cache.name)
        patch.start()
        self.addCleanup(patch.stop)

    def bed(self, boots):
        one = bed.Bed(kinds.KINDS["svm-6.1"])
        played = iter(boots)

        def boot(commands):
            done = bed.Boot(commands, None, MARK)
            statuses, done.log = next(played)
            for number, status in statuses.items():
                done.results[number] = bed.Result(status=status)
                done.current = number if status is None else None
            return done
        one._boot = boot
        return one

    def test_another_boot_for_the_rest(self):
        one = self.bed([({}, ""), ({0: 0, 1: None}, "Oops: 0002"), ({}, ""), ({2: 5}, "")])
        self.assertEqual([r.status for r in one.run([bed.Command(["x"])] * 3)], [0, None, 5])
        self.assertEqual(len(one.boots), 4)
        self.assertEqual(kinds.read(os.path.join(self.folder, "died.log")), b"Oops: 0002")

    def test_died_twice(self):
        with self.assertRaises(bed.Died):
            self.bed([({0: 0}, ""), ({}, ""), ({}, "")]).run([bed.Command(["x"])] * 2)

    def test_fault_of_the_emulator(self):
        fault = "Oops: int3: 0000 [#1] PREEMPT SMP NOPTI"
        one = self.bed([({0: 0, 1: None}, fault), ({1: None}, fault), ({1: 4}, "")])
        self.assertEqual([r.status for r in one.run([bed.Command(["x"])] * 2)], [0, 4])
        self.assertEqual([boot.complaints() for boot in one.boots], [[], [], []])
        one = self.bed([({0: None}, fault)] * (bed.EMULATOR_TRIES + 1))
        self.assertEqual([r.status for r in one.run([bed.Command(["x"])])], [None])

    def test_packed(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "modules"), "w", encoding="utf-8") as f:
                f.write("kvm\nkvm_amd")
            with open(os.path.join(folder, "keep"), "w", encoding="utf-8") as f:
                f.write("#!")
            one = bed.Bed(kinds.KINDS["svm-6.1"], ["kvm-amd.npt=0"], [(__file__, "/there")])
            found = entries(one._pack(folder, {1: bed.Command(["sh", "-c", "echo 'it'"], 9, {"A": "b c"})}, b"m"))
            self.assertEqual(found["bed/modules/list"][1], b"kvm\nkvm_amd npt=0\n")
            self.assertEqual(found["bed/list"][1], b"1 9\n")
            self.assertEqual(found["bed/command-1"][1], b"""exec env 'A=b c' sh -c 'echo '"'"'it'"'"''\n""")
            self.assertEqual(found["there"][1], kinds.read(__file__))
            with self.assertRaisesRegex(ValueError, "no module xyz"):
                bed.Bed(kinds.KINDS["svm-6.1"], ["xyz.a=1"])._pack(folder, {}, b"m")


class PackagesTest(unittest.TestCase):
    def test_security_updates(self):
        debian = 'NAME="Debian GNU/Linux"\nVERSION_CODENAME=bookworm\nID=debian\n'
        self.assertIn("debian-security bookworm-security main\n", security_source(debian, ["bookworm", "bookworm-updates"]))
        self.assertEqual(security_source(debian, ["bookworm", "bookworm-security"]), "")
        self.assertEqual(security_source(debian.replace("=debian", "=ubuntu"), []), "")
        self.assertEqual(security_source("ID=debian\n", []), "")

    def test_sources_of_a_suite(self):
        self.assertEqual([line.split()[2:] for line in suite_sources("trixie-backports").splitlines()],
                         [["http://deb.debian.org/debian", "trixie", "main"],
                          ["http://deb.debian.org/debian-security", "trixie-security", "main"],
                          ["http://deb.debian.org/debian", "trixie-backports", "main"]])
        self.assertEqual(len(suite_sources("trixie").splitlines()), 2)

    def repository(self, folder, suite, version, release=""):
        """The line for a repository with one package, which needs another of its version."""
        os.mkdir(os.path.join(folder, suite))
        package = (f"Package: linux\nVersion: {version}\nArchitecture: arm64\nMaintainer: nobody\n"
                   f"Filename: ./linux.deb\nSize: 1\nDepends: linux-{version}\n")
        for name, text in (("Release", f"Suite: {suite}\n{release}"), ("Packages", package)):
            with open(os.path.join(folder, suite, name), "w", encoding="utf-8") as f:
                f.write(text)
        return f"deb [trusted=yes] file:{folder}/{suite} ./\n"

    @unittest.skipUnless(shutil.which("apt-get"), "no apt here")
    def test_newest_of_a_suite(self):
        """Whether it is in backports, which apt by itself would pass over, or in stable."""
        for stable, backports, newest in (("6.12.9-1", "6.12.10-1~bpo13+1", "6.12.10-1~bpo13+1"),
                                          ("7.3.4-1", "7.3.4-1~bpo13+1", "7.3.4-1")):
            with tempfile.TemporaryDirectory() as folder:
                lines = self.repository(folder, "stable", stable)
                lines += self.repository(folder, "stable-backports", backports,
                                         "NotAutomatic: yes\nButAutomaticUpgrades: yes\n")
                with mock.patch.object(packages, "suite_sources", return_value=lines), \
                        mock.patch.object(packages, "KEYS", __file__), mock.patch.object(packages, "say"):
                    have = Packages("arm64", folder, "stable-backports")
                    self.assertEqual(have.depends("linux"), ["linux-" + newest], have.trouble)

    def test_no_keys(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(packages, "KEYS", "/nonexistent"):
            with self.assertRaisesRegex(Unavailable, "/nonexistent is not there.*install debian-archive-keyring"):
                Packages("arm64", folder, "trixie").fetch("busybox-static")

    def test_no_apt(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch("shutil.which", return_value=None):
            with self.assertRaises(Unavailable):
                Packages("arm64", folder).fetch("busybox-static")


class KernelPackagesTest(unittest.TestCase):
    """What is needed of a kernel, in both ways in which Debian packs it."""

    known = {
        "linux-image-cloud-amd64": ["linux-base-cloud-amd64", "linux-image-7.3.4"],
        "linux-image-7.3.4": ["dracut", "linux-base-7.3.4", "linux-binary-7.3.4", "linux-modules-7.3.4"],
        "linux-image-6.12": ["kmod", "linux-base", "initramfs-tools"],
    }

    def packages(self, asked, trouble=""):
        made = mock.Mock(trouble=trouble)
        made.depends.side_effect = lambda package: asked.append(package) or self.known.get(package, [])
        made.update.side_effect = lambda: asked.append("update")
        return made

    def test_parts(self):
        have = self.packages([])
        self.assertEqual(kinds.kernel_parts("linux-image-7.3.4", have, ("kvm-amd",)),
                         ["linux-binary-7.3.4", "linux-modules-7.3.4"])
        self.assertEqual(kinds.kernel_parts("linux-image-7.3.4", have, ()), ["linux-binary-7.3.4"])
        self.assertEqual(kinds.kernel_parts("linux-image-6.12", have, ("kvm-amd",)), ["linux-image-6.12"])

    def test_newest(self):
        asked = []
        with mock.patch.object(kinds, "Packages", return_value=self.packages(asked)) as made:
            self.assertEqual(kinds.find_kernel(kinds.KINDS["svm-newest"])[0], "linux-image-7.3.4")
        self.assertEqual(made.call_args[0], ("amd64", kinds.CACHE, kinds.BACKPORTS))
        self.assertEqual(asked, ["update", "linux-image-cloud-amd64"])

    def test_no_kernel(self):
        with mock.patch.object(kinds, "Packages", return_value=self.packages([], " (no network)")):
            with self.assertRaisesRegex(Unavailable, r"none of linux-image-arm64/\S+ is to be had \(no network\)"):
                kinds.find_kernel(kinds.KINDS["arm64-newest"])

    def test_image(self):
        with tempfile.TemporaryDirectory() as folder:
            for path in ("old/boot/vmlinuz-6.12", "new/usr/lib/modules/7.3/vmlinuz", "new/usr/lib/modules/7.3/a.ko"):
                os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
                open(os.path.join(folder, path), "wb").close()
            old, new = os.path.join(folder, "old"), os.path.join(folder, "new")
            self.assertEqual(kinds.find_image([old]), old + "/boot/vmlinuz-6.12")
            self.assertEqual(kinds.find_image([folder, new]), new + "/usr/lib/modules/7.3/vmlinuz")
            for wrong in ([folder], [old, new]):
                with self.assertRaises(Unavailable):
                    kinds.find_image(wrong)


class EmulatorTest(unittest.TestCase):
    @unittest.skipUnless(kinds.HOST_ARCH in kinds.MACHINES and shutil.which("true"), "no beds for this machine")
    def test_taken_together(self):
        """A program with its own loader and libraries runs."""
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(kinds, "CACHE", os.path.join(folder, "cache")):
            for path in ("usr/bin", "usr/share/qemu", "usr/share/seabios"):
                os.makedirs(os.path.join(folder, path))
            for name in ("qemu/pvh.bin", "seabios/bios.bin"):
                open(os.path.join(folder, "usr/share", name), "wb").close()
            shutil.copy(os.path.realpath(shutil.which("true")), os.path.join(folder, "usr/bin/true"))
            with self.assertRaisesRegex(Unavailable, "no false"):
                emulator.take("false", [folder], os.path.join(folder, "x"))
            # The machine's own libraries, as if they had been unpacked.
            made = os.path.join(kinds.CACHE, "true-suite")
            emulator.take("true", [folder, ""], made)
            self.assertEqual(sorted(os.listdir(made + "/share")), ["bios.bin", "pvh.bin"])
            *command, option, share = emulator.make("true", "suite")
            self.assertEqual((option, share), ("-L", made + "/share"))
            self.assertTrue(all(word.startswith((made, "--")) for word in command), command)
            self.assertEqual(subprocess.run(command).returncode, 0)

    def test_other_emulator_same_bed(self):
        kind = kinds.KINDS["svm-newest"]
        with mock.patch.object(emulator, "make", return_value=("ld.so", "qemu")):
            other = emulator.of_suite(kind, "trixie")
        self.assertEqual(other.qemu, ("ld.so", "qemu", *kind.qemu[1:]))
        self.assertEqual(kinds.origin(other), kinds.origin(kind))


class TurnTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def locks(self):
        locks = [open(os.path.join(self.folder, name), "w", encoding="utf-8") for name in "01"]
        for lock in locks:
            self.addCleanup(lock.close)
        return locks

    def free(self):
        """How many turns are left."""
        count = 0
        for lock in self.locks():
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                count += 1
            lock.close()
        return count

    def test_two_or_one_alone(self):
        beds = [self.locks() for _ in range(3)]
        for number, one in enumerate(beds[:2]):
            bed.lock_turns(one, False)
            self.assertEqual(self.free(), 1 - number)
        for lock in (*beds[0], *beds[1]):
            lock.close()
        bed.lock_turns(beds[2], True)
        self.assertEqual(self.free(), 0)

    def test_who_is_alone(self):
        alone = {name for name, kind in kinds.KINDS.items() if kind.threads}
        self.assertEqual(alone, {name for name in kinds.KINDS if name.startswith("arm64")})


class CheckTest(unittest.TestCase):
    """How `make check` goes about a machine without KVM."""

    @classmethod
    def setUpClass(cls):
        scripts = os.path.join(kinds.ROOT, "scripts")
        loader = importlib.machinery.SourceFileLoader("check", os.path.join(scripts, "check"))
        cls.check = importlib.util.module_from_spec(importlib.util.spec_from_loader("check", loader))
        with mock.patch.object(sys, "path", [scripts, *sys.path]):
            loader.exec_module(cls.check)

    def test_missing_kvm(self):
        for device, why in (("/nonexistent", "can't be opened"), ("/dev/null", "makes no VM")):
            with mock.patch.dict(os.environ, GPAMAP_KVM_DEVICE=device):
                self.assertIn(f"{device} {why}", self.check.missing_kvm())

    def test_switch(self):
        with mock.patch("platform.machine", return_value="x86_64"):
            for value, why in (("no", "GPAMAP_NESTED=no"), ("yes", None)):
                with mock.patch.dict(os.environ, GPAMAP_NESTED=value):
                    self.assertEqual(self.check.no_bed(), why)
        with mock.patch("platform.machine", return_value="aarch64"), mock.patch.dict(os.environ, GPAMAP_NESTED=""):
            self.assertIn("aarch64", self.check.no_bed())

    def test_only_what_the_bed_ran_is_left_to_it(self):
        for tests, skipped in (({"kvm/a": "passed", "kvm/b": "failed", "kvm/c": "skipped"}, 1), ({"bed": "skipped"}, 4)):
            build, one = self.check.Build("gcc", "gcc", "g++"), self.check.Bed()
            build.left = dict.fromkeys(("kvm/a", "kvm/b", "kvm/c", "bench/d"), "no KVM")
            one.tests = tests
            with contextlib.redirect_stdout(io.StringIO()):
                self.check.settle([build], one)
            self.assertEqual(build.count["skipped"], skipped)


class CommandTest(unittest.TestCase):
    def run_it(self, *arguments, **env):
        return subprocess.run([RUN, *arguments], capture_output=True, text=True, env={**os.environ, **env})

    def test_usage(self):
        for arguments in ((), ("svm-6.1",), ("nonsense", "true"), ("--nonsense", "svm-6.1", "true")):
            self.assertEqual(self.run_it(*arguments).returncode, 2, arguments)
        done = self.run_it("--list")
        self.assertEqual(done.returncode, 0)
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()], list(kinds.KINDS))

    def test_nothing_to_be_had(self):
        with tempfile.TemporaryDirectory() as empty:
            os.symlink(sys.executable, os.path.join(empty, "python3"))
            done = subprocess.run([sys.executable, RUN, "svm-6.1", "true"], capture_output=True, text=True,
                                  env={**os.environ, "PATH": empty})
            self.assertEqual(done.returncode, 77, done.stderr)
            self.assertTrue(done.stdout.startswith("SKIP: qemu-system-x86_64 is not installed"), done.stdout)

    def test_first_process_is_a_script(self):
        self.assertEqual(subprocess.run(["sh", "-n", os.path.join(kinds.HERE, "init")]).returncode, 0)


if __name__ == "__main__":
    unittest.main()
