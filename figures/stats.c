/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* stats.c - counting, and the names that people know exits by. */
#include "stats.h"

#include <string.h>

#include <linux/kvm.h>

static struct nx_exit_place *place_find(struct nx_stats *stats, unsigned kind, uint64_t address)
{
	uint64_t hash = (address >> (kind == NX_EXIT_MMIO ? 12 : 0)) * 0x9e3779b97f4a7c15ull + kind;
	unsigned at = (unsigned)(hash >> 40);

	for (unsigned i = 0; i < 16; i++) {
		struct nx_exit_place *place = &stats->place[(at + i) % NX_STATS_PLACES];

		if (!place->used) {
			place->kind = (uint8_t)kind;
			place->address = address;
			place->used = 1;
			return place;
		}
		if (place->kind == kind && place->address == address)
			return place;
	}
	return NULL;
}

static void count_place(struct nx_stats *stats, unsigned kind, uint64_t address, uint64_t taken,
			uint64_t avoided)
{
	struct nx_exit_place *place = place_find(stats, kind, address);

	if (place) {
		place->taken += taken;
		place->avoided += avoided;
	} else {
		stats->place_overflow_taken += taken;
		stats->place_overflow_avoided += avoided;
	}
}

static uint64_t page_of(uint64_t gpa)
{
	return gpa & ~(uint64_t)4095;
}

NX_HOT void nx_stats_taken(struct nx_stats *stats, const struct kvm_run *run)
{
	unsigned reason = run->exit_reason;

	stats->taken[reason < NX_EXIT_REASONS ? reason : NX_EXIT_REASONS - 1]++;
	if (reason == KVM_EXIT_IO)
		count_place(stats, NX_EXIT_IO, run->io.port, 1, 0);
	else if (reason == KVM_EXIT_MMIO)
		count_place(stats, NX_EXIT_MMIO, page_of(run->mmio.phys_addr), 1, 0);
}

NX_HOT void nx_stats_handled(struct nx_stats *stats, enum nx_exit_class class, uint64_t address)
{
	stats->handled[class]++;
	if (class == NX_CLASS_IO)
		count_place(stats, NX_EXIT_IO, address, 1, 0);
	else if (class == NX_CLASS_MMIO)
		count_place(stats, NX_EXIT_MMIO, page_of(address), 1, 0);
}

void nx_stats_avoided(struct nx_stats *stats, const struct nx_exit *exit)
{
	stats->avoided[nx_exit_class_of(exit)]++;
	if (exit->kind == NX_EXIT_INSN)
		return; /* at no place */
	count_place(stats, exit->kind, exit->kind == NX_EXIT_IO ? exit->port : page_of(exit->gpa),
		    0, 1);
}

void nx_stats_stay(struct nx_stats *stats, uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned class = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	stats->stays_ns += ns;
	stats->stay[class < NX_STAY_CLASSES ? class : NX_STAY_CLASSES - 1]++;
	if (ns > stats->longest_stay_ns)
		stats->longest_stay_ns = ns;
}

static void add_kvm_stat(struct nx_stats *to, const struct nx_kvm_stat *stat)
{
	for (unsigned i = 0; i < to->kvm_stats; i++) {
		if (!__builtin_strcmp(to->kvm_stat[i].name, stat->name)) {
			to->kvm_stat[i].value += stat->value;
			return;
		}
	}
	if (to->kvm_stats < NX_KVM_STATS)
		to->kvm_stat[to->kvm_stats++] = *stat;
}

