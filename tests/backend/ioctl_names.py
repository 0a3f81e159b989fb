#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Write a C file with two lists for test_ioctls.c: the ioctls that the table is to cover, from kvm_ioctls.txt, and
those of the headers that are installed, from their macros.

    ioctl_names.py kvm_ioctls.txt OUTPUT COMPILER...
"""

import re
import subprocess
import sys

KINDS = {"system": "GM_FD_SYSTEM", "vm": "GM_FD_VM", "vcpu": "GM_FD_VCPU", "device": "GM_FD_DEVICE"}
HEADERS = "#include <linux/kvm.h>\n#include <linux/version.h>\n"
# Structs of other architectures are not there; and their size is not looked at.
NO_SIZES = "\n#undef _IOC_TYPECHECK\n#define _IOC_TYPECHECK(type) 0\n"


def covered(path):
    """(version, {name: kinds}) of the file of names."""
    version, names = None, {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            words = line.split("#")[0].split()
            if words and words[0] == "version":
                version = [int(n) for n in words[1].split(".")]
            elif words:
                names[words[0]] = [KINDS[kind] for kind in words[1:]]
    return version, names


def installed(compiler):
    """Names of the macros that are KVM ioctls, and whatever else the compiler says goes to the log."""
    out = subprocess.run([*compiler, "-E", "-dM", "-"], input=HEADERS, stdout=subprocess.PIPE, text=True,
                         check=True).stdout
    # The names of some that are long gone are kept, with no number behind them.
    return sorted(re.findall(r"^#define (KVM_\w+)\s+_IO[WR]*\s*\(\s*KVMIO\b", out, re.M))


def main():
    path, output, *compiler = sys.argv[1:]
    version, names = covered(path)
    here = installed(compiler)
    if not names or not here:
        sys.exit(f"no ioctls found: {len(names)} in {path}, {len(here)} in the headers")
    with open(output, "w", encoding="utf-8") as f:
        f.write('/* Written by ioctl_names.py. */\n#include "ioctl_names.h"\n\n' + HEADERS + NO_SIZES)
        f.write(f"\nconst unsigned covered_version = {version[0] << 16 | version[1] << 8};\n")
        f.write("const unsigned installed_version = LINUX_VERSION_CODE & ~0xffu;\n")
        f.write("\nconst struct covered covered[] = {\n")
        for name, kinds in names.items():
            f.write(f'\t{{"{name}", {" | ".join(f"1u << {kind}" for kind in kinds)}}},\n')
        f.write("};\nconst unsigned nr_covered = sizeof(covered) / sizeof(covered[0]);\n")
        f.write("\nconst struct installed installed[] = {\n")
        for name in here:
            f.write(f'\t{{"{name}", {name}}},\n')
        f.write("};\nconst unsigned nr_installed = sizeof(installed) / sizeof(installed[0]);\n")


main()
