# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The KVM selftests of the kernel that the lab boots, built from Debian's package of its source.

Package and headers are fetched and taken apart, not installed. Only the programs are kept.
"""

import os
import re
import subprocess
from pathlib import Path

from packages import Apt, kernel_source, unpack_source
from tool import LabError, locked, run_tool

# What of the kernel's source they are built from.
PARTS = ("scripts/subarch.include", "scripts/Makefile.", "tools/")
# For `make check`: those of 6.1 that are not skipped in the AMD kind of lab and are short, but hyperv_clock, which asserts
# on measured time. With a fifth of a processor (29 November 2026) the longest took 2.2 s, and the next one on the list of
# all 11.9 s.
QUICK = frozenset("""
cpuid_test cr4_cpuid_sync_test debug_regs fix_hypercall_test get_msr_index_features hyperv_cpuid hyperv_svm_test
kvm_binary_stats_test kvm_clock_test kvm_pv_test max_vcpuid_cap_test monitor_mwait_test
nested_exceptions_test platform_info_test set_boot_cpu_id set_sregs_test smm_test state_test svm_int_ctl_test
svm_nested_shutdown_test svm_nested_soft_inject_test svm_vmcall_test sync_regs_test system_counter_offset_test
triple_fault_event_test tsc_msrs_test userspace_io_test userspace_msr_exit_test
""".split())
FOLDER = "tools/testing/selftests/kvm"


def compile_programs(tree, headers, out):
    """Build what can be built: one that its own source cannot build must not stand for all."""
    (headers / "asm").symlink_to("x86_64-linux-gnu/asm")
    result = subprocess.run(
        ["make", "-k", f"-j{os.cpu_count() or 1}", "-C", str(tree / FOLDER), "ARCH=x86_64",
         f"OUTPUT={out}", f"LINUX_HDR_PATH={headers}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    programs = [file for file in sorted(out.rglob("*"))
                if file.is_file() and not file.suffix and os.access(file, os.X_OK)]
    if not programs:
        raise LabError(f"the KVM selftests do not build: {result.stderr[-2000:]}")
    return programs, re.findall(r"^make: \*\*\* \[.*[/ ](\w+)\] Error", result.stderr, re.M)


def selftests(images, say):
    """Return the directory with the programs, built when they are first asked for."""
    images.ready()
    target = images.cache / "kvm-selftests"
    name, version = kernel_source(images.kernel())
    apt = Apt(images.cache, say, images.release)
    with locked(images.cache / "lock-selftests"):
        if target.exists():
            return target
        with apt.unpacked(apt.nearest("linux-libc-dev", version), images.cache) as (_, headers), \
                apt.unpacked(apt.nearest(name, version), images.cache) as (deb, package):
            archive = next(package.glob("usr/src/*.tar.xz"), None)
            if not archive:
                raise LabError(f"{deb} has no source in usr/src")
            tree, out, chosen = (package / name for name in ("source", "out", "chosen"))
            for directory in (out, chosen):
                directory.mkdir()
            unpack_source(archive, tree, PARTS)
            say(f"building the KVM selftests of {deb} (once)")
            programs, failed = compile_programs(tree, headers / "usr/include", out)
            if failed:
                say(f"their source does not build {', '.join(failed)}")
            for program in programs:
                run_tool("strip", "-o", str(chosen / program.name), str(program))
            os.rename(chosen, target)
    return target
