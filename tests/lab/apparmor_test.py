# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""AppArmor in the lab's kernel: under libvirt's rules for QEMU and the abstraction of ours, exits are
avoided and nothing is denied; without the abstraction noexit's QEMU does not start.

Everything is where the package noexit puts it.
"""

import tempfile
import unittest
from pathlib import Path

from lab_testing import APPARMOR_PARSER, BUILD, main, need_lab, put_apparmor, put_package, run_lab, skip

from image import Images, LabError
from libvirt import Libvirt

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


class AppArmor(unittest.TestCase):
    def test_enforced(self):
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            (work / "profiles").write_text(PROFILES)
            put = {**put_package(), **put_apparmor(work / "apparmor.d", RULES),
                   "/root/profiles": work / "profiles"}
            said = run_lab(SCRIPT, put=put, timeout=400).stdout
        self.assertIn("enabled: Y", said)
        allowed, forbidden = said.partition("profile: with\n")[2].split("profile: without\n")
        self.assertIn("status: 0", allowed, said)
        self.assertNotIn("denied: ", allowed)
        self.assertRegex(allowed, r"noexit: \d+ exits taken, [1-9]\d* avoided", said)
        self.assertNotIn("status: 0", forbidden)
        self.assertIn("noexit-qemu-x86_64", forbidden.partition("denied: ")[2], said)


if __name__ == "__main__":
    if not APPARMOR_PARSER.exists():
        skip("apparmor is not installed; run 'make deps' as root")
    need_lab()
    try:
        RULES = Libvirt(Images(BUILD, print)).ready() / "etc/apparmor.d"
    except LabError as problem:
        skip(f"libvirt's rules cannot be had: {problem}")
    main()
