#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# The long runs, in parts; each ends with a line that says whether it passed and how long it took, and
# all these lines come again at the end.
# usage: soak.sh BUILD [PART...]: all parts, or these
#   fuzz-engine fuzz-walk fuzz-verify   a fuzz target each, for SOAK_SECONDS (600)
#   diff                  SOAK_SEQUENCES (1000000) random sequences against the processor, but 1 in 50
#   diff-amd diff-intel   those, and a twentieth of those, on a whole processor in the lab
#   mutants               SOAK_MUTANTS (1000) mutants of each of 3000 translations for the verifier
#   valgrind              the longer unit tests under it
#   guests                the whole systems in the lab, each without and with noexit; SOAK_GUESTS: these
#   guests-trixie         the same in the lab of that Debian release
#   minivmm-trixie        SOAK_MINIVMM (5) times the lab's test of examples/minivmm with its guest's kernel
#   cloud-trixie cloud-intel   the lab's test of a VMM like those in Rust, with that release's kernel, and on
#                         Intel's kind of processor
#   kernel-trixie         noexit.ko on that release's kernel: the module's tests and a boot of Debian;
#                         kernel-intel: the same on Intel's kind of processor, with each exit compared;
#                         kernel-debug: on a kernel that watches itself (KASAN, lockdep and more), which is built
#                         first: guests, pages taken away, faults, a hypervisor, Debian's boot, 40 rounds of loading
#   libvirt               a domain of libvirt's with AppArmor enforced, snapshots, saving and restoring, without and
#                         with noexit, in the lab
#   selftests             the kernel's KVM selftests in the lab, each without and with noexit
#   selftests-module      the same beside noexit.ko
#   nested                the module around a hypervisor in the lab, in level 1, level 0 and both;
#                         nested-novgif: the same without virtual GIF; nested-boot: Debian in level 2
#   nested-boots          levels 1 and 2 boot from the beginning, 20 times (LAB_BOOTS) for each place of the module
#   nested-disturbed      a hypervisor whose machine is stopped, saved, migrated and reset
#   nested-table          noexit bench nested-table once (SOAK_ROWS: these rows); level 2 must say the same in each column
#   boots                 SOAK_BOOTS (200) boots of the lab's guest
#   busy                  SOAK_CHECKS (5) times make check, with two busy loops beside it; busy-nokvm:
#                         the same with /dev/kvm hidden
#   debian13              make demo and make check in a chroot of Debian 13
#   deb-bookworm deb-trixie   the packages, built in a chroot of that Debian release and installed in
#                         another one, which has nothing but a kernel with its headers
#   load                  a guest of 4 vCPUs under load and disturbed, for SOAK_MINUTES (30)
# SOAK_KEEP: where consoles and the like go (soak, below BUILD).
# Exit status: 1 if a part failed.
set -u
build=$(cd "$1" && pwd) || exit 2
shift
root=$(cd "$(dirname "$0")/.." && pwd)
keep=${SOAK_KEEP:-$build/soak}
export NX_BUILD="$build"
sequences=${SOAK_SEQUENCES:-1000000}
whole=$((sequences / 50))
# Seeds that no soak run has had before.
seed=$(date +%s)000000

fuzz()
{
	fuzzer=$build/tests/fuzz/fuzz_$1
	if [ ! -x "$fuzzer" ]; then
		echo "there is no libFuzzer; run 'make deps' as root"
		return 77
	fi
	FUZZ_SECONDS=${SOAK_SECONDS:-600} python3 "$root/tests/fuzz/run.py" "$fuzzer" \
		"$root/tests/fuzz/fuzz.dict" "$root/tests/fuzz/corpus/$1"
}

# On a whole processor, in the lab: CPU COUNT.
diff_whole()
{
	DIFF_CPU=$1 DIFF_SEQUENCES=$2 DIFF_SEED=$seed python3 "$root/tests/lab/diff_test.py"
}

# Run a command and remember the worst result of several in worst: a failure, then a skip.
judge()
{
	"$@"
	code=$?
	[ $code = 0 ] || [ $worst = 1 ] || worst=$code
	[ $code = 0 ] || [ $code = 77 ] || worst=1
}

