# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""libvirt in the lab: its daemon starts the domain that docs/libvirt.md has, with noexit's QEMU as emulator.

usage: libvirt_test.py [whole]; whole: without and with noexit, with AppArmor enforced, and with a
snapshot, saving and restoring (make soak). LAB_RELEASE=trixie: in that release's lab, by its libvirt.
"""

import os
import re
import sys
import tempfile
import unittest
from pathlib import Path

from lab_testing import (APPARMOR_PARSER, BUILD, ROOT, main, need_lab, put_apparmor, put_package,
                         said_in_lab, shared_files, skip)

from image import Cpio, Images, LabError
from libvirt import Libvirt
from modules import Modules

RELEASE = os.environ.get("LAB_RELEASE")
WHOLE = "whole" in sys.argv
MODES = ("off", "on") if WHOLE else ("on",)
INIT = b"""#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
say() { echo "guest: $*"; }
while read -r module; do
	insmod "/modules/$module" || say "no $module"
done </modules/order
stty -echo
button=$(sed -n '/Power Button/,/^$/s/.*Handlers=.*\\(event[0-9]*\\).*/\\1/p' /proc/bus/input/devices | head -n 1)
{
	head -c 24 /dev/input/$button >/dev/null
	say "power button"
	poweroff -f
} &
until [ -e /dev/sda ]; do usleep 100000; done
count=0
say ready
while read -r order word; do
	case $order in
	count) count=$((count + 1)); say "count $count" ;;
	flood)
		line=0
		while [ $line -lt $word ]; do
			say "$line the quick brown fox jumps over the lazy dog"
			line=$((line + 1))
		done ;;
	write) echo "$word" | dd of=/dev/sda bs=512 conv=sync,fsync 2>/dev/null; say "wrote $word" ;;
	read) say "disk $(dd if=/dev/sda bs=512 count=1 iflag=direct 2>/dev/null | head -n 1 | tr -d '\\0')" ;;
	esac
done
"""


def documented():
    """The domain of docs/libvirt.md."""
    text = (ROOT / "docs/libvirt.md").read_text(encoding="utf-8")
    return re.search(r"^ {4}<domain .*?^ {4}</domain>$", text, re.M | re.S)[0]


def domain(mode):
    """The same with the lab's kernel in place of what a disk would have, and noexit's options."""
    boots = "".join(f"<{name}>{text}</{name}>" for name, text in (
        ("kernel", "/var/lib/libvirt/images/vmlinuz"), ("initrd", "/var/lib/libvirt/images/initrd"),
        ("cmdline", "console=ttyS0 quiet panic=-1 tsc=reliable")))
    options = "<qemu:env name='NOEXIT_LIMITS' value='unweighed'/>"
    if mode == "off":
        options += "<qemu:env name='NOEXIT_OFF' value='1'/>"
    text = documented().replace("</os>", f"{boots}</os>")
    return text.replace("</qemu:commandline>", f"{options}</qemu:commandline>")


def write_guest(path, images):
    """Writes the guest's initial file system: it takes orders by its console."""
    modules = Modules(images.kernel()).load_order(("ata_piix", "sd_mod", "button", "evdev"))
    with open(path, "wb") as out:
        archive = Cpio(out)
        archive.copy(images.busybox(), "/bin/busybox")
        archive.device("/dev/console", 5, 1)
        archive.add("/init", INIT, 0o755)
        archive.add_modules(modules)
        archive.finish()


def put_files(work):
    """What a Debian system with the package noexit has, as {place in the lab: file or folder}."""
    put = {**put_package(), "/root/libvirt.sh": ROOT / "tests/lab/libvirt.sh", "/root/initrd": work / "initrd",
           "/": LIBVIRT, **{f"/root/domain-{mode}.xml": work / f"domain-{mode}.xml" for mode in MODES}}
    if not WHOLE:
        return put
    rules = work / "apparmor.d"
    put.update(put_apparmor(rules, LIBVIRT / "etc/apparmor.d"))
    # What docs/libvirt.md tells the administrator to do.
    (rules / "local/abstractions/libvirt-qemu").write_text("include <abstractions/noexit>\n")
    return put


class LibvirtTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            write_guest(work / "initrd", IMAGES)
            for mode in MODES:
                (work / f"domain-{mode}.xml").write_text(domain(mode), encoding="utf-8")
            print(said_in_lab(f"sh /root/libvirt.sh {'whole' if WHOLE else 'short'} {' '.join(MODES)}",
                              put=put_files(work), release=RELEASE, mem=1400, timeout=900,
                              share=work / "out"))
            cls.files = {mode: {file: text.replace("\r", "")
                                for file, text in shared_files(work / "out" / mode).items()}
                         for mode in MODES}

    def test_capabilities(self):
        """libvirt has asked the wrapper, and got QEMU's answer."""
        for files in self.files.values():
            self.assertIn("<path>/usr/bin/noexit-qemu-x86_64</path>", files["capabilities"])
            self.assertIn("<domain>kvm</domain>", files["capabilities"])

    def test_facts(self):
        """The guest's lines themselves were waited for."""
        wanted = ["user libvirt-qemu, emulator /usr/bin/qemu-system-x86_64", "sandbox 2",
                  "suspended: paused"]
        if WHOLE:
            wanted += ["confined by libvirt, (enforce)", "snapshots: first", "saved: shut off"]
        for files in self.files.values():
            self.assertEqual(files["facts"].splitlines(), wanted)
            self.assertEqual(files["denied"], "")

    def test_exits(self):
        """The domain's log ends with noexit's line, each time QEMU ended; the live figures are there, too."""
        # Going back to a snapshot and restoring start another QEMU.
        lives = 3 if WHOLE else 1
        for mode, files in self.files.items():
            totals = re.findall(r"^noexit: (\d+) exits taken, (\d+) avoided", files["log"], re.M)
            print(mode, totals)
            self.assertEqual(len(totals), lives, files["log"])
            for taken, avoided in totals:
                self.assertGreater(int(taken), 0)
                (self.assertGreater if mode == "on" else self.assertEqual)(int(avoided), 0)
            self.assertRegex(files["stat"], r"(?m)^exits taken \d+, avoided "
                             + (r"[1-9]" if mode == "on" else "0 "))
            others = [line for line in re.findall(r"^noexit: .*", files["log"], re.M)
                      if "exits taken" not in line]
            self.assertEqual(others, [])

    @unittest.skipUnless(WHOLE, "there is one run")
    def test_same_words(self):
        """What the guest said without noexit and with it."""
        without, with_noexit = (re.findall("guest: .*", self.files[mode]["console"]) for mode in MODES)
        self.assertEqual(without, with_noexit)


if __name__ == "__main__":
    if WHOLE:
        sys.argv.remove("whole")
        if not APPARMOR_PARSER.exists():
            skip("apparmor is not installed; run 'make deps' as root")
    need_lab(release=RELEASE)
    try:
        IMAGES = Images(BUILD, print, RELEASE)
        LIBVIRT = Libvirt(IMAGES).ready()
    except LabError as problem:
        skip(f"libvirt's packages cannot be had: {problem}")
    main()
