# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The modules of kernel packages: as each Debian release lays them out, built in, or not there."""

import lzma
import tempfile
import unittest
from pathlib import Path

from lab_testing import main

from modules import Modules
from tool import LabError


def module(*needs):
    """Return what the lab reads of a module: the names of those it depends on."""
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0vermagic=x\0"


class ModulesTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def package(self, where, files, builtin=""):
        """Lay out the tree of a kernel package; returns it."""
        base = self.scratch / "tree" / where / "1.2-cloud"
        for name, data in files.items():
            path = base / "kernel/drivers" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (base / "modules.builtin").write_text(builtin, encoding="ascii")
        return self.scratch / "tree"

    @staticmethod
    def names(order):
        return [file.name for file in order]

    def test_debian_12(self):
        tree = self.package("lib/modules", {"a/kvm-amd.ko": module("kvm"), "b/kvm.ko": module()})
        self.assertEqual(self.names(Modules(tree).load_order(["kvm_amd"])), ["kvm.ko", "kvm-amd.ko"])

    def test_debian_13(self):
        """Below /usr, packed, and partly built in, also as a dependency."""
        tree = self.package("usr/lib/modules",
                            {"a/kvm-amd.ko.xz": lzma.compress(module("kvm", "virtio_ring")),
                             "b/kvm.ko.xz": lzma.compress(module())},
                            "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/virtio-ring.ko\n")
        found = Modules(tree)
        self.assertEqual(found.missing(["virtio_pci", "kvm-amd"]), [])
        kept = self.scratch / "kept"
        kept.mkdir()
        found.keep(["virtio_pci", "kvm-amd"], kept)
        again = Modules(kept)
        self.assertEqual(self.names(again.load_order(["virtio_pci", "kvm_amd"])),
                         ["kvm.ko", "kvm-amd.ko"])
        self.assertEqual((kept / "kvm.ko").read_bytes(), module())
        self.assertEqual(again.missing(["virtio_pci", "virtio-ring"]), [])

    def test_missing(self):
        """Also one that another asks for; the message names it."""
        tree = self.package("lib/modules", {"ata_piix.ko": module("libata")})
        self.assertEqual(Modules(tree).missing(["ata_piix", "e1000"]), ["e1000"])
        for asked, named in ("e1000", "e1000"), ("ata_piix", "libata"):
            with self.assertRaises(LabError) as caught:
                Modules(tree).load_order([asked])
            self.assertIn(f"no module {named}", str(caught.exception))

    def test_packed_otherwise(self):
        tree = self.package("lib/modules", {"kvm.ko.zst": b"?"})
        with self.assertRaises(LabError) as caught:
            Modules(tree).load_order(["kvm"])
        self.assertIn("kvm.ko.zst", str(caught.exception))


if __name__ == "__main__":
    main()
