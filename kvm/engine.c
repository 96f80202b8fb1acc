/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* engine.c - make a vCPU's engine at the first exit at which it could be of use. */
#include "host.h"

#define ENOUGH_PAGES 8

static uint64_t engine_now(void *data)
{
	(void)data;
	return nx_real.now();
}

const struct nx_host nx_kvm_engine_host = {
    .map_page = nx_guest_map_page,
    .route_io = nx_guest_route_io,
    .route_mmio = nx_guest_route_mmio,
    .queue = nx_ring_queue,
    .now = engine_now,
    .time_is_up = nx_leave_time_is_up,
    .no_interrupt_waits = nx_window_quiet,
};

bool nx_vcpu_engine_make(struct nx_kvm_vcpu *vcpu)
{
	struct nx_config config;
	struct nx_engine *engine = NULL;

	if (vcpu->engine_tried)
		return vcpu->engine;
	vcpu->engine_tried = true;
	nx_config_default(&config);
	nx_config_limits(&config, nx_options.limits);
	if (nx_options.level < config.level)
		config.level = nx_options.level;
	config.no_user_code = nx_options.no_user_code;
	config.guest_features = vcpu->guest_features;
	config.segment_loads = true;
	if (nx_options.max_gap)
		config.max_gap = (uint16_t)nx_options.max_gap;
	config.experiment.fail = (nx_faulty(NX_FAULT_CACHE) ? NX_FAIL_CACHE : 0) |
				 (nx_faulty(NX_FAULT_VERIFIER) ? NX_FAIL_VERIFY : 0);
	if (!nx_memory_get(&vcpu->memory, (size_t)nx_options.code_cache * 1024)) {
		nx_vcpu_off(vcpu,
			    "no memory for the engine, or a policy forbids executable memory; "
			    "try a smaller --code-cache");
		return false;
	}
	if (!nx_faulty(NX_FAULT_ENGINE))
		engine = nx_engine_create(&vcpu->memory, &vcpu->engine_host, vcpu, &config);
	if (!engine) {
		nx_vcpu_off(vcpu, "the engine does not work with the memory it was given");
		return false;
	}
	vcpu->state = nx_engine_state(engine);
	nx_vcpus_lock(vcpu->vm);
	vcpu->engine = engine;
	nx_vcpus_unlock(vcpu->vm);
	nx_sample_tell(vcpu);
	return true;
}

void nx_vcpu_engine_check(struct nx_kvm_vcpu *vcpu)
{
	const struct nx_counters *counters = nx_engine_counters(vcpu->engine);

	if (counters->refused)
		nx_vcpu_off(vcpu, "the verifier refused a translation, which is a fault of "
				  "noexit's; please report it, with the guest's name and version");
	else if (counters->leaves[NX_LEAVE_CACHE_FULL] && !counters->translated)
		nx_vcpu_off(vcpu, "no translation fits in the code cache; give a larger "
				  "--code-cache");
	else if (vcpu->pages_refused >= ENOUGH_PAGES && !vcpu->pages_given)
		nx_vcpu_off(vcpu, "this process cannot read the guest's memory");
}
