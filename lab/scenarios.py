# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The whole systems that the lab runs without and with noexit: the table for lab/guests.

What the words mean is in lab/scenario.py; what drive and guest may call, in lab/drive.sh and
lab/scenario-init.
"""

import dataclasses
import re
from pathlib import Path

from load import load
from scenario import SHADOW_PAGING, SOME_WORK, Scenario, same_transcript
from scenarios_devices import DEVICES
from scenarios_hyperv import HYPERV
from scenarios_machines import MACHINES
from scenarios_net import NETWORK
from tool import LabError, run_tool

GRUB = Path("/usr/lib/grub/i386-pc")
GRUB_MODULES = ("biosdisk", "serial", "terminal", "echo", "hashsum", "gcry_md5", "halt")
GRUB_COMMANDS = """
serial --unit=0 --speed=115200
terminal_output serial
echo guest: GRUB
md5sum ($root)0+400
echo guest: end
halt
"""
# 400 lines from a program and 150 from the kernel, numbered.
FLOOD = """
flood 400
stty -echo </dev/console
flood_kernel 150
"""
FLOOD_KERNEL_LINE = "quiet printk.devkmsg=on printk.time=0"

# What an IDE disk is written and read with, by the guest: each block differs.
DISK_GUEST = """
wait_for /dev/sda
say $(cat /sys/class/ata_device/dev1.0/xfer_mode 2>/dev/null)
seq -w 100000 | head -c 524288 >/tmp/data
for pass in 1 2; do
	dd if=/tmp/data of=/dev/sda bs=4k seek=$((pass * 100)) oflag=direct 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches
	say pass $pass $(dd if=/dev/sda bs=4k skip=$((pass * 100)) count=128 iflag=direct \\
		2>/dev/null | md5sum)
done
sync
"""
DISK_DRIVE = """
truncate -s 8M $work/disk
boot vm -m 192 -drive file=$work/disk,format=raw,if=%s
finish vm
digest $work/disk
"""


def lost_lines(run):
    """What a flood lacks or has too much: the lines are known."""
    text = run.console.replace("\r", "")
    for count, words in ((400, "the quick brown fox jumps over the lazy dog"),
                         (150, "by the kernel, packed my box with five dozen jugs")):
        expected = "".join(f"guest: {line} {words}\n" for line in range(count))
        if expected not in text:
            return [f"the {count} lines '{words}' are not all there in their order"]
    return []


def grub_image(_images, directory):
    """A disk image of GRUB alone: its boot sector, its core with our commands, and padding."""
    if not (GRUB / "boot.img").exists():
        raise LabError("GRUB for BIOS machines is not installed; run 'make deps' as root")
    commands = directory / "grub.cfg"
    commands.write_text(GRUB_COMMANDS, encoding="ascii")
    run_tool("grub-mkimage", "-d", str(GRUB), "-O", "i386-pc", "-o", str(directory / "core.img"),
             "-p", "/", "-c", str(commands), *GRUB_MODULES)
    image = (GRUB / "boot.img").read_bytes() + (directory / "core.img").read_bytes()
    (directory / "grub.img").write_bytes(image.ljust(1474560, b"noexit"[:1]))


def flooded(name, about, drive, **more):
    """A console flood that something happens in the middle of."""
    return Scenario(name, about, drive, FLOOD, append=FLOOD_KERNEL_LINE, judge=lost_lines,
                    expect=("^guest: end",), **more)


def grub(name, about, drive):
    """GRUB reads its own image through the firmware."""
    return Scenario(name, about, f"cp /scenario/grub.img $work/disk; start vm -m 32 {drive}\n"
                    "await vm 'guest: end'; hmp vm quit; finish vm; digest $work/disk",
                    expect=("guest: GRUB", "[0-9a-f]{32}  ", "guest: end"), files=grub_image,
                    compare=same_transcript)


# QEMU patches the TPR accesses of 32-bit guests, and writes the vCPU's state back after each. KVM then
# has the task register's type as busy, which the emulator under it takes for an invalid one when the
# next interrupt leaves CPL 3: it aborts.
NO_TPR_PATCHES = "-global kvm-apic.vapic=off"


def boot(name, about, vcpus, options="", before="", **more):
    """A boot of a kernel with all its messages on the serial console."""
    return Scenario(name, about, f"{before}boot vm -m 256 -smp {vcpus} {options}; finish vm", guest=f"""