static void stats_add(struct nx_stats *to, const struct nx_stats *from)
{
#define NX_X(name, text) to->name += from->name;
	NX_KVM_COUNTERS(NX_X)
#undef NX_X
	for (unsigned i = 0; i < NX_EXIT_REASONS; i++)
		to->taken[i] += from->taken[i];
	to->intr += from->intr;
	to->handled_other += from->handled_other;
	for (unsigned i = 0; i < NX_EXIT_CLASS_COUNT; i++) {
		to->avoided[i] += from->avoided[i];
		to->handled[i] += from->handled[i];
	}
	for (unsigned i = 0; i < NX_HOST_LEAVE_COUNT; i++)
		to->leaves[i] += from->leaves[i];
	for (unsigned i = 0; i < NX_UNFIT_COUNT; i++)
		to->unfit[i] += from->unfit[i];
	for (unsigned i = 0; i < NX_STAY_CLASSES; i++)
		to->stay[i] += from->stay[i];
	for (unsigned i = 0; i < NX_COST_COUNT; i++)
		if (from->cost_ns[i])
			to->cost_ns[i] = from->cost_ns[i];
	if (from->longest_stay_ns > to->longest_stay_ns)
		to->longest_stay_ns = from->longest_stay_ns;
	for (unsigned i = 0; i < NX_STATS_PLACES; i++) {
		const struct nx_exit_place *place = &from->place[i];

		if (place->used && place->kind <= NX_EXIT_MMIO)
			count_place(to, place->kind, place->address, place->taken, place->avoided);
	}
	to->place_overflow_taken += from->place_overflow_taken;
	to->place_overflow_avoided += from->place_overflow_avoided;
	for (unsigned i = 0; i < from->kvm_stats && i < NX_KVM_STATS; i++)
		add_kvm_stat(to, &from->kvm_stat[i]);
}

/* Of two places with one row, the one that is met more often is kept. */
static void add_alone(struct nx_alone *to, const struct nx_alone *from)
{
	if (to->rip == from->rip) {
		uint64_t times = to->times + from->times;

		*to = *from;
		to->times = times;
	} else if (from->times > to->times) {
		*to = *from;
	}
}

static void kernel_add(struct nxk_stats *to, const struct nxk_stats *from)
{
#define NX_X(name, text)                       \
	if (strncmp(#name, "longest", 7) != 0) \
		to->name += from->name;        \
	else if (from->name > to->name)        \
		to->name = from->name;
	NXK_STATS(NX_X)
#undef NX_X
}

void nx_figures_add(struct nx_figures *to, const struct nx_figures *from)
{
	stats_add(&to->host, &from->host);
#define NX_X(name, text) to->engine.name += from->engine.name;
	NX_COUNTERS(NX_X)
#undef NX_X
	for (unsigned i = 0; i < NX_LEAVE_REASON_COUNT; i++)
		to->engine.leaves[i] += from->engine.leaves[i];
	for (unsigned i = 0; i < NX_DISTANCES; i++)
		to->engine.distance[i] += from->engine.distance[i];
	for (unsigned i = 0; i < NX_ALONE_PLACES; i++)
		add_alone(&to->alone[i], &from->alone[i]);
	kernel_add(&to->kernel, &from->kernel);
}

unsigned nx_figures_alone(const struct nx_figures *figures,
			  const struct nx_alone *order[NX_ALONE_PLACES])
{
	unsigned count = 0;

	for (unsigned i = 0; i < NX_ALONE_PLACES; i++) {
		const struct nx_alone *place = &figures->alone[i];
		unsigned at = count;

		if (!place->times)
			continue;
		for (; at && place->times > order[at - 1]->times; at--)
			order[at] = order[at - 1];
		order[at] = place;
		count++;
	}
	return count;
}

/* ---- Reasons ---- */

struct reason {
	const char *word, *text;
};

static const struct reason alone_reasons[] = {
#define NX_X(name, word, text) {word, text},
    NX_ALONE_REASONS(NX_X)
#undef NX_X
};

static const struct reason leave_reasons[] = {{"", ""},
#define NX_X(name, text) {#name, text},
					      NX_LEAVE_REASONS(NX_X)
#undef NX_X
};

static const char *word_of(const struct reason *reason, size_t count, uint32_t number)
{
	return number < count ? reason[number].word : "";
}

static const char *explained(const struct reason *reason, size_t count, const char *word)
{
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(reason[i].word, word))
			return reason[i].text;
	}
	return NULL;
}

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

