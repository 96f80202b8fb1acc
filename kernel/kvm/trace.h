/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * trace.h - the tracepoints: a stay begins, the engine delivers an exit, a stay ends. KVM's own
 * kvm_entry and kvm_exit stand before and behind them, and kvm_cpuid, kvm_msr, kvm_pio and kvm_mmio
 * come with each exit that is delivered, since KVM's own functions emulate it.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM noexit

#if !defined(NXK_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define NXK_TRACE_H

#include <linux/tracepoint.h>

#include "host.h"

/* clang-format off */
TRACE_EVENT(noexit_stay,
	TP_PROTO(const struct nxk_vcpu *v),
	TP_ARGS(v),
	TP_STRUCT__entry(
		__field(unsigned int, vcpu)
		__field(u64, rip)
	),
	TP_fast_assign(
		__entry->vcpu = v->vcpu->vcpu_id;
		__entry->rip = v->state->rip;
	),
	TP_printk("vcpu %u rip 0x%llx", __entry->vcpu, __entry->rip)
);

/* result: of KVM's function, 1 if the guest goes on, 0 if the VMM is asked. */
TRACE_EVENT(noexit_exit,
	TP_PROTO(const struct nxk_vcpu *v, int result),
	TP_ARGS(v, result),
	TP_STRUCT__entry(
		__field(unsigned int, vcpu)
		__field(u64, rip)
		__array(char, class, 12)
		__field(bool, write)
		__field(u64, where)
		__field(int, result)
	),
	TP_fast_assign(
		__entry->vcpu = v->vcpu->vcpu_id;
		__entry->rip = v->exit.rip;
		strscpy(__entry->class, nx_class_word(nx_exit_class_of(&v->exit)),
			sizeof(__entry->class));
		__entry->write = v->exit.write;
		__entry->where = v->exit.kind == NX_EXIT_IO ? v->exit.port :
				 v->exit.kind == NX_EXIT_MMIO ? v->exit.gpa : v->exit.operand;
		__entry->result = result;
	),
	TP_printk("vcpu %u rip 0x%llx %s %s 0x%llx result %d", __entry->vcpu, __entry->rip,
		  __entry->class, __entry->write ? "write" : "read", __entry->where,
		  __entry->result)
);

/* reason: the engine's, or "host" if the host has ended the stay. */
TRACE_EVENT(noexit_leave,
	TP_PROTO(const struct nxk_vcpu *v, const char *reason),
	TP_ARGS(v, reason),
	TP_STRUCT__entry(
		__field(unsigned int, vcpu)
		__field(u64, rip)
		__array(char, reason, 20)
	),
	TP_fast_assign(
		__entry->vcpu = v->vcpu->vcpu_id;
		__entry->rip = v->state->rip;
		strscpy(__entry->reason, reason, sizeof(__entry->reason));
	),
	TP_printk("vcpu %u rip 0x%llx reason %s", __entry->vcpu, __entry->rip, __entry->reason)
);
/* clang-format on */

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

#include <trace/define_trace.h>