say processors $(grep -c ^processor /proc/cpuinfo)
{SOME_WORK}""", append="", compare=same_transcript,
                    expect=(f"^guest: processors {vcpus}$", "^guest: end"), **more)


def seconds_of_boot(run):
    """What `noexit bench --lab nested-boot` shows: how long a boot of a guest two levels deep takes."""
    first = re.search(r"^\[ *([\d.]+)\] Run /init", run.console, re.M)
    return {("nested-boot", "seconds to the end"): run.boot.wall,
            ("nested-boot", "seconds to the first process, by the guest's clock"):
                float(first[1]) if first else 0.0,
            ("nested-boot", "exits to the VMM"): run.boot.taken}


# In turns without and with noexit in the inner host VM.
NESTED_BOOT = dataclasses.replace(
    boot("nested-boot", "a short boot of Debian's cloud kernel two levels deep", 1),
    drive="boot vm -m 128; finish vm", nested=True, mem=1400, seconds=1800,
    figures=seconds_of_boot)

SCENARIOS = (
    boot("debian-1", "Debian's cloud kernel, 1 vCPU", 1),
    boot("debian-2", "Debian's cloud kernel, 2 vCPUs", 2, smp=2),
    boot("debian-4", "Debian's cloud kernel, 4 vCPUs", 4, smp=2),
    NESTED_BOOT,
    boot("debian-pae", "Debian's 32-bit PAE kernel", 1, NO_TPR_PATCHES, before=SHADOW_PAGING,
         kernel="686-pae", seconds=1800),
    Scenario("ide-pio", "an IDE disk written and read by programmed I/O",
             DISK_DRIVE % "ide", DISK_GUEST, modules=("ata_piix", "sd_mod"),
             append="quiet libata.dma=0",
             expect=("^guest: XFER_PIO", "^guest: pass 2 [0-9a-f]{32}", "^guest: end")),
    Scenario("ide-dma", "an IDE disk written and read by DMA",
             DISK_DRIVE % "ide", DISK_GUEST, modules=("ata_piix", "sd_mod"),
             expect=("^guest: XFER_.*DMA", "^guest: pass 2 [0-9a-f]{32}", "^guest: end")),
    Scenario("virtio-blk", "a virtio disk written and read",
             DISK_DRIVE % "virtio", DISK_GUEST.replace("/dev/sda", "/dev/vda"), kernel="amd64",
             modules=("virtio_pci", "virtio_blk"),
             expect=("^guest: pass 2 [0-9a-f]{32}", "^guest: end")),
    flooded("stop-cont", "stopped and continued in a storm, in the middle of a console flood", """
boot vm -m 160
await vm 'guest: 20 '
storms=0
while ! ended vm && [ $storms -lt 100 ]; do
	hmp vm stop
	usleep 10000
	hmp vm cont
	usleep 20000
	storms=$((storms + 1))
done
finish vm
""", check=True),
    flooded("savevm", "a snapshot made and loaded in the middle of a console flood", """
truncate -s 1M $work/disk
boot vm -m 160 -snapshot -drive file=$work/disk,format=raw,if=ide
await vm 'guest: 50 '
hmp vm stop
settled vm
hmp vm savevm here
settled vm
from=$(size vm)
hmp vm cont
await vm 'guest: 150 '
hmp vm stop
settled vm
to=$(size vm)
hmp vm loadvm here
hmp vm cont
finish vm
cut_out vm $from $to
""", check=True),
    flooded("migrate", "migrated to a file and back, twice, in the middle of a console flood", """
