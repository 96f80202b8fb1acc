# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""`noexit bench --lab`: figures measured in the lab reach the noexit that was asked for them."""

import json
import subprocess
import unittest

from lab_testing import BUILD, main, need_lab


class BenchTest(unittest.TestCase):
    def test_lab(self):
        result = subprocess.run([str(BUILD / "cli/noexit"), "bench", "--lab", "--quick", "--json",
                                 "cluster", "halt", "watching"], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        records = json.loads(result.stdout)
        self.assertEqual({(record["name"], record["substrate"]) for record in records},
                         {(name, "lab-amd") for name in ("cluster/cpl3", "cluster/cpl0",
                                                         "halt/cpl0", "watching")})
        by_name = {(record["name"], record["metric"]): record for record in records}
        self.assertGreater(by_name["watching", "looks a second"]["with"], 1)
        for record in records:
            if record["name"] != "halt/cpl0" and record["metric"] == "exits of a turn":
                self.assertGreater(record["ratio"], 2)


if __name__ == "__main__":
    need_lab()
    main()
