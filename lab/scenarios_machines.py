# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Rows of lab/guests about the machine types that Debian's QEMU has for x86."""

from scenario import Scenario

TYPES = ("pc", "q35", "microvm", "isapc")

# The kernel's own messages are what most exits are about.
GUEST = """
say $(grep -c ^processor /proc/cpuinfo) processor, $(ls /sys/bus/pci/devices 2>/dev/null | grep -c .) on PCI
flood 50
"""
# A machine without ACPI cannot be switched off. QEMU ends when it resets itself, by its keyboard controller.
RESET = """
say end
stty -echo </dev/console
reboot -f
"""


def machine(name, devices):
    """A boot of Debian's kernel on a machine of that type."""
    old = name == "isapc"
    return Scenario(f"machine-{name}", f"Debian on a machine of type {name}",
                    f"boot vm -m 192 -M {name}; finish vm", GUEST + (RESET if old else ""),
                    append="reboot=k" if old else "",
                    expect=(f"^guest: 1 processor, {devices} on PCI$", "^guest: 49 the quick", "^guest: end"))


# How many devices a chip set has is not the same in all versions of QEMU.
MACHINES = tuple(machine(name, "[1-9][0-9]*" if name in ("pc", "q35") else "0") for name in TYPES)
