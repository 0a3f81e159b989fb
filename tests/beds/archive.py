# SPDX-License-Identifier: BSD-3-Clause
"""The initramfs: a cpio archive, and the files that a program needs to run."""

import os
import re
import stat
import subprocess


class Archive:
    """A cpio archive of the kind that the kernel unpacks; several may stand one after the other."""

    def __init__(self):
        self.parts = []
        self.names = set()

    def _add(self, name, mode, data=b"", rdev=(0, 0)):
        if name in self.names:
            return
        self.names.add(name)
        path = name.encode() + b"\0"
        fields = (len(self.names), mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(path), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def folder(self, name):
        name = name.strip("/")
        if name and name not in self.names:
            self.folder(os.path.dirname(name))
            self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o755):
        self.folder(os.path.dirname(name.strip("/")))
        self._add(name.strip("/"), stat.S_IFREG | mode, data)

    def link(self, name, target):
        self.folder(os.path.dirname(name.strip("/")))
        self._add(name.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        self.folder(os.path.dirname(name.strip("/")))
        self._add(name.strip("/"), stat.S_IFCHR | 0o600, rdev=(major, minor))

    def shell(self, busybox):
        """The console, which the kernel opens before anything mounts /dev, and the program @busybox as the shell."""
        self.device("dev/console", 5, 1)
        self.file("bin/busybox", busybox)
        self.link("bin/sh", "busybox")

    def content(self):
        self._add("TRAILER!!!", 0)
        return b"".join(self.parts)


class Elf:
    """What `readelf` says of a program or library."""

    def __init__(self, path):
        self.path = path
        run = subprocess.run(["readelf", "-hldW", path], capture_output=True, text=True,
                             env={**os.environ, "LC_ALL": "C"})
        text = run.stdout if not run.returncode else ""
        machine = re.search(r"Machine:\s+(.+)", text)
        interpreter = re.search(r"program interpreter: (.+)\]", text)
        self.machine = machine.group(1).strip() if machine else None
        self.interpreter = interpreter.group(1) if interpreter else None
        self.needed = re.findall(r"\(NEEDED\)\s+Shared library: \[(.+)\]", text)
        origin = os.path.dirname(os.path.realpath(path))
        self.runpath = [folder.replace("$ORIGIN", origin).replace("${ORIGIN}", origin)
                        for found in re.findall(r"\((?:RUNPATH|RPATH)\)\s+.*\[(.*)\]", text)
                        for folder in found.split(":") if folder]


def is_elf(path):
    with open(path, "rb") as f:
        return f.read(4) == b"\x7fELF"


def find_library(name, folders):
    return next((os.path.join(folder, name) for folder in folders
                 if os.path.exists(os.path.join(folder, name))), None)


def closure(path, folders, machine):
    """{name in the bed: path here} of the shared libraries and the interpreter of a program. All libraries go to
    /lib, where the interpreter looks in the end whatever its distribution."""
    program, found, todo = Elf(path), {}, []
    if program.machine != machine:
        raise ValueError(f"{path} is for {program.machine or 'an unknown machine'}; the bed is {machine}")
    if program.interpreter:
        here = find_library(os.path.basename(program.interpreter), folders)
        if not here:
            raise ValueError(f"{path} needs {program.interpreter}, which is not here")
        found[program.interpreter] = here
        # Loaded when a thread is cancelled or ends by pthread_exit().
        todo += [("libgcc_s.so.1", [], False)]
    todo += [(name, program.runpath, True) for name in program.needed]
    while todo:
        name, runpath, needed = todo.pop()
        if "/lib/" + name in found or any(os.path.basename(there) == name for there in found):
            continue
        here = find_library(name, [*runpath, *folders])
        if here:
            found["/lib/" + name] = here
            library = Elf(here)
            todo += [(other, library.runpath, True) for other in library.needed]
        elif needed:
            raise ValueError(f"{path} needs {name}, which is not here")
    return found
