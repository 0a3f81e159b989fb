#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Format all sources: `make format`."""

import os
import subprocess
import sys

import rules


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program, why = rules.clang_format()
    if not program:
        print(why)
        return 1
    return subprocess.run([program, "-i", *rules.sources(root)], cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main())
