#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the programs have said gets into the tables, and nothing else does: test_kernels.py SCRIPT"""

import os
import subprocess
import sys
import tempfile
import unittest

SCRIPT = sys.argv.pop(1)
LIST = "FACT K1 must: Water is wet\nFACT K2 known: It is cold\nFACT K3 apart: It keeps still\n"
DOC = "a\n<!-- kernels: facts -->\nold\n<!-- end -->\nb\n<!-- kernels: capabilities -->\n<!-- end -->\n"


def said(column, second, capability):
    return (f"COLUMN {column}\n" + (LIST if column == "kvm_x" else "") +
            f"KERNEL 6.1-{column} x86_64\nFACT K1 holds\nFACT K2 {second}\n"
            "FACT K3 differs: it boils\n"
            f"KVM_CAP_   system   VM\nNR_MEMSLOTS      {capability}\nSOME_BITS      {capability}\n")


class Kernels(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.doc = self.path("doc.md")
        os.mkdir(self.path("kernels"))
        self.write("doc.md", DOC)
        self.write("kernels/here.txt", said("kvm_x", "holds: 7 a change", "0x20  0x20"))
        self.write("kernels/svm-6.1.txt", said("svm-6.1", "differs: warm", "0x1ffff  0x1ffff"))
        self.write("kernels/svm-6.12.txt", said("svm-6.12", "n/a: no water", "0x1     0"))
        for place in ("svm-newest", "arm64", "arm64-16k", "arm64-newest"):
            self.write(f"kernels/{place}.txt", said(place, "holds", "-   -"))

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)

    def run_script(self, *places):
        done = subprocess.run([sys.executable, SCRIPT, self.folder.name, self.doc, *places],
                              capture_output=True, text=True)
        with open(self.doc, encoding="utf-8") as f:
            return done.returncode, f.read(), done.stderr

    def test_tables(self):
        status, text, _ = self.run_script("kept")
        self.assertEqual(status, 0)
        self.assertIn("|  | fact | kvm_x | svm-6.1 | svm-6.12 | svm-newest | arm64 | arm64-16k | arm64-newest |", text)
        self.assertIn("| K1 | Water is wet. |" + 7 * " yes |" + "\n", text)
        self.assertIn("| K2 | *It is cold.* | yes: 7 a change | **no**: warm | n/a: no water |" + 4 * " yes |", text)
        self.assertIn("| K3 | *It keeps still.* |" + 7 * " **no**: it boils |", text)
        self.assertIn("| `NR_MEMSLOTS` | 32 | 131,071 | 0 (system: 1) |" + 4 * " - |", text)
        self.assertIn("| `SOME_BITS` | 0x20 | 0x1ffff | 0 (system: 1) |" + 4 * " - |", text)
        self.assertIn("| Linux | 6.1-kvm_x | 6.1-svm-6.1 | 6.1-svm-6.12 | 6.1-svm-newest | 6.1-arm64 | 6.1-arm64-16k | "
                      "6.1-arm64-newest |", text)
        self.assertTrue(text.startswith("a\n") and "\nold\n" not in text and "\nb\n" in text)
        self.assertEqual(self.run_script("kept")[1], text)

    def refused(self, about):
        with open(self.doc, encoding="utf-8") as f:
            before = f.read()
        status, text, why = self.run_script("kept")
        self.assertEqual((status, text), (1, before))
        self.assertIn(about, why)

    def test_place_missing(self):
        os.remove(self.path("kernels/arm64.txt"))
        self.refused("arm64 has not been run")

    def test_fact_missing(self):
        self.write("kernels/arm64.txt", said("arm64", "maybe", "-   -"))
        self.refused("arm64 says nothing of K2")

    def test_unknown_table(self):
        self.write("doc.md", DOC.replace("kernels: facts", "kernels: fiction"))
        self.refused("no table fiction")

    def test_unknown_place(self):
        self.assertEqual(self.run_script("moon")[0], 64)


if __name__ == "__main__":
    unittest.main()