valgrind_tests()
{
	worst=0
	for test in tracker_test coverage_time_test \
		"verify_generated_test --collect-only --per-cell=60 --seed=$seed"; do
		echo "soak: valgrind, $test"
		# shellcheck disable=SC2086 # a program and its options
		judge sh "$root/tools/valgrind.sh" "$build/tests/unit/"$test
	done
	return $worst
}

guests()
{
	# shellcheck disable=SC2086 # a list of names
	python3 "$root/lab/guests" --soak --keep "$keep/guests" ${SOAK_GUESTS:---all}
}

# In the lab of another release: RELEASE. Once each.
guests_of()
{
	# shellcheck disable=SC2086 # a list of names
	python3 "$root/lab/guests" --release "$1" --limits unweighed --keep "$keep/guests-$1" \
		${SOAK_GUESTS:---all}
}

# In the lab of another release: RELEASE. Two boots each time, of a guest whose timer is the 8254.
minivmm_of()
{
	number=1
	while [ $number -le "${SOAK_MINIVMM:-5}" ]; do
		LAB_RELEASE=$1 python3 "$root/tests/lab/minivmm_test.py" -v || return
		number=$((number + 1))
	done
}

# The module, where it can be built.
module()
{
	file=$(python3 "$root/kernel/build_module.py" "$build" | tail -n 1) && [ -f "$file" ] && echo "$file"
}

nested_boot()
{
	module=$(module) || return 77
	python3 "$root/lab/nested" --module "$module" --runs 0 --rows boot --columns none,run,inner,outer,both
}

nested_table()
{
	module=$(module) || return 77
	"$build/cli/noexit" bench --lab --runs 1 --module "$module" \
		--rows "${SOAK_ROWS:-cpuid,msr,port-kernel,port-vmm,boot,execs,flood,disk,idle}" nested-table
}

# The packages of another release: RELEASE. Built in a chroot that has what their control file asks for,
# installed in one that has a kernel with headers.
deb_of()
{
	export CHECK_RELEASE="$1"
	sh "$root/tools/debian13.sh" "$build" \
		'apt-get -q update && apt-get -qq install -y --no-install-recommends lintian &&
		apt-get -qq build-dep -y --no-install-recommends ./ && mkdir -p build &&
		python3 tests/deb/deb_test.py -v Packages' || return
	base=$build/lab/debian13/$1
	CHECK_KERNEL=cloud-amd64 python3 "$root/tests/deb/deb_test.py" -v --system "$base" \
		--packages "$base.root/root/noexit/build/deb" Chroot
}

# The whole check again and again on a machine that is busy: prefix of the command line.
busy()
{
	failed=0
	(while :; do :; done) &
	first=$!
	(while :; do :; done) &
	second=$!
	trap 'kill $first $second' EXIT
	number=1
	while [ $number -le "${SOAK_CHECKS:-5}" ]; do
		mkdir -p "$keep"
		log=$keep/check-$number${1:+-nokvm}.log
		"$@" sh "$root/tools/check.sh" "$build" >"$log" 2>&1 || failed=1
		echo "soak: check $number: $(tail -n 1 "$log") ($log)"
		grep -E '^(failed|skipped): ' "$log"
		number=$((number + 1))
	done
	trap - EXIT
	kill $first $second
	wait $first $second 2>/dev/null
	return $failed
}

# In a mount namespace of its own, whose /dev has everything but kvm.
busy_nokvm()
{
	# shellcheck disable=SC2016 # the inner shell expands it
	busy unshare --mount --propagation private sh -eu -c '
		mkdir -p "$0"
		mount -t tmpfs -o mode=755,dev none "$0"
		find /dev -mindepth 1 -maxdepth 1 ! -name kvm ! -name pts ! -name shm \
			-exec cp -a "{}" "$0" ";"
		for place in pts shm; do
			mkdir "$0/$place"
			mount --rbind "/dev/$place" "$0/$place"
		done
		mount --move "$0" /dev
		exec "$@"' "$build/no-kvm"
}

