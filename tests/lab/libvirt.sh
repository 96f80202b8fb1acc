#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# In the lab's host VM: libvirt's daemon runs a domain whose emulator is noexit's, for libvirt_test.py.
# usage: libvirt.sh short|whole MODE...; MODE: on or off, of which each is one life of the domain
#   short: it starts, is talked to and shut down; whole: AppArmor is enforced, and there is more to it
# /root/domain-MODE.xml is the domain "old-system"; its guest takes orders by its console.
# Leaves in /out/MODE: console, log (libvirt's, of the domain), stat (noexit's), facts (what must be equal).
set -u
length=$1
shift
domain=old-system
images=/var/lib/libvirt/images
export LC_ALL=C
mkdir -p $images /var/lib/libvirt/qemu /var/log/libvirt/qemu /var/cache/libvirt/qemu

problem()
{
	echo "libvirt.sh: $*"
	tail -n 20 /var/log/libvirt/qemu/$domain.log /out/libvirtd
	[ -e "${out:-}/console" ] && tail -n 5 "$out/console"
	exit 1
}

uptime_seconds() { cut -d . -f 1 /proc/uptime; }

# until_true COMMAND...: for five minutes at most, since the lab may be slow.
until_true()
{
	begun=$(uptime_seconds)
	until "$@"; do
		[ $(($(uptime_seconds) - begun)) -lt 300 ] || problem "never true: $*"
		usleep 300000
	done
}

# The users, groups and places that Debian's packages make.
cat >/etc/passwd <<END
root:x:0:0:root:/root:/bin/sh
libvirt-qemu:x:64055:103:Libvirt Qemu:/var/lib/libvirt:/usr/sbin/nologin
END
cat >/etc/group <<END
root:x:0:
tty:x:5:
kvm:x:103:
libvirt-qemu:x:64055:libvirt-qemu
END
chown root:kvm /dev/kvm
chmod 660 /dev/kvm
chown -R libvirt-qemu:libvirt-qemu /var/lib/libvirt/qemu /var/cache/libvirt/qemu
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir /run/lock
ln -s /run /var/run
ln -s /run/lock /var/lock
hostname lab

if [ "$length" = whole ]; then
	mount -t securityfs none /sys/kernel/security
	for profile in libvirtd virtlogd; do
		[ ! -e /etc/apparmor.d/usr.sbin.$profile ] ||
			apparmor_parser -r /etc/apparmor.d/usr.sbin.$profile || problem "a profile"
	done
	apparmor_parser -r /etc/apparmor.d/usr.lib.libvirt.virt-aa-helper || problem "a profile"
fi
virtlogd >/out/virtlogd 2>&1 &
libvirtd >/out/libvirtd 2>&1 &
until_true test -S /run/libvirt/libvirt-sock

# ---- One domain ----

fact() { echo "$*" >>"$out/facts"; }

# order VIRSH-WORD...
order() { virsh "$@" || problem "virsh $*"; }

state_is() { [ "$(virsh domstate $domain)" = "$1" ]; }

shown() { [ "$(grep -c "$1" "$out/console" 2>/dev/null)" -ge "$2" ]; }

# talk VIRSH-WORD...: a console, to which descriptor 3 leads. virsh drops what is typed before it is connected.
talk()
{
	consoles=$((consoles + 1))
	rm -f /run/keys
	mkfifo /run/keys
	exec 3<>/run/keys
	/noexit/tests/lab/terminal virsh "$@" <&3 >>"$out/console" 2>&1 3>&- &
	talker=$!
	until_true shown "Escape character" $consoles
}

# Ctrl-], as a person ends it.
hang_up()
{
	printf '\035' >&3
	wait $talker
	exec 3>&-
}

# ask ORDER ANSWER [TIMES]: types it until the guest gives that answer for the first time, or the TIMESth.
ask()
{
	echo "$1" >&3
	until_true shown "$2" "${3:-1}"
}

live()
{
	order define /root/domain-"$1".xml
	talk start --console $domain
	until_true shown "guest: ready" 1
	ask "flood 100" "guest: 99 the quick"
	ask count "guest: count 1"
	process=$(cat /run/libvirt/qemu/$domain.pid)
	fact "user $(stat -c %U "/proc/$process"), emulator $(readlink "/proc/$process/exe")"
	fact "sandbox $(sed -n 's/^Seccomp:[^0-9]*//p' "/proc/$process/status")"
	order suspend $domain
	fact "suspended: $(virsh domstate $domain)"
	order resume $domain
	ask count "guest: count 2"
	noexit stat -p "$process" >"$out/stat" || problem "noexit stat"
	[ "$length" = short ] || more
	order shutdown $domain
	until_true shown "guest: power button" 1
	until_true state_is "shut off"
	exec 3>&-
	cp /var/log/libvirt/qemu/$domain.log "$out/log"
	rm /var/log/libvirt/qemu/$domain.log
	order undefine --snapshots-metadata $domain
}

# A snapshot of the running domain in its disk, gone back to; saved to a file and restored; reset.
more()
{
	fact "confined by $(cut -d - -f 1 "/proc/$process/attr/current"), $(sed 's/.* //' "/proc/$process/attr/current")"
	ask "write before" "guest: wrote before"
	order snapshot-create-as $domain first
	ask count "guest: count 3"
	ask "write after" "guest: wrote after"
	order snapshot-revert $domain first
	# libvirt starts another QEMU for that, and the console ends.
	wait $talker
	talk console $domain
	ask count "guest: count 3" 2
	ask read "guest: disk before"
	fact "snapshots: $(virsh snapshot-list --name $domain | tr -d '\n')"
	order save $domain $images/saved
	fact "saved: $(virsh domstate $domain)"
	wait $talker
	order restore $images/saved
	rm $images/saved
	talk console $domain
	ask count "guest: count 4"
	ask read "guest: disk before" 2
	process=$(cat /run/libvirt/qemu/$domain.pid)
	noexit stat -p "$process" >"$out/stat-restored" || problem "noexit stat"
	hang_up
	talk console $domain
	order reset $domain
	until_true shown "guest: ready" 2
	ask count "guest: count 1" 2
	ask read "guest: disk before" 3
}

for mode; do
	out=/out/$mode
	mkdir -p "$out"
	consoles=0
	seconds=$(uptime_seconds)
	cp /guest/vmlinuz /root/initrd $images
	qemu-img create -q -f qcow2 $images/$domain.qcow2 32M
	virsh domcapabilities --emulatorbin /usr/bin/noexit-qemu-x86_64 --virttype kvm >"$out/capabilities" ||
		problem "virsh domcapabilities"
	live "$mode"
	echo "$mode: $(($(uptime_seconds) - seconds)) s"
	dmesg -c | grep 'apparmor="DENIED"' >"$out/denied"
done
exit 0
