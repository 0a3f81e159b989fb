#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What building for the arm64 beds needs: the libraries of that architecture, and a cross file for Meson.

Prints the path of the cross file; `SKIP: reason` and exit status 77 if it can't be had. The compiler is Debian's
cross compiler with its own C library; the other libraries are unpacked beside it.

  meson setup build-arm64 --cross-file "$(tests/beds/cross.py)"
"""

import os
import shutil
import sys

import kinds
from packages import Packages, Unavailable

ARCH = "arm64"
TRIPLET = "aarch64-linux-gnu"
LIBRARIES = ("liburcu-dev", "libcmocka-dev", "libjansson-dev", "libgsl-dev", "systemtap-sdt-dev", "libfdt-dev")
# Those come with the cross compiler.
NOT_THESE = ("libc6", "libgcc", "gcc-", "python3")

CROSS_FILE = """\
[binaries]
c = '{triplet}-gcc'
ar = '{triplet}-ar'
strip = '{triplet}-strip'
pkgconfig = 'pkg-config'

[properties]
sys_root = '{root}'
pkg_config_libdir = ['{root}/usr/lib/{triplet}/pkgconfig', '{root}/usr/share/pkgconfig']

[built-in options]
c_args = ['-isystem', '{root}/usr/include/{triplet}', '-isystem', '{root}/usr/include']
c_link_args = ['-L{root}/usr/lib/{triplet}', '-Wl,-rpath-link={root}/lib/{triplet}:{root}/usr/lib/{triplet}']

[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
"""


def make():
    """Path of the cross file."""
    if not shutil.which(TRIPLET + "-gcc"):
        raise Unavailable(f"{TRIPLET}-gcc is not installed")
    root, wanted = kinds.sysroot(ARCH), " ".join(LIBRARIES)
    # What it was made of: one that an older list has made lacks something.
    stamp = os.path.join(root, "libraries")
    if not os.path.exists(stamp) or kinds.read(stamp) != wanted.encode():
        shutil.rmtree(root + ".new", ignore_errors=True)
        for folder in Packages(ARCH, kinds.CACHE).fetch_all(LIBRARIES, NOT_THESE):
            shutil.copytree(folder, root + ".new", symlinks=True, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("doc", "man", "info", "examples"))
        with open(os.path.join(root + ".new", "libraries"), "w", encoding="utf-8") as f:
            f.write(wanted)
        shutil.rmtree(root, ignore_errors=True)
        os.rename(root + ".new", root)
    # It has absolute paths, and the tree may have been moved.
    path, text = os.path.join(root, "cross.ini"), CROSS_FILE.format(triplet=TRIPLET, root=root)
    if not os.path.exists(path) or kinds.read(path) != text.encode():
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    return path


def main():
    try:
        print(make())
        return 0
    except Unavailable as why:
        print(f"SKIP: {why}")
        return 77


if __name__ == "__main__":
    sys.exit(main())