const char *nx_class_word(enum nx_exit_class class)
{
	static const char *const words[] = {
#define NX_X(name, word, text) word,
	    NX_EXIT_CLASSES(NX_X)
#undef NX_X
	};

	return class < COUNT(words) ? words[class] : "";
}

const char *nx_alone_word(uint32_t reason)
{
	return word_of(alone_reasons, COUNT(alone_reasons), reason);
}

const char *nx_alone_explained(const char *word)
{
	const char *text = explained(alone_reasons, COUNT(alone_reasons), word);

	return text ? text : "";
}

const char *nx_leave_word(uint32_t reason)
{
	return word_of(leave_reasons, COUNT(leave_reasons), reason);
}

const char *nx_leave_explained(const char *word)
{
	return explained(leave_reasons, COUNT(leave_reasons), word);
}

/* ---- Places ---- */

static bool is_before(const struct nx_exit_place *a, const struct nx_exit_place *b)
{
	uint64_t left = a->taken + a->avoided, right = b->taken + b->avoided;

	return left != right ? left > right : a->address < b->address;
}

/* qsort() may allocate; the list is short. */
unsigned nx_stats_places(const struct nx_stats *stats,
			 const struct nx_exit_place *order[NX_STATS_PLACES])
{
	unsigned count = 0;

	for (unsigned i = 0; i < NX_STATS_PLACES; i++) {
		const struct nx_exit_place *place = &stats->place[i];
		unsigned at = count;

		if (!place->used)
			continue;
		for (; at && is_before(place, order[at - 1]); at--)
			order[at] = order[at - 1];
		order[at] = place;
		count++;
	}
	return count;
}

uint64_t nx_stats_taken_total(const struct nx_stats *stats)
{
	uint64_t total = stats->intr + stats->handled_other;

	for (unsigned i = 0; i < NX_EXIT_REASONS; i++)
		total += stats->taken[i];
	for (unsigned i = 0; i < NX_EXIT_CLASS_COUNT; i++)
		total += stats->handled[i];
	return total;
}

unsigned nx_stats_class_of(unsigned reason)
{
	return reason == KVM_EXIT_IO     ? NX_CLASS_IO
	       : reason == KVM_EXIT_MMIO ? NX_CLASS_MMIO
	       : reason == KVM_EXIT_HLT  ? NX_CLASS_HLT
					 : NX_EXIT_CLASS_COUNT;
}

uint64_t nx_stats_taken_of(const struct nx_stats *stats, enum nx_exit_class class)
{
	uint64_t total = stats->handled[class];

	for (unsigned i = 0; i < NX_EXIT_REASONS; i++) {
		if (nx_stats_class_of(i) == (unsigned)class)
			total += stats->taken[i];
	}
	return total;
}

uint64_t nx_stats_avoided_total(const struct nx_stats *stats)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < NX_EXIT_CLASS_COUNT; i++)
		total += stats->avoided[i];
	return total;
}

