# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""AppArmor in the lab's kernel: under libvirt's rules for QEMU and the abstraction of ours, exits are
avoided and nothing is denied; without the abstraction noexit's QEMU does not start.

Everything is where the package noexit puts it.
"""

import subprocess
import tempfile
import unittest
from pathlib import Path

from lab_testing import BUILD, ROOT, main, need_lab, skip

from image import LabError
from packages import Apt

PARSER = Path("/usr/sbin/apparmor_parser")
# The lab's shell and tools are one program; these are what a Debian system has in their places.
TOOLS = {"dash": "sh", "dirname": "dirname", "printenv": "printenv", "readlink": "readlink", "tr": "tr"}
PROFILES = """
#include <tunables/global>
profile with flags=(attach_disconnected) {
  #include <abstractions/libvirt-qemu>
  include <abstractions/noexit>
  /guest/** r,
}
profile without flags=(attach_disconnected) {
  #include <abstractions/libvirt-qemu>
  /guest/** r,
}
"""
# As libvirt does: the profile is that of the next program.
SCRIPT = """
mount -t securityfs none /sys/kernel/security
echo "enabled: $(cat /sys/module/apparmor/parameters/enabled)"
apparmor_parser -r /root/profiles || exit 1
for profile in with without; do
	dmesg -c >/dev/null
	echo "profile: $profile"
	sh -c 'echo "exec $0" >/proc/self/attr/apparmor/exec
		exec /usr/bin/noexit-qemu-x86_64 "$@"' $profile \
		-M pc -accel kvm -cpu host -m 192 -display none -nic none -no-reboot -serial stdio \
		-kernel /guest/vmlinuz -initrd /guest/initrd -append "console=ttyS0 panic=-1" \
		</dev/null 2>&1
	echo "status: $?"
	dmesg | grep 'apparmor="DENIED"' | sed 's/^/denied: /'
done
"""


def libvirt_rules():
    """Return the rules that libvirt has for QEMU."""
    apt = Apt(BUILD / "lab", print)
    # Debian 12 has them in the first, Debian 13 in the second.
    for package in ("libvirt-daemon-system", "libvirt-daemon-driver-qemu"):
        with apt.unpacked(package, BUILD / "lab") as (_, tree):
            for file in tree.glob("etc/apparmor.d/abstractions/libvirt-qemu"):
                return file.read_bytes()
    raise LabError("no package of libvirt's has its rules for QEMU")


class AppArmor(unittest.TestCase):
    def test_enforced(self):
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            rules = work / "apparmor.d"
            subprocess.run(("cp", "-r", "/etc/apparmor.d", rules), check=True)
            (rules / "abstractions/noexit").write_bytes((ROOT / "debian/apparmor/noexit").read_bytes())
            (rules / "abstractions/libvirt-qemu").write_bytes(RULES)
            # They include the site's own, of which there are none.
            (rules / "local/abstractions").mkdir(parents=True, exist_ok=True)
            (rules / "local/abstractions/libvirt-qemu").write_text("")
            (work / "profiles").write_text(PROFILES)
            put = {rules: "/etc/apparmor.d", PARSER: PARSER, work / "profiles": "/root/profiles",
                   BUILD / "cli/noexit": "/usr/bin/noexit",
                   BUILD / "cli/noexit-qemu-x86_64": "/usr/bin/noexit-qemu-x86_64",
                   BUILD / "kvm/libnoexit-kvm.so":
                       "/usr/lib/x86_64-linux-gnu/noexit/libnoexit-kvm.so",
                   **{f"/usr/bin/{tool}": f"/usr/bin/{place}" for tool, place in TOOLS.items()}}
            result = subprocess.run(
                [ROOT / "lab/run", "--timeout", "400",
                 *(word for source, target in put.items() for word in ("--put", f"{source}:{target}")),
                 "--", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        said = result.stdout
        self.assertIn("enabled: Y", said)
        allowed, forbidden = said.partition("profile: with\n")[2].split("profile: without\n")
        self.assertIn("status: 0", allowed, said)
        self.assertNotIn("denied: ", allowed)
        self.assertRegex(allowed, r"noexit: \d+ exits taken, [1-9]\d* avoided", said)
        self.assertNotIn("status: 0", forbidden)
        self.assertIn("noexit-qemu-x86_64", forbidden.partition("denied: ")[2], said)


if __name__ == "__main__":
    if not PARSER.exists():
        skip("apparmor is not installed; run 'make deps' as root")
    need_lab()
    try:
        RULES = libvirt_rules()
    except LabError as problem:
        skip(f"libvirt's rules cannot be had: {problem}")
    main()
