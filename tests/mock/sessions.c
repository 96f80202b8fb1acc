/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * sessions.c - a host that lends guest memory for a session at a time (nx_host.guest_enter).
 *
 * Nothing is mapped where the engine has the guest's memory before and after a session, and every
 * third session has it at another address. So an access outside of a session, or a pointer from
 * before one in which the host says that none holds, is a segmentation fault.
 */
#define _GNU_SOURCE
#include "mock.h"

#include <sys/mman.h>
#include <unistd.h>

#define FRESH_EVERY 3

static enum nx_session guest_enter(void *data)
{
	struct mock *m = data;

	assert_null(m->window);
	m->sessions++;
	if (m->refuse_session == m->sessions || m->refuse_sessions)
		return NX_SESSION_REFUSED;
	if (m->last_window && m->sessions % FRESH_EVERY && !m->fresh_sessions) {
		m->window = m->last_window;
		m->last_window = NULL;
		assert_int_equal(mprotect(m->window, MOCK_RAM_SIZE, PROT_READ | PROT_WRITE), 0);
		return NX_SESSION_KEPT;
	}
	/* The last window's addresses stay reserved until this one has its own. */
	m->window = mmap(NULL, MOCK_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m->ram_file, 0);
	assert_ptr_not_equal(m->window, MAP_FAILED);
	if (m->last_window)
		munmap(m->last_window, MOCK_RAM_SIZE);
	m->last_window = NULL;
	return NX_SESSION_FRESH;
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
