#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# The long runs: each fuzz target for SOAK_SECONDS (600), a million random sequences against the
# processor, millions of mutants against the verifier, the longer tests under valgrind, and whole guests
# in the lab, booted 200 times.
# usage: soak.sh BUILD
# FUZZ_TARGETS names the targets if not all; SOAK_SEQUENCES the number of sequences, SOAK_MUTANTS
# that of mutants of each of 3000 translations.
set -eu
build=$1
root=$(cd "$(dirname "$0")/.." && pwd)
seconds=${SOAK_SECONDS:-600}
status=0

for target in ${FUZZ_TARGETS:-engine walk verify}; do
	fuzzer=$build/tests/fuzz/fuzz_$target
	if [ ! -x "$fuzzer" ]; then
		echo "soak: fuzz-$target skipped: there is no libFuzzer; run 'make deps' as root" >&2
		continue
	fi
	echo "soak: fuzz-$target for $seconds s" >&2
	FUZZ_SECONDS=$seconds python3 "$root/tests/fuzz/run.py" "$fuzzer" \
		"$root/tests/fuzz/fuzz.dict" "$root/tests/fuzz/corpus/$target" || status=1
done

# Seeds that no soak run has had before.
sequences=${SOAK_SEQUENCES:-1000000}
whole=$((sequences / 50))
seed=$(date +%s)000000
echo "soak: diff, $((sequences - whole)) sequences from seed $seed" >&2
"$build/tests/diff/diff_test" "--count=$((sequences - whole))" "--seed=$seed" --keep-going ||
	status=1
for cpu in amd intel; do
	# Intel's segment limits are worth a few; the emulator is slow.
	[ $cpu = amd ] || whole=$((whole / 20))
	echo "soak: diff, $whole on a whole processor, in the lab ($cpu)" >&2
	NX_BUILD=$build DIFF_CPU=$cpu DIFF_SEQUENCES=$whole DIFF_SEED=$seed \
		python3 "$root/tests/lab/diff_test.py" || [ $? = 77 ] || status=1
done

mutants=${SOAK_MUTANTS:-1000}
echo "soak: verifier, $mutants mutants of each translation from seed $seed" >&2
"$build/tests/unit/verify_generated_test" --per-cell=120 "--mutants=$mutants" "--seed=$seed" ||
	status=1

for test in tracker_test coverage_time_test \
	"verify_generated_test --collect-only --per-cell=60 --seed=$seed"; do
	echo "soak: valgrind, $test" >&2
	# shellcheck disable=SC2086 # a program and its options
	sh "$root/tools/valgrind.sh" "$build/tests/unit/"$test || [ $? = 77 ] || status=1
done

echo "soak: whole systems in the lab" >&2
NX_BUILD=$build python3 "$root/lab/guests" --all --soak || [ $? = 77 ] || status=1
exit $status
