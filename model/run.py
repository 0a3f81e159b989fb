#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Check the model of the gate with spin: run.py [--quick] [NAME...]; run.py --trail NAME; run.py --list.

Each configuration is searched exhaustively, and each mutant must fail by the property named here. A line for each,
then `N passed, N failed`. Exit status 0, 1, or 77 if spin is not installed. README.md explains all this.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "gate.pml")

# What spin looks for. `rest`: at every moment, and when nothing can move any more. `ends`: every run comes to
# rest, given that each thread that can go on does. The others are formulas at the end of gate.pml.
KINDS = {
    "rest": (["-DSAFETY"], []),
    "ends": (["-DNP", "-DNFAIR=3"], ["-l", "-f"]),
    "gets_its_turn": (["-DNFAIR=3"], ["-a", "-f", "-N", "gets_its_turn"]),
    "gets_in": (["-DNFAIR=3"], ["-a", "-f", "-N", "gets_in"]),
}
LIVE = ("gets_its_turn", "gets_in")

# What spin may say of a property that does not hold.
INSIDE = "G1_nobody_inside_while_shut"
WAITS = "P6_nobody_waits_for_ever"
TRACE = "P6_expired_leaves_no_trace"
FORGOTTEN = "G5_no_mark_forgotten"
LOST = "G5_request_of_application_kept"
UNANSWERED = "G5_request_of_application_answered"
TOLD = "G7_told_after_a_wait"
TWO = "one_inhibitor_at_a_time"
CYCLE = "non-progress cycle"
STARVES = "acceptance cycle"

DEPTH = 200000  # of the search; a run that would need more is no pass
SAYS = re.compile(r"^pan:\d+: (?:assertion violated )?([\w -]+?)(?: \(at depth \d+\))?$", re.M)


# What --quick runs: the plainest mistakes, those with tokens, and at least one against each property.
QUICK_MUTANTS = {
    "no_membarrier", "shut_read_before_busy", "no_recheck_after_sleep", "no_wake_on_leave", "no_wake_at_gate",
    "kick_taken_back_before_run", "records_taken_while_shut", "token_given_before_busy_cleared", "busy_not_read_again",
    "tokens_not_looked_at", "token_not_taken_back", "expired_keeps_count", "expired_leaves_tokens", "k1_k2_swapped",
    "immediate_exit_overwritten", "request_lost", "waiting_read_before_open", "not_kicked_after_wait", "two_inhibitors_at_once", "expired_leaves_shut",
}


class Check:
    """One search. `fails`: the property that must not hold, for a mutant. `large`: millions of states."""

    def __init__(self, name, kind, macros, fails=None, large=False, quick=True, asserts=True):
        self.name = name
        self.kind = kind
        self.macros = macros.split()
        self.fails = fails
        self.large = large
        self.quick = quick and not large and (not fails or name in QUICK_MUTANTS)
        self.asserts = asserts
        if kind != "rest":
            self.macros.append("FAIR=1")
        if kind in LIVE:
            self.macros.append("LIVE=1")
        if fails:
            self.macros.append("MUTANT=" + name)

    def title(self):
        return f"{'mutant' if self.fails else 'model'} {self.name}, {self.kind}"


ONE = "VCPUS=1 INHIBITORS=1"
DEADLINE = "INHIBITORS=1 COMMITS=2 DEADLINES=1"
STREAM = "INHIBITORS=1 COMMITS=0 PATIENT=1"

