#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the facts: each on which the library rests notices a kernel that does otherwise. selftest.py FACTS LIAR DOC

LIAR makes such kernels of the one that is here. DOC has to know every fact.
"""

import os
import re
import subprocess
import sys

LINE = re.compile(r"^FACT (K\d+) (holds|differs|n/a)(?:: (.*))?$", re.M)
SKIPPED = 77
# What is seen only while two things run at the same time is not seen each time on a machine that is busy.
TRIES = 3

# What KVM does otherwise, and who has to notice.
LIES = {
    "other errno": "K1 K2 K3 K4 K5 K6 K8 K9 K10 K12 K14 K15 K16 K17 K20 K46 K47 K48 K49",
    "refuse": "K7 K11 K12 K13 K23 K26 K33",
    "recreate": "K23 K26 K33",
    "stay": "K9 K10 K35 K36",
    "forget": "K34 K36",
    "shake": "K30 K31 K32",
    "empty": "K21 K22 K27 K37 K38",
    "full": "K20 K21 K22 K24 K25",
    "read-write": "K2 K39 K58",
    "deaf": "K50",
    "other end": "K50 K52",
    "at once": "K57",
}


def listed(program):
    """{id: (must, known or apart; what it says)}, of all facts."""
    text = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^FACT (K\d+) (must|known|apart): (.+)$", text, re.M)
    assert len(lines) == len({one for one, _, _ in lines}) == text.count("\n"), "an id is there twice"
    return {one: (kind, statement) for one, kind, statement in lines}


def run(program, ids=(), liar=None, lie=None):
    """Exit status, {id: verdict}, and all that was printed."""
    env = dict(os.environ, **({"LD_PRELOAD": liar, "GPAMAP_LIE": lie} if lie else {}))
    done = subprocess.run([program, *ids], env=env, capture_output=True, text=True)
    return done.returncode, {m[0]: m[1] for m in LINE.findall(done.stdout)}, done.stdout + done.stderr


def unnoticed(program, liar, lie, ids, here):
    """The facts that hold although the kernel lies. One that can't go on has noticed."""
    for one in ids:
        if here[one] == "n/a":
            continue
        for _ in range(TRIES):
            status, verdicts, text = run(program, [one], liar, lie)
            noticed = status in (1, 2) and verdicts.get(one) != "holds"
            if noticed:
                break
        if not noticed:
            yield f"{lie}: {one} does not notice\n{text}"


def undocumented(doc, facts):
    """Each fact is in the table that scripts/kernels fills, as it is now, and in another that explains it."""
    with open(doc, encoding="utf-8") as f:
        text = f.read()
    by_hand = re.sub(r"<!-- kernels: .*?<!-- end -->", "", text, flags=re.S)
    for one, (kind, statement) in facts.items():
        if f"| {one} | {f'{statement}.' if kind == 'must' else f'*{statement}.*'} |" not in text:
            yield f"{doc}: {one} is not as it was: make kernels"
        if not re.search(rf"\b{one}\b", by_hand):
            yield f"{doc}: nothing is said about {one}"


def main():
    program, liar, doc = sys.argv[1:]
    facts = listed(program)
    status, here, text = run(program)
    if status == SKIPPED:
        print(text, end="")
        return SKIPPED
    asked = {one for one, (kind, _) in facts.items() if kind != "apart"}
    wrong = [f"without a lie: exit status {status}\n{text}"] if status or set(here) != asked else []
    for lie, ids in LIES.items():
        wrong += unnoticed(program, liar, lie, ids.split(), here)
    tried = {one for ids in LIES.values() for one in ids.split()}
    wrong += [f"{one}: no lie is about it" for one, (kind, _) in facts.items() if kind == "must" and one not in tried]
    wrong += undocumented(doc, facts)
    print("\n".join(wrong) or f"{len(facts)} facts, {len(tried)} of them tried with {len(LIES)} lies")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
