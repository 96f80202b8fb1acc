# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What the lab's tools share that compare columns: exits as the host VMs print them, rows, and figures for noexit bench."""

import argparse
import re
import statistics

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


def show_row(what, numbers, form):
    """Prints a row, for people."""
    print(f"  {what:28}" + "".join(f"{number:{form}}" for number in numbers))


def record(cpu, name, metric, without, with_noexit):
    """As bench/report.c prints it; without and with_noexit are figures by round."""
    ratios = sorted(without[number] / with_noexit[number] for number in without if with_noexit[number])
    tenth = len(ratios) // 10
    ratio = statistics.median(ratios) if ratios else None
    return {"name": name, "metric": metric, "substrate": f"lab-{cpu}",
            "without": statistics.median(without.values()), "with": statistics.median(with_noexit.values()),
            "ratio": ratio, "spread": (ratios[-1 - tenth] - ratios[tenth]) / ratio if ratios else None}
