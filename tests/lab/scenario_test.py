# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""How the lab's scenarios are judged: what is lost, doubled or changed must be seen."""

import unittest

from lab_testing import BUILD, main

import demo
import load
import scenarios_devices
import scenarios_net
from image import LabError
from scenario import NotEmulated, Run, Scenario
from scenarios import SCENARIOS, lost_lines

FLOOD = ("".join(f"guest: {i} the quick brown fox jumps over the lazy dog\r\n" for i in range(400))
         + "".join(f"guest: {i} by the kernel, packed my box with five dozen jugs\r\n"
                   for i in range(150)))
PLAIN = Scenario("plain", "", expect=("^guest: end$",))


def run(console, facts="", avoided=0):
    stats = {"exits_taken": 10, "exits_avoided": avoided, "by": []}
    return Run({"vm": console}, facts, demo.Boot(console, 1.0, stats))


def runs(without, with_noexit, avoided=5):
    return {"off": without, "on": run(with_noexit.console, with_noexit.facts, avoided)}


class ProblemsTest(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(PLAIN.problems(runs(run("guest: end\r\n"), run("guest: end\r\n"))), [])

    def test_noise_around_the_guests_lines(self):
        self.assertEqual(PLAIN.problems(runs(run("boot\nguest: end\n"), run("guest: end\n"))), [])

    def test_differences(self):
        for name, other in (("line lost", run("guest: end\n")),
                            ("line changed", run("guest: 2\nguest: end\n")),
                            ("line doubled", run("guest: 1\nguest: 1\nguest: end\n")),
                            ("fact changed", run("guest: 1\nguest: end\n", "digest\n"))):
            with self.subTest(name):
                self.assertNotEqual(PLAIN.problems(runs(run("guest: 1\nguest: end\n"), other)), [])

    def test_alike_but_wrong(self):
        """Both ways the same is not enough."""
        self.assertNotEqual(PLAIN.problems(runs(run("guest: 1\n"), run("guest: 1\n"))), [])
        stuck = run("guest: end\n", "never true: ended vm\n")
        self.assertNotEqual(PLAIN.problems(runs(stuck, stuck)), [])

    def test_noexit_must_have_done_something(self):
        end = run("guest: end\n")
        self.assertNotEqual(PLAIN.problems(runs(end, end, avoided=0)), [])
        self.assertNotEqual(PLAIN.problems({"off": run("guest: end\n", avoided=1),
                                            "on": run("guest: end\n", avoided=1)}), [])


class FloodTest(unittest.TestCase):
    def test_lost_and_doubled(self):
        self.assertEqual(lost_lines(run("boot\n" + FLOOD)), [])
        index = FLOOD.index("jumps")
        self.assertNotEqual(lost_lines(run(FLOOD[:index] + FLOOD[index + 1:])), [])
        self.assertNotEqual(lost_lines(run(FLOOD[:index] + "j" + FLOOD[index:])), [])
        line = FLOOD.index("guest: 77 by")
        self.assertNotEqual(lost_lines(run(FLOOD[:line] + FLOOD[line:].partition("\n")[2])), [])


class LoadTest(unittest.TestCase):
    """What the guest under load must have said."""

    @staticmethod
    def console(rounds=3, passes=2):
        lines = []
        for number, line in enumerate(load.flood(rounds)):
            kernel = "by the kernel" in line
            lines.append(f"[   {number}.000001] {line}" if kernel else line)
        lines += [f"guest: {rounds} rounds"]
        lines += [f"guest: disk {i} {load.digest_of(i)} {load.digest_of(i - 1)} "
                  for i in range(passes)]
        return "\r\n".join(["boot", *lines, "guest: forks 5 of 5", "guest: slots 9 of 9", "guest: end",
                            ""])

    FACTS = "8 stops, 1 migrations begun, 2 done, 500 signals\n"

    def judged(self, console, facts=FACTS):
        return load.judge(run(console, facts, 5))

    def test_nothing_lost(self):
        self.assertEqual(self.judged(self.console()), [])
        self.assertEqual(load.load(1).problems({"on": run(self.console(), self.FACTS, 5)}), [])

    def test_what_the_kernel_says_by_itself(self):
        """Also in the middle of a line."""
        at = self.console().index("fox")
        text = self.console()
        self.assertEqual(self.judged(text[:at] + "[    7.123456] hrtimer: slow\r\n" + text[at:]), [])

    def test_lost_doubled_changed(self):
        text = self.console()
        fox, kernel = text.index("fox", 500), text.index("guest: 7 by")
        line = text.index("guest: 30 the")
        for name, other in (
                ("character lost", text[:fox] + text[fox + 1:]),
                ("character doubled", text[:fox] + "f" + text[fox:]),
                ("line lost", text[:line] + text[line:].partition("\n")[2]),
                ("line of the kernel's changed", text[:kernel] + text[kernel:].replace("7", "8", 1)),
                ("round lost", text.replace("guest: 3 rounds", "guest: 4 rounds")),
                ("no end of the flood", text.replace("guest: 3 rounds", "")),
                ("disk", text.replace(load.digest_of(1), load.digest_of(2))),
                ("no disk", text.replace("guest: disk", "guest: none")),
                ("fork lost", text.replace("forks 5 of 5", "forks 4 of 5")),
                ("slot wrong", text.replace("slots 9 of 9", "slots 8 of 9")),
                ("slots not tried", text.replace("slots 9 of 9", "slots 0 of 0"))):
            with self.subTest(name):
                self.assertNotEqual(self.judged(other), [])

    def test_not_disturbed(self):
        self.assertNotEqual(self.judged(self.console(), ""), [])
        self.assertNotEqual(self.judged(self.console(), self.FACTS.replace("2 done", "0 done")), [])

    def test_noexit_must_have_done_something(self):
        self.assertNotEqual(load.load(1).problems({"on": run(self.console(), self.FACTS, 0)}), [])


def networked(exits_of_a_trip, got="aa"):
    """Both machines of the network scenario, so many exits in a round trip each."""
    cards = scenarios_net.CARDS
    consoles = {"a": "".join(f"{card}: round-trip min/avg/max = 1.0/2.0/9.0 ms\n"
                             f"guest: {card}: sent aa - got bb -\n" for card in cards),
                "b": "".join(f"guest: {card}: sent bb - got {got} -\n" for card in cards)}
    trips = scenarios_net.PINGS * exits_of_a_trip
    row = {"device": "", "kind": "mmio", "address": "0xfebc0000", "avoided": 0}
    counts = {(machine, f"{label}-{card}"): {"by": [{**row, "taken": taken}]}
              for machine in ("a", "b") for card in cards
              for label, taken in (("before", 7), ("after", 7 + trips))}
    stats = {"exits_taken": 10, "exits_avoided": 0, "by": []}
    return Run(consoles, "", demo.Boot("", 1.0, stats), counts=counts)


class NetworkTest(unittest.TestCase):
    @staticmethod
    def judged(without, with_noexit):
        return scenarios_net.compare({"off": without, "on": with_noexit})

    def test_exits_of_a_round_trip(self):
        figures = scenarios_net.figures(networked(10))
        self.assertEqual(figures["net-e1000", "exits of a round trip"], 20)
        self.assertEqual(figures["net-e1000", "time of a round trip, ms"], 2.0)
        self.assertEqual(self.judged(networked(10), networked(7)), [])
        self.assertNotEqual(self.judged(networked(10), networked(8)), [])

    def test_data(self):
        lost = networked(1, got="cc")
        self.assertEqual(self.judged(networked(0), networked(0)), [])
        self.assertNotEqual(self.judged(lost, lost), [])


def faulty(name, messages, avoided=0, console="guest: end\n"):
    """A machine with a fault."""
    stats = {"exits_taken": 10, "exits_avoided": avoided, "by": []}
    return Run({name: console}, "", demo.Boot(console, 1.0, stats), {name: stats},
               {name: messages + "\nnoexit: 10 exits taken, 0 avoided (0.00%)"})


class FaultTest(unittest.TestCase):
    def judged(self, *arguments):
        return scenarios_devices.one_line_each(faulty(*arguments))

    def test_one_line(self):
        self.assertEqual(self.judged("arena", "noexit: no exits are avoided: none"), [])
        self.assertNotEqual(self.judged("arena", ""), [])
        self.assertNotEqual(self.judged("arena", "noexit: one\nnoexit: two"), [])

    def test_what_is_avoided(self):
        self.assertNotEqual(self.judged("arena", "noexit: none", 5), [])
        self.assertEqual(self.judged("watch", "noexit: nobody can watch", 5), [])
        self.assertNotEqual(self.judged("watch", "noexit: nobody can watch", 0), [])

    def test_consoles(self):
        reference = faulty("none", "")
        self.assertEqual(scenarios_devices.same_console(
            {"off": reference, "on": faulty("arena", "noexit: x")}), [])
        self.assertNotEqual(scenarios_devices.same_console(
            {"off": reference, "on": faulty("arena", "noexit: x", 0, "guest: and\n")}), [])


class LatenessTest(unittest.TestCase):
    LINE = "timer: flood: 2000 wake-ups, late by us: p50 12 p90 34 p99 56 max 78\r\n"

    def test_percentiles(self):
        self.assertEqual(scenarios_devices.lateness(run(self.LINE)), {"flood": (12, 34, 56, 78)})

    def test_figures(self):
        """Without and with noexit they stand side by side in noexit bench, which judges nothing."""
        self.assertEqual(scenarios_devices.lateness_figures(run(self.LINE)),
                         {("lateness-flood", "a timer's median lateness, us"): 12})


class Dying(Scenario):
    """One whose lab dies when it has said the name."""

    def in_lab(self, images, share, script, progress=None):
        raise LabError(self.name)


class LuckTest(unittest.TestCase):
    BEFORE, AFTER = "off: vm started\n", "off: vm started\noff: vm ended\non: vm started\n"

    def test_dies_without_noexit(self):
        with self.assertRaises(NotEmulated):
            Dying(self.BEFORE, "", needs_luck=True).run(BUILD, print)

    def test_dies_with_noexit(self):
        """That, or where no luck is needed, is a failure."""
        for scenario in Dying(self.AFTER, "", needs_luck=True), Dying(self.BEFORE, ""):
            with self.assertRaises(LabError) as caught:
                scenario.run(BUILD, print)
            self.assertNotIsInstance(caught.exception, NotEmulated)


class TableTest(unittest.TestCase):
    def test_names_are_unique(self):
        names = [scenario.name for scenario in SCENARIOS]
        self.assertEqual(len(names), len(set(names)))

    def test_each_run_has_something_to_show(self):
        for scenario in SCENARIOS:
            self.assertTrue(scenario.expect, scenario.name)


if __name__ == "__main__":
    main()
