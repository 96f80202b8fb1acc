/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * sessions.c - a host that lends guest memory for a session at a time (nx_host.guest_enter).
 *
 * The engine gets the guest's memory at another address in each session, and nothing is mapped
 * there before and after. So a pointer that outlives its session, or an access outside of one, is
 * a segmentation fault.
 */
#define _GNU_SOURCE
#include "mock.h"

#include <sys/mman.h>
#include <unistd.h>

static bool guest_enter(void *data)
{
	struct mock *m = data;

	assert_null(m->window);
	m->sessions++;
	if (m->refuse_session == m->sessions || m->refuse_sessions)
		return false;
	/* The last window's addresses stay reserved until this one has its own. */
	m->window = mmap(NULL, MOCK_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m->ram_file, 0);
	assert_ptr_not_equal(m->window, MAP_FAILED);
	if (m->last_window)
		munmap(m->last_window, MOCK_RAM_SIZE);
	m->last_window = NULL;
	return true;
}

static void guest_leave(void *data)
{
	struct mock *m = data;

	assert_non_null(m->window);
	assert_int_equal(mprotect(m->window, MOCK_RAM_SIZE, PROT_NONE), 0);
	m->last_window = m->window;
	m->window = NULL;
}

static void end_sessions(struct mock *m)
{
	assert_null(m->window);
	if (m->last_window)
		munmap(m->last_window, MOCK_RAM_SIZE);
	close(m->ram_file);
}

void mock_use_sessions(struct mock *m)
{
	void *at = m->ram;

	m->ram_file = memfd_create("noexit-ram", MFD_CLOEXEC);
	assert_true(m->ram_file >= 0);
	assert_int_equal(ftruncate(m->ram_file, MOCK_RAM_SIZE), 0);
	m->ram =
	    mmap(at, MOCK_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->ram_file, 0);
	assert_ptr_equal(m->ram, at);
	m->host.guest_enter = guest_enter;
	m->host.guest_leave = guest_leave;
	m->end_sessions = end_sessions;
}