# The module on a kernel that watches itself, and that is several times as slow.
kernel_debug()
{
	worst=0
	export LAB_KERNEL=debug LAB_PATIENCE="${LAB_PATIENCE:-6}"
	for name in host load memory hypervisor boot; do
		echo "soak: $name, on a kernel that watches itself"
		judge python3 "$root/tests/kernel/host/${name}_test.py"
	done
	return $worst
}

part()
{
	case $1 in
	fuzz-engine|fuzz-walk|fuzz-verify) fuzz "${1#fuzz-}" ;;
	diff) "$build/tests/diff/diff_test" "--count=$((sequences - whole))" "--seed=$seed" --keep-going ;;
	diff-amd) diff_whole amd $whole ;;
	# Intel's segment limits are worth a few; the emulator is slow.
	diff-intel) diff_whole intel $((whole / 20)) ;;
	mutants) "$build/tests/unit/verify_generated_test" --per-cell=120 \
		"--mutants=${SOAK_MUTANTS:-1000}" "--seed=$seed" ;;
	valgrind) valgrind_tests ;;
	guests) guests ;;
	guests-*) guests_of "${1#guests-}" ;;
	minivmm-*) minivmm_of "${1#minivmm-}" ;;
	cloud-intel) LAB_CPU=intel python3 "$root/tests/lab/cloud_vmm_test.py" -v ;;
	cloud-*) LAB_RELEASE="${1#cloud-}" python3 "$root/tests/lab/cloud_vmm_test.py" -v ;;
	kernel-debug) (kernel_debug) ;;
	kernel-*)
		python3 "$root/tests/kernel/host/host_test.py" "${1#kernel-}" &&
			python3 "$root/tests/kernel/host/boot_test.py" "${1#kernel-}"
		;;
	libvirt) python3 "$root/tests/lab/libvirt_test.py" whole -v ;;
	selftests) python3 "$root/lab/kvm-selftests" --keep "$keep/selftests" ;;
	selftests-module) python3 "$root/lab/kvm-selftests" --module --keep "$keep/selftests-module" ;;
	nested) python3 "$root/tests/kernel/host/nested_test.py" ;;
	nested-novgif) python3 "$root/tests/kernel/host/nested_test.py" vgif=0 ;;
	nested-disturbed) python3 "$root/tests/kernel/host/disturbed_test.py" ;;
	nested-table) nested_table ;;
	nested-boot) nested_boot ;;
	nested-boots) python3 "$root/tests/kernel/host/nested_boots_test.py" ;;
	boots) python3 "$root/lab/boots" --total "${SOAK_BOOTS:-200}" --keep "$keep/boots" ;;
	busy) busy ;;
	busy-nokvm) busy_nokvm ;;
	debian13) sh "$root/tools/debian13.sh" "$build" ;;
	deb-*) (deb_of "${1#deb-}") ;;
	load) python3 "$root/lab/guests" --minutes "${SOAK_MINUTES:-30}" --keep "$keep" load ;;
	*)
		echo "soak: there is no part '$1'; 'sh tools/soak.sh' has a list at its top" >&2
		return 2
		;;
	esac
}

[ $# -gt 0 ] || set -- fuzz-engine fuzz-walk fuzz-verify diff diff-amd diff-intel mutants valgrind \
	guests guests-trixie minivmm-trixie cloud-trixie cloud-intel kernel-trixie kernel-intel kernel-debug libvirt selftests selftests-module \
	nested nested-novgif nested-boot nested-boots nested-disturbed nested-table \
	deb-bookworm deb-trixie boots load busy busy-nokvm debian13
status=0
summary=
for name; do
	echo "soak: $name begins (seed $seed)"
	began=$(date +%s)
	part "$name"
	case $? in
	0) verdict=passed ;;
	77) verdict=skipped ;;
	*)
		verdict=FAILED
		status=1
		;;
	esac
	line="soak: $name $verdict, $(($(date +%s) - began)) s"
	echo "$line"
	summary="$summary$line
"
done
printf '\n%s' "$summary"
exit $status
