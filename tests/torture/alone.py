#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The guest's code is copied into a VM, and must refer to nothing outside of its section, nor to the page that it
stands in: alone.py LIBRARY. A compiler that makes a library call or a constant in memory of it is found here."""

import os
import re
import subprocess
import sys

SECTION = "guest_text"
# To a place relative to the instruction, whatever the architecture.
RELATIVE = {"R_X86_64_PC32", "R_X86_64_PLT32", "R_AARCH64_CALL26", "R_AARCH64_JUMP26", "R_AARCH64_CONDBR19",
            "R_AARCH64_ADR_PREL_LO21"}


def readelf(*arguments):
    return subprocess.run(["readelf", "-W", *arguments], capture_output=True, text=True, check=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout


def objects(text):
    """What readelf says of each object in the library."""
    return re.split(r"^File: .*$", text, flags=re.M)[1:]


def inside(library):
    """Names of what is defined in the section, and the section's own."""
    names = {SECTION}
    for sections, symbols in zip(objects(readelf("-S", library)), objects(readelf("-s", library))):
        index = re.search(r"\[ *(\d+)\] %s " % SECTION, sections)
        for line in symbols.splitlines():
            fields = line.split()
            if index and len(fields) == 8 and fields[6] == index.group(1):
                names.add(fields[7])
    return names


def references(library):
    """(sort, name) of each reference from within the section."""
    for text in objects(readelf("-r", library)):
        for title, lines in re.findall(r"^Relocation section '(.*?)'.*?\n.*?\n(.*?)(?:\n\n|\Z)", text, re.M | re.S):
            if title in (".rela" + SECTION, ".rel" + SECTION):
                for line in lines.splitlines():
                    fields = line.split()
                    yield fields[2], fields[4]


def main():
    library = sys.argv[1]
    names, found = inside(library), list(references(library))
    bad = [f"{name} ({sort})" for sort, name in found if name not in names or sort not in RELATIVE]
    if not {"guest_entry", "guest_stack_op"} <= names or not found:
        print("this is not the guest, or readelf speaks another language")
        return 1
    print("\n".join("outside: " + text for text in bad) or "alone")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
