# SPDX-License-Identifier: BSD-3-Clause
"""Kernel images and modules, as they stand in Debian's packages, made ready for QEMU to boot."""

import lzma
import os
import re
import shutil
import subprocess
import zlib

ELF = b"\x7fELF"


def run_filter(command, data):
    """What a program makes of the data; None if it is not installed or fails."""
    if not shutil.which(command[0]):
        return None
    run = subprocess.run(command, input=data, capture_output=True)
    return run.stdout if run.stdout and not run.returncode else None


def unpack(data):
    """Data that one of the kernel's ways of compression begins; None if it can't be unpacked here."""
    if data.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data)
    if data.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return run_filter(["zstd", "-dcq"], data)
    if data.startswith(b"\x02\x21\x4c\x18"):
        return run_filter(["lz4", "-dc"], data)
    return None


def image(vmlinuz):
    """The image that boots fastest, out of a vmlinuz: an ELF kernel out of x86's bzImage, the plain one out of
    arm64's compressed ones. What is not understood stays as it is: QEMU and the kernel then do the work."""
    found = None
    if vmlinuz[0x202:0x206] == b"HdrS":
        setup = (vmlinuz[0x1f1] or 4) + 1
        start = setup * 512 + int.from_bytes(vmlinuz[0x248:0x24c], "little")
        size = int.from_bytes(vmlinuz[0x24c:0x250], "little")
        # Its last word is the size, which is no part of the compressed stream.
        found = unpack(vmlinuz[start:start + size - 4])
        if found and not found.startswith(ELF):
            found = None
    elif vmlinuz[4:8] == b"zimg":
        start, size = (int.from_bytes(vmlinuz[at:at + 4], "little") for at in (8, 12))
        found = unpack(vmlinuz[start:start + size])
    else:
        found = unpack(vmlinuz)
    return found or vmlinuz


def module_files(folders):
    """{name with underscores: path} of the modules below the folders."""
    found = {}
    for at, _, names in (one for folder in folders for one in os.walk(folder)):
        for name in names:
            match = re.fullmatch(r"([\w-]+)\.ko(\.xz|\.zst|\.gz)?", name)
            if match:
                found[match.group(1).replace("-", "_")] = os.path.join(at, name)
    return found


def read_module(path):
    with open(path, "rb") as f:
        data = f.read()
    return data if data.startswith(ELF) else unpack(data)


def modules(folders, wanted):
    """[(name, content)] of the modules and of those that they depend on, in the order of loading. Those that the
    kernel has built in are left out."""
    files, order, done = module_files(folders), [], set()

    def add(name):
        name = name.replace("-", "_")
        if name in done or name not in files:
            return
        done.add(name)
        content = read_module(files[name])
        if content is None:
            raise ValueError(f"{files[name]} can't be unpacked")
        needs = re.search(rb"(?:\0|^)depends=([^\0]*)\0", content)
        for other in needs.group(1).decode().split(",") if needs else []:
            add(other)
        order.append((name, content))

    for name in wanted:
        add(name)
    return order
