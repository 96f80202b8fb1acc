#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Runs a libFuzzer target from its corpus for a while: run.py FUZZER DICTIONARY CORPUS

FUZZ_SECONDS says how long (10). What it finds on the way is kept beside the fuzzer, in
NAME.found, where the next run begins as well; an input that breaks something in NAME.crash.
"""

import os
import subprocess
import sys
from pathlib import Path

SKIPPED = 77
SANITIZERS = {"ASAN_OPTIONS": "detect_stack_use_after_return=0:allocator_may_return_null=1",
              "UBSAN_OPTIONS": "print_stacktrace=1"}


def main():
    if sys.argv[1] == "--skip":
        print(sys.argv[2])
        return SKIPPED
    fuzzer, dictionary, corpus = (Path(argument).resolve() for argument in sys.argv[1:])
    seconds = int(os.environ.get("FUZZ_SECONDS") or 10)
    found, crash = (fuzzer.with_name(fuzzer.name + end) for end in (".found", ".crash"))
    found.mkdir(exist_ok=True)
    crash.mkdir(exist_ok=True)
    status = subprocess.run(
        [str(fuzzer), str(found), str(corpus), f"-max_total_time={seconds}", "-timeout=60",
         "-rss_limit_mb=2048", "-max_len=640", f"-dict={dictionary}", "-print_final_stats=1",
         "-verbosity=0", f"-artifact_prefix={crash}/"],
        env={**os.environ, **SANITIZERS}, check=False).returncode
    if status:
        print(f"{fuzzer.name}: the input is in {crash}; to repeat it: {fuzzer} INPUT")
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
