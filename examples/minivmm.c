/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * minivmm.c - a whole VMM: boots a Linux kernel with a serial console, and avoids VM exits.
 *
 *	minivmm [-m MIB] [-o OPTION=VALUE]... KERNEL INITRD [COMMAND-LINE]
 *	minivmm /boot/vmlinuz initrd 'console=ttyS0 reboot=t panic=-1'
 *
 * The guest has one processor, KVM's own 8259s and 8254, and a 16550 serial port on standard input
 * and output. It ends when it resets itself; on a terminal, Ctrl-] ends it too.
 *
 * Of noexit there is nothing in it but the names of four functions: nx_ioctl() for ioctl(),
 * nx_close() for close(), nx_kvm_option() for option -o, as in -o off=1 or -o stats=FILE ("noexit
 * run --help" lists them), and at the end nx_kvm_report(), which says how many exits were avoided.
 *
 * Build: cc minivmm.c $(pkg-config --cflags --libs noexit)
 */
#define _GNU_SOURCE
#include <asm/bootparam.h>
#include <asm/kvm_para.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <noexit-kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

/* Guest-physical addresses. Linux' boot protocol leaves us the choice below 640 KiB. */
#define BOOT_PARAMS 0x10000u
#define COMMAND_LINE 0x20000u
#define LOW_MEMORY_END 0x9fc00u
#define KERNEL 0x100000u
#define PAGE 0x1000u
/* Four pages that KVM may need on Intel processors, in the hole below 4 GiB. */
#define IDENTITY_MAP 0xfffbc000u
#define TSS 0xfffbd000u

#define MEMORY_MAX 3072u /* MiB: what fits below the devices */
#define CTRL_RIGHT_BRACKET 0x1d

static int kvm, vm, vcpu;
static struct kvm_run *run;
static uint8_t *memory;
static uint64_t memory_size = 256ull << 20;

/* An ioctl that has to succeed. */
static int must(int fd, unsigned long request, void *argument, const char *name)
{
	int result = nx_ioctl(fd, request, argument);

	if (result < 0)
		err(1, "%s", name);
	return result;
}
#define MUST(fd, request, argument) must(fd, request, (void *)(argument), #request)

/* ---- The serial port ---- */

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH, SERIAL_PORTS };

#define SERIAL_BASE 0x3f8
#define SERIAL_IRQ 4
#define IER_RECEIVE 0x01
#define IER_TRANSMIT 0x02
#define IIR_NONE 0x01
#define IIR_TRANSMIT 0x02
#define IIR_RECEIVE 0x04
#define IIR_FIFO 0xc0
#define LCR_DIVISOR 0x80
#define MCR_INTERRUPTS 0x08 /* OUT2, which gates the interrupt line of a PC's port */
#define LSR_RECEIVED 0x01
#define LSR_EMPTY 0x60 /* transmitter and its holding register: we take everything at once */
#define MSR_CONNECTED 0xb0

/* Used by the vCPU's thread and the one that reads standard input. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t room; /* for received characters */
	uint8_t ier, fcr, lcr, mcr, scratch, divisor[2];
	bool empty_due; /* "transmitter empty" is to be signalled */
	bool line;      /* level of the interrupt line */
	uint8_t received[64];
	unsigned head, tail; /* of received: read at head, written at tail */
} serial = {.lock = PTHREAD_MUTEX_INITIALIZER, .room = PTHREAD_COND_INITIALIZER};

static uint8_t serial_interrupt(void)
{
	if (serial.ier & IER_RECEIVE && serial.head != serial.tail)
		return IIR_RECEIVE;
	if (serial.ier & IER_TRANSMIT && serial.empty_due)
		return IIR_TRANSMIT;
	return IIR_NONE;
}

static void serial_update_line(void)
{
	bool level = serial_interrupt() != IIR_NONE;

	if (level != serial.line) {
		struct kvm_irq_level line = {.irq = SERIAL_IRQ, .level = level};

		MUST(vm, KVM_IRQ_LINE, &line);
		serial.line = level;
	}
}

static uint8_t serial_receive(void)
{
	if (serial.head == serial.tail)
		return 0;
	pthread_cond_signal(&serial.room);
	return serial.received[serial.head++ % sizeof(serial.received)];
}

