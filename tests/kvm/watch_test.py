# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What noexit shows of running VMs: stat, top and explain, against the statistics at the end."""

import fcntl
import json
import mmap
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

NOEXIT, VMM = (os.path.abspath(path) for path in sys.argv[1:3])
REFUSED, SKIPPED = 2, 77


def run(*command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=600, check=False, **options)


class Vmm:
    """The VMM, started by noexit run; it obeys one word after the other. Weighing is switched off:
    what there is to see must not depend on what exits cost on this machine."""

    def __init__(self, *options, vms=1):
        self.process = subprocess.Popen((NOEXIT, "run", "--limits=unweighed", *options, "--", VMM,
                                         str(vms)), text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pid = self.process.pid
        self.answer("ready")

    def answer(self, last):
        lines = []
        while not lines or lines[-1] != last:
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"the VMM ended: {self.process.stderr.read()}")
            lines.append(line.strip())
        return lines

    def do(self, word):
        print(word, file=self.process.stdin, flush=True)
        return self.answer("done")

    def end(self):
        out, errors = self.process.communicate(timeout=300)
        return out + errors

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Base(unittest.TestCase):
    def refused(self, result, *texts):
        """One sentence, status 2, nothing on standard output."""
        self.assertEqual(result.returncode, REFUSED, result.stderr)
        self.assertEqual(result.stdout, "")
        lines = [line for line in result.stderr.splitlines() if not line.startswith("Try ")]
        self.assertEqual(len(lines), 1, result.stderr)
        for text in texts:
            self.assertIn(text, lines[0])

    def stat(self, *arguments):
        result = run(NOEXIT, "stat", "--json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        return json.loads(result.stdout)

    def run_until_costs_are_known(self, vmm):
        """A run takes over once or a few times, and what that costs is known after sixteen."""
        for _ in range(100):
            vmm.do("run")
            cost = self.stat("-p", str(vmm.pid))["cost_ns"]
            if all(cost[key] for key in ("exit_io", "takeover", "resume")):
                return
        self.fail(f"costs are not known: {cost}")

    def check_sums(self, stats):
        """What is listed in parts adds up to the whole."""
        self.assertEqual(sum(row["taken"] for row in stats["by"]),
                         stats["taken_by_kind"].get("io", 0))
        self.assertEqual(sum(row["avoided"] for row in stats["by"]), stats["exits_avoided"])
        self.assertEqual(sum(stats["taken_by_kind"].values()), stats["exits_taken"])
        self.assertEqual(sum(stats["avoided_by_kind"].values()), stats["exits_avoided"])
        engine = stats["engine"]
        self.assertEqual(engine["exits_io"] + engine["exits_mmio"], stats["exits_avoided"])
        self.assertEqual(sum(stats["distance"]) + engine["exits_traced"], stats["exits_avoided"])
        self.assertEqual(sum(stats["stays_by_us"]), stats["takeovers"])
        self.assertGreaterEqual(stats["stays_ns"], stats["longest_stay_ns"])


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
        self.assertLessEqual(line["at_ms"][-1], stats["vm_ns"] // 1000000 + 1)

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


class Explain(Base):
    LINE = re.compile(r"  (?P<mark>[> ]) +(?P<rip>[0-9a-f]+)  (?P<star>[* ]) (?P<text>[^;]*[^ ;])"
                      r"( +; (?P<note>.*))?$")

    def explain(self, *arguments):
        result = run(NOEXIT, "explain", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def both(self):
        """The listing of the running VMM and that of the file that it leaves."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "stats.json"
            with Vmm(f"--stats={path}") as vmm:
                # Clusters grow when the exits that they lack have cost enough.
                for _ in range(20):
                    vmm.do("run")
                live = self.explain("-p", str(vmm.pid), "-n", "0")
                vmm.end()
            return live, self.explain("-n", "0", str(path)), json.loads(path.read_text())

    def test_guest(self):
        live, filed, stats = self.both()
        # Only the headings' counters may differ by a moment, and with them the clusters' order.
        self.assertEqual(sorted(line for line in live.splitlines() if "cluster" not in line),
                         sorted(line for line in filed.splitlines() if "cluster" not in line))
        self.assertEqual(live.count("VM 0, vCPU 0, cluster "), len(stats["clusters"]))
        headings = [line for line in filed.splitlines() if line.startswith("cluster ")]
        self.assertEqual(len(headings), len(stats["clusters"]))
        for heading, cluster in zip(headings, stats["clusters"]):
            self.assertIn(f"cluster {cluster['entry'][2:]}, 64 bits", heading)
            self.assertIn(f"instructions {cluster['instructions']}, "
                          f"exiting {cluster['exiting']}", heading)
            self.assertIn(f"exits avoided {cluster['exits_avoided']}, "
                          f"taken over {cluster['takeovers']} times, benefit ", heading)
        self.check_listing(filed.split("\n\n")[0], stats["clusters"][0])

    def check_listing(self, listing, cluster):
        """The hottest cluster: all exits of the loop, which the paths level follows whole."""
        lines = [self.LINE.match(line) for line in listing.splitlines() if line[0] == " "]
        self.assertNotIn(None, lines)
        self.assertEqual(len(lines), cluster["instructions"])
        self.assertEqual(sum(line["star"] == "*" for line in lines), cluster["exiting"])
        for line in lines:
            self.assertEqual(line["star"] == "*", line["text"].startswith(("in ", "out ")),
                             line[0])
            if line["star"] == "*":
                self.assertIsNone(line["note"], line[0])
        texts = [line["text"] for line in lines]
        for text in ("in ax, dx", "and dword ptr [rsi], 0xfffffeff", "in al, dx", "test al, 0x8",
                     "out 0x80, al"):
            self.assertIn(text, texts)
        poll = next(line for line in lines if line["text"].startswith("jz "))
        self.assertRegex(poll["note"], r"^back to B\d+")
        skip = next(line for line in lines if line["text"].startswith("jnz 0x8019"))
        self.assertRegex(skip["note"], r"^to B\d+")
        ret = next(line for line in lines if line["text"] == "ret")
        self.assertRegex(ret["note"], r"^guard: 0x802e (back )?to B\d+; else leaves")
        # Resumes begin behind the exits.
        self.assertEqual(next(line for line in lines if line["text"].startswith("and "))["mark"],
                         ">")

    def test_choice(self):
        with Vmm() as vmm:
            vmm.do("run")
            pid = str(vmm.pid)
            self.assertEqual(self.explain("-p", pid, "-n", "1").count("cluster "), 1)
            entry = re.search("cluster ([0-9a-f]+)", self.explain("-p", pid))[1]
            self.assertIn(f"cluster {entry},", self.explain("-p", pid, "-e", f"0x{entry}"))
            self.refused(run(NOEXIT, "explain", "-p", pid, "-e", "1"), "no such cluster")

    def test_json(self):
        """As in the file of noexit run --stats, and so to be explained in turn."""
        with tempfile.TemporaryDirectory() as directory:
            path, one = Path(directory) / "stats.json", Path(directory) / "one.json"
            with Vmm(f"--stats={path}") as vmm:
                vmm.do("run")
                live = json.loads(self.explain("-p", str(vmm.pid), "-n", "0", "--json"))
                vmm.end()
            filed = json.loads(self.explain("-n", "0", "--json", str(path)))
            self.assertEqual(filed["clusters"], json.loads(path.read_text())["clusters"])
            self.assertEqual(sorted(cluster["entry"] for cluster in live["clusters"]),
                             sorted(cluster["entry"] for cluster in filed["clusters"]))
            entry = filed["clusters"][0]["entry"]
            one.write_text(self.explain("-e", entry, "--json", str(path)))
            self.assertEqual(self.explain(str(one)), self.explain("-e", entry, str(path)))
            self.refused(run(NOEXIT, "explain", "-e", "1", "--json", str(path)), "no such cluster")

    def test_files(self):
        _, _, stats = self.both()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "file"

            def refused(text, content):
                path.write_text(content if isinstance(content, str) else json.dumps(content))
                self.refused(run(NOEXIT, "explain", str(path)), text, "noexit run --stats")

            self.refused(run(NOEXIT, "explain", f"{path}.none"), "No such file")
            self.refused(run(NOEXIT, "explain", "a", "b"), "too many")
            refused("cannot be read", "no JSON")
            refused("no clusters", {})
            refused("no clusters", {"clusters": 5})
            refused("not as this version", {"clusters": [5]})
            for spoil in ({"entry": 5}, {"graph": None}, {"bits": 1000}, {"benefit_ns": "5"}):
                refused("not as this version", {"clusters": [{**stats["clusters"][0], **spoil}]})
            block = stats["clusters"][0]["graph"][0]
            for spoil in ({"code": "0g"}, {"exits": [1000]}, {"lengths": [1] * 70000},
                          {"edges": [{"way": "target"}]}, {"edges": [{"way": "next", "to": -1}]}):
                refused("not as this version",
                        {"clusters": [{**stats["clusters"][0], "graph": [{**block, **spoil}]}]})

    def test_left_alone(self):
        place = {"rip": "0x7c3f", "times": 5980, "reason": "declined"}
        barren = {"rip": "0x7c51", "times": 7, "reason": "barren", "leave": "SESSION"}
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "file"

            def refused(text, content):
                path.write_text(json.dumps(content))
                self.refused(run(NOEXIT, "explain", "--alone", str(path)), text)

            path.write_text(json.dumps({"left_alone": [place, barren]}))
            lines = self.explain("--alone", str(path)).splitlines()
            self.assertEqual(len(lines), 2)
            self.assertRegex(lines[0], "^ +7c3f +5980 times  declined: taking over there has cost")
            self.assertRegex(lines[1], "^ +7c51 +7 times  barren: .*[(]the host refused")
            self.assertEqual(self.explain("--alone", "-n", "1", str(path)).splitlines(), lines[:1])
            self.assertEqual(json.loads(self.explain("--alone", "--json", str(path))),
                             {"left_alone": [place, barren]})
            refused("does not say", {"clusters": []})
            refused("names no place", {"left_alone": []})
            refused("not as this version", {"left_alone": [{**place, "reason": "?"}]})
            refused("not as this version", {"left_alone": [5]})


class Top(Base):
    ROW = r"^ +[0-9a-f]+ +(\d+) +(\d+) +64 +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(?:-|-?[0-9.]+ [um]s)$"

    def busy(self, vmm, *arguments):
        """The output of top while the VMM's guests run."""
        top = subprocess.Popen((NOEXIT, "top", "--batch", "-p", str(vmm.pid), *arguments),
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while top.poll() is None:
            vmm.do("run")
        out, errors = top.communicate()
        self.assertEqual(top.returncode, 0, errors)
        return out

    def test_batch(self):
        with Vmm(vms=2) as vmm:
            frames = self.busy(vmm, "-n", "2", "-i", "0.3").split("\n\nwatched")
            one = self.busy(vmm, "-n", "1", "-m", "1")
            none = self.busy(vmm, "-n", "1", "-m", "7")
        self.assertEqual(len(frames), 2)
        for frame in frames:
            self.assertIn(f"process {vmm.pid}: VMs: 2, vCPUs: 2; all VMs", frame)
            taken, avoided, share = re.search(
                r"exits/s: (\d+) taken, (\d+) avoided \((\d+\.\d\d)%\)", frame).groups()
            self.assertGreater(int(avoided), 0)
            # The rates are rounded.
            self.assertAlmostEqual(float(share), 100 * int(avoided) / (int(taken) + int(avoided)),
                                   delta=1)
            self.assertRegex(frame, r"(?m)^stays by us( +[-0-9+]+: \d+%)+$")
            shares = re.findall(r": (\d+)%", "".join(re.findall(r"(?m)^stays by us.*", frame)))
            # Those below half a percent are left out.
            self.assertAlmostEqual(sum(map(int, shares)), 100, delta=8)
            self.assertRegex(frame, r"(?m)^instructions between exits( +[-0-9+]+: \d+%)+$")
            self.assertRegex(frame, r"(?m)^post +80 +\d+ +\d+$")
        rows = re.findall(self.ROW, frames[1], re.M)
        self.assertGreaterEqual(len(rows), 2)
        rates = [int(row[5]) for row in rows]
        self.assertEqual(rates, sorted(rates, reverse=True))
        self.assertGreater(rates[0], 0)
        self.assertEqual({row[0] for row in rows}, {"0", "1"})
        self.assertEqual({row[0] for row in re.findall(self.ROW, one, re.M)}, {"1"})
        self.assertIn("; VM 1, clusters by", one)
        self.assertEqual(re.findall(self.ROW, none, re.M), [])

    def test_sorts(self):
        with Vmm() as vmm:
            self.busy(vmm, "-n", "1", "-s", "benefit")
            for word, column in (("executions", 4), ("instructions", 2), ("total", 6)):
                values = [int(row[column]) for row in
                          re.findall(self.ROW, self.busy(vmm, "-n", "1", "-s", word), re.M)]
                self.assertTrue(values)
                self.assertEqual(values, sorted(values, reverse=True))
            self.refused(run(NOEXIT, "top", "--batch", "-s", "name"), "avoided executions")

    def test_off(self):
        with Vmm("--off") as vmm:
            self.assertIn("VM 0, vCPU 0: off: asked for with --off",
                          self.busy(vmm, "-n", "1"))

    def test_no_terminal(self):
        with Vmm() as vmm:
            self.refused(run(NOEXIT, "top", "-p", str(vmm.pid)), "--batch")

    def test_keys(self):
        """On a terminal: keys choose what is shown, and q quits."""
        with Vmm(vms=2) as vmm:
            ours, theirs = pty.openpty()
            top = subprocess.Popen((NOEXIT, "top", "-p", str(vmm.pid), "-i", "0.2"), stdin=theirs,
                                   stdout=theirs, stderr=subprocess.PIPE,
                                   env={**os.environ, "TERM": "xterm", "LINES": "30",
                                        "COLUMNS": "150"})
            try:
                for key, text in ((b"", b"exits avoided per second"), (b"t", b"avoided since the start"),
                                  (b"b", b"saved since the start"),
                                  (b"v", b"VM 0"), (b"v", b"1"), (b"v", b"all VMs")):
                    os.write(ours, key)
                    seen, deadline = b"", time.monotonic() + 300
                    while text not in seen and time.monotonic() < deadline:
                        vmm.do("run")
                        if select.select([ours], [], [], 0.1)[0]:
                            seen += os.read(ours, 65536)
                    self.assertIn(text, seen, key)
                os.write(ours, b"q")
                while top.poll() is None:
                    if select.select([ours], [], [], 0.1)[0]:
                        os.read(ours, 65536)
                self.assertEqual(top.returncode, 0, top.stderr.read())
            finally:
                top.kill()
                top.communicate()
                os.close(ours)
                os.close(theirs)

    def test_unknown_terminal(self):
        with Vmm() as vmm:
            ours, theirs = pty.openpty()
            result = subprocess.run((NOEXIT, "top", "-p", str(vmm.pid)), stdin=theirs,
                                    stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=600,
                                    check=False, env={**os.environ, "TERM": "no-such-terminal"})
            os.close(theirs)
            os.close(ours)
        self.assertEqual(result.returncode, REFUSED)
        self.assertIn("TERM", result.stderr)


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
    probe = run(VMM, "1", input="")
    if probe.returncode == SKIPPED:
        print(f"no KVM on this machine: {probe.stderr.strip()}")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
