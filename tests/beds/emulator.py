# SPDX-License-Identifier: BSD-3-Clause
"""A QEMU from a suite of Debian, for beds to run in, beside the one that is installed or without any.

It stays in the cache with its own C library and loader, so it runs on a system that is older or newer than the suite.
"""

import dataclasses
import os
import shutil

import archive
import kinds
from packages import Packages, Unavailable

# The packages of a program. The first has it, all may have firmware in FIRMWARE.
PACKAGES = {
    "qemu-system-x86_64": ("qemu-system-x86", "qemu-system-data", "seabios"),
    "qemu-system-aarch64": ("qemu-system-arm", "qemu-system-data"),
}
FIRMWARE = ("usr/share/qemu", "usr/share/seabios")
# Needed by packages but not by a program that emulates processors: modules for sound and the like, ROMs of network
# cards, and what sets up users.
NOT_THESE = ("qemu-system-common", "ipxe-qemu", "adduser", "debconf", "openssl-provider", "qemu-efi")


def take(program, unpacked, folder):
    """Put the program, the libraries it needs, and firmware out of unpacked packages together in a folder."""
    machine, places = kinds.MACHINES[kinds.HOST_ARCH]
    folders = [one + place for one in unpacked for place in places if not place.startswith("{")]
    here = archive.find_library(program, [os.path.join(one, "usr/bin") for one in unpacked])
    if not here:
        raise Unavailable(f"its package has no {program}")
    os.makedirs(os.path.join(folder, "lib"))
    shutil.copy(here, os.path.join(folder, program))
    for name, path in archive.closure(here, folders, machine).items():
        shutil.copy(path, os.path.join(folder, "lib", os.path.basename(name)))
    for share in (os.path.join(one, place) for one in unpacked for place in FIRMWARE):
        if os.path.isdir(share):
            # Links may lead to packages that are not here.
            shutil.copytree(share, os.path.join(folder, "share"), symlinks=True, dirs_exist_ok=True)


def make(program, suite):
    """The beginning of the command line that runs the program as @suite has it; fetched if it is not there."""
    folder = os.path.join(kinds.CACHE, f"{program}-{suite}")
    with kinds.making():
        if not os.path.isdir(folder):
            unpacked = Packages(kinds.HOST_ARCH, kinds.CACHE, suite).fetch_all(PACKAGES[program], NOT_THESE)
            shutil.rmtree(folder + ".new", ignore_errors=True)
            take(program, unpacked, folder + ".new")
            os.rename(folder + ".new", folder)
            for one in unpacked:
                shutil.rmtree(one)
    lib = os.path.join(folder, "lib")
    loader = archive.Elf(os.path.join(folder, program)).interpreter
    return (os.path.join(lib, os.path.basename(loader)), "--library-path", lib, os.path.join(folder, program),
            "-L", os.path.join(folder, "share"))


def of_suite(kind, suite):
    """The kind of bed, run by another QEMU."""
    return dataclasses.replace(kind, qemu=(*make(kind.qemu[0], suite), *kind.qemu[1:]))