static void serial_transmit(uint8_t byte)
{
	if (write(STDOUT_FILENO, &byte, 1) != 1)
		err(1, "standard output");
	serial.empty_due = true;
}

static bool serial_takes_input(void)
{
	return serial.ier & IER_RECEIVE && serial.mcr & MCR_INTERRUPTS &&
	       serial.tail - serial.head < sizeof(serial.received);
}

static uint8_t serial_read(unsigned port)
{
	uint8_t value;

	switch (port) {
	case DATA:
		return serial.lcr & LCR_DIVISOR ? serial.divisor[0] : serial_receive();
	case IER:
		return serial.lcr & LCR_DIVISOR ? serial.divisor[1] : serial.ier;
	case IIR:
		value = serial_interrupt();
		if (value == IIR_TRANSMIT)
			serial.empty_due = false;
		return value | (serial.fcr & 1 ? IIR_FIFO : 0);
	case LCR:
		return serial.lcr;
	case MCR:
		return serial.mcr;
	case LSR:
		return LSR_EMPTY | (serial.head != serial.tail ? LSR_RECEIVED : 0);
	case MSR:
		return MSR_CONNECTED;
	default:
		return serial.scratch;
	}
}

static void serial_write(unsigned port, uint8_t value)
{
	switch (port) {
	case DATA:
		if (serial.lcr & LCR_DIVISOR)
			serial.divisor[0] = value;
		else
			serial_transmit(value);
		break;
	case IER:
		if (serial.lcr & LCR_DIVISOR) {
			serial.divisor[1] = value;
			break;
		}
		/* Enabling it signals an empty transmitter at once: drivers test for that. */
		serial.empty_due |= value & ~serial.ier & IER_TRANSMIT;
		serial.ier = value & 0x0f;
		pthread_cond_signal(&serial.room);
		break;
	case IIR:
		serial.fcr = value;
		break;
	case LCR:
		serial.lcr = value;
		break;
	case MCR:
		serial.mcr = value;
		pthread_cond_signal(&serial.room);
		break;
	case SCRATCH:
		serial.scratch = value;
		break;
	}
}

static void serial_access(unsigned port, bool write, uint8_t *data)
{
	pthread_mutex_lock(&serial.lock);
	if (write)
		serial_write(port, *data);
	else
		*data = serial_read(port);
	serial_update_line();
	pthread_mutex_unlock(&serial.lock);
}

/* ---- Standard input ---- */

static struct termios terminal;

static void terminal_restore(void)
{
	tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
}

static void terminal_raw(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &terminal))
		return;
	raw = terminal;
	cfmakeraw(&raw);
	atexit(terminal_restore);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static void *input_thread(void *unused)
{
	uint8_t byte;

	while (read(STDIN_FILENO, &byte, 1) == 1) {
		if (byte == CTRL_RIGHT_BRACKET && isatty(STDIN_FILENO))
			exit(0);
		pthread_mutex_lock(&serial.lock);
		/* Hardware would lose what nobody takes; a pipe need not. */
		while (!serial_takes_input())
			pthread_cond_wait(&serial.room, &serial.lock);
		serial.received[serial.tail++ % sizeof(serial.received)] = byte;
		serial_update_line();
		pthread_mutex_unlock(&serial.lock);
	}
	return unused;
}

/* ---- The kernel ---- */

static size_t file_size(int fd, const char *path)
{
	struct stat status;

	if (fd < 0 || fstat(fd, &status))
		err(2, "%s", path);
	return (size_t)status.st_size;
}

static void read_at(int fd, const char *path, void *to, size_t size, size_t offset)
{
	while (size) {
		ssize_t n = pread(fd, to, size, (off_t)offset);

		if (n <= 0)
			err(2, "%s", path);
		to = (char *)to + n;
		size -= (size_t)n;
		offset += (size_t)n;
	}
}

/* Documentation/arch/x86/boot.rst in Linux: the 32-bit boot protocol. */
static struct boot_params *load_kernel(const char *path)
{
	struct boot_params *params = (struct boot_params *)(memory + BOOT_PARAMS);
	struct setup_header *header = &params->hdr;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = file_size(fd, path), setup;