const char *nx_exit_reason_name(unsigned reason)
{
	static const char *const names[NX_EXIT_REASONS] = {
	    [KVM_EXIT_UNKNOWN] = "unknown",
	    [KVM_EXIT_EXCEPTION] = "exception",
	    [KVM_EXIT_IO] = "io",
	    [KVM_EXIT_HYPERCALL] = "hypercall",
	    [KVM_EXIT_DEBUG] = "debug",
	    [KVM_EXIT_HLT] = "hlt",
	    [KVM_EXIT_MMIO] = "mmio",
	    [KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window",
	    [KVM_EXIT_SHUTDOWN] = "shutdown",
	    [KVM_EXIT_FAIL_ENTRY] = "fail_entry",
	    [KVM_EXIT_INTR] = "intr_exit",
	    [KVM_EXIT_SET_TPR] = "set_tpr",
	    [KVM_EXIT_TPR_ACCESS] = "tpr_access",
	    [KVM_EXIT_NMI] = "nmi",
	    [KVM_EXIT_INTERNAL_ERROR] = "internal_error",
	    [KVM_EXIT_SYSTEM_EVENT] = "system_event",
	    [KVM_EXIT_IOAPIC_EOI] = "ioapic_eoi",
	    [KVM_EXIT_HYPERV] = "hyperv",
	    [KVM_EXIT_X86_RDMSR] = "rdmsr",
	    [KVM_EXIT_X86_WRMSR] = "wrmsr",
	    [KVM_EXIT_DIRTY_RING_FULL] = "dirty_ring_full",
	    [KVM_EXIT_X86_BUS_LOCK] = "bus_lock",
	};

	return reason < NX_EXIT_REASONS && names[reason] ? names[reason] : "other";
}

struct nx_range_name {
	uint64_t first, last;
	const char *name;
};

static const struct nx_range_name port_names[] = {
    {0x00, 0x0f, "dma1"},
    {0x20, 0x21, "pic1"},
    {0x40, 0x43, "pit"},
    {0x60, 0x60, "ps2"},
    {0x61, 0x61, "speaker"},
    {0x64, 0x64, "ps2"},
    {0x70, 0x71, "rtc"},
    {0x80, 0x80, "post"},
    {0x81, 0x8f, "dma-page"},
    {0x92, 0x92, "port92"},
    {0xa0, 0xa1, "pic2"},
    {0xb2, 0xb3, "smi"},
    {0xc0, 0xdf, "dma2"},
    {0xed, 0xed, "delay"},
    {0x170, 0x177, "ide2"},
    {0x1ce, 0x1d1, "bochs-vga"},
    {0x1f0, 0x1f7, "ide1"},
    {0x278, 0x27f, "lpt2"},
    {0x2e8, 0x2ef, "com4"},
    {0x2f8, 0x2ff, "com2"},
    {0x376, 0x376, "ide2"},
    {0x378, 0x37f, "lpt1"},
    {0x3b0, 0x3df, "vga"},
    {0x3e8, 0x3ef, "com3"},
    {0x3f0, 0x3f5, "floppy"},
    {0x3f6, 0x3f6, "ide1"},
    {0x3f7, 0x3f7, "floppy"},
    {0x3f8, 0x3ff, "com1"},
    {0x402, 0x402, "debugcon"},
    {0x4d0, 0x4d1, "pic-elcr"},
    {0x510, 0x51b, "fw_cfg"},
    {0x600, 0x607, "acpi"},
    {0x608, 0x60b, "acpi-timer"},
    {0x60c, 0x67f, "acpi"},
    {0x700, 0x73f, "smbus"},
    {0xae00, 0xae1f, "acpi-hotplug"},
    {0xafe0, 0xafe3, "acpi-gpe"},
    {0xb000, 0xb007, "acpi"},
    {0xb008, 0xb00b, "acpi-timer"},
    {0xb00c, 0xb03f, "acpi"},
    {0xb100, 0xb13f, "smbus"},
    {0xcf8, 0xcfb, "pci-config-address"},
    {0xcfc, 0xcff, "pci-config-data"},
};

static const struct nx_range_name page_names[] = {
    {0x000a0000, 0x000bffff, "vga"},        {0x000c0000, 0x000fffff, "bios"},
    {0xfec00000, 0xfec00fff, "ioapic"},     {0xfed00000, 0xfed00fff, "hpet"},
    {0xfed40000, 0xfed44fff, "tpm"},        {0xfee00000, 0xfee00fff, "lapic"},
    {0xfffc0000, 0xffffffff, "bios-flash"},
};

static const char *range_name(const struct nx_range_name *name, size_t count, uint64_t address)
{
	for (size_t i = 0; i < count; i++) {
		if (address >= name[i].first && address <= name[i].last)
			return name[i].name;
	}
	return "";
}

const char *nx_device_name(enum nx_exit_kind kind, uint64_t address)
{
	if (kind == NX_EXIT_IO)
		return range_name(port_names, sizeof(port_names) / sizeof(*port_names), address);
	return range_name(page_names, sizeof(page_names) / sizeof(*page_names), address);
}
