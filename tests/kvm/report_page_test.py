# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""noexit report: its figures in the page, the page in a browser, and what it refuses.

The browser is headless Chromium. A harness page holds the report in a frame of a given width and says
what it finds there, so the report itself needs no script to be asked.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

NOEXIT, VMM = (os.path.abspath(path) for path in sys.argv[1:3])
REFUSED, SKIPPED = 2, 77
CHROMIUM = shutil.which("chromium")

# An IN, an ADD and a jump back to the IN: one cluster.
CLUSTER = {"entry": "0x8000", "bits": 64, "instructions": 3, "exiting": 1, "blocks": 1,
           "code_bytes": 99, "executions": 70, "exits_avoided": 4321, "exits_avoided_mmio": 0,
           "takeovers": 7, "made_ns": 1000, "benefit_ns": 8765432, "dropped": False,
           "graph": [{"rip": "0x8000", "entry": True, "calls": 0, "lengths": [1, 4, 2],
                      "exits": [0], "code": "ec4883c001ebf9",
                      "edges": [{"way": "taken", "to": 0}]}]}


def counters(clustering, **changes):
    """What noexit run --stats writes, as far as a report reads it."""
    on = clustering == "on"
    return {
        "command_line": "vmm <&> 'quoted'", "vm_ns": 8_100_000_000 if on else 12_300_000_000,
        "timeline": {"interval_ms": 500, "at_ms": [500, 1000, 1500],
                     "taken": [10, 20, 5234] if on else [10, 30000, 76543],
                     "avoided": [0, 0, 0]},
        "off": [], "clustering": clustering, "exits_taken": 5234 if on else 76543,
        "exits_avoided": 71300 if on else 0,
        "taken_by_kind": {"io": 5034 if on else 76543, "hlt": 200 if on else 0, "other": 0},
        "by": [{"kind": "io", "device": "com1", "address": "0x3f8", "taken": 1234 if on else 70001,
                "avoided": 68000 if on else 0},
               {"kind": "io", "device": "pci-config-data", "address": "0xcfc",
                "taken": 1111 if on else 2222, "avoided": 1111 if on else 0},
               {"kind": "io", "device": "pci-config-address", "address": "0xcf8",
                "taken": 1111 if on else 2222, "avoided": 0},
               {"kind": "mmio", "device": "", "address": "0xfeb<0000", "taken": 1, "avoided": 0}],
        "cost_ns": {"exit_io": 5000, "exit_mmio": 0, "takeover": 9000, "resume": 1000,
                    "thousand": 700},
        "takeovers": 3434 if on else 0, "stays_ns": 14071178991 if on else 0,
        "engine": {"declined": 971, "waited": 427} if on else {},
        "distance": [0, 25, 50, 25, 0, 0, 0, 0, 0, 0, 0],
        "leaves": {"GUARD": 798, "LATENCY": 200, "latency_bound": 1000} if on else {},
        "not_taken_over": {"single_step": 5} if on else {},
        "clusters": [CLUSTER] if on else [], **changes}


def run(*command):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=600, check=False)


class Base(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)

    def file(self, content, name):
        path = self.path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def pair(self):
        return self.file(counters("off"), "off.json"), self.file(counters("on"), "on.json")

    def report(self, *arguments):
        page = self.path / "page.html"
        result = run(NOEXIT, "report", "-o", str(page), *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout, f"written: {page}\n")
        return page

    def text(self, *arguments):
        """What a reader reads: the page without its markup."""
        page = self.report(*arguments).read_text()
        page = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
        return html.unescape(re.sub(r"<[^>]*>", "", page))


