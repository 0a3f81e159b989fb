#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A short torture: torture.py GPAMAP BACKEND SECONDS OPTION...

gpamap must show no violation, and the naive control must show some, or nothing is proven; and the guests must have asked
whether changes arrive. How soon that is so depends on the machine and on what else it does. So what is not proven yet is
tried again, each time for twice as long, up to LIMIT seconds; a violation of gpamap never is.

With --no-instant it is the other way round: without its flag, gpamap must show mixes of generations, and so must
inhibit; nothing else, and without shutting the gate.
"""

import json
import subprocess
import sys

VIOLATIONS = ("spurious_exits", "internal_errors", "lost_stores", "wrong_reads", "lost_dirty", "mixes",
              "lost_interrupts", "stray_interrupts", "lost_saves", "failed_commits")
FIELDS = VIOLATIONS + ("strategy", "backend", "vcpus", "commits", "guest_ops", "gate_shut",
                       "slot_ioctls", "blackout_us", "expected_exits", "asks", "looks", "messages",
                       "saves")
KEPT, BROKEN, UNPROVEN, UNAVAILABLE = 0, 1, 2, 69
LIMIT = 100
# Edits of memory that guests have no business with, and those of pages where an access may have to be an exit.
UNASKED = ("resize", "hotplug")
TRAPPING = ("split", "merge", "protect")


def torture(program, backend, strategies, seconds, options):
    """(exit status, {strategy: run} or None, what it printed)"""
    command = [program, "torture", "--backend", backend, "--strategy", ",".join(strategies),
               "--seconds", str(seconds), "--json", "-", *options]
    print(" ".join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    runs = None
    if done.returncode in (KEPT, BROKEN, UNPROVEN):
        runs = {run["strategy"]: run for run in json.loads(done.stdout)["runs"]}
    return done.returncode, runs, done.stderr


def violations(run):
    return sum(run[name] for name in VIOLATIONS)


def right_status(runs):
    if "gpamap" in runs and violations(runs["gpamap"]):
        return BROKEN
    return KEPT if "gpamap" in runs and "naive" in runs and violations(runs["naive"]) else UNPROVEN


class Case:
    """What is expected of one edit: of each strategy, what may never be, and when it has shown enough."""

    def __init__(self, backend, options):
        self.backend = backend
        self.edit = options[options.index("--edit") + 1]
        self.instant = self.edit == "instant"
        self.its = "its" in options
        # KVM saves the ITS's tables only while no vCPU runs. With several, naive seldom has them all out at once.
        self.saves = self.its and "--vcpus" in options
        self.without_flag = "--no-instant" in options
        # Nothing that is there before and after is touched, so the naive way does no harm, either.
        self.harmless = self.edit == "hotplug"

    def strategies(self):
        return ["inhibit", "gpamap"] if self.without_flag else ["naive", "gpamap"]

    def wrong(self, run):
        """What no repetition can put right, as a list of texts."""
        missing = [f"no field {name}" for name in FIELDS if name not in run]
        if missing:
            return missing
        name, wrong = run["strategy"], []
        if run["backend"] != self.backend:
            wrong.append(f"it ran on {run['backend']}")
        if not self.instant and (run["mixes"] or run["looks"]):
            wrong.append(f"{name} has pages on show")
        if not self.its and (run["messages"] or run["saves"]):
            wrong.append(f"{name} has an ITS")
        if self.edit in UNASKED and (run["asks"] or run["expected_exits"]):
            wrong.append(f"guests of {name} asked for what they have no business with")
        if name == "gpamap" and violations(run) and not self.without_flag:
            wrong.append("gpamap shows violations")
        if self.without_flag and (violations(run) != run["mixes"] or run["gate_shut"]):
            wrong.append(f"{name} without the flag shows more than mixes, or holds vCPUs")
        if self.harmless and (violations(run) or run["gate_shut"]):
            wrong.append(f"a change that replaces nothing shut the gate of {name} or did harm")
        return wrong

    def enough(self, run):
        """Does the run prove what this strategy is there for?"""
        if not run["commits"] or not run["guest_ops"]:
            return False
        if self.edit not in UNASKED and not run["asks"]:
            return False
        if self.edit in TRAPPING and not run["expected_exits"]:
            return False
        if self.harmless:
            return True
        if self.its and not self.enough_interrupts(run):
            return False
        if self.instant and (not run["looks"] or not run["expected_exits"]):
            return False
        if self.instant and (self.without_flag or run["strategy"] == "naive"):
            return run["mixes"] > 0
        if run["strategy"] == "gpamap":
            return run["gate_shut"] > 0
        return violations(run) > 0

    def enough_interrupts(self, run):
        """Of an ITS: messages, and where it can be tables saved; the control has lost some of each."""
        if run["strategy"] == "naive":
            return run["lost_interrupts"] > 0 and (run["lost_saves"] > 0 or not self.saves)
        return run["messages"] > 0 and (run["saves"] > 0 or not self.saves)


def main():
    program, backend, seconds, *options = sys.argv[1:]
    case, seconds = Case(backend, options), float(seconds)
    todo, spent = case.strategies(), 0
    while todo and spent < LIMIT:
        status, runs, said = torture(program, backend, todo, seconds, options)
        print(said, flush=True)
        if status == UNAVAILABLE:
            print("SKIP: " + said.strip().split("\n")[0])
            return 77
        if runs is None or set(runs) != set(todo):
            print(f"exit status {status}")
            return 1
        wrong = [text for run in runs.values() for text in case.wrong(run)]
        if not wrong and status != right_status(runs):
            wrong.append(f"exit status {status} and not {right_status(runs)}")
        if wrong:
            print("\n".join(wrong))
            return 1
        todo = [name for name in todo if not case.enough(runs[name])]
        spent += seconds
        seconds *= 2
    if todo:
        print(f"{', '.join(todo)}: not enough seen in {spent} s")
    return 1 if todo else 0


if __name__ == "__main__":
    sys.exit(main())
