# SPDX-License-Identifier: BSD-3-Clause
"""Counting tests, for all that runs many of them: every skip says why, and the last line is the sum."""

SUMMARY = ("passed", "failed", "skipped")


class Count:
    """The tests of one build or test bed."""

    def __init__(self, name):
        self.name = name
        self.count = dict.fromkeys(SUMMARY, 0)
        self.tests = {}  # name: what came of it, the worst if it ran more than once

    def note(self, what, test, text=""):
        """Count a test; show it if it did not pass."""
        self.count[what] += 1
        if self.tests.get(test) != "failed":
            self.tests[test] = what
        if what != "passed":
            print(f"  {what}: {self.name} {test}" + (f": {text}" if text else ""), flush=True)

    def skip(self, test, why):
        """A skip without a reason is a failure."""
        if why:
            self.note("skipped", test, why)
        else:
            self.note("failed", test, "skipped without a reason")

    def report(self):
        """All that another program has to know."""
        return {"name": self.name, "count": self.count, "tests": self.tests}

    def take(self, report):
        for what, number in report["count"].items():
            self.count[what] += number
        self.tests.update(report["tests"])

    def line(self):
        return ", ".join(f"{self.count[what]} {what}" for what in SUMMARY)


def skip_reason(*texts):
    """What a test has printed about why it was skipped; "" if it doesn't say."""
    lines = "\n".join(texts).splitlines()
    return next((line[5:].strip() for line in lines if line.startswith("SKIP:")), "")


def finish(counts):
    """Print the sum of all as the last line. The exit status."""
    total = Count("total")
    for one in counts:
        for what in SUMMARY:
            total.count[what] += one.count[what]
    print(total.line(), flush=True)
    return 1 if total.count["failed"] or not total.count["passed"] else 0
