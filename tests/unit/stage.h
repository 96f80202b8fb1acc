/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* stage.h - for tests of single stages: a vCPU as nx_resume() hands it to them. */
#ifndef STAGE_H
#define STAGE_H

#include "mock.h"

#include "form/former.h"

/*
 * Guest memory, state, mode and context are those of the start. A resume at an exit that nobody
 * asked about leaves as cold, but only after all of it has been loaded.
 */
static inline struct nx_vcpu *stage_begin(struct mock *m)
{
	struct nx_exit exit;

	*nx_vcpu_state(m->vcpu) = m->start;
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	nx_forget_exit(m->vcpu);
	assert_int_equal(nx_resume(m->vcpu, &exit), NX_LEAVE);
	assert_int_equal(exit.reason, NX_LEAVE_COLD);
	nx_flush(m->vcpu);
	return m->vcpu;
}

/* Forms at the start into the vCPU's graph. */
static inline bool stage_form(struct mock *m, enum nx_level level)
{
	m->vcpu->config.level = level;
	return nx_form(m->vcpu, &m->vcpu->mode, m->start.rip, &m->vcpu->graph);
}

#endif
