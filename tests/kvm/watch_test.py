# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What noexit shows of running VMs: stat, top and explain, against the statistics at the end."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

NOEXIT, VMM = (os.path.abspath(path) for path in sys.argv[1:3])
REFUSED, SKIPPED = 2, 77


def run(*command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=60, check=False, **options)


class Vmm:
    """The VMM, started by noexit run; it obeys one word after the other."""

    def __init__(self, *options, vms=1):
        self.process = subprocess.Popen((NOEXIT, "run", *options, "--", VMM, str(vms)), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
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
        out, errors = self.process.communicate(timeout=30)
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
        # Clusters may be shown a moment old, and the last exit is only completed at the end.
        for key in set(end) - {"clusters", "kvm_stats", "kvm_agreement"}:
            self.assertEqual(live[key], end[key], key)
        self.assertEqual(sorted(cluster["entry"] for cluster in live["clusters"]),
                         sorted(cluster["entry"] for cluster in end["clusters"]))
        self.assertLess(set(end), set(live))
        self.assertEqual(live["pid"], vmm.pid)
        self.assertEqual(live["command"], "watched")
        self.assertEqual(live["vms"], 2)
        self.assertEqual([(row["vm"], row["vcpu"], row["off"]) for row in live["per_vcpu"]],
                         [(0, 0, ""), (1, 0, "")])
        for key in ("exits_taken", "exits_avoided"):
            self.assertEqual(sum(row[key] for row in live["per_vcpu"]), live[key])

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
            vmm.do("run")
            stats = self.stat("-p", str(vmm.pid))
            result = run(NOEXIT, "stat", "-p", str(vmm.pid))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"watched, process {vmm.pid}: VMs: 1, vCPUs: 1", result.stdout)
        self.assertIn(f"exits taken {stats['exits_taken']}, avoided {stats['exits_avoided']}",
                      result.stdout)
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
            self.assertEqual(endless.wait(timeout=30), 0)
            endless.stdout.close()
        self.assertEqual(len(text.stdout.splitlines()), 4)
        decoder, rest, count = json.JSONDecoder(), objects.stdout.strip(), 0
        while rest:
            value, end = decoder.raw_decode(rest)
            rest, count = rest[end:].strip(), count + 1
            self.assertEqual(value["pid"], vmm.pid)
        self.assertEqual(count, 2)


class Which(Base):
    def test_arguments(self):
        for command in ("stat",):
            self.refused(run(NOEXIT, command, "-p", "4194304"), "no process 4194304")
            self.refused(run(NOEXIT, command, "-p", "x"), "process id")
            self.refused(run(NOEXIT, command, "-p", str(os.getpid())), "no VM under noexit")
        self.refused(run(NOEXIT, "stat", "-i", "never"), "number of seconds")
        self.refused(run(NOEXIT, "stat", "-n", "-1"), "number of lines")
        self.refused(run(NOEXIT, "stat", "7"), "too many")

    def test_several(self):
        """Without -p the one VMM is found; of two the user has to choose."""
        with Vmm() as one:
            found = run(NOEXIT, "stat")
            if found.returncode == REFUSED and str(one.pid) in found.stderr:
                self.skipTest("other VMs run under noexit on this machine")
            self.assertIn(f"process {one.pid}:", found.stdout, found.stderr)
            with Vmm() as two:
                self.refused(run(NOEXIT, "stat"), "2 VMMs", f"{one.pid} (watched)",
                             f"{two.pid} (watched)", "-p")

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
            self.refused(run(NOEXIT, "stat", "-p", str(vmm.pid), user=12345, group=12345),
                         "cannot be looked into", "root")


if __name__ == "__main__":
    probe = run(VMM, "1", input="")
    if probe.returncode == SKIPPED:
        print(f"no KVM on this machine: {probe.stderr.strip()}")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