boot vm -m 160
await vm 'guest: 50 '
hmp vm "migrate \\"exec:cat >$work/state\\""
settled vm
hmp vm quit
finish vm
boot vm2 -m 160 -incoming "exec:cat $work/state"
await vm2 'guest: 150 '
hmp vm2 "migrate \\"exec:cat >$work/state2\\""
settled vm2
hmp vm2 quit
finish vm2
boot vm3 -m 160 -incoming "exec:cat $work/state2"
finish vm3
"""),
    Scenario("hotplug", "memory and vCPUs added to a running guest", """
boot vm -m 160,slots=2,maxmem=1G -smp 1,sockets=3,maxcpus=3
await vm 'guest: 50 '
hmp vm object_add memory-backend-ram,id=more,size=128M
hmp vm device_add pc-dimm,id=dimm,memdev=more
hmp vm device_add host-x86_64-cpu,id=cpu1,socket-id=1,core-id=0,thread-id=0
hmp vm device_add host-x86_64-cpu,id=cpu2,socket-id=2,core-id=0,thread-id=0
finish vm
""", """
flood 100
stty -echo </dev/console
for cpu in 1 2; do
	wait_for /sys/devices/system/cpu/cpu$cpu/online
	echo 1 >/sys/devices/system/cpu/cpu$cpu/online
done
wait_for /sys/devices/system/memory/memory32/state
for state in /sys/devices/system/memory/memory*/state; do
	echo online >$state 2>/dev/null
done
say processors $(grep -c ^processor /proc/cpuinfo)
say more memory $(awk '/^MemTotal/ { print ($2 > 160000) }' /proc/meminfo)
flood 100
""", smp=2, expect=("^guest: processors 3$", "^guest: more memory 1$", "^guest: 99 the",
                    "^guest: end")),
    Scenario("clocks", "HPET, ACPI timer, TSC and RTC read in loops", guest="""
for clock in hpet acpi_pm tsc; do
	clock_readings $clock
done
say rtc $(readings 100 rtc_now)
dmesg | grep -E 'clocksource|TSC|tsc'
""", expect=("^guest: hpet 300 readings 0 b", "^guest: acpi_pm 300 readings 0 b",
             "^guest: rtc 100 readings 0 b", "^guest: end")),
    Scenario("reset", "SeaBIOS, reset in a loop by the monitor", """
start vm -m 32 -machine graphics=off
# Up to its line's end.
fallen_through()
{
	ended vm || { [ "$(grep -ac 'No bootable device' $out/vm.console)" -ge $turn ] &&
		[ -z "$(tail -c 1 $out/vm.console)" ]; }
}
turn=1
until_true fallen_through
while [ $turn -lt 5 ]; do
	hmp vm system_reset
	turn=$((turn + 1))
	until_true fallen_through
done
hmp vm quit
finish vm
fact $(grep -ac 'No bootable device' $out/vm.console) starts
""", compare=same_transcript, expect=("^5 starts",)),
    Scenario("vga-text", "SeaBIOS on a VGA screen in text mode", """
start vm -m 32 -vga std
drawn()
{
	hmp vm "pmemsave 0xb8000 4000 \\"$work/screen\\""
	settled vm
	tr -d '\\000\\007' <$work/screen | grep -q 'No bootable device' || ended vm
}
until_true drawn
hmp vm quit
finish vm
digest $work/screen
""", expect=("^[0-9a-f]{32} screen",)),
    grub("grub-disk", "GRUB from an IDE disk, read through the firmware",
         "-drive file=$work/disk,format=raw,if=ide"),
    grub("grub-floppy", "GRUB from a floppy disk",
         "-drive file=$work/disk,format=raw,if=floppy"),
    *DEVICES,
    *HYPERV,
    *MACHINES,
    *NETWORK,
    load(1),
)