CHECKS = [
    Check("vcpu", "ends", ONE + " RUNS=2"),
    Check("vcpu-twice", "rest", ONE + " RUNS=2 COMMITS=2"),
    Check("vcpu-fences", "rest", ONE + " RUNS=2 COMMITS=2 FENCES=1"),
    Check("vcpu-fences", "ends", ONE + " RUNS=2 COMMITS=2 FENCES=1", quick=False),
    Check("vcpu-two-inhibitors", "rest", "VCPUS=1 INHIBITORS=2", large=True),
    Check("vcpu-two-inhibitors", "ends", "VCPUS=1 INHIBITORS=2", large=True),
    Check("vcpu-two-inhibitors-fences", "rest", "VCPUS=1 INHIBITORS=2 FENCES=1", quick=False),
    Check("two-vcpus", "rest", "VCPUS=2 INHIBITORS=1", large=True),
    Check("two-vcpus-fences", "rest", "VCPUS=2 INHIBITORS=1 FENCES=1"),
    Check("two-vcpus-fences", "ends", "VCPUS=2 INHIBITORS=1 FENCES=1", large=True),
    Check("exit-handler", "rest", "VCPUS=2 VCPU_COMMITS=1"),
    Check("exit-handler-twice", "rest", "VCPUS=2 RUNS=2 VCPU_COMMITS=1", large=True),
    Check("exit-handler", "ends", "VCPUS=2 VCPU_COMMITS=1", quick=False),
    Check("exit-handler-inhibitor", "rest", "VCPUS=1 VCPU_COMMITS=1 INHIBITORS=1 RUNS=2"),
    Check("bind", "rest", "VCPUS=2 VCPU_COMMITS=1 BINDS=1"),
    Check("holders", "rest", "HOLDERS=2 RECORDS=2 HOLDS=2 INHIBITORS=1"),
    Check("holders", "ends", "HOLDERS=2 RECORDS=2 INHIBITORS=1"),
    Check("holders-two-inhibitors", "rest", "HOLDERS=2 RECORDS=2 INHIBITORS=2", large=True),
    Check("crowd", "rest", "HOLDERS=2 RECORDS=1 INHIBITORS=1"),
    Check("crowd-twice", "rest", "HOLDERS=2 RECORDS=1 HOLDS=2 INHIBITORS=1", large=True),
    Check("crowd", "ends", "HOLDERS=2 RECORDS=1 INHIBITORS=1", quick=False),
    Check("crowd-of-three", "rest", "HOLDERS=3 RECORDS=1 INHIBITORS=1", large=True),
    Check("vcpu-holder", "rest", "VCPUS=1 HOLDERS=1 INHIBITORS=1", quick=False),
    Check("vcpu-holder-fences", "rest", "VCPUS=1 HOLDERS=1 INHIBITORS=1 FENCES=1"),
    Check("vcpu-holder", "ends", "VCPUS=1 HOLDERS=1 INHIBITORS=1", large=True),
    Check("everybody", "rest", "VCPUS=1 HOLDERS=1 INHIBITORS=2", large=True),
    Check("mixed", "rest", "MIXED=1 STEPS=4 INHIBITORS=1"),
    Check("mixed", "ends", "MIXED=1 INHIBITORS=1", quick=False),
    Check("mixed-fences", "rest", "MIXED=1 STEPS=4 INHIBITORS=1 COMMITS=2 FENCES=1"),
    Check("mixed-fences", "ends", "MIXED=1 STEPS=4 INHIBITORS=1 FENCES=1"),
    Check("deadline", "rest", "VCPUS=1 RUNS=2 STUCK=1 " + DEADLINE),
    Check("deadline-all", "rest", ONE + " STUCK=1 COMMITS=2 DEADLINES=2"),
    Check("deadline-holder", "rest", "VCPUS=1 HOLDERS=1 STUCK=1 " + DEADLINE, large=True),
    Check("application", "rest", ONE + " RUNS=2 APPLICATION=1"),
    Check("application", "ends", ONE + " APPLICATION=1", quick=False),
    Check("signal-not-sent", "rest", ONE + " FENCES=1 EAGAIN=1"),
    Check("signal-not-sent", "ends", ONE + " EAGAIN=1", quick=False),
    Check("membarrier-fails", "rest", "VCPUS=1 FAILS=1 " + DEADLINE),
    Check("membarrier-fails-twice", "rest", "VCPUS=1 RUNS=2 FAILS=1 " + DEADLINE, large=True),
    Check("membarrier-fails-mixed", "rest", "MIXED=1 FAILS=1 INHIBITORS=1"),
    Check("let-in", "rest", ONE + " RUNS=2 COMMITS=2 PATIENT=1"),
    Check("let-in-crowd", "rest", "HOLDERS=2 INHIBITORS=1 COMMITS=2 PATIENT=1", quick=False),
    Check("stream-of-ioctls", "gets_its_turn", "HOLDERS=2 HOLDS=0 RECORDS=2 INHIBITORS=1 COMMITS=0"),
    Check("stream-of-runs", "gets_its_turn", "VCPUS=1 RUNS=0 INHIBITORS=1 COMMITS=0", quick=False),
    Check("stream-of-commits", "gets_in", "VCPUS=1 RUNS=0 " + STREAM, quick=False),
    Check("stream-of-commits-holder", "gets_in", "HOLDERS=1 HOLDS=0 " + STREAM),
]

