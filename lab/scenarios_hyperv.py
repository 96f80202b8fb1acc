# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Rows of lab/guests about Hyper-V enlightenments, which libvirt gives to Windows guests. Linux uses them,
too, where it takes the machine for Hyper-V: KVM's own signature has to be hidden for that."""

from scenario import SOME_WORK, Scenario
from scenarios_devices import program

# What libvirt and virt-manager set for a Windows guest; without hv-vpindex and hv-synic Linux does not
# use the rest.
FLAGS = ("kvm=off,hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-vpindex,hv-runtime,hv-synic,hv-stimer,"
         "hv-time,hv-frequencies,hv-reset,hv-ipi")

GUEST = f"""
say processors $(grep -c ^processor /proc/cpuinfo)
say $(dmesg | grep -o 'Hypervisor detected: .*')
{SOME_WORK}flood 100
"""

# One processor, and another one beside it.
ENLIGHTENED_DRIVE = f"""
for processors in 1 2; do
	cp /scenario/enlightened.bin $work/disk
	truncate -s 1M $work/disk
	start cpus$processors -m 64 -smp $processors -machine pc -vga std -no-reboot \\
		-cpu host,{FLAGS} -drive file=$work/disk,format=raw,if=ide,snapshot=on
	finish cpus$processors
done
"""


def hyperv(vcpus, flags="", **more):
    """A boot of Debian's kernel that takes the machine for Hyper-V."""
    name = f"hyperv{'-flush' if flags else ''}-{vcpus}"
    return Scenario(name, f"Debian under Hyper-V enlightenments{flags and ' with ' + flags[1:]}, "
                    f"{vcpus} vCPU(s)",
                    f"boot vm -m 256 -smp {vcpus} -cpu host,{FLAGS}{flags}; finish vm", GUEST,
                    append="", smp=vcpus,
                    expect=(f"^guest: processors {vcpus}$",
                            "^guest: Hypervisor detected: Microsoft Hyper-V$",
                            "^guest: 50 processes", "^guest: end"), **more)


HYPERV = (
    Scenario("enlightened", "what Windows does at boot under Hyper-V enlightenments, by a boot sector",
             ENLIGHTENED_DRIVE, files=program("enlightened.bin"), check=True,
             expect=("^guest: hypervisor Microsoft Hv", "^guest: a long wait 00000000",
                     "^guest: an unknown call 00000002", "^guest: times out of order 00000000",
                     "^guest: timer interrupts 00000014", "^guest: interrupts without a message 00000000",
                     "^guest: flushes 00000000", "^guest: stale 00000000", "^guest: screen ",
                     "^guest: pm timer backwards 00000000", "^guest: disk ", "^guest: end")),
    hyperv(1),
    hyperv(2),
    hyperv(1, ",hv-tlbflush"),
    # Its flush hypercall may return before the engine has flushed: noexit leaves the guest alone.
    hyperv(2, ",hv-tlbflush", avoids=False),
)
