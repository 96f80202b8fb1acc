# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The Debian packages: deb_test.py [--packages DIR] [--system ROOT] [TEST...]

They are built, examined by lintian, and installed, upgraded and purged in a chroot. What is below the
chroot is the system ROOT, this machine's by default; what changes is gone with the test. With
--packages those in DIR are tested, and nothing is built. CHECK_KERNEL (cloud-amd64): a kernel that is
installed first, for DKMS.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = Path(os.environ.get("NX_BUILD") or ROOT / "build").resolve()
SKIPPED = 77
NAMES = {"noexit", "libnoexit0", "libnoexit-dev", "noexit-dkms"}
# A mount namespace of its own, whose root is ROOT and, over that, memory.
CHROOT = """
mkdir "$1/new"
mount -t tmpfs none "$1/new"
mkdir "$1/new/upper" "$1/new/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/new/upper,workdir=$1/new/work" none "$1/root" || exit 77
for place in proc dev sys; do
	mount --rbind "/$place" "$1/root/$place"
done
cp -L /etc/resolv.conf "$1/root/etc/resolv.conf"
cp /etc/hosts "$1/root/etc/hosts"
cp -r "$3" "$1/root/packages"
cp "$4" "$1/root/packages/test.sh"
exec chroot "$1/root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	"KERNEL=${CHECK_KERNEL:-}" sh /packages/test.sh
"""


def skip(reason):
    print(reason)
    sys.exit(SKIPPED)


def run(*command, **options):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          **options)


def packages(directory):
    return {file.name.split("_")[0]: file for file in directory.glob("*.deb")
            if "-dbgsym_" not in file.name}


def build():
    """Returns the folder of the packages."""
    options = os.environ.get("DEB_BUILD_OPTIONS", "nocheck noautodbgsym")
    result = run("sh", str(ROOT / "tools/deb.sh"), str(BUILD),
                 env={**os.environ, "DEB_BUILD_OPTIONS": f"{options} parallel={os.cpu_count()}"})
    if result.returncode == SKIPPED:
        skip(result.stdout.splitlines()[-1])
    if result.returncode:
        print(result.stdout)
        sys.exit(1)
    return BUILD / "deb"


def repack(package, target, version):
    """Writes the same package as one of another version."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "tree"
        subprocess.run(("dpkg-deb", "-R", package, tree), check=True)
        control = tree / "DEBIAN/control"
        text = control.read_text(encoding="utf-8")
        now = re.search(r"^Version: (.*)$", text, re.M)[1]
        control.write_text(re.sub(rf"^Version: .*$|(?<=\(= ){re.escape(now)}(?=\))",
                                  lambda match: ("Version: " if match[0][0] == "V" else "") + version,
                                  text, flags=re.M), encoding="utf-8")
        subprocess.run(("dpkg-deb", "--root-owner-group", "-b", tree, target), check=True,
                       stdout=subprocess.DEVNULL)


class Packages(unittest.TestCase):
    def test_versions(self):
        """There are just these four, of the version that meson.build tells."""
        self.assertEqual(set(packages(DEBS)), NAMES)
        version = re.search(r"^  version : '(.*)'", (ROOT / "meson.build").read_text(), re.M)[1]
        dkms = (ROOT / "kernel/dkms/dkms.conf").read_text()
        self.assertIn(f'PACKAGE_VERSION="{version}"\n', dkms)
        for file in packages(DEBS).values():
            self.assertRegex(file.name, f"_{re.escape(version)}-[^-]*_")

    @unittest.skipUnless(shutil.which("lintian"), "lintian is not installed; run 'make deps' as root")
    def test_lintian(self):
        changes = next(DEBS.glob("*.changes"))
        result = run("lintian", "--allow-root", "--fail-on", "error", str(changes))
        self.assertEqual(result.returncode, 0, result.stdout)


class Chroot(unittest.TestCase):
    def test_install_upgrade_purge(self):
        """installed.sh says what is looked at."""
        if os.geteuid():
            self.skipTest("a chroot is made by root")
        with tempfile.TemporaryDirectory() as name:
            work, debs = Path(name), Path(name) / "debs"
            (debs / "old").mkdir(parents=True)
            (debs / "new").mkdir()
            for package, file in packages(DEBS).items():
                shutil.copy(file, debs / "new")
                repack(file, debs / "old" / f"{package}.deb", "0.0.9-1")
            result = run("unshare", "--mount", "--propagation", "private", "sh", "-euc", CHROOT, "sh",
                         str(work), str(OPTIONS.system), str(debs), str(HERE / "installed.sh"))
        if result.returncode == SKIPPED:
            self.skipTest(result.stdout.splitlines()[-1])
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("purged: nothing is left", result.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--system", type=Path, default="/")
    OPTIONS, rest = parser.parse_known_args()
    DEBS = OPTIONS.packages or build()
    # unittest calls a run without tests a success.
    outcome = unittest.main(argv=[sys.argv[0], *rest], exit=False).result
    if outcome.wasSuccessful() and len(outcome.skipped) == outcome.testsRun:
        skip(outcome.skipped[0][1] if outcome.skipped else "no test has run")
    sys.exit(0 if outcome.wasSuccessful() else 1)