FENCES = ONE + " FENCES=1"
MUTANTS = [
    # Store buffers and the two barriers.
    Check("no_membarrier", "rest", ONE, INSIDE),
    Check("membarrier_before_shut", "rest", ONE, INSIDE),
    Check("no_look_after_barrier", "rest", ONE, INSIDE),
    Check("no_poll_before_barrier", "rest", ONE, WAITS),
    Check("bound_after_look", "rest", "VCPUS=2 VCPU_COMMITS=1 BINDS=1", INSIDE),
    Check("busy_believed", "rest", "VCPUS=1 FAILS=1 " + DEADLINE, INSIDE),
    Check("credible_asked_after_busy", "rest", "MIXED=1 FAILS=1 INHIBITORS=1", INSIDE),
    # Enter, leave, sleep.
    Check("shut_read_before_busy", "rest", ONE, INSIDE),
    Check("no_recheck_after_sleep", "rest", ONE + " COMMITS=2", INSIDE),
    Check("shut_read_before_leave", "rest", FENCES, WAITS),
    Check("no_wake_on_leave", "rest", FENCES, WAITS),
    Check("no_wake_at_gate", "rest", FENCES, WAITS),
    Check("token_given_before_busy_cleared", "rest", FENCES, WAITS),
    # Tokens.
    Check("busy_not_read_again", "rest", FENCES, WAITS),
    Check("tokens_not_looked_at", "rest", FENCES + " RUNS=2", WAITS),
    Check("tokens_not_looked_at", "rest", "VCPUS=2 INHIBITORS=1 FENCES=1", WAITS),
    Check("token_not_taken_back", "rest", FENCES, TRACE),
    Check("expired_keeps_count", "rest", "VCPUS=1 FENCES=1 " + DEADLINE, WAITS),
    Check("expired_leaves_tokens", "rest", FENCES + " STUCK=1 DEADLINES=2", TRACE),
    Check("left_read_after_look", "rest", FENCES, WAITS),
    Check("open_without_wake", "rest", FENCES, WAITS),
    Check("waiting_read_before_open", "rest", FENCES, WAITS),
    Check("sleep_without_compare", "rest", FENCES, WAITS),
    Check("asleep_while_busy", "rest", FENCES, WAITS),
    # Kicks.
    Check("kick_taken_back_before_run", "rest", FENCES, WAITS),
    Check("kick_taken_back_before_run", "ends", ONE, CYCLE, asserts=False),
    Check("kick_taken_back_by_inner_leave", "rest", "MIXED=1 STEPS=4 INHIBITORS=1 FENCES=1", WAITS),
    Check("signal_before_mark", "rest", FENCES, WAITS),
    Check("k1_k2_swapped", "rest", FENCES, FORGOTTEN),
    Check("t1_t2_swapped", "rest", "VCPUS=1 FENCES=1 " + DEADLINE, FORGOTTEN),
    Check("immediate_exit_overwritten", "rest", ONE + " APPLICATION=1", LOST),
    Check("immediate_exit_cleared_blindly", "rest", ONE + " APPLICATION=1", LOST),
    Check("request_lost", "rest", ONE + " APPLICATION=1", UNANSWERED),
    Check("not_kicked_after_wait", "rest", FENCES, TOLD),
    Check("late_kick_taken_back_after_look", "rest", FENCES, WAITS),
    Check("no_kick_of_oneself", "rest", "MIXED=1 INHIBITORS=1 FENCES=1", WAITS),
    Check("eagain_forgotten", "rest", FENCES + " EAGAIN=1", WAITS),
    # Other threads.
    Check("records_taken_while_shut", "rest", "HOLDERS=1 INHIBITORS=1", INSIDE),
    Check("records_taken_while_shut", "gets_its_turn", "HOLDERS=2 HOLDS=0 RECORDS=2 INHIBITORS=1", STARVES,
          asserts=False),
    Check("crowd_joined_after_look", "rest", "HOLDERS=2 INHIBITORS=1", WAITS),
    Check("freed_read_after_look", "rest", "HOLDERS=2 INHIBITORS=1", WAITS),
    Check("no_wake_of_crowd", "rest", "HOLDERS=2 INHIBITORS=1", WAITS),
    # Holds of several kinds.
    Check("added_without_lock", "rest", "MIXED=1 INHIBITORS=1", INSIDE),
    Check("look_without_lock", "rest", "MIXED=1 INHIBITORS=1", INSIDE),
    # Inhibitors.
    Check("two_inhibitors_at_once", "rest", "INHIBITORS=2", TWO),
    Check("commit_from_inside", "rest", "VCPUS=1 VCPU_COMMITS=1 FENCES=1", WAITS),
    Check("expired_leaves_shut", "rest", "HOLDERS=1 INHIBITORS=1 DEADLINES=2", TRACE),
    Check("no_letting_in", "gets_in", "VCPUS=1 RUNS=0 " + STREAM, STARVES),
    Check("no_wake_when_in", "rest", FENCES + " COMMITS=2 PATIENT=1", WAITS),
]


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def preprocess(check, folder):
    """Write the configuration to gate.pml in the folder; what went wrong, or None. Spin would do this itself,
    but it loses count of the lines that are left out within an inline."""
    macros = ["-D" + macro for macro in check.macros]
    done = subprocess.run(["gcc", "-E", "-x", "c", *macros, MODEL], capture_output=True, text=True)
    if done.returncode:
        return done.stderr
    lines, file, at = [], None, 1
    for line in done.stdout.split("\n"):
        marker = re.match(r'# (\d+) "([^"]*)"', line)
        if not marker:
            lines.append(line)
            at += 1
        elif marker.group(2).endswith(".pml"):
            to, name = int(marker.group(1)), os.path.basename(marker.group(2))
            if name == file and to >= at:
                lines += [""] * (to - at)
            else:
                lines.append(f'# {to} "{name}"')
            file, at = name, to
    with open(os.path.join(folder, "gate.pml"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines))
    return None


