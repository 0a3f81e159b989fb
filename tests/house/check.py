#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Check one rule of the house: check.py RULE ROOT [FILE]. Exit status 0, 1 or 77 (skipped)."""

import sys

import rules

RULES = {
    "arrows": [rules.check_arrows, rules.check_pure, rules.check_ioctl, rules.check_public_only],
    "size": [rules.check_functions, rules.check_files],
    "comments": [rules.check_comments, rules.check_licence, rules.check_labels],
    "format": [rules.check_format],
    "exports": [rules.check_exports],
    "circles": [lambda root, *places: rules.check_circles(*places)],
    "calls": [lambda root, *archives: rules.check_calls(*archives)],
}


def main():
    rule, root, *rest = sys.argv[1:]
    broken = 0
    try:
        for check in RULES[rule]:
            for problem in check(root, *rest):
                print(problem)
                broken += 1
    except LookupError as why:
        print(f"SKIP: {why}")
        return 77
    print(f"{rule}: {broken} broken" if broken else f"{rule}: fine")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
