# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Boots of two levels, each from the beginning: nested_boots_test.py [amd|intel]

Level 0 is the lab's kernel, level 1 a Debian that boots in it, and level 2 one that boots in that. The columns are
lab/nested's: none; 'noexit run' in level 1; the module in level 1, in level 0 before level 1 is started, and in both.
In each column level 1's kernel and level 2's console have to say the same, LAB_BOOTS times (20), by turns.

It takes hours, so it is a part of `make soak` (nested-boots). Words are the columns, otherwise all.
"""

import os
import statistics
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent)]

from module_testing import build_or_skip  # noqa: E402

import transcript  # noqa: E402
from lab_testing import main, run_lab, shared_files, write_initrd  # noqa: E402

COLUMNS = ("none", "run", "inner", "outer", "both")
WORDS, sys.argv = sys.argv[1:], sys.argv[:1]
CPU = "intel" if "intel" in WORDS else "amd"
CHOSEN = [column for column in COLUMNS if column in WORDS] or COLUMNS
BOOTS = int(os.environ.get("LAB_BOOTS", "20"))

# Level 2's first process.
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc
mount -t proc proc /proc
n=0
while [ $n -lt 20 ]; do echo "guest: $n $(grep -c . /proc/cpuinfo) $(echo $n | md5sum)"; n=$((n + 1)); done
grep -E 'model name|flags|bugs' /proc/cpuinfo
stty -echo </dev/console
poweroff -f
"""
# Level 1. The time is level 2's, from QEMU's start to its end, in hundredths of a second.
SCRIPT = """
now() {{ read -r now _ </proc/uptime; echo "${{now%.*}}${{now#*.}}"; }}
{load}
began=$(now)
timeout 900 {prefix} qemu-system-x86_64 -accel kvm -cpu host -no-user-config -net none -vga none -display none \
	-monitor none -no-reboot -m 192 -kernel /guest/vmlinuz -initrd /root/initrd -append 'console=ttyS0 panic=-1' \
	-serial file:/out/level2 </dev/null || echo "status $?"
echo "time $(($(now) - began))"
dmesg >/out/level1
"""


class NestedBootsTest(unittest.TestCase):
    def boot(self, column):
        """Returns what levels 1 and 2 have said, and how many seconds level 2 has taken."""
        script = SCRIPT.format(load="insmod /root/noexit.ko all=1" if column in ("inner", "both") else "",
                               prefix="noexit run --" if column == "run" else "")
        outer = ("--outer-kmod", f"{MODULE} all=1") if column in ("outer", "both") else ()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            write_initrd(path / "initrd", INIT.encode("ascii"))
            result = run_lab(script, "--nested", *outer, cpu=CPU, share=path / "out",
                             outputs="cli/noexit kvm/libnoexit-kvm.so",
                             put={"/root/noexit.ko": MODULE, "/root/initrd": path / "initrd"})
            self.assertEqual(result.returncode, 0, result.stdout)
            out = shared_files(path / "out")
        lines = [line for line in result.stdout.splitlines() if not line.startswith("noexit: ")]
        self.assertRegex("|".join(lines), r"^time \d+$")
        # What is loaded there says so.
        level1 = "".join(line + "\n" for line in out["level1"].splitlines() if "] noexit: " not in line)
        return level1, out["level2"], int(lines[0].split()[1]) / 100

    def test_both_levels_say_the_same(self):
        first, times = None, {column: [] for column in CHOSEN}
        for number in range(BOOTS):
            for column in CHOSEN if number % 2 == 0 else CHOSEN[::-1]:
                with self.subTest((column, number)):
                    *said, seconds = self.boot(column)
                    times[column].append(seconds)
                    first = first or said
                    for level, one, other in zip((1, 2), first, said):
                        self.assertGreater(len(other.splitlines()), 100)
                        self.assertEqual(transcript.difference(one, other), [], f"level {level}")
                print(f"{number + 1} {column}: {times[column][-1:]} s", flush=True)
        for column in filter(times.get, CHOSEN):
            print(f"{column}: {len(times[column])} boots, median of level 2 {statistics.median(times[column]):.2f} s")


if __name__ == "__main__":
    MODULE, _ = build_or_skip(CPU)
    main()
