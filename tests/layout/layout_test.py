#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The layout of the sources: dependencies point one way, private headers stay private, a test has the
name of its file, and a file of kvm/ has a test of its name.

usage: layout_test.py SOURCES BUILD CC...
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import layout

ROOT = BUILD = CC = None

# A tree without an offence. To each offence belongs a line that brings it in.
TREE = {
    "engine/noexit.h": "int nx_a(void);\nint nx_b(void);\nint nx_c(void);\n",
    "engine/one/a.c": '#include "noexit.h"\nint nx_a(void)\n{\n\treturn nx_b();\n}\n',
    "engine/one/inner.h": "/*\n * inner.h - private to\n * one/.\n */\n#define ONE 1\n",
    "engine/two/b.c": '#include "noexit.h"\nint nx_b(void)\n{\n\treturn nx_c();\n}\n',
    "engine/two/c.c": '#include "noexit.h"\nint nx_c(void)\n{\n\treturn 1;\n}\n',
    "kvm/host.h": "int nx_host(void);\n",
    "kvm/run.c": '#include "host.h"\nint nx_host(void)\n{\n\treturn 1;\n}\n',
    "kernel/kvm/host.h": "int nxk_host(void);\n",
    "kernel/kvm/run.c": '#include "host.h"\nint nxk_host(void)\n{\n\treturn 1;\n}\n',
    "figures/stats.h": "#define STATS 1\n",
    "cli/main.c": '#include "stats.h"\nint main(void)\n{\n\treturn 0;\n}\n',
    "tests/kvm/fake.c": '#include "host.h"\nint fake;\n',
    "tests/kvm/run_test.c": '#include "host.h"\nint run;\n',
    "tests/kvm/look_test.py": "",
    "tests/unit/a_test.c": '#include "one/inner.h"\nint unit;\n',
}


