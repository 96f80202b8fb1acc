/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* stage.h - for tests of single stages: a vCPU as nx_engine_resume() hands it to them. */
#ifndef STAGE_H
#define STAGE_H

#include "mock.h"

#include "form/former.h"

/*
 * Guest memory, state, mode and context are those of the start. A resume at an exit that nobody
 * asked about leaves as cold, but only after all of it has been loaded.
 */
static inline struct nx_engine *stage_begin(struct mock *m)
{
	struct nx_exit exit;

	*nx_engine_state(m->engine) = m->start;
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	nx_engine_forget_exit(m->engine);
	assert_int_equal(nx_engine_resume(m->engine, &exit), NX_LEAVE);
	assert_int_equal(exit.reason, NX_LEAVE_COLD);
	nx_engine_flush(m->engine);
	return m->engine;
}

/* Form all of a cluster at once; false: FAILED. */
static inline bool stage_form_at(struct nx_engine *engine, const struct nx_mode *mode, uint64_t rip,
				 struct nx_graph *graph)
{
	enum nx_progress progress;

	nx_make_abandon(engine);
	nx_form_begin(engine, mode, rip, graph);
	do
		progress = nx_form_step(engine, graph);
	while (progress == NX_MORE);
	return progress == NX_DONE;
}

/* Forms at the start into the vCPU's graph. */
static inline bool stage_form(struct mock *m, enum nx_level level)
{
	m->engine->config.level = level;
	return stage_form_at(m->engine, &m->engine->mode, m->start.rip, &m->engine->graph);
}

#endif
