# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""`noexit bench --lab`: figures measured in the lab reach the noexit that was asked for them."""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from lab_testing import BUILD, main, need_lab


def is_below(process, ancestor):
    """Whether a process is another one's child, or a child of such a one."""
    while process > 1 and process != ancestor:
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except FileNotFoundError:
            return False
    return process == ancestor


class BenchTest(unittest.TestCase):
    def test_lab(self):
        result = subprocess.run([str(BUILD / "cli/noexit"), "bench", "--lab", "--quick", "--json",
                                 "--limits=unweighed", "cluster", "halt", "watching"], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        records = json.loads(result.stdout)
        self.assertEqual({(record["name"], record["substrate"]) for record in records},
                         {(name, "lab-amd") for name in ("cluster/cpl3", "cluster/cpl0",
                                                         "halt/cpl0", "watching")})
        by_name = {(record["name"], record["metric"]): record for record in records}
        self.assertGreater(by_name["watching", "looks a second"]["with"], 0)
        for name in ("cluster/cpl3", "cluster/cpl0"):
            self.assertGreater(by_name[name, "exits of a turn"]["ratio"], 1)

    def stopped(self, number, name):
        """Stopped when its emulator runs; what is left of the lab."""
        def labs():
            """Those of this benchmark: a lab's folder has the number of the process that made it."""
            return {lab for lab in (BUILD / "lab").glob("run-*")
                    if is_below(int(lab.name.split("-")[1]), bench.pid)}

        def until(condition):
            end = time.monotonic() + 600
            while not condition() and time.monotonic() < end:
                time.sleep(0.1)
            self.assertTrue(condition())

        with tempfile.TemporaryDirectory() as scratch:
            with subprocess.Popen([str(BUILD / "cli/noexit"), "bench", "--lab", "--quick", name],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  env={**os.environ, "TMPDIR": scratch}) as bench:
                try:
                    until(lambda: any((lab / "emulator").exists() for lab in labs()))
                except AssertionError:
                    bench.kill()
                    raise
                begun = labs()
                bench.send_signal(number)
                self.assertEqual(bench.wait(300), -number)
            until(lambda: not any(lab.exists() for lab in begun))
            return list(Path(scratch).iterdir())

    def test_stopped(self):
        """Nothing is left of it: no lab, no files."""
        for name in ("halt", "network"):
            self.assertEqual(self.stopped(signal.SIGTERM, name), [])

    def test_killed(self):
        """The lab ends even then; a folder stays."""
        self.assertLessEqual(len(self.stopped(signal.SIGKILL, "network")), 1)


if __name__ == "__main__":
    need_lab()
    main()
