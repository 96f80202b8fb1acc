# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Two guests joined by network cards of each kind: round trips, and a transfer each way.

Each card is used for itself, the others being down. Exits of a round trip are counted over PINGS round
trips alone: the guest that asks waits for a key before and after, and lab/drive.sh reads both machines'
counters then.
"""

import re
from collections import Counter

from scenario import MODES, Scenario, same_lines

PINGS = 300
CARDS = {"e1000": "e1000", "rtl8139": "rtl8139", "virtio": "virtio-net-pci"}
# What a round trip may still take of the exits that it takes without noexit: the ATC 2012 paper
# got from 2.6 to 1.97. virtio-net has none that could be avoided.
GOAL = 0.76
MEASURED = ("e1000", "rtl8139")
# The keys, which are no part of a round trip.
IGNORED = ("ps2",)

# A card's address ends with the card's number and the guest's. Nothing is sent to the console's input, so
# a nc that only receives waits for the network alone.
GUEST = """
wait_for /sys/class/net/eth2/address
me=$(sed 's/.*0//' /sys/class/net/eth0/address)
head -c 2000000 /bin/busybox | tail -c +$((me * 1000)) >/tmp/data
ifconfig lo up
number=0
for card in %(cards)s; do
	number=$((number + 1))
	eth=$(basename "$(dirname "$(grep -l ":0$number:0$me" /sys/class/net/eth?/address)")")
	ifconfig $eth 10.0.$number.$me up
	if [ $me = 1 ]; then
		other=10.0.$number.2
		until ping -q -c 1 -W 1 $other >/dev/null; do :; done
		say $card ready
		wait_key
		ping -q -A -c %(pings)d $other >/tmp/ping
		echo $card: $(grep round-trip /tmp/ping)
		# One that takes longer than a second is sent again.
		say $card: $(grep -o '[0-9]* packets received' /tmp/ping)
		wait_key
		until nc $other 5000 </tmp/data; do usleep 100000; done
		until nc $other 5001 >/tmp/got; do usleep 100000; done
	else
		nc -l -p 5000 >/tmp/got
		nc -l -p 5001 </tmp/data
	fi
	ifconfig $eth down
	say $card: sent $(md5sum </tmp/data) got $(md5sum </tmp/got)
done
""" % {"cards": " ".join(CARDS), "pings": PINGS}

# The monitor answers once the machine listens.
DRIVE = """
cards()
{
	number=0
	for card in %(devices)s; do
		number=$((number + 1))
		echo "-netdev socket,id=net$number,$1=127.0.0.1:555$number"
		echo "-device $card,netdev=net$number,romfile=,mac=52:54:00:00:0$number:0$2"
	done
}
boot b -m 160 $(cards listen 2)
settled b
boot a -m 160 $(cards connect 1)
counts()
{
	usleep 300000
	counted a "$1"
	counted b "$1"
	hmp a sendkey shift
}
for card in %(cards)s; do
	await a "guest: $card ready"
	counts before-$card
	await a "guest: $card: .*received"
	counts after-$card
done
finish a b
""" % {"cards": " ".join(CARDS), "devices": " ".join(CARDS.values())}


def per_round_trip(run, machine, card):
    """Exits to the VMM of one round trip by device."""
    taken = Counter()
    for label, sign in (("after", 1), ("before", -1)):
        for row in run.counts[machine, f"{label}-{card}"]["by"]:
            if row["device"] not in IGNORED:
                name = f"{row['device'] or 'card, ' + row['kind']} {row['address']}"
                taken[name] += sign * row["taken"] / PINGS
    return taken


def both(run, card):
    """All exits of a round trip, of both machines."""
    return sum(sum(per_round_trip(run, machine, card).values()) for machine in ("a", "b"))


def figures(run):
    """For `noexit bench`: each card's exits of a round trip, and its time."""
    found = {}
    for card in CARDS:
        time = re.search(rf"^{card}: round-trip.* = [\d.]+/([\d.]+)/", run.consoles["a"], re.M)
        found[f"net-{card}", "exits of a round trip"] = both(run, card)
        found[f"net-{card}", "time of a round trip, ms"] = float(time[1])
    return found


def report(runs):
    """Exits of a round trip by device, for who asks and who answers."""
    for card in CARDS:
        for machine, part in (("a", "asks"), ("b", "answers")):
            taken = [per_round_trip(runs[mode], machine, card) for mode in MODES]
            for name in sorted(taken[0].keys() | taken[1].keys()):
                if max(taken[0][name], taken[1][name]) >= 0.05:
                    yield (f"{card}, who {part}, exits of a round trip: {name} "
                           f"{taken[0][name]:.2f} -> {taken[1][name]:.2f}")
    without, with_noexit = (figures(runs[mode]) for mode in MODES)
    for (name, metric), number in without.items():
        yield f"{name}: {metric}: {number:.2f} -> {with_noexit[name, metric]:.2f}"


def compare(runs):
    """The same lines; what each sent is what the other got; at least the paper's share gone."""
    problems = same_lines(runs)
    for mode in MODES:
        for card in CARDS:
            digests = [re.search(rf"{card}: sent (\w+) - got (\w+)",
                                 runs[mode].consoles.get(machine, "")) for machine in ("a", "b")]
            if not all(digests) or digests[0].groups() != digests[1].groups()[::-1]:
                problems.append(f"{mode}: what was sent by {card} did not arrive")
    for card in MEASURED:
        without, with_noexit = (both(runs[mode], card) for mode in MODES)
        if with_noexit > GOAL * without:
            problems.append(f"{card}: {without:.2f} exits of a round trip without noexit, "
                            f"{with_noexit:.2f} with it")
    return problems


NETWORK = (
    Scenario("network", "two guests joined by e1000, rtl8139 and virtio-net cards", DRIVE, GUEST,
             kernel="amd64", modules=("e1000", "8139cp", "virtio_pci", "virtio_net"),
             append="quiet ipv6.disable=1", seconds=2400, report=report, figures=figures,
             compare=compare,
             expect=tuple(rf"^guest: {card}: {PINGS} packets received"
                          for card in CARDS)),
)
