#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A short torture: torture.py GPAMAP BACKEND SECONDS OPTION...

gpamap must show no violation, and the naive control must show some, or nothing is proven. A control that is
merely unlucky in a short run is tried again, for longer; a violation of gpamap never is.
"""

import json
import subprocess
import sys

VIOLATIONS = ("spurious_exits", "internal_errors", "lost_stores", "wrong_reads", "lost_dirty")
FIELDS = VIOLATIONS + ("strategy", "backend", "vcpus", "commits", "guest_ops", "gate_shut",
                       "slot_ioctls", "blackout_us")
KEPT, BROKEN, UNPROVEN, UNAVAILABLE = 0, 1, 2, 69
ATTEMPTS = 4


def torture(program, backend, seconds, options):
    """(exit status, {strategy: run} or None, what it printed)"""
    command = [program, "torture", "--backend", backend, "--strategy", "naive,gpamap", "--seconds",
               str(seconds), "--json", "-", *options]
    print(" ".join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    runs = None
    if done.returncode in (KEPT, BROKEN, UNPROVEN):
        runs = {run["strategy"]: run for run in json.loads(done.stdout)["runs"]}
    return done.returncode, runs, done.stderr


def violations(run):
    return sum(run[name] for name in VIOLATIONS)


def judge(status, runs, backend, harmless):
    """What is wrong with the result, as a list of texts."""
    wrong = []
    for run in runs.values():
        wrong += [f"no field {name}" for name in FIELDS if name not in run]
    if wrong or set(runs) != {"naive", "gpamap"}:
        return wrong or [f"strategies {sorted(runs)}"]
    ours, naive = runs["gpamap"], runs["naive"]
    if violations(ours):
        wrong.append("gpamap shows violations")
    if not ours["commits"] or not ours["guest_ops"]:
        wrong.append("gpamap did nothing")
    if ours["backend"] != backend:
        wrong.append(f"it ran on {ours['backend']}")
    if harmless and (ours["gate_shut"] or status != UNPROVEN or violations(naive)):
        wrong.append("a change that replaces nothing shut the gate or did harm")
    if not harmless and not ours["gate_shut"]:
        wrong.append("the gate never shut")
    if not harmless and (status != KEPT or not violations(naive)):
        wrong.append(f"the control shows nothing, or exit status {status}")
    return wrong


def main():
    program, backend, seconds, *options = sys.argv[1:]
    # Nothing that is there before and after is touched, so the naive way does no harm, either.
    harmless = "hotplug" in options
    for attempt in range(ATTEMPTS):
        status, runs, said = torture(program, backend, float(seconds) * 2 ** attempt, options)
        print(said, flush=True)
        if status == UNAVAILABLE:
            print("SKIP: " + said.strip().split("\n")[0])
            return 77
        if runs is None:
            print(f"exit status {status}")
            return 1
        wrong = judge(status, runs, backend, harmless)
        if not wrong:
            return 0
        print("\n".join(wrong), flush=True)
        if violations(runs.get("gpamap", {name: 1 for name in VIOLATIONS})):
            return 1
    return 1


if __name__ == "__main__":
    sys.exit(main())
