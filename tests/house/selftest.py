#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Each rule of the house is seen to hold in a small good tree, and to fail when it is broken there."""

import os
import subprocess
import tempfile
import unittest

import rules

LICENCE = "/* SPDX-License-Identifier: BSD-3-Clause */\n"
ABOUT = "/* For a test. */\n"
GOOD = {
    "include/gpamap.h": LICENCE + ABOUT + "#include <stddef.h>\n\n/* One. */\nint gpamap_one(void);\n"
                        "int gpamap_two(void);\n",
    "src/base/tree.h": LICENCE + ABOUT + "#include <stdint.h>\n",
    "src/base/tree.c": LICENCE + ABOUT + '#include "base/tree.h"\n',
    "src/map/view.h": LICENCE + ABOUT + '#include "base/tree.h"\n',
    "src/plan/plan.c": LICENCE + ABOUT + '#include "map/view.h"\n',
    "src/sync/gate.h": LICENCE + ABOUT + "#include <pthread.h>\n",
    "src/backend/kvm.c": LICENCE + ABOUT + "#include <sys/ioctl.h>\nint f(void)\n{\n"
                         "\treturn ioctl(1, 2);\n}\n",
    "src/ops/vcpu.c": LICENCE + ABOUT + '/* not an ioctl(). */\n#include "sync/gate.h"\n',
    "src/api/private.h": LICENCE + ABOUT + '#include "plan/plan.h"\n',
    "src/sim/vm.c": LICENCE + ABOUT + '#include <pthread.h>\n#include "api/private.h"\n#include "base/tree.h"\n',
    "src/plan/plan.h": LICENCE + ABOUT + "/*\n *  QQ1  An invariant.\n */\n",
    "tests/plan/verify/verify.h": LICENCE + ABOUT + '#include "plan/plan.h"\n',
    "tests/plan/verify/verify.c": LICENCE + ABOUT + '#include "verify.h"\n',
    "tools/gpamap/main.c": LICENCE + ABOUT + '#include <gpamap.h>\n#include "main.h"\n',
    "tools/gpamap/main.h": LICENCE + ABOUT,
    "bench/internal_plan.c": LICENCE + ABOUT + '#include "plan/plan.h"\n',
    "scripts/check": "#!/usr/bin/env python3\n",
    "tests/beds/run": "#!/usr/bin/env python3\n",
    "tests/beds/fixture": "no program\n" + "\n" * 600,
    "tests/map/test_view.c": LICENCE + ABOUT + '#include "map/view.h"\n'
                             '#include "../base/counting.h"\n#include "fixture.h"\n',
}
# What is broken, the file that breaks it, what is added to it, and the rule that must see it.
BROKEN = [
    ("up", "src/base/tree.c", '#include "map/view.h"\n', rules.check_arrows),
    ("same level", "src/plan/plan.c", '#include "sync/gate.h"\n', rules.check_arrows),
    ("no folder", "src/base/tree.c", '#include "tree.h"\n', rules.check_arrows),
    ("dots", "src/ops/vcpu.c", '#include "../sync/gate.h"\n', rules.check_arrows),
    ("sim inside", "src/sim/vm.c", '#include "ops/vcpu.h"\n', rules.check_arrows),
    ("sim below the seam", "src/sim/vm.c", '#include "plan/plan.h"\n', rules.check_arrows),
    ("up to sim", "src/ops/vcpu.c", '#include "sim/backend.h"\n', rules.check_arrows),
    ("verifier up", "tests/plan/verify/verify.c", '#include "api/private.h"\n', rules.check_arrows),
    ("verifier threads", "tests/plan/verify/verify.h", "#include <pthread.h>\n", rules.check_pure),
    ("test up", "tests/map/test_view.c", '#include "plan/plan.h"\n', rules.check_arrows),
    ("test helper up", "tests/map/test_view.c", '#include "../plan/helper.h"\n',
     rules.check_arrows),
    ("test helper src", "tests/map/test_view.c", '#include "../../src/plan/plan.h"\n',
     rules.check_arrows),
    ("threads", "src/plan/plan.c", "#include <pthread.h>\n", rules.check_pure),
    ("linux", "src/map/view.h", "#include <linux/kvm.h>\n", rules.check_pure),
    ("through another", "src/base/tree.h", "#include <sys/mman.h>\n", rules.check_pure),
    ("ioctl", "src/ops/vcpu.c", "int g(void)\n{\n\treturn ioctl (0, 1);\n}\n", rules.check_ioctl),
    ("ioctl.h", "src/sync/gate.h", "#include <sys/ioctl.h>\n", rules.check_ioctl),
    ("tool internal", "tools/gpamap/main.c", '#include "base/tree.h"\n', rules.check_public_only),
    ("tool dots", "tools/gpamap/main.h", '#include "../../src/base/tree.h"\n',
     rules.check_public_only),
    ("bench internal", "bench/main.c", LICENCE + ABOUT + '#include "plan/plan.h"\n',
     rules.check_public_only),
    ("example", "examples/x.c", LICENCE + ABOUT + '#include "x.h"\n', rules.check_public_only),
    ("long function", "src/ops/vcpu.c", "static int f(void)\n{\n" + "\n" * 58 + "}\n",
     rules.check_functions),
    ("long signature", "src/ops/vcpu.c", "static int f(int a,\n\t\tint b)\n{\n" + "\n" * 57 + "}\n",
     rules.check_functions),
    ("long file", "src/ops/vcpu.c", "\n" * 600, rules.check_files),
    ("long test function", "tests/map/test_view.c", "static void f(void)\n{\n" + "\n" * 58 + "}\n",
     rules.check_functions),
    ("long script", "scripts/check", "\n" * 600, rules.check_files),
    ("long script in tests", "tests/beds/run", "\n" * 600, rules.check_files),
    ("long test", "tests/map/test_view.c", "\n" * 600, rules.check_files),
    ("no licence", "src/ops/x.c", ABOUT + ABOUT, rules.check_licence),
    ("no purpose", "src/ops/x.c", LICENCE + "int x;\n", rules.check_licence),
    ("label twice", "tools/gpamap/x.c", ABOUT + "\n/*\n *  QQ1  One.\n */\n", rules.check_labels),
    ("no comment", "include/gpamap.h", "\nint gpamap_three(void);\n", rules.check_comments),
    ("struct between", "include/gpamap.h", "\n/* S. */\nstruct s {\n\tint a;\n};\n\n"
     "int gpamap_three(struct s *s,\n\t\t int x);\n", rules.check_comments),
]


class HouseTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.root = self.temporary.name
        for path, text in GOOD.items():
            self.append(path, text)

    def tearDown(self):
        self.temporary.cleanup()

    def append(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "a", encoding="utf-8") as f:
            f.write(text)

    def compile(self, path, text, *options):
        self.append(path, text)
        out = os.path.join(self.root, os.path.basename(path).replace(".c", ".out"))
        subprocess.run([os.environ.get("CC", "cc").split()[-1], *options, "-o", out,
                        os.path.join(self.root, path)], check=True)
        return out

    def test_good(self):
        for check in {check for *_, check in BROKEN}:
            self.assertEqual(list(check(self.root)), [], check.__name__)

    def test_function_of_60_lines(self):
        self.append("src/ops/vcpu.c", "static int f(void)\n{\n" + "\n" * 57 + "}\n")
        self.assertEqual(list(rules.check_functions(self.root)), [])

    def test_format(self):
        program, why = rules.clang_format()
        if not program:
            self.skipTest(why)
        self.append(".clang-format", "BasedOnStyle: LLVM\n")
        for path in rules.sources(self.root):
            subprocess.run([program, "-i", path], cwd=self.root, check=True)
        self.assertEqual(list(rules.check_format(self.root)), [])
        self.append("src/ops/vcpu.c", "int  ugly ;\n")
        self.assertEqual(len(list(rules.check_format(self.root))), 1)

    def test_exports(self):
        public = "int gpamap_one(void){return 1;}\n"
        good = public + "int gpamap_two(void){return 2;}\n"
        seam = "".join("int %s(void){return 5;}\n" % name for name in rules.PRIVATE)
        script = os.path.join(self.root, "x.map")
        os.mkdir(os.path.join(self.root, "lib"))
        library = os.path.join(self.root, "lib", "libgpamap.so.1.2")
        self.append("x.map", "P { global: gpamap_*; gm_leak; }; %s1 { global: gm_private_*; };\n" % rules.PRIVATE_NODE)
        for name, text, expect in (("good", good + seam, 0),
                                   ("more", good + seam + "int gpamap_four(void){return 4;}\n", 1),
                                   ("leak", good + seam + "int gm_leak(void){return 4;}\n", 1),
                                   ("leak_private", good + seam + "int gm_private_x(void){return 4;}\n", 2),
                                   ("less_private", good + seam.replace("int gm_private_map_new", "static int x"), 1),
                                   ("less", public + seam, 1)):
            os.replace(self.compile(name + ".c", text, "-shared", "-fPIC", "-nostdlib",
                                    "-Wl,--version-script=" + script), library)
            self.assertEqual(len(list(rules.check_exports(self.root, library))), expect, name)
        # All in one node: the private ones are in the wrong one.
        os.replace(self.compile("node.c", good + seam, "-shared", "-fPIC", "-nostdlib"), library)
        self.assertEqual(len(list(rules.check_exports(self.root, library))), len(rules.PRIVATE))

    def objects(self, **texts):
        """A folder with an object of each text."""
        folder = os.path.join(self.root, "objects")
        os.makedirs(folder, exist_ok=True)
        for name, text in texts.items():
            os.replace(self.compile(name + ".c", text, "-c"), os.path.join(folder, name + ".c.o"))
            os.unlink(os.path.join(self.root, name + ".c"))
        return folder

    def test_circles(self):
        text = "int %s(void);int %s(void){return %s();}\n"
        down = {"a": text % ("b", "a", "b"), "b": text % ("c", "b", "c"), "c": "int c(void){return 1;}\n"}
        self.assertEqual(list(rules.check_circles(self.objects(**down))), [])
        folder = self.objects(c=text % ("a", "c", "a"))
        self.assertEqual(list(rules.check_circles(folder)), ["a circle of calls: a.c.o, b.c.o, c.c.o"])

    def test_calls(self):
        def archive(base, plan):
            objects = []
            for name, text in (("base_a.c", base), ("plan_b.c", plan)):
                out = self.compile(name, text, "-c")
                objects.append(out.replace(".out", ".c.o"))
                os.rename(out, objects[-1])
                os.unlink(os.path.join(self.root, name))
            path = os.path.join(self.root, "lib.a")
            subprocess.run(["ar", "rcs", path, *objects], check=True)
            return list(rules.check_calls(path))

        base = "int gm_base(void){return 1;}\n"
        plan = "int gm_base(void);\nint gm_plan(void){return gm_base();}\n"
        self.assertEqual(archive(base, plan), [])
        up = archive("int gm_plan(void);\nint gm_base(void){return gm_plan();}\n",
                     "int gm_plan(void){return 1;}\n")
        self.assertEqual(len(up), 1, up)
        impure = archive(base, plan + "int pthread_kill(void);\nint gm_k(void){return pthread_kill();}\n")
        self.assertEqual(len(impure), 1, impure)


def plant(name, path, text, check):
    def test(self):
        self.append(path, text)
        found = list(check(self.root))
        self.assertTrue(found, "not seen")
        self.assertTrue(all(problem.startswith(("src/", "tests/", path.split("/")[0] + "/"))
                            for problem in found), found)

    setattr(HouseTest, "test_" + name.replace(" ", "_").replace(".", "_"), test)


for broken in BROKEN:
    plant(*broken)

if __name__ == "__main__":
    unittest.main(verbosity=1)
