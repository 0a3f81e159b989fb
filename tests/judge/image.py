# SPDX-License-Identifier: BSD-3-Clause
"""What the judge's guest boots: Debian's kernel, and an initramfs with tests/judge/guest.c as its first process, busybox,
and known data with the sums that the guest has to find."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "beds"))

# pylint: disable=wrong-import-position
import archive
import kernel
import kinds
from packages import Packages, Unavailable

# Whose kernel the guest has, by architecture: the same one in all beds.
KERNEL_OF = {"amd64": "svm-6.12", "arm64": "arm64"}
# As guest.c has them.
DATA_SIZE, PIECES = 256 << 10, 64


def known_data():
    """The data, and the answers as guest.c reads them."""
    data = random.Random(1).randbytes(DATA_SIZE)
    size = DATA_SIZE // PIECES
    sums = [str(zlib.crc32(data[i * size:(i + 1) * size])) for i in range(PIECES)]
    return data, "\n".join([hashlib.sha256(data).hexdigest(), *sums, ""]).encode()


def compile_init(arch, output):
    compiler = "cc" if arch == kinds.HOST_ARCH else kinds.COMPILERS[arch]
    if not shutil.which(compiler):
        raise Unavailable(f"{compiler} is not installed")
    source = os.path.join(HERE, "guest.c")
    run = subprocess.run([compiler, "-O2", "-static", "-o", output, source], capture_output=True, text=True)
    if run.returncode:
        raise Unavailable(f"{compiler} can't build {source}: {run.stderr}")


def initramfs(init, busybox):
    a = archive.Archive()
    a.shell(kinds.read(busybox))
    for folder in ("proc", "tmp"):
        a.folder(folder)
    a.file("init", kinds.read(init))
    data, answers = known_data()
    a.file("data", data, 0o644)
    a.file("answers", answers, 0o644)
    return a.content()


def fetch_kernel(arch, output):
    """As the package has it on x86, where the boot loader's work is a part of the boot; else unpacked."""
    name, packages = kinds.find_kernel(kinds.KINDS[KERNEL_OF[arch]])
    folders = [packages.fetch(part) for part in kinds.kernel_parts(name, packages, ())]
    data = kinds.read(kinds.find_image(folders))
    with open(output + ".version", "w", encoding="utf-8") as f:
        f.write(name.removeprefix("linux-image-"))
    with open(output + ".new", "wb") as f:
        f.write(data if arch == "amd64" else kernel.image(data))
    os.rename(output + ".new", output)
    # Half a gigabyte of modules.
    for folder in folders:
        shutil.rmtree(folder)


def folder_of(arch):
    return os.path.join(kinds.CACHE, "judge-" + arch)


def version(arch):
    """Of the guest's kernel, once it is made."""
    return kinds.read(os.path.join(folder_of(arch), "kernel.version")).decode()


def make(arch):
    """Paths of the kernel and the initramfs, made as far as they are not there."""
    folder = folder_of(arch)
    os.makedirs(folder, exist_ok=True)
    image, init, initrd = (os.path.join(folder, name) for name in ("kernel", "init", "initrd"))
    if not os.path.exists(image):
        fetch_kernel(arch, image)
    compile_init(arch, init)
    with open(initrd, "wb") as f:
        f.write(initramfs(init, kinds.find_busybox(Packages(arch, kinds.CACHE).fetch("busybox-static"))))
    return image, initrd


if __name__ == "__main__":
    print(*make(*sys.argv[1:]))
