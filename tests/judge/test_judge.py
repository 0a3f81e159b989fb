#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What boots have shown gets into the table, and is not done again: test_judge.py SCRIPT"""

import importlib.machinery
import importlib.util
import json
import os
import sys
import tempfile
import types
import unittest
from unittest import mock

SCRIPT = sys.argv.pop(1)
loader = importlib.machinery.SourceFileLoader("judge", SCRIPT)
judge = importlib.util.module_from_spec(importlib.util.spec_from_loader("judge", loader))
loader.exec_module(judge)
boots, image = judge.boots, sys.modules["image"]


def boot(strategy, number, right, **other):
    return {**boots.Boot(strategy, number).died("silent for 60 s"), "right": right, "changes": 1000, "gate_shut": 7, **other}


class Table(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.build = self.folder.name
        self.document = os.path.join(self.build, "judge.md")
        with open(self.document, "w", encoding="utf-8") as f:
            f.write("a\n<!-- judge: table -->\nold\n<!-- end -->\nb\n")
        self.asked = []

    def judge_in_bed(self, wrong=()):
        """A bed in which the boots of some strategies go wrong."""
        def answer(several):
            self.asked += several
            return [boot(one.strategy, one.number, one.strategy not in wrong) for one in several]
        return mock.patch.object(boots, "InBed", lambda *_: types.SimpleNamespace(boot=answer, place={"Linux": "6.x"}))

    def run_script(self, *arguments):
        with mock.patch.object(judge, "DOCUMENT", self.document), mock.patch.object(boots, "program"):
            status = judge.main(["judge", self.build, *arguments])
        with open(self.document, encoding="utf-8") as f:
            return status, f.read()

    def test_table(self):
        with self.judge_in_bed(wrong=("naive",)):
            status, text = self.run_script("--boots", "2", "svm-6.12")
        self.assertEqual(status, 0)
        self.assertIn("| svm-6.12 | gpamap | 2 of 2 | 2,000 | 14 | 0 | 0 |  |", text)
        self.assertIn("| svm-6.12 | naive | 0 of 2 | 2,000 | 14 | 0 | 0 | silent for N s (2) |", text)
        self.assertIn("| svm-6.12 | kicks | 2 of 2 | 0 kicks |", text)
        self.assertIn("- svm-6.12: Linux 6.x", text)
        self.assertTrue(text.startswith("a\n") and text.endswith("b\n") and "old" not in text)

    def test_goes_on(self):
        with self.judge_in_bed():
            self.run_script("--boots", "1", "--strategy", "gpamap", "arm64")
            self.run_script("--boots", "3", "--strategy", "gpamap", "--strategy", "kicks", "arm64")
            self.assertEqual(len(self.asked), len(set(self.asked)))
            self.assertEqual({one.number for one in self.asked if one.strategy == "gpamap"}, {1, 2, 3})
            self.run_script("--boots", "1", "--strategy", "kicks", "--anew", "arm64")
        with open(os.path.join(self.build, "judge", "arm64.json"), encoding="utf-8") as f:
            kept = [(one["strategy"], one["seed"]) for one in json.load(f)["boots"]]
        self.assertEqual(sorted(kept), [("gpamap", 1), ("gpamap", 2), ("gpamap", 3), ("kicks", 1)])

    def test_results(self):
        one = boots.Boot("gpamap", 4)
        self.assertEqual(one.result(0, b'warning\n{"right": true}\n'), {"right": True})
        self.assertEqual(one.result(None, b"", "the bed died")["ended"], "the bed died")
        self.assertFalse(one.result(2, b"no memory")["right"])
        with self.assertRaisesRegex(judge.Unavailable, "no /dev/kvm"):
            one.result(77, b"SKIP: no /dev/kvm")
        self.assertEqual([boots.Boot("none", number).cpus() for number in range(1, 21)].count(2), 10)

    def quick(self, *wrong):
        with self.judge_in_bed(wrong):
            return [(name, bool(failed), bool(skipped)) for name, failed, skipped in boots.quick(None, None)]

    def test_quick(self):
        fine = [("judge/naive", False, False), ("judge/gpamap-1", False, False), ("judge/gpamap-2", False, False)]
        self.assertEqual(self.quick("naive"), fine)
        self.assertTrue(self.quick()[0][1])
        self.assertTrue(self.quick("naive", "gpamap")[1][1])
        self.assertEqual(self.quick("naive", "gpamap", "kicks")[1:],
                         [("judge/gpamap-1", False, True), ("judge/gpamap-2", False, True)])

    def test_answers(self):
        """The guest's sums are those of the data, and the same each time."""
        data, answers = image.known_data()
        self.assertEqual(len(data), image.DATA_SIZE)
        self.assertEqual(len(answers.split()), 1 + image.PIECES)
        self.assertEqual((data, answers), image.known_data())


if __name__ == "__main__":
    unittest.main()
