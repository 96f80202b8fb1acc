// SPDX-License-Identifier: GPL-2.0-only OR MIT
#define _GNU_SOURCE
#include "machine.h"
#include "x86.h"

#include <sys/mman.h>
#include <unistd.h>

#include "../mock/near.h"
#include "../mock/secret.h"

#define PAGE 4096u
#define CODE_CACHE (1u << 18)
#define TABLE(n) (MACHINE_TABLES + PAGE * (n))
#define PRESENT_ALL 7u

static struct machine machine;
static uint8_t *window[MACHINE_PAGES]; /* the engine's mapping of each page, guards around it */
static uint8_t mapped[MACHINE_PAGES];  /* its protection */
static struct nx_memory memory;

uint64_t machine_random(uint64_t *seed)
{
	uint64_t x = *seed += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static void map_page(void *data, uint64_t gpa, struct nx_page *page)
{
	const struct machine *m = data;
	enum machine_page kind =
	    gpa < MACHINE_RAM ? (enum machine_page)m->kind[gpa / PAGE] : PAGE_DEVICE;

	FUZZ_CHECK(gpa % PAGE == 0, "the host is asked for a page at %#llx",
		   (unsigned long long)gpa);
	memset(page, 0, sizeof(*page));
	if (kind == PAGE_DEVICE || kind == PAGE_LEAVE) {
		page->kind = kind == PAGE_DEVICE ? NX_PAGE_DEVICE : NX_PAGE_LEAVE;
		return;
	}
	page->kind = NX_PAGE_RAM;
	page->writable = kind == PAGE_RAM;
	page->store_is_mmio = kind == PAGE_ROM;
	page->host = window[gpa / PAGE];
}

static enum nx_route route(struct machine *m)
{
	return m->leave_routes && ++m->accesses % m->leave_routes == 0 ? NX_ROUTE_LEAVE
								       : NX_ROUTE_EXIT;
}

static enum nx_route route_io(void *data, uint16_t port, unsigned size, bool write, uint64_t value)
{
	(void)port;
	FUZZ_CHECK(size == 1 || size == 2 || size == 4, "a port access of %u bytes", size);
	FUZZ_CHECK((write ? value >> 8 * size : value) == 0, "data beyond a port access's size");
	return route(data);
}

static enum nx_route route_mmio(void *data, uint64_t gpa, unsigned size, bool write, uint64_t value)
{
	FUZZ_CHECK(size == 1 || size == 2 || size == 4 || size == 8,
		   "an access of %u bytes to a device", size);
	FUZZ_CHECK(gpa / PAGE == (gpa + size - 1) / PAGE, "a device access that crosses a page");
	FUZZ_CHECK(!write || size == 8 || value >> 8 * size == 0,
		   "data beyond a device access's size");
	return route(data);
}

static uint64_t now(void *data)
{
	return ((struct machine *)data)->time += 100;
}

/* Interrupt building at every twentieth step. */
static bool time_is_up(void *data)
{
	struct machine *m = data;

	return m->hurried && ++m->steps % 20 == 0;
}

static bool read_tsc(void *data, uint64_t *tsc, uint32_t *aux)
{
	*tsc = now(data) << 32 | 0xfffffff0;
	if (aux)
		*aux = 5;
	return true;
}

/* The engine moves whole registers between here and its own memory or the guest's. */
static bool read_vector(void *data, unsigned number, void *to)
{
	const struct machine *m = data;

	return vector_read(m->vectors, number, to);
}

static bool write_vector(void *data, unsigned number, const void *from)
{
	struct machine *m = data;

	return vector_write(m->vectors, number, from);
}

static const struct nx_host host = {.map_page = map_page,
				    .route_io = route_io,
				    .route_mmio = route_mmio,
				    .now = now,
				    .read_tsc = read_tsc,
				    .read_vector = read_vector,
				    .write_vector = write_vector,
				    .time_is_up = time_is_up};

static void *map_at(void *want, size_t size, int protection, int flags, int file, off_t at)
{
	void *where = mmap(want, size, protection, flags, file, at);

	FUZZ_CHECK(where != MAP_FAILED, "out of memory");
	return where;
}

static void *map(size_t size, int protection, int flags, int file, off_t at)
{
	return map_at(NULL, size, protection, flags, file, at);
}

static int memory_file(size_t size)
{
	int file = memfd_create("noexit-fuzz", MFD_CLOEXEC);

	FUZZ_CHECK(file >= 0 && ftruncate(file, (off_t)size) == 0, "no memory file");
	return file;
}

/* Memory with a page before and behind it that faults. */
static uint8_t *guarded(size_t size, int protection, int flags, int file, off_t at)
{
	/* Code may branch directly to the engine. */
	uint8_t *where = map_near((const void *)nx_engine_create, size + 2 * PAGE, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1);

	FUZZ_CHECK(where != MAP_FAILED, "out of memory");
	return map_at(where + PAGE, size, protection, flags | MAP_FIXED, file, at);
}

static void make_memory(void)
{
	size_t arena = (nx_engine_arena_size() + PAGE - 1) & ~(size_t)(PAGE - 1);
	int file = memory_file(MACHINE_RAM);

	machine.ram = map(MACHINE_RAM, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	for (unsigned i = 0; i < MACHINE_PAGES; i++)
		window[i] = guarded(PAGE, PROT_NONE, MAP_SHARED, file, (off_t)i * PAGE);
	close(file);
	memory.arena_size = nx_engine_arena_size();
	memory.arena = guarded(arena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memory.code_size = CODE_CACHE;
	file = memory_file(CODE_CACHE);
	memory.code_rw = guarded(CODE_CACHE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	memory.code_rx = guarded(CODE_CACHE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
	close(file);
}

/* Pages that the engine may not write, or not touch, are mapped so that the processor faults. */
void machine_set_page(struct machine *m, unsigned page, enum machine_page kind)
{
	static const int protection[PAGE_KINDS] = {[PAGE_RAM] = PROT_READ | PROT_WRITE,
						   [PAGE_READONLY] = PROT_READ,
						   [PAGE_ROM] = PROT_READ};

	m->kind[page] = (uint8_t)kind;
	if (mapped[page] == protection[kind])
		return;
	mapped[page] = (uint8_t)protection[kind];
	FUZZ_CHECK(mprotect(window[page], PAGE, protection[kind]) == 0, "mprotect");
}

static void put(struct machine *m, uint32_t gpa, uint64_t value, unsigned size)
{
	memcpy(m->ram + gpa, &value, size);
}

static void make_tables(struct machine *m)
{
	const unsigned size = m->mode == PAGED32 ? 4 : 8;
	/* Nothing is user memory at CPL 0: SMEP and SMAP would leave at once. */
	const uint64_t entry = m->cpl ? PRESENT_ALL : 3;

	m->start.cr3 = TABLE(0);
	for (uint32_t page = 0; page < MACHINE_MAPPED / PAGE; page++)
		put(m, TABLE(3) + page * size, page * PAGE | entry, size);
	if (m->mode == PAGED32) {
		put(m, TABLE(0), TABLE(3) | entry, size);
		return;
	}
	put(m, TABLE(2), TABLE(3) | entry, size);
	put(m, TABLE(1), TABLE(2) | (m->mode == PAE32 ? 1 : entry), size);
	put(m, TABLE(0), TABLE(1) | entry, size);
	if (m->mode == PAE32)
		m->start.cr3 = TABLE(1);
}

static void set_segment(struct machine *m, enum nx_sreg reg, uint32_t base, uint16_t selector)
{
	struct nx_segment *seg = &m->start.seg[reg];
	const bool sixteen = m->mode <= PROT16, code = reg == NX_CS;

	*seg = (struct nx_segment){.base = sixteen ? base : 0,
				   .limit = sixteen ? 0xffff : 0xffffffff,
				   .selector = m->mode == REAL16 ? (uint16_t)(base >> 4)
								 : (uint16_t)(selector | m->cpl),
				   .type = code ? 11 : 3,
				   .dpl = (uint8_t)m->cpl,
				   .s = true,
				   .present = true,
				   .db = !sixteen && !(m->mode == LONG64 && code),
				   .l = m->mode == LONG64 && code};
}

/* A register that an input's byte stands for: most often a place where something is. */
static uint64_t register_value(uint8_t byte, uint64_t *seed)
{
	const uint64_t low = byte & 31;

	switch (byte >> 5) {
	case 0:
		return low;
	case 1:
		return 0x3f0 + low;
	case 2:
		return MACHINE_DATA + low * 8;
	case 3:
		return MACHINE_DATA + PAGE - low;
	case 4:
		return MACHINE_DEVICE + low * 4;
	case 5:
		return low * PAGE + 0x80;
	case 6:
		return -low;
	default:
		return machine_random(seed) >> 2 * low;
	}
}

static void set_control(struct machine *m, uint8_t bits)
{
	struct nx_state *s = &m->start;

	s->cr0 = 0x10 | (m->mode != REAL16);
	if (m->mode >= PAGED32)
		s->cr0 |= 0x80000000 | (bits & 1 ? 0 : 0x10000);
	if (m->mode >= PAE32)
		s->cr4 |= 0x20;
	if (m->mode == LONG64)
		s->efer = 0xd01;
	s->cr4 |= NX_CR4_OSFXSR;
	s->cr4 |= (bits & 2 ? 1u << 20 : 0) | (bits & 4 ? 1u << 21 : 0) | (bits & 8 ? 1u << 22 : 0);
	s->pkru = bits & 16 ? 0xc : 0;
	s->physical_bits = 40;
	s->rflags = 0x2 | (bits & 32 ? 0 : 0x200) | (bits & 64 ? 0x400 : 0);
	/* IOPL 3: otherwise nothing exits at CPL 3. */
	if (m->cpl && !(bits & 128))
		s->rflags |= 0x3000;
}

static void set_segments(struct machine *m, uint8_t bits)
{
	set_segment(m, NX_CS, MACHINE_CODE, 0x08);
	set_segment(m, NX_DS, MACHINE_DATA, 0x10);
	set_segment(m, NX_SS, MACHINE_STACK, 0x18);
	set_segment(m, NX_ES, MACHINE_EXTRA, 0x20);
	set_segment(m, NX_FS, MACHINE_DATA, 0x28);
	set_segment(m, NX_GS, MACHINE_DATA, 0x30);
	m->start.seg[NX_FS].base = MACHINE_DATA;
	m->start.seg[NX_GS].base = bits & 1 ? MACHINE_DEVICE : 0xffffff00;
	if (bits & 2)
		m->start.seg[NX_ES].unusable = true;
	if (bits & 4)
		m->start.seg[NX_DS].limit = 0xfff;
	if (bits & 8)
		m->start.seg[NX_DS].type = 1;
	if (bits & 16)
		m->start.seg[NX_SS].db ^= true;
	if (bits & 32)
		m->start.seg[NX_FS].type = 7;
}

static void set_registers(struct machine *m, struct fuzz_input *input)
{
	uint64_t seed = 0, stack = m->mode <= PROT16 ? 0x800 : MACHINE_STACK + 0x800;

	for (unsigned i = 0; i < NX_GPRS; i++) {
		uint8_t byte = fuzz_byte(input);
		uint64_t value = register_value(byte, &seed);

		if (i == NX_RSP && !byte)
			value = stack;
		if (m->mode != LONG64)
			value = i < 8 ? (uint32_t)value : 0;
		m->start.gpr[i] = value;
	}
}

static void load_code(struct machine *m, struct fuzz_input *input, uint8_t place)
{
	/* Close to the end of its page, it lies on two. */
	uint32_t offset = place < 0xc0 ? 0x100 : PAGE - (place & 63);
	size_t size = input->size < MACHINE_CODE_MAX ? input->size : MACHINE_CODE_MAX;

	m->start.rip = m->mode <= PROT16 ? offset : MACHINE_CODE + offset;
	m->code = MACHINE_CODE + offset;
	/* int3: code that runs on past its end is not ours. */
	memset(m->ram + MACHINE_CODE, 0xcc, 2 * PAGE);
	if (size)
		memcpy(m->ram + m->code, input->data, size);
}

static void make_engine(struct machine *m, uint8_t level, uint8_t options)
{
	struct nx_config config;

	nx_config_default(&config);
	config.level = level ? (enum nx_level)(level % NX_LEVEL_COUNT) : NX_LEVEL_LOOPS;
	config.no_user_code = (level & 0xc0) == 0xc0;
	config.segment_loads = options & 1;
	config.exits = options >> 1;
	config.experiment.slide = level & 0x20 ? 0x5a3b9c7d1000 : 0;
	/* Most inputs' guests have all of them: helpers run them, not this processor. */
	config.guest_features = ~(uint32_t)(options >> 4 & level >> 4);
	m->hurried = options & 8;
	m->steps = 0;
	memset(m->vectors, 0x5a, sizeof(m->vectors));
	memory.branches = level & 0x20 ? NX_BRANCHES_TRACKED : NX_BRANCHES_INDIRECT;
	memory.blind = level & 0x20 ? MOCK_SECRET : 0;
	memset(memory.arena, 0, memory.arena_size);
	m->engine = nx_engine_create(&memory, &host, m, &config);
	FUZZ_CHECK(m->engine, "no vCPU in memory that does");
}

struct machine *machine_new(struct fuzz_input *input)
{
	struct machine *m = &machine;
	uint8_t mode = fuzz_byte(input), level = fuzz_byte(input), options = fuzz_byte(input);
	uint8_t control = fuzz_byte(input), segments = fuzz_byte(input), world = fuzz_byte(input);
	uint8_t place = fuzz_byte(input);

	if (!m->ram)
		make_memory();
	memset(&m->start, 0, sizeof(m->start));
	m->mode = mode % MACHINE_MODES;
	m->cpl = m->mode != REAL16 && mode >= 0x80 ? 3 : 0;
	m->time = 1000000000;
	m->device = fuzz_byte(input);
	m->accesses = 0;
	m->leave_routes = m->device >= 0xf0 ? (unsigned)(m->device & 15) : 0;
	memset(m->ram, 0, MACHINE_RAM);
	for (uint32_t i = MACHINE_DATA; i < MACHINE_TABLES; i++)
		m->ram[i] = (uint8_t)(i * 7 + (i >> 8));
	set_control(m, control);
	set_segments(m, segments);
	if (m->mode >= PAGED32)
		make_tables(m);
	set_registers(m, input);
	for (unsigned i = 0; i < MACHINE_PAGES; i++)
		machine_set_page(m, i, PAGE_RAM);
	machine_set_page(m, MACHINE_DATA / PAGE + 1, world % PAGE_KINDS);
	machine_set_page(m, MACHINE_EXTRA / PAGE, world / PAGE_KINDS % PAGE_KINDS);
	if (world >= 200)
		machine_set_page(m, MACHINE_TABLES / PAGE + 3, world % PAGE_KINDS);
	make_engine(m, level, options);
	for (unsigned i = 0; i < MACHINE_SCRIPT; i++)
		m->script[i] = fuzz_byte(input);
	load_code(m, input, place);
	return m;
}
