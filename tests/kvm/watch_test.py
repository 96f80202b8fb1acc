# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What noexit shows of running VMs, against the statistics at the end; and which VMs it finds."""

import fcntl
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from watching import NOEXIT, REFUSED, VMM, Base, Vmm, main, run


class Stat(Base):
    def test_live_and_end(self):
        """The figures of the running VMM are those of the file that it writes at its end."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "stats.json"
            with Vmm(f"--stats={path}", vms=2) as vmm:
                first = self.stat("-p", str(vmm.pid))
                self.assertEqual(first["exits_taken"] + first["exits_avoided"], 0)
                vmm.do("run")
                live = self.stat("-p", str(vmm.pid))
                message = vmm.end()
            end = json.loads(path.read_text())
        self.check_sums(live)
        self.check_sums(end)
        self.assertGreater(live["exits_avoided"], 500)
        self.assertIn(f"noexit: {live['exits_taken']} exits taken, {live['exits_avoided']} avoided",
                      message)
        # Clusters and places may be shown a moment old, and the last exit is only completed at the
        # end.
        run_only = {"command_line", "vm_ns", "off"}
        for key in set(end) - {"clusters", "left_alone", "kvm_stats", "kvm_agreement"} - run_only:
            self.assertEqual(live[key], end[key], key)
        self.assertEqual(sorted(cluster["entry"] for cluster in live["clusters"]),
                         sorted(cluster["entry"] for cluster in end["clusters"]))
        self.assertLess(set(end) - run_only, set(live))
        self.assertEqual(end["command_line"], f"{VMM} 2")
        self.assertEqual(end["off"], [])
        self.assertEqual(live["pid"], vmm.pid)
        self.assertEqual(live["command"], "watched")
        self.assertEqual(live["vms"], 2)
        self.assertEqual([(row["vm"], row["vcpu"], row["off"]) for row in live["per_vcpu"]],
                         [(0, 0, ""), (1, 0, "")])
        for key in ("exits_taken", "exits_avoided"):
            self.assertEqual(sum(row[key] for row in live["per_vcpu"]), live[key])

    def test_benefit(self):
        """What a cluster has saved, by its own counts and the costs measured last."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "stats.json"
            with Vmm(f"--stats={path}") as vmm:
                self.run_until_costs_are_known(vmm)
                vmm.end()
            end = json.loads(path.read_text())
        cost = end["cost_ns"]
        self.assertTrue(all(cost[key] for key in ("exit_io", "takeover", "resume")), cost)
        for cluster in end["clusters"]:
            self.assertLessEqual(cluster["takeovers"], cluster["executions"])
            self.assertEqual(cluster["exits_avoided_mmio"], 0)
            self.assertGreater(cluster["made_ns"], 0)
            self.assertEqual(cluster["benefit_ns"],
                             cluster["exits_avoided"] * (cost["exit_io"] - cost["resume"])
                             - cluster["takeovers"] * cost["takeover"] - cluster["made_ns"])
        self.assertLessEqual(sum(cluster["takeovers"] for cluster in end["clusters"]),
                             end["takeovers"])

    def test_grows(self):
        with Vmm() as vmm:
            vmm.do("run")
            first = self.stat("-p", str(vmm.pid))
            vmm.do("run")
            second = self.stat("-p", str(vmm.pid))
        for key in ("exits_taken", "exits_avoided", "time_ns"):
            self.assertGreater(second[key], first[key])
        self.check_sums(second)

    def test_vm_that_goes_away(self):
        """As long as one VM is left, the figures of the process do not shrink by its vCPUs."""
        with Vmm(vms=2) as vmm:
            vmm.do("run")
            vmm.do("gone")
            stats = self.stat("-p", str(vmm.pid))
        self.assertEqual(stats["vms"], 1)
        self.check_sums(stats)

    def test_text(self):
        with Vmm() as vmm:
            self.run_until_costs_are_known(vmm)
            stats = self.stat("-p", str(vmm.pid))
            result = run(NOEXIT, "stat", "-p", str(vmm.pid))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"watched, process {vmm.pid}: VMs: 1, vCPUs: 1", result.stdout)
        self.assertIn(f"exits taken {stats['exits_taken']}, avoided {stats['exits_avoided']}",
                      result.stdout)
        for text in ("a port exit to the VMM and back", "completing an exit"):
            self.assertRegex(result.stdout, rf"(?m)^ +\d+\.\d  {text}")
        for row in stats["by"]:
            self.assertRegex(result.stdout, rf"(?m)^\S+ +{row['address'][2:]} +{row['taken']} "
                                            rf"+{row['avoided']}$")

    def test_off(self):
        with Vmm("--off") as vmm:
            vmm.do("run")
            stats = self.stat("-p", str(vmm.pid))
            text = run(NOEXIT, "stat", "-p", str(vmm.pid)).stdout
        self.assertEqual(stats["clustering"], "off")
        self.assertEqual(stats["exits_avoided"], 0)
        self.assertGreater(stats["exits_taken"], 500)
        self.assertIn("off: asked for with --off", text)
        self.assertEqual(stats["per_vcpu"][0]["off"], "asked for with --off")

    def test_interval(self):
        with Vmm() as vmm:
            text = run(NOEXIT, "stat", "-p", str(vmm.pid), "-i", "0.05", "-n", "3")
            objects = run(NOEXIT, "stat", "-p", str(vmm.pid), "-i", "0.05", "-n", "2", "--json")
            endless = subprocess.Popen((NOEXIT, "stat", "-p", str(vmm.pid), "-i", "0.05"),
                                       stdout=subprocess.PIPE, text=True)
            self.assertIn("taken/s", endless.stdout.readline())
            vmm.end()
            # The VMM's end is the end, and no error.
            self.assertEqual(endless.wait(timeout=300), 0)
            endless.stdout.close()
        self.assertEqual(len(text.stdout.splitlines()), 4)
        decoder, rest, count = json.JSONDecoder(), objects.stdout.strip(), 0
        while rest:
            value, end = decoder.raw_decode(rest)
            rest, count = rest[end:].strip(), count + 1
            self.assertEqual(value["pid"], vmm.pid)
        self.assertEqual(count, 2)