	if (size < sizeof(*params))
		errx(2, "%s: not a Linux kernel (bzImage)", path);
	read_at(fd, path, header, sizeof(*header), offsetof(struct boot_params, hdr));
	setup = ((header->setup_sects ? header->setup_sects : 4u) + 1) * 512u;
	if (memcmp(&header->header, "HdrS", 4) != 0 || header->version < 0x20a ||
	    !(header->loadflags & LOADED_HIGH) || size <= setup)
		errx(2, "%s: not a Linux kernel (bzImage) of version 2.6.31 or later", path);
	if (size - setup > memory_size - KERNEL || header->init_size > memory_size - KERNEL)
		errx(2, "%s: the kernel needs more memory; set it with -m", path);
	read_at(fd, path, memory + KERNEL, size - setup, setup);
	close(fd);
	header->type_of_loader = 0xff;
	return params;
}

/* The address is as high as the kernel allows, and out of its way. */
static void load_initrd(struct boot_params *params, const char *path)
{
	struct setup_header *header = &params->hdr;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = file_size(fd, path);
	uint64_t end = header->initrd_addr_max + 1ull, lowest = KERNEL + header->init_size;

	if (end > memory_size)
		end = memory_size;
	if (size > end - lowest)
		errx(2, "%s: it does not fit; set more memory with -m", path);
	header->ramdisk_image = (uint32_t)((end - size) & ~(uint64_t)(PAGE - 1));
	header->ramdisk_size = (uint32_t)size;
	if (header->ramdisk_image < lowest)
		errx(2, "%s: it does not fit; set more memory with -m", path);
	read_at(fd, path, memory + header->ramdisk_image, size, 0);
	close(fd);
}

static void load(const char *kernel, const char *initrd, const char *command_line)
{
	struct boot_params *params = load_kernel(kernel);

	load_initrd(params, initrd);
	if (strlen(command_line) > params->hdr.cmdline_size)
		errx(2, "the command line is longer than the kernel takes");
	memcpy(memory + COMMAND_LINE, command_line, strlen(command_line) + 1);
	params->hdr.cmd_line_ptr = COMMAND_LINE;
	params->e820_entries = 2;
	params->e820_table[0] = (struct boot_e820_entry){0, LOW_MEMORY_END, 1};
	params->e820_table[1] = (struct boot_e820_entry){KERNEL, memory_size - KERNEL, 1};
}

/* ---- The machine ---- */