def build(check, folder):
    """Make the verifier; what went wrong, or None."""
    problem = preprocess(check, folder)
    if problem:
        return problem
    flags = KINDS[check.kind][0]
    spin = ["spin", "-Pcat", "-a", "gate.pml"]
    # Optimising takes longer than it saves, unless there is much to search; and clang is the quicker one then.
    if check.large:
        cc = ["gcc", "-O2", "-DCOLLAPSE"]
    else:
        cc = [shutil.which("clang") or "gcc", "-O0"]
    cc += ["-w", *flags, "-o", "pan", "pan.c"]
    for command in (spin, cc):
        status, output = run(command, folder)
        if status or "error:" in output.lower():
            return output
    return None


def search(check, folder, more=()):
    arguments = KINDS[check.kind][1] + ([] if check.asserts else ["-A"])
    return run(["./pan", f"-m{DEPTH}", "-w22", *arguments, *more], folder)[1]


def verdict(check, output):
    """(passed?, what to say) of what the verifier has printed."""
    said = SAYS.findall(output)
    states = re.search(r"^\s*(\d\S*) states, stored", output, re.M)
    if said and said[0] != "wrote":
        if check.fails == said[0]:
            return True, "fails as it must: " + said[0]
        return False, said[0] + (f", not {check.fails}" if check.fails else "")
    if not states or "errors: 0" not in output or "error:" in output or "not completed" in output:
        return False, "the search did not end\n" + output
    if check.fails:
        return False, "is not found"
    return True, f"{float(states.group(1)):.0f} states"


