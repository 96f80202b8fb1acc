# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The modules of an unpacked kernel package, wherever the package has them and however packed.

Debian 12 has /lib/modules and plain .ko files, Debian 13 has /usr/lib/modules and .ko.xz; a driver that
is a module in one kernel is built into another, and then there is nothing to load.
"""

import lzma
import re
from pathlib import Path

from tool import LabError

BUILTIN = "modules.builtin"


def plain(name):
    """Return a module's name as the kernel has it: its file may have hyphens for the underscores."""
    return re.sub(r"\.ko(\.\w+)?$", "", name).replace("-", "_")


class Modules:
    """The modules below a directory."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.files = {plain(file.name): file for file in self.directory.rglob("*.ko*")}
        self.builtin = {plain(Path(line).name) for listed in self.directory.rglob(BUILTIN)
                        for line in listed.read_text(encoding="ascii").split()}

    def missing(self, names):
        """Return those names that are neither a module here nor built into the kernel."""
        return [name for name in names
                if plain(name) not in self.files and plain(name) not in self.builtin]

    @staticmethod
    def data(file):
        """Return a module as insmod takes it: unpacked."""
        data = file.read_bytes()
        if file.suffix == ".xz":
            return lzma.decompress(data)
        if file.suffix != ".ko":
            raise LabError(f"{file.name} is packed in a way that the lab cannot unpack")
        return data

    def load_order(self, names):
        """Return the files of the modules and of those they depend on, in the order to load them in.

        modules.dep is made when a kernel is installed, which never happens here; each module names
        what it needs itself.
        """
        order = []

        def visit(name):
            file = self.files.get(plain(name))
            if file in order or plain(name) in self.builtin:
                return
            if not file:
                raise LabError(f"the kernel in {self.directory} has no module {name}, "
                               "and it is not built in either")
            needs = re.search(rb"\0depends=([^\0]*)\0", self.data(file))
            for needed in needs[1].decode().split(",") if needs and needs[1] else ():
                visit(needed)
            order.append(file)

        for name in names:
            visit(name)
        return order

    def keep(self, names, target):
        """Copy what these modules take to another directory, unpacked; and the list of built-in ones."""
        for file in self.load_order(names):
            (target / re.sub(r"\.ko.*$", ".ko", file.name)).write_bytes(self.data(file))
        (target / BUILTIN).write_text("".join(f"{name}.ko\n" for name in sorted(self.builtin)),
                                      encoding="ascii")