static void make_vm(void)
{
	uint64_t identity_map = IDENTITY_MAP;
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct kvm_userspace_memory_region region = {.memory_size = memory_size};

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(2, "/dev/kvm");
	vm = MUST(kvm, KVM_CREATE_VM, 0);
	MUST(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	MUST(vm, KVM_SET_TSS_ADDR, TSS);
	MUST(vm, KVM_CREATE_IRQCHIP, 0);
	MUST(vm, KVM_CREATE_PIT2, &pit);
	memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "guest memory");
	region.userspace_addr = (uintptr_t)memory;
	MUST(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

/*
 * The guest's processor has what this one has, as far as KVM can give it, and says that it is
 * virtual: then Linux uses KVM's clock. Not what KVM does through a local APIC, which it has not.
 */
static void set_cpuid(void)
{
	enum { ENTRIES = 256, FEATURES = 1 };
	const uint32_t hypervisor = 1u << 31; /* in ECX */
	const uint32_t apic = 1u << KVM_FEATURE_ASYNC_PF | 1u << KVM_FEATURE_PV_EOI |
			      1u << KVM_FEATURE_PV_UNHALT | 1u << KVM_FEATURE_ASYNC_PF_VMEXIT |
			      1u << KVM_FEATURE_PV_SEND_IPI | 1u << KVM_FEATURE_ASYNC_PF_INT;
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(*cpuid->entries));

	if (!cpuid)
		err(1, "CPUID");
	cpuid->nent = ENTRIES;
	MUST(kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == FEATURES)
			cpuid->entries[i].ecx |= hypervisor;
		if (cpuid->entries[i].function == KVM_CPUID_FEATURES)
			cpuid->entries[i].eax &= ~apic;
	}
	MUST(vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

#define APIC_ENABLED 0x800u

/*
 * Flat 32-bit protected mode without paging, esi on the boot parameters.
 *
 * The local APIC is switched off, as firmware may leave it. No table tells the guest of an I/O
 * APIC, so Linux would have the 8259s' interrupts pass through the local APIC, and mask their pin,
 * LINT0, while it sets that up. KVM (seen with 6.12) forgets an interrupt that comes meanwhile: it
 * does not look again when the pin is unmasked, and no later one of the 8259s makes it, since their
 * output stays high. A tick of the timer there would be the guest's last.
 */
static void set_registers(void)
{
	struct kvm_regs regs = {.rip = KERNEL, .rsi = BOOT_PARAMS, .rflags = 2};
	struct kvm_segment flat = {.limit = 0xffffffff,
				   .selector = 0x18,
				   .type = 3,
				   .present = 1,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_sregs sregs;

	MUST(vcpu, KVM_GET_SREGS, &sregs);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
	flat.selector = 0x10;
	flat.type = 11;
	sregs.cs = flat;
	sregs.cr0 |= 1;
	sregs.apic_base &= ~(uint64_t)APIC_ENABLED;
	MUST(vcpu, KVM_SET_SREGS, &sregs);
	MUST(vcpu, KVM_SET_REGS, &regs);
}

static void make_vcpu(void)
{
	size_t size;

	vcpu = MUST(vm, KVM_CREATE_VCPU, 0);
	size = (size_t)MUST(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "the vCPU's run page");
	set_cpuid();
	set_registers();
}

/* ---- Exits ---- */

#define RTC_DATA 0x71

static void port_access(uint16_t port, bool write, uint8_t *data, size_t size)
{
	if (size == 1 && port >= SERIAL_BASE && port < SERIAL_BASE + SERIAL_PORTS)
		serial_access(port - SERIAL_BASE, write, data);
	else if (!write && port == RTC_DATA)
		*data = 0; /* the bus' ones would be a clock whose update never ends */
	else if (!write)
		memset(data, 0xff, size); /* an empty bus */
}

static void handle_io(void)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	/* A string instruction makes several accesses at once. */
	for (uint32_t i = 0; i < run->io.count; i++)
		port_access(run->io.port, run->io.direction == KVM_EXIT_IO_OUT,
			    data + (size_t)i * run->io.size, run->io.size);
}

/* Run the guest until it resets itself: by a triple fault, with reboot=t. */
static void run_guest(void)
{
	for (;;) {
		if (nx_ioctl(vcpu, KVM_RUN, 0ul)) {
			if (errno != EINTR && errno != EAGAIN)
				err(1, "KVM_RUN");
			continue;
		}
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			handle_io();
			break;
		case KVM_EXIT_MMIO:
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
			break;
		case KVM_EXIT_SHUTDOWN:
			return;
		default:
			errx(1, "KVM ended the guest with exit %u", run->exit_reason);
		}
	}
}

/* ---- The command ---- */

static void usage(void)
{
	fputs("usage: minivmm [-m MIB] [-o OPTION=VALUE]... KERNEL INITRD [COMMAND-LINE]\n",
	      stderr);
	exit(2);
}

static void set_memory_size(const char *text)
{
	char *end;
	unsigned long mib = strtoul(text, &end, 10);

	if (*end || mib < 16 || mib > MEMORY_MAX)
		errx(2, "-m takes 16 to %u MiB, which '%s' is not", MEMORY_MAX, text);
	memory_size = (uint64_t)mib << 20;
}

static void set_option(char *text)
{
	const char *wrong = "takes OPTION=VALUE";
	char *value = strchr(text, '=');

	if (value) {
		*value++ = 0;
		wrong = nx_kvm_option(text, value);
	}
	if (wrong)
		errx(2, "-o %s: %s", text, wrong);
}

int main(int argc, char **argv)
{
	pthread_t input;
	int option;

	while ((option = getopt(argc, argv, "m:o:")) != -1) {
		if (option == 'm')
			set_memory_size(optarg);
		else if (option == 'o')
			set_option(optarg);
		else
			usage();
	}
	if (argc - optind < 2 || argc - optind > 3)
		usage();
	make_vm();
	load(argv[optind], argv[optind + 1],
	     argc - optind == 3 ? argv[optind + 2] : "console=ttyS0 reboot=t panic=-1");
	make_vcpu();
	terminal_raw();
	if (pthread_create(&input, NULL, input_thread, NULL))
		errx(1, "no thread for standard input");
	run_guest();
	nx_close(vcpu);
	nx_close(vm);
	nx_kvm_report();
	return 0;
}
