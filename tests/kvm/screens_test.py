# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What noexit explain and noexit top show of running VMs."""

import json
import os
import pty
import re
import select
import subprocess
import tempfile
import time
from pathlib import Path

from watching import NOEXIT, REFUSED, VMM, Base, Vmm, main, run


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


if __name__ == "__main__":
    main()