class Figures(Base):
    def test_pair(self):
        """Whichever file is named first, the sentence and all sections have their figures."""
        off, on = self.pair()
        for files in ((off, on), (on, off)):
            text = self.text(*files)
            for figure in (
                    "With noexit this guest made 93.2% fewer exits to its VMM (5,234 instead of "
                    "76,543), and took 8.10 s instead of 12.30 s: 34.1% less time.",
                    "vmm <&> 'quoted'", "Serial port COM1", "70,001", "1,234",
                    "PCI configuration", "4,444", "2,222", "Device page 0xfeb<0000",
                    "93,086 exits a second", "25%1", "50%2+", "saves 4.00 us", "from 3 avoided exits on",
                    "8000: 4,321 exits avoided (6.1%), saved 8.77 ms", "* in al, dx",
                    "; back to B0", "taken over 3,434 times, for 14.07 s",
                    "1,200the latency bound was reached",
                    "798an indirect branch to a target that was not observed",
                    "971exits not taken over, since taking over has not paid there",
                    "200exits that are neither", "5the trap flag is set"):
                self.assertIn(figure, text)

    def test_one(self):
        off, on = self.pair()
        text = self.text(on, "--title=a <guest>")
        self.assertIn("noexit report: a <guest>", text)
        self.assertIn("noexit avoided 93.2% of this guest's exits to its VMM: 71,300 of 76,534.",
                      text)
        self.assertIn("69,234", text)  # what the serial port would have taken
        text = self.text(off)
        self.assertIn("Without noexit this guest made 76,543 exits to its VMM.", text)
        self.assertIn("The same command without --off", text)
        self.assertNotIn("Why stays ended", text)

    def test_slower(self):
        off = self.file(counters("off"), "off.json")
        text = self.text(off, self.file(counters("on", vm_ns=12_423_000_000), "on.json"))
        self.assertIn("12.42 s instead of 12.30 s: 1.0% more time", text)
        text = self.text(off, self.file(counters("on", exits_taken=76545), "on.json"))
        self.assertIn("0.0% more exits", text)

    def test_off_by_itself(self):
        on = self.file(counters("on", off=["the VMM does <something>"]), "on.json")
        self.assertIn("no exits were avoided: the VMM does <something>.", self.text(on))

    def test_old_file(self):
        """A file of a version that knew less leaves out what is not there."""
        on = counters("on")
        for key in ("timeline", "vm_ns", "off", "command_line", "distance", "clusters"):
            del on[key]
        text = self.text(self.file(on, "on.json"))
        self.assertIn("--stats-interval", text)
        self.assertIn("There were none.", text)

    def test_standard_output(self):
        result = run(NOEXIT, "report", "-o", "-", self.pair()[1])
        self.assertEqual(result.returncode, 0)
        self.assertTrue(result.stdout.startswith("<!DOCTYPE html>"))
        self.assertTrue(result.stdout.endswith("</html>\n"))

    def test_self_contained(self):
        page = self.report(*self.pair()).read_text()
        self.assertNotRegex(page, r"(?i)<script|https?:|src=|url\(|@import")

    def test_real_run(self):
        """A run of a VMM here, and its own counters in the page."""
        for mode in ("off", "on"):
            result = subprocess.run(
                (NOEXIT, "run", *(("--off",) if mode == "off" else ()), "--stats-interval=5",
                 f"--stats={self.path}/{mode}", "--", VMM, "1"), text=True, input="run\n" * 3,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600, check=False)
            if result.returncode == SKIPPED:
                self.skipTest(f"no VM can be made here: {result.stderr.strip()}")
            self.assertEqual(result.returncode, 0, result.stderr)
        stats = {mode: json.loads((self.path / mode).read_text()) for mode in ("off", "on")}
        text = self.text(str(self.path / "off"), str(self.path / "on"))
        self.assertIn(f"({stats['on']['exits_taken']:,} instead of "
                      f"{stats['off']['exits_taken']:,})", text)
        self.assertIn("exits a second", text)
        self.assertIn("* in al, dx", text)


