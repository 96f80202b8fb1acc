# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What the lab's tools share that compare columns: exits as the host VMs print them, rows, and figures for noexit bench."""

import argparse
import collections
import json
import os
import re
import statistics
import tempfile
from pathlib import Path

from exit_reasons import reason_name
from image import Images
from machine import MACHINES, end_on_signals
from tool import LAB, SKIPPED, LabError, say

# LEVEL COLUMN ROW, and a line of KVM's tracepoint as a histogram.
HITS = re.compile(r"^hits (\d) (\w+) ([\w-]+) \{ exit_reason: *(\d+) \} hitcount: *(\d+)$")


def names(known):
    """An argument that is a list of names."""
    def parse(text):
        words = text.split(",")
        unknown = [word for word in words if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
        return [word for word in known if word in words]
    return parse


def add_arguments(parser, columns, turns):
    """The arguments that all of them have; turns: how many there are."""
    parser.add_argument("--cpu", choices=tuple(MACHINES), default="amd", help="the lab of that kind")
    parser.add_argument("--module", type=Path, required=True, metavar="FILE", help="noexit.ko ('make kernel')")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds that are timed (3); 0: exits alone")
    parser.add_argument("--columns", type=names(tuple(columns)), default=list(columns), metavar="LIST",
                        help=", ".join(columns))
    parser.add_argument("--turns", type=int, default=turns, metavar="N", help=f"of the programs ({turns})")
    parser.add_argument("--limits", default="", metavar="NAME", help="of 'noexit run'")
    parser.add_argument("--icount", action="store_true",
                        help="times are instructions, whatever else the machine does; as lab/run has it")
    parser.add_argument("--figures", type=Path, metavar="FILE", help="what `noexit bench` shows, as JSON")


def parse(parser):
    """Returns the options if they can be."""
    options = parser.parse_args()
    if options.runs < 0 or options.turns < 1:
        parser.error("--runs and --turns are numbers of rounds and turns")
    if not options.module.is_file():
        parser.error(f"there is no module '{options.module}'; 'make kernel' builds it and prints its path")
    return options


def run(options, measure):
    """Shows the table that measure(options, images, directory) returns, and leaves its figures; returns the exit status."""
    end_on_signals()
    try:
        MACHINES[options.cpu].need()
        images = Images(Path(os.environ.get("NX_BUILD") or LAB.parent / "build").resolve(), say)
        images.host(options.cpu)
    except LabError as error:
        say(f"no lab on this machine: {error}")
        return SKIPPED
    try:
        with tempfile.TemporaryDirectory(prefix="noexit-table-") as directory:
            table = measure(options, images, Path(directory))
    except LabError as error:
        say(error)
        return 1
    table.show()
    if options.figures:
        options.figures.write_text(json.dumps(list(table.records())), encoding="ascii")
    return 0


def show_row(what, numbers, form):
    """Prints a row, for people."""
    print(f"  {what:28}" + "".join(f"{number:{form}}" for number in numbers))


def show_head(about, columns):
    """Prints what stands above the rows."""
    print(f"\n{about}\n  {'':28}" + "".join(f"{column:>10}" for column in columns))


def show_exits(cpu, what, counts, part):
    """Prints exits by reason, of those reasons that are one in that many of all at least."""
    show_row(what, [count.total() for count in counts], "10d")
    all_reasons = sum(counts, collections.Counter())
    for reason, number in all_reasons.most_common():
        if number * part >= all_reasons.total():
            show_row("  " + reason_name(cpu, reason), [count[reason] for count in counts], "10d")


def record(cpu, name, metric, without, with_noexit):
    """As bench/report.c prints it; without and with_noexit are figures by round."""
    ratios = sorted(without[number] / with_noexit[number] for number in without if with_noexit[number])
    tenth = len(ratios) // 10
    ratio = statistics.median(ratios) if ratios else None
    return {"name": name, "metric": metric, "substrate": f"lab-{cpu}",
            "without": statistics.median(without.values()), "with": statistics.median(with_noexit.values()),
            "ratio": ratio, "spread": (ratios[-1 - tenth] - ratios[tenth]) / ratio if ratios else None}
