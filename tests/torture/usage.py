#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The command's exit status, and what goes where: usage.py GPAMAP"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
SIM = ("torture", "--backend", "sim", "--vcpus", "1", "--seconds", "0.2")


def run(*args, device=None, **more):
    env = {**os.environ, "GPAMAP_KVM_DEVICE": device} if device else None
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, env=env, **more)


def no_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


class UsageTest(unittest.TestCase):
    def test_bad_usage(self):
        for args in ((), ("nonsense",), ("torture", "--nonsense"), ("torture", "--vcpus", "0"),
                     ("torture", "--vcpus"), ("torture", "--seconds", "-1"),
                     ("torture", "--hazard", "rain"), ("torture", "--edit", "data,split"),
                     ("torture", "--strategy", "naive,"), ("torture", "--memory", "12X"),
                     ("torture", "--backend", "xen"), ("torture", "--no-instant"),
                     ("torture", "--no-instant", "--edit", "mixed"), ("torture", "more"),
                     ("torture", "--hazard", "its", "--mode", "user")):
            done = run(*args)
            self.assertEqual(done.returncode, 64, args)
            self.assertEqual(done.stdout, "", args)
            self.assertNotEqual(done.stderr, "", args)

    def test_bad_usage_tells_what_is_right(self):
        for args, right in ((("--max-slots", "12", "--edit", "move", "--vcpus", "3"), "at least 13"),
                            (("--max-slots", "4", "--edit", "move", "--hazard", "locked"), "at least 5"),
                            (("--json", "/nonexistent/file"), "a directory that is there"),
                            (("--json", "/"), "a directory that is there")):
            done = run(*SIM, *args)
            self.assertEqual((done.returncode, done.stdout), (64, ""), args)
            self.assertIn(right, done.stderr, args)

    def test_enough_slots(self):
        for edit, least in (("move", 5), ("hotplug", 7), ("resize", 3), ("dirtylog", 9)):
            done = run(*SIM, "--strategy", "gpamap", "--hazard", "data", "--edit", edit, "--max-slots", str(least))
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertNotIn("failed", done.stdout, edit)

    def test_help(self):
        for args in (("--help",), ("torture", "--help"), ("--version",)):
            done = run(*args)
            self.assertEqual((done.returncode, done.stderr), (0, ""), args)
            self.assertNotEqual(done.stdout, "", args)

    def test_json_alone_on_standard_output(self):
        done = run(*SIM, "--strategy", "gpamap", "--hazard", "data", "--seed", "7", "--json", "-")
        self.assertEqual(done.returncode, 2, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual([run["strategy"] for run in result["runs"]], ["gpamap"])
        self.assertEqual(result["seed"], 7)
        self.assertEqual(set(result["runs"][0]["blackout_us"]) & {"p50", "p99", "max"},
                         {"p50", "p99", "max"})

    def test_json_file_beside_the_table(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "out.json")
            done = run(*SIM, "--strategy", "gpamap", "--hazard", "stack", "--json", path)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("gpamap", done.stdout)
            with open(path, encoding="utf-8") as f:
                self.assertEqual(json.load(f)["runs"][0]["backend"], "sim")

    def test_nothing_proven(self):
        for strategies, why in (("naive", "gpamap did not run"), ("inhibit", "gpamap did not run"),
                                ("gpamap", "did not run"), ("inhibit,gpamap", "did not run"),
                                ("naive,gpamap", "showed none")):
            done = run(*SIM, "--strategy", strategies, "--hazard", "data", "--edit", "hotplug")
            last = done.stdout.strip().split("\n")[-1]
            self.assertEqual(done.returncode, 2, strategies)
            self.assertTrue(last.startswith("nothing proven: ") and why in last, last)

    def test_seed_of_a_failure(self):
        # Python ignores the signal that comes with the limit, and the program inherits that.
        done = run(*SIM, "--seed", "7", preexec_fn=no_files, restore_signals=False)
        self.assertEqual(done.returncode, 70, done.stderr)
        self.assertIn("seed 7", done.stderr)

    def test_no_its(self):
        # Found before anything runs; and it is not one of all.
        for hazards in ("its", "data,its", "all,its"):
            done = run(*SIM, "--hazard", hazards)
            self.assertEqual((done.returncode, done.stdout), (69, ""), hazards)
            self.assertIn("ITS", done.stderr)
        done = run(*SIM, "--strategy", "gpamap", "--hazard", "all", "--json", "-")
        cells = json.loads(done.stdout)["runs"][0]["hazards"]
        self.assertEqual({cell["hazard"] for cell in cells}, {"data", "string", "locked", "stack", "fetch", "pagetable"})

    def test_flag_in_the_result(self):
        for options, flag in ((("--edit", "instant"), True), (("--edit", "hotplug"), False),
                              (("--edit", "instant", "--no-instant"), False)):
            done = run(*SIM, "--strategy", "gpamap", "--hazard", "data", "--json", "-", *options)
            self.assertEqual(json.loads(done.stdout)["one_instant"], flag, options)

    def test_no_kvm(self):
        done = run("torture", "--backend", "kvm", device="/nonexistent")
        self.assertEqual(done.returncode, 69)
        self.assertIn("/nonexistent", done.stderr)
        done = run("torture", "--hazard", "data", "--mode", "user", "--strategy", "gpamap",
                   "--seconds", "0.2", "--json", "-", device="/nonexistent")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(json.loads(done.stdout)["runs"][0]["backend"], "sim")
        self.assertIn("simulated", done.stderr)


if __name__ == "__main__":
    unittest.main()