class MadeUpTree(unittest.TestCase):
    """The checks themselves: each offence is found, and nothing else is."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)
        for name, text in TREE.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def add(self, name, text):
        file = self.root / name
        file.write_text(text + file.read_text(encoding="utf-8"), encoding="utf-8")

    def objects(self):
        made = {}
        for folder in layout.FOLDERS:
            for file in sorted((self.root / folder).rglob("*.c")):
                target = file.with_suffix(".o")
                subprocess.run([*CC, "-c", "-I", str(self.root / "engine"), "-o", str(target),
                                str(file)], check=True)
                made[str(file.relative_to(self.root))] = target
        return made

    def test_nothing_is_found(self):
        self.assertEqual(layout.find_includes(self.root), [])
        self.assertEqual(layout.find_circles(self.objects()), [])

    def test_circle_of_two(self):
        self.add("engine/two/c.c", "int nx_b(void);\nint nx_back(void)\n{\n\treturn nx_b();\n}\n")
        circle, = layout.find_circles(self.objects())
        self.assertIn("engine/two/b.c needs nx_c of engine/two/c.c", circle)
        self.assertIn("engine/two/c.c needs nx_b of engine/two/b.c", circle)
        self.assertNotIn("a.c", circle)

    def test_circle_of_three(self):
        self.add("engine/two/c.c", "extern int (*const nx_table[])(void);\n"
                 "int nx_a(void);\nint (*const nx_table[])(void) = {nx_a};\n")
        circle, = layout.find_circles(self.objects())
        self.assertIn("a circle of 3 files", circle)

    def test_circles_apart(self):
        self.add("engine/two/c.c", "int nx_b(void);\nint nx_back(void)\n{\n\treturn nx_b();\n}\n")
        self.add("kvm/run.c", "int nx_two(void);\nint nx_one(void)\n{\n\treturn nx_two();\n}\n")
        (self.root / "kvm/two.c").write_text("int nx_one(void);\nint nx_two(void)\n{\n"
                                             "\treturn nx_one();\n}\n", encoding="utf-8")
        self.assertEqual(len(layout.find_circles(self.objects())), 2)

    def test_libcs_names_tie_no_circle(self):
        (self.root / "kvm/preload.c").write_text(
            "int nx_host(void);\nint close(int fd)\n{\n\treturn nx_host() + fd;\n}\n", encoding="utf-8")
        self.add("kvm/run.c", "int close(int);\nint nx_close(void)\n{\n\treturn close(3);\n}\n")
        self.assertEqual(layout.find_circles(self.objects()), [])
        self.add("kvm/preload.c", "int nx_close(void);\nint nx_preload(void)\n{\n\treturn 1;\n}\n")
        self.add("kvm/run.c", "int nx_preload(void);\nint nx_again(void)\n{\n\treturn nx_preload();\n}\n")
        self.assertEqual(len(layout.find_circles(self.objects())), 1)

    def test_private_header_of_a_stage(self):
        self.add("engine/two/b.c", '#include "one/inner.h"\n')
        self.assertEqual(layout.find_includes(self.root), [
            "engine/two/b.c includes engine/one/inner.h, which is private to engine/one/"])

    def test_private_header_from_a_host(self):
        self.add("kvm/run.c", '#include "one/inner.h"\n')
        self.assertEqual(len(layout.find_includes(self.root)), 1)

    def test_private_header_of_the_host(self):
        self.add("cli/main.c", '#include "host.h"\n')
        self.add("figures/stats.h", '  #  include "../kvm/host.h"\n')
        self.add("tests/unit/a_test.c", '#include "host.h"\n')
        found = layout.find_includes(self.root)
        self.assertEqual([line.split()[0] for line in found],
                         ["figures/stats.h", "cli/main.c", "tests/unit/a_test.c"])

    def test_engine_includes_others(self):
        self.add("engine/two/b.c", '#include "stats.h"\n')
        self.add("engine/two/c.c", '#include "absent.h"\n')
        self.assertEqual(layout.find_includes(self.root), [
            "engine/two/b.c includes figures/stats.h, which is outside engine/",
            "engine/two/c.c includes absent.h, which is outside engine/"])

    def test_misnamed_tests(self):
        right = ["unit/a", "unit/a-again", "kvm/look", "kvm/run", "kvm/fake", "kvm", "valgrind/unit/a"]
        wrong = ["a", "unit-a", "unit/a_test", "unit/b", "kvm/look.py", "fuzz/unit/a"]
        self.assertEqual(layout.misnamed(self.root, right + wrong), wrong)

    def test_untested_file(self):
        self.assertEqual(layout.untested(self.root), [])
        for name in ("kvm/look.c", "kvm/two.c", "tests/kvm/three_test.c"):
            (self.root / name).write_text("", encoding="utf-8")
        self.assertEqual(layout.untested(self.root), ["kvm/look.c", "kvm/two.c"])


class RealTree(unittest.TestCase):
    """This project."""

    def objects(self, folder):
        """Maps each file of a folder to an object file that was made of it there."""
        made = {}
        commands = json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8"))
        for entry in commands:
            file = (Path(entry["directory"]) / entry["file"]).resolve()
            target = entry["output"]
            if file.is_relative_to(ROOT / folder) and target.startswith(folder + "/"):
                made.setdefault(str(file.relative_to(ROOT)), BUILD / target)
        return made

    def test_no_circles(self):
        for folder in layout.FOLDERS:
            objects = self.objects(folder)
            sources = {str(file.relative_to(ROOT)) for ending in ("*.c", "*.S")
                       for file in (ROOT / folder).rglob(ending)}
            self.assertEqual(set(objects), sources, "each file has an object")
            self.assertEqual("\n".join(layout.find_circles(objects)), "")

    def test_includes(self):
        self.assertEqual("\n".join(layout.find_includes(ROOT)), "")

    def test_names_of_tests(self):
        tests = json.loads(subprocess.run(["meson", "introspect", "--tests", str(BUILD)], text=True,
                                          stdout=subprocess.PIPE, check=True).stdout)
        names = [test["name"] for test in tests]
        self.assertEqual(layout.misnamed(ROOT, names), [])
        self.assertEqual(len(names), len(set(names)))

    def test_each_file_of_the_host_has_a_test(self):
        self.assertEqual(layout.untested(ROOT), [])

    def test_there_are_private_headers(self):
        private = layout.private_of(ROOT, layout.find_headers(ROOT))
        self.assertLessEqual({"kvm/host.h", "engine/form/former.h", "engine/translate/emit.h",
                              "engine/translate/translator.h", "engine/verify/verifier.h"},
                             set(private))


if __name__ == "__main__":
    ROOT, BUILD, CC = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:]
    unittest.main(argv=sys.argv[:1])