class Refusals(Base):
    def refused(self, text, *arguments):
        result = run(NOEXIT, "report", "-o", str(self.path / "page"), *arguments)
        self.assertEqual(result.returncode, REFUSED, result.stderr)
        self.assertEqual(result.stdout, "")
        lines = [line for line in result.stderr.splitlines() if not line.startswith("Try ")]
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertIn(text, lines[0])

    def test_arguments(self):
        off, on = self.pair()
        self.refused("name a file that 'noexit run --stats' wrote")
        self.refused("one file too many", off, on, on)
        self.refused("were both made without --off", on, self.file(counters("on"), "again.json"))
        self.refused("were both made with --off", off, off)
        self.refused("No such file", str(self.path / "none"))
        self.refused("it is no JSON", self.file("no JSON", "text"))
        self.refused("has no counters of a run", self.file({"clusters": []}, "other.json"))
        self.refused("has no counters of a run", self.file([], "list.json"))
        self.refused("cannot be written", on, "-o", str(self.path / "no" / "page"))
        self.refused("cannot be written", on, "-o", "/dev/full")


HARNESS = """<!DOCTYPE html><meta charset=utf-8><link rel=icon href="data:,">
<body style="margin:0"><iframe id=f style="border:0;width:WIDTHpx;height:4000px"
srcdoc="PAGE"></iframe><script>
f.onload = () => {
  const d = f.contentDocument, style = f.contentWindow.getComputedStyle(d.body);
  document.title = JSON.stringify({
    width: d.documentElement.clientWidth, needed: d.documentElement.scrollWidth,
    lines: d.querySelectorAll("polyline").length, bars: d.querySelectorAll(".bar").length,
    longest: Math.max(...[...d.querySelectorAll(".bar")].map(
        bar => bar.lastChild.getBoundingClientRect().right)),
    columns: d.querySelectorAll(".columns div").length,
    font: style.fontSize, background: style.backgroundColor, colour: style.color});
};
</script>"""


@unittest.skipUnless(CHROMIUM, "the package chromium is not installed")
class Browser(Base):
    def browse(self, page, *options):
        """The page's document after it has been loaded, and the console's messages."""
        result = run(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
                     f"--user-data-dir={self.path}/profile", "--enable-logging=stderr",
                     "--virtual-time-budget=3000", "--window-size=1200,4000", *options,
                     "--dump-dom", f"file://{page}")
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]

    def look(self, page, width, *options):
        path = self.file(HARNESS.replace("WIDTH", str(width)).replace(
            "PAGE", html.escape(page.read_text())), "harness.html")
        document, console = self.browse(path, *options)
        self.assertEqual(console, [])
        return json.loads(html.unescape(re.search("<title>(.*?)</title>", document, re.S)[1]))

    def test_no_console_message(self):
        document, console = self.browse(self.report(*self.pair()))
        self.assertEqual(console, [])
        self.assertIn("93.2% fewer exits", document)

    def test_console_is_heard(self):
        """The means of the test above: a page with an error does have a message."""
        _, console = self.browse(self.file("<script>undefined_name()</script>", "bad.html"))
        self.assertEqual(len(console), 1)

    def test_widths(self):
        """On a phone and on a desk nothing is wider than the page, and all is drawn."""
        page = self.report(*self.pair())
        for width in (320, 360, 1200):
            seen = self.look(page, width)
            self.assertEqual(seen["width"], width)
            self.assertLessEqual(seen["needed"], width)
            self.assertLessEqual(seen["longest"], width)
            self.assertEqual((seen["lines"], seen["bars"], seen["columns"]), (2, 6, 11))
            self.assertEqual(seen["font"], "16px")

    def test_dark_and_light(self):
        def brightness(colour):
            return sum(int(part) for part in re.findall(r"\d+", colour)[:3])
        page = self.report(*self.pair())
        light = self.look(page, 800, "--blink-settings=preferredColorScheme=1")
        dark = self.look(page, 800, "--blink-settings=preferredColorScheme=0")
        self.assertGreater(brightness(light["background"]), brightness(light["colour"]) + 300)
        self.assertGreater(brightness(dark["colour"]), brightness(dark["background"]) + 300)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
