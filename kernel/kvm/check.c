// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * check.c - check=N: one of every N exits of the engine is left to the hardware, which then has to
 * deliver the same exit at once, at the same instruction and with the same registers.
 *
 * If KVM injects an interrupt in between, the guest is elsewhere at its next exit. KVM counts
 * injections, so such a comparison is counted as lost.
 */
#include "host.h"

static u64 injections(const struct kvm_vcpu *vcpu)
{
	return vcpu->stat.irq_injections + vcpu->stat.nmi_injections;
}

void nxk_expect(struct nxk_vcpu *v, int what)
{
	v->expecting = what;
	if (what)
		v->seen.pass_bits = 0;
}

/* Return whether the hardware would deliver it at all. */
static bool is_intercepted(struct nxk_vcpu *v)
{
	enum nxk_class class = nxk_class_of(&v->exit);

	return (class != NXK_CLASS_CR && class != NXK_CLASS_SVM) ||
	       nxk_vendor->intercepts(v->vcpu, &v->exit);
}

bool nxk_check_due(struct nxk_vcpu *v)
{
	unsigned int every = READ_ONCE(nxk_check);

	if (!every || ++v->unchecked < every)
		return false;
	if (!is_intercepted(v))
		return false;
	v->unchecked = 0;
	v->predicts = nxk_vendor->predict && nxk_vendor->predict(v);
	nxk_expect(v, NXK_EXPECT_EXIT);
	v->injections = injections(v->vcpu);
	return true;
}

/* Return in what the hardware's exit differs from the engine's, or NULL. */
static const char *difference(struct nxk_vcpu *v, enum nxk_class class)
{
	if (class != nxk_class_of(&v->exit))
		return "class";
	if (nxk_rip(v->vcpu) != v->exit.rip)
		return "rip";
	if (memcmp(v->vcpu->arch.regs, v->state->gpr, sizeof(v->state->gpr)))
		return "registers";
	if (static_call(nxk_get_rflags)(v->vcpu) != v->state->rflags)
		return "flags";
	return nxk_vendor->same(v->vcpu, &v->exit) ? NULL : "operands";
}

static void report(struct nxk_vcpu *v, enum nxk_class class, const char *what)
{
	v->stats->check_differences++;
	pr_warn_ratelimited("check: exit of class %u at %llx expected, class %u at %lx delivered: "
			    "other %s\n",
			    nxk_class_of(&v->exit), v->exit.rip, class, nxk_rip(v->vcpu), what);
}

void nxk_check_compare(struct nxk_vcpu *v, enum nxk_class class)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	const char *what;

	if (class == NXK_CLASS_OTHER)
		return;
	nxk_expect(v, NXK_EXPECT_NOTHING);
	if (injections(vcpu) != v->injections) {
		v->stats->check_lost++;
		return;
	}
	v->stats->checked++;
	nxk_need_registers(vcpu);
	what = difference(v, class);
	if (what)
		report(v, class, what);
	else
		nxk_expect(v, v->predicts ? NXK_EXPECT_RESULT : NXK_EXPECT_NOTHING);
}

void nxk_check_handled(struct nxk_vcpu *v)
{
	if (v->expecting == NXK_EXPECT_RESULT) {
		nxk_expect(v, NXK_EXPECT_NOTHING);
		if (nxk_vendor->as_predicted(v))
			return;
		v->stats->check_differences++;
		pr_warn_ratelimited("check: exit of class %u at %llx has another result\n",
				    nxk_class_of(&v->exit), v->exit.rip);
		return;
	}
	/* Another exit came first. If KVM's handler has moved rip, the expected one will not come.
	 */
	if (nxk_rip(v->vcpu) == v->exit.rip)
		return;
	nxk_expect(v, NXK_EXPECT_NOTHING);
	v->stats->check_lost++;
}