class Timeline(Base):
    """--stats-interval: exits by time in the file of --stats."""

    def timeline(self, *options, words=("run",), pause=0.0):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "stats.json"
            with Vmm(f"--stats={path}", *options) as vmm:
                for word in words:
                    vmm.do(word)
                    time.sleep(pause)
                vmm.end()
            return json.loads(path.read_text())

    def test_sums(self):
        """Figures never go back, and the last ones are those of the whole run."""
        stats = self.timeline("--stats-interval=20", words=("run", "run", "gone"), pause=0.4)
        line = stats["timeline"]
        self.assertEqual(line["interval_ms"], 20)
        self.assertEqual({len(line[key]) for key in ("at_ms", "taken", "avoided")},
                         {len(line["at_ms"])})
        self.assertGreater(len(line["at_ms"]), 3)
        for key in ("at_ms", "taken", "avoided"):
            self.assertEqual(line[key], sorted(line[key]), key)
        self.assertEqual(line["taken"][-1], stats["exits_taken"])
        self.assertEqual(line["avoided"][-1], stats["exits_avoided"])
        self.assertLessEqual(line["at_ms"][-1], stats["vm_ns"] // 1000000)

    def test_long_run(self):
        """More samples than there is room for: the interval doubles, the beginning stays."""
        stats = self.timeline("--stats-interval=1", words=("run",) * 20, pause=0.12)
        line = stats["timeline"]
        self.assertEqual(line["interval_ms"] & (line["interval_ms"] - 1), 0)
        self.assertLessEqual(len(line["at_ms"]), 1024)
        self.assertLess(line["at_ms"][0], line["at_ms"][-1] / 2)
        self.assertEqual(line["taken"][-1], stats["exits_taken"])

    def test_without(self):
        self.assertNotIn("timeline", self.timeline())

    def test_without_file(self):
        self.refused(run(NOEXIT, "run", "--stats-interval=5", "--", VMM, "1"), "--stats=FILE")


class Hostile(Base):
    """A VMM may write into its memory what it likes."""

    F_ADD_SEALS, F_SEAL_SHRINK = 1033, 2

    def shown(self):
        """What a VMM shows, as bytes."""
        with Vmm() as vmm:
            vmm.do("run")
            for name in os.listdir(f"/proc/{vmm.pid}/fd"):
                path = f"/proc/{vmm.pid}/fd/{name}"
                if "noexit-counters" in os.readlink(path):
                    return bytearray(Path(path).read_bytes())
        self.fail("it shows nothing")

    def look(self, content, seal=True):
        """The commands look at this process, which shows the content."""
        file = os.memfd_create("noexit-counters", os.MFD_ALLOW_SEALING)
        try:
            os.write(file, content)
            if seal:
                fcntl.fcntl(file, self.F_ADD_SEALS, self.F_SEAL_SHRINK)
            with mmap.mmap(file, 4096):
                return [run(*command, "-p", str(os.getpid()), errors="surrogateescape") for command
                        in ((NOEXIT, "stat"), (NOEXIT, "stat", "--json"),
                            (NOEXIT, "top", "--batch", "-n", "1", "-i", "0.01"),
                            (NOEXIT, "explain", "-n", "0"))]
        finally:
            os.close(file)

    def test_as_it_is(self):
        for result in self.look(self.shown()):
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_other_versions(self):
        shown = self.shown()
        for result in self.look(shown, seal=False) + self.look(shown[:5000]):
            self.refused(result, "another version")
        for at in (0, 8, 12, 16):
            other = bytearray(shown)
            other[at] ^= 1
            for result in self.look(other):
                self.refused(result, "another version")

    def test_nonsense(self):
        shown = self.shown()
        chance = random.Random(5)
        where = [at for at in range(24, len(shown)) if shown[at]]
        for turn in range(25):
            other = bytearray(shown)
            for _ in range(1 << turn % 12):
                # Where something is, mostly: counts, lengths, offsets, code.
                at = chance.choice(where) if chance.random() < 0.8 else chance.randrange(24, len(shown))
                other[at] = chance.choice((0, 1, 0x7f, 0x80, 0xff, chance.randrange(256)))
            for result in self.look(other):
                self.assertIn(result.returncode, (0, REFUSED), (turn, result.stderr))
                self.assertTrue(all(32 <= ord(c) < 127 or c == "\n" for c in result.stdout), turn)


class Names(Base):
    def vmm(self, *options):
        vmm = Vmm("--perf-map", *options)
        path = Path(f"/tmp/perf-{vmm.pid}.map")
        self.addCleanup(lambda: path.unlink(missing_ok=True))
        return vmm, path

    def test_perf_map(self):
        """Every cluster has a line, whose addresses are executable."""
        vmm, path = self.vmm()
        with vmm:
            self.assertFalse(path.exists())
            vmm.do("run")
            clusters = self.stat("-p", str(vmm.pid))["clusters"]
            lines = [line.split() for line in path.read_text().splitlines()]
            maps = Path(f"/proc/{vmm.pid}/maps").read_text().splitlines()
        self.assertEqual(sorted((f"noexit_{cluster['entry'][2:]}_64bit", cluster["code_bytes"])
                                for cluster in clusters),
                         sorted((name, int(size, 16)) for _, size, name in lines))
        code = [line.split()[0].split("-") for line in maps
                if "noexit-code" in line and " r-x" in line]
        for start, size, _ in lines:
            self.assertTrue(any(int(first, 16) <= int(start, 16) and
                                int(start, 16) + int(size, 16) <= int(last, 16)
                                for first, last in code), start)

    def test_perf_map_of_somebody_else(self):
        """A link in the place of the file is not followed."""
        with tempfile.TemporaryDirectory() as directory:
            precious = Path(directory) / "precious"
            precious.write_text("precious")
            vmm, path = self.vmm()
            with vmm:
                path.symlink_to(precious)
                vmm.do("run")
            self.assertEqual(precious.read_text(), "precious")

    def test_no_names_unless_asked(self):
        with Vmm() as vmm:
            vmm.do("run")
            self.assertFalse(Path(f"/tmp/perf-{vmm.pid}.map").exists())

    def test_gdb(self):
        if not shutil.which("gdb"):
            self.skipTest("gdb is not installed")
        vmm, path = self.vmm("--gdb")
        with vmm:
            vmm.do("run")
            start, size, name = path.read_text().splitlines()[-1].split()
            inside = hex(int(start, 16) + int(size, 16) - 1)
            gdb = run("gdb", "-batch", "-nx", "-p", str(vmm.pid), "-ex", f"info symbol {inside}",
                      "-ex", "info symbol 0")
        if "ptrace: Operation not permitted" in gdb.stderr:
            self.skipTest("processes may not be traced here")
        self.assertIn(f"{name} + {int(size, 16) - 1} in section .text", gdb.stdout, gdb.stderr)


class Which(Base):
    def test_arguments(self):
        for command in ("stat", "explain", "top"):
            batch = ("--batch",) if command == "top" else ()
            self.refused(run(NOEXIT, command, *batch, "-p", "4194304"), "no process 4194304")
            self.refused(run(NOEXIT, command, *batch, "-p", "x"), "process id")
            self.refused(run(NOEXIT, command, *batch, "-p", str(os.getpid())),
                         "no VM under noexit")
        self.refused(run(NOEXIT, "stat", "-i", "never"), "number of seconds")
        self.refused(run(NOEXIT, "stat", "-n", "-1"), "whole number")
        self.refused(run(NOEXIT, "top", "--batch", "-i", "0"), "number of seconds")
        self.refused(run(NOEXIT, "stat", "7"), "too many")

    def test_several(self):
        """Without -p the one VMM is found; of two the user has to choose."""
        with Vmm() as one:
            found = run(NOEXIT, "stat")
            # There may be others on this machine.
            if found.returncode != REFUSED:
                self.assertIn(f"process {one.pid}:", found.stdout)
            with Vmm() as two:
                self.refused(run(NOEXIT, "stat"), " VMMs ", f"{one.pid} (watched)",
                             f"{two.pid} (watched)", "-p")

    def test_measuring_is_not_found(self):
        """check and bench make VMs of their own, which nobody wants to watch."""
        for command in (("check",), ("bench", "--quick", "halt")):
            with subprocess.Popen((NOEXIT, *command), stdout=subprocess.DEVNULL) as measuring:
                seen = 0
                while measuring.poll() is None:
                    maps = Path(f"/proc/{measuring.pid}/maps").read_text()
                    seen += "kvm-vcpu" in maps
                    self.assertNotIn("noexit-counters", maps)
                self.assertEqual(measuring.returncode, 0)
                self.assertGreater(seen, 0)

    def test_killed(self):
        """Nothing is left of a VMM that was killed."""
        with Vmm() as vmm:
            vmm.do("run")
            vmm.process.kill()
            vmm.process.wait()
            self.refused(run(NOEXIT, "stat", "-p", str(vmm.pid)), "no process")

    def test_child(self):
        """A forked child inherits the descriptor and is none of the VMM."""
        with Vmm() as vmm:
            child = int(vmm.do("fork")[0].split()[1])
            try:
                vmm.do("run")
                self.refused(run(NOEXIT, "stat", "-p", str(child)), "no VM under noexit")
                self.assertGreater(self.stat("-p", str(vmm.pid))["exits_avoided"], 200)
            finally:
                os.kill(child, signal.SIGKILL)

    @unittest.skipUnless(os.geteuid() == 0, "only root can become somebody else")
    def test_no_right(self):
        with Vmm() as vmm:
            # The program may lie in a directory that nobody else may enter.
            program = os.open(NOEXIT, os.O_RDONLY)
            try:
                self.refused(run(f"/proc/self/fd/{program}", "stat", "-p", str(vmm.pid),
                                 pass_fds=[program], user=12345, group=12345, extra_groups=[]),
                             "cannot be looked into", "root")
            finally:
                os.close(program)


if __name__ == "__main__":
    main()
