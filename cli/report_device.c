/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* report_device.c - exits by device, with the names that people know devices by. */
#include <stdlib.h>
#include <string.h>

#include "report.h"

static const struct {
	const char *device, *name;
} names[] = {
    {"com1", "Serial port COM1"},
    {"com2", "Serial port COM2"},
    {"com3", "Serial port COM3"},
    {"com4", "Serial port COM4"},
    {"pci-config-address", "PCI configuration"},
    {"pci-config-data", "PCI configuration"},
    {"ps2", "Keyboard controller"},
    {"ide1", "IDE, first channel"},
    {"ide2", "IDE, second channel"},
    {"rtc", "Clock and CMOS"},
    {"debugcon", "Firmware's debug port"},
    {"fw_cfg", "QEMU's fw_cfg"},
    {"hpet", "HPET"},
    {"port92", "System control port 0x92"},
    {"vga", "VGA"},
    {"bochs-vga", "Bochs VGA"},
    {"pit", "Timer (PIT)"},
    {"pic1", "Interrupt controllers (PIC)"},
    {"pic2", "Interrupt controllers (PIC)"},
    {"pic-elcr", "Interrupt controllers (PIC)"},
    {"dma1", "DMA controllers"},
    {"dma2", "DMA controllers"},
    {"dma-page", "DMA controllers"},
    {"floppy", "Floppy"},
    {"lpt1", "Parallel port LPT1"},
    {"lpt2", "Parallel port LPT2"},
    {"speaker", "Speaker port 0x61"},
    {"post", "POST port 0x80"},
    {"delay", "Delay port 0xed"},
    {"smi", "SMI ports"},
    {"acpi", "ACPI"},
    {"acpi-gpe", "ACPI"},
    {"acpi-timer", "ACPI timer"},
    {"acpi-hotplug", "ACPI hot-plugging"},
    {"smbus", "SMBus"},
    {"lapic", "Local APIC"},
    {"ioapic", "I/O APIC"},
    {"tpm", "TPM"},
    {"bios", "BIOS area"},
    {"bios-flash", "Firmware flash"},
};

static void name_row(struct json_object *row, char *name, size_t size)
{
	struct json_object *device = report_get(row, "device", json_type_string);
	struct json_object *address = report_get(row, "address", json_type_string);
	struct json_object *kind = report_get(row, "kind", json_type_string);
	const char *text = device ? json_object_get_string(device) : "";

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!strcmp(names[i].device, text)) {
			snprintf(name, size, "%s", names[i].name);
			return;
		}
	}
	if (*text)
		snprintf(name, size, "%s", text);
	else
		snprintf(name, size, "%s %s",
			 kind && !strcmp(json_object_get_string(kind), "io") ? "Port"
									     : "Device page",
			 address ? json_object_get_string(address) : "?");
}

static struct report_device *find(struct report_device *device, unsigned *count, const char *name)
{
	unsigned i = 0;

	while (i < *count && strcmp(device[i].name, name) != 0)
		i++;
	if (i == REPORT_DEVICES)
		return &device[REPORT_DEVICES - 1];
	if (i == *count) {
		memset(&device[i], 0, sizeof(device[i]));
		snprintf(device[i].name, sizeof(device[i].name), "%s", name);
		++*count;
	}
	return &device[i];
}

static void add_run(const struct report_run *run, struct report_device *device, unsigned *count)
{
	struct json_object *rows = report_get(run->file, "by", json_type_array);

	for (size_t i = 0; rows && i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		struct report_device *at;
		char name[sizeof(device->name)];

		name_row(row, name, sizeof(name));
		at = find(device, count, name);
		if (run->on) {
			at->taken += report_number(row, "taken");
			at->avoided += report_number(row, "avoided");
		} else {
			at->without += report_number(row, "taken");
		}
	}
}

static uint64_t weight(const struct report_device *device)
{
	uint64_t with = device->taken + device->avoided;

	return device->without > with ? device->without : with;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = weight(a), right = weight(b);

	return left != right ? (left < right) - (left > right)
			     : strcmp(((const struct report_device *)a)->name,
				      ((const struct report_device *)b)->name);
}

unsigned report_devices(const struct report *report, struct report_device *device, unsigned most)
{
	struct report_device rest = {0};
	unsigned count = 0;

	if (report->without.file)
		add_run(&report->without, device, &count);
	if (report->with.file)
		add_run(&report->with, device, &count);
	/* Without a run of its own, the bar without noexit is what this run would have taken. */
	for (unsigned i = 0; i < count && !report->without.file; i++)
		device[i].without = device[i].taken + device[i].avoided;
	qsort(device, count, sizeof(*device), compare);
	if (count <= most + 1)
		return count;
	for (unsigned i = most; i < count; i++) {
		rest.without += device[i].without;
		rest.taken += device[i].taken;
		rest.avoided += device[i].avoided;
	}
	snprintf(rest.name, sizeof(rest.name), "%u others", count - most);
	device[most] = rest;
	return most + 1;
}