def do(check):
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        problem = build(check, folder)
        passed, text = (False, problem) if problem else verdict(check, search(check, folder))
    return passed, f"{check.title()}: {text} ({time.monotonic() - start:.1f} s)"


def labels(name):
    """The labels of each line of a file of the model. One at the begin of an atomic holds to its end, and one of
    the first way out of an if holds for the line of the if, which spin names."""
    found, atomic, depth = [], "", 0
    with open(os.path.join(HERE, name), encoding="utf-8") as f:
        lines = f.read().split("\n")
    for line in lines:
        match = re.search(r"/\* (G[A-Z]?\d(?:, G[A-Z]?\d)*)\b", line)
        label = match.group(1) if match else ""
        if depth == 0 and "atomic {" in line:
            atomic = label
        depth = max(0, depth + line.count("{") - line.count("}")) if atomic else 0
        found.append(label or atomic)
        atomic = atomic if depth else ""
    for at, line in enumerate(lines[:-1]):
        if line.strip().endswith("if") and not found[at]:
            found[at] = found[at + 1]
    return found


def print_trail(replay):
    """Of each step: thread, label, place, statement. Steps that only go on are left out."""
    of = {}
    step = re.compile(r"proc\s+(\d+) \(([\w:]+?):?\d*\) \S*?(\w+\.pml):(\d+) \(state \d+\)\s*(.*)")
    for line in replay.split("\n"):
        match = step.search(line)
        if match and match.group(5) not in ("[else]", "[(1)]", "[.(goto)]", "[((1))]"):
            number, who, name, at, what = match.groups()
            if name not in of:
                of[name] = labels(name)
            print(f"{number:>2} {who:<11} {of[name][int(at) - 1]:<7} {name + ':' + at:<15} {what}")
        elif "START OF CYCLE" in line or "assert" in line or "= " in line:
            print(line.strip())


def trail(check):
    """Print a short counterexample."""
    with tempfile.TemporaryDirectory() as folder:
        problem = build(check, folder)
        if problem:
            print(problem)
            return 1
        output = search(check, folder, ["-i"] if check.kind == "rest" else [])
        print(f"{check.title()}: {verdict(check, output)[1]}")
        if not os.path.exists(os.path.join(folder, "gate.pml.trail")):
            return 0
        print_trail(run(["spin", "-Pcat", "-t", "-p", "gate.pml"], folder)[1])
    return 1


def main():
    parser = argparse.ArgumentParser(description="Check the model of the gate.")
    parser.add_argument("names", nargs="*", help="configurations and mutants; all if none")
    parser.add_argument("--quick", action="store_true", help="without what takes long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="print what there is")
    parser.add_argument("--trail", metavar="NAME", help="print a short counterexample")
    options = parser.parse_args()
    every = CHECKS + MUTANTS
    chosen = [c for c in every if not options.names or c.name in options.names]
    chosen = [c for c in chosen if c.quick or not options.quick]
    if options.list:
        for check in chosen:
            print(f"{check.title()}: {' '.join(check.macros)}" + ("" if check.quick else " (not in --quick)"))
        return 0
    for program in ("spin", "gcc"):
        if not shutil.which(program):
            print(f"SKIP: {program} is not installed")
            return 77
    if options.trail:
        return max((trail(check) for check in every if check.name == options.trail), default=64)
    count = [0, 0]
    # The longest first, so that none of them is alone at the end.
    chosen.sort(key=lambda check: (not check.large, check.fails is not None))
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(do, check) for check in chosen]):
            passed, text = done.result()
            count[not passed] += 1
            print(("passed  " if passed else "FAILED  ") + text, flush=True)
    print(f"{count[0]} passed, {count[1]} failed")
    return 1 if count[1] or not count[0] else 0


if __name__ == "__main__":
    sys.exit(main())
