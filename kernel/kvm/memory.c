// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * memory.c - sessions, and the look-up of guest pages in them.
 *
 * To KVM a vCPU in a session is in guest mode: interrupts are off and vcpu->mode is IN_GUEST_MODE.
 * Before KVM takes a page away from the guest or restricts access to it, it removes the entry from
 * the page table that the hardware uses, makes a request of all vCPUs in guest mode and waits until
 * each has taken an interrupt, hence until our session is over. So an entry that is found in a
 * session is valid to the session's end, without a reference and without a lock.
 *
 * In later sessions it is valid as well, in this stay and others, unless such a request has been
 * made of this vCPU since: KVM makes it of all vCPUs, and it stays pending until KVM serves it on
 * its way into the guest, by a static call that is redirected here (nxk_session_forget()). The
 * processor's own TLB relies on the same, for KVM flushes it at these requests. The other reason
 * for which KVM flushes it is that the vCPU gets another root of the page table, whose
 * predecessor's entries may go without a request. So the root has to be the same; and as long as
 * pages are remembered that were found through one, a reference to its page keeps another root from
 * getting its address.
 */
#include "host.h"

#include <linux/mm.h>

#define SPTE_PRESENT BIT_ULL(11) /* KVM's: not absent, removed or a device's */
#define SPTE_WRITABLE BIT_ULL(1)
#define SPTE_LARGE BIT_ULL(7)
#define SPTE_ADDRESS GENMASK_ULL(51, 12)
#define LEVELS 6

#define REQUEST(name) BIT_ULL(KVM_REQ_##name &KVM_REQUEST_MASK)
/* Requests that KVM may serve after the stay, as if they had been made a moment later. */
#define MAY_WAIT                                                                              \
	(REQUEST(TLB_FLUSH) | REQUEST(TLB_FLUSH_CURRENT) | REQUEST(TLB_FLUSH_GUEST) |         \
	 REQUEST(MMU_SYNC) | REQUEST(LOAD_MMU_PGD) | REQUEST(CLOCK_UPDATE) |                  \
	 REQUEST(MASTERCLOCK_UPDATE) | REQUEST(GLOBAL_CLOCK_UPDATE) | REQUEST(STEAL_UPDATE) | \
	 REQUEST(MIGRATE_TIMER) | REQUEST(SCAN_IOAPIC) | REQUEST(LOAD_EOI_EXITMAP) |          \
	 REQUEST(PMU) | REQUEST(EVENT) | REQUEST(UNBLOCK) | REQUEST(HV_STIMER))

/* The one that tells that entries have gone. */
#define FORGETS REQUEST(TLB_FLUSH)
/*
 * The one that tells that another vCPU wants guest addresses to lead elsewhere. TLB_FLUSH_CURRENT,
 * MMU_SYNC and LOAD_MMU_PGD are made by the vCPU itself: each change between a guest and its nested
 * guest makes them, and whatever makes them in a stay has the engine forget addresses by itself
 * (nx_exit_flushes()).
 */
#define FLUSHES REQUEST(TLB_FLUSH_GUEST)

/*
 * Once such a request is pending, another one would not be seen, so that every session is fresh, or
 * flushed, from there on.
 */
static enum nx_session kind_of(struct nxk_vcpu *v)
{
	hpa_t root = v->vcpu->arch.mmu->root.hpa;
	u64 requests = READ_ONCE(v->vcpu->requests);

	if (requests & ~MAY_WAIT || !VALID_PAGE(root) || nxk_fails(NXK_FAIL_SESSION))
		return NX_SESSION_REFUSED;
	if (v->root != root || requests & FORGETS) {
		v->root = root;
		v->epoch++;
		v->audited = 0;
		return NX_SESSION_FRESH;
	}
	return requests & FLUSHES ? NX_SESSION_FLUSHED : NX_SESSION_KEPT;
}

void nxk_session_forget(struct nxk_vcpu *v)
{
	v->root = INVALID_PAGE;
}

void nxk_session_release(struct nxk_vcpu *v)
{
	nxk_session_forget(v);
	if (v->root_page)
		put_page(v->root_page);
	v->root_page = NULL;
}

void nxk_session_prepare(struct nxk_vcpu *v)
{
	hpa_t root = v->vcpu->arch.mmu->root.hpa;
	struct page *page = VALID_PAGE(root) ? pfn_to_page(root >> PAGE_SHIFT) : NULL;

	/* The APIC's page is no memory, wherever it is. */
	if (page == v->root_page && v->apic_base == v->vcpu->arch.apic_base)
		return;
	nxk_session_release(v);
	if (page)
		get_page(page);
	v->root_page = page;
	v->apic_base = v->vcpu->arch.apic_base;
}

/* The counters of two processors may differ, so that a session seems to end before it begins. */
static noinline void note_longest(struct nxk_vcpu *v, u64 ticks)
{
	if ((s64)ticks < 0)
		return;
	v->longest_session = ticks;
	v->stats->longest_session_ns = nxk_ns(ticks);
}

/* Neither interrupts nor other tasks come in between, so this is a reader of RCU's as well. */
enum nx_session nxk_session_begin(struct nxk_vcpu *v)
{
	enum nx_session kind;
	struct kvm_vcpu *vcpu = v->vcpu;

	if (nxk_fails(NXK_FAIL_PROTOCOL)) {
		preempt_disable();
	} else {
		local_irq_disable();
		smp_store_mb(vcpu->mode, IN_GUEST_MODE);
	}
	v->in_session = true;
	v->session_began = rdtsc();
	v->stats->sessions++;
	kind = kind_of(v);
	if (kind != NX_SESSION_REFUSED)
		return kind;
	v->stats->sessions_refused++;
	nxk_session_end(v);
	return kind;
}

void nxk_session_end(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	u64 took = rdtsc() - v->session_began;

	if (unlikely(nxk_audit_us))
		nxk_audit(v);
	if (unlikely(took > v->longest_session))
		note_longest(v, took);
	v->stats->sessions_kicked += READ_ONCE(vcpu->mode) == EXITING_GUEST_MODE;
	v->in_session = false;
	if (nxk_fails(NXK_FAIL_PROTOCOL)) {
		preempt_enable();
		return;
	}
	smp_store_release(&vcpu->mode, OUTSIDE_GUEST_MODE);
	local_irq_enable();
	v->kicked |= nxk_fails(NXK_FAIL_KICK);
}

/*
 * Return the leaf entry that the hardware would use for the page; 0: there is none. KVM's own walk
 * (kvm_tdp_mmu_get_walk()) reads the same entries under the same lock, but takes a call for each
 * level, and every session makes several walks.
 */
static u64 leaf_of(struct kvm_vcpu *vcpu, u64 gpa, int *level)
{
	const struct kvm_mmu *mmu = vcpu->arch.mmu;
	u64 entry = mmu->root.hpa;

	*level = mmu->root_role.level;
	if (*level < 1 || *level >= LEVELS || gpa >> (PAGE_SHIFT + 9 * *level))
		return 0;
	for (; *level; --*level) {
		const u64 *table = __va(entry & SPTE_ADDRESS);

		entry = READ_ONCE(table[gpa >> (PAGE_SHIFT + 9 * (*level - 1)) & 511]);
		if (!(entry & SPTE_PRESENT))
			return 0;
		if (*level == 1 || entry & SPTE_LARGE)
			return entry;
	}
	return 0;
}

static void *memory_of(u64 spte, u64 gpa, int level)
{
	u64 within = (1ull << (9 * (level - 1))) - 1;
	u64 pfn = ((spte & SPTE_ADDRESS) >> PAGE_SHIFT & ~within) | (gpa >> PAGE_SHIFT & within);
	struct page *page;

	if (!pfn_valid(pfn))
		return NULL;
	page = pfn_to_page(pfn);
	if (PageReserved(page) || is_zone_device_page(page))
		return NULL;
	return page_address(page);
}

/* The page of APIC registers may overlap memory, and with APICv it has an ordinary entry. */
bool nxk_is_lapic(const struct kvm_vcpu *vcpu, u64 gpa)
{
	u64 base = vcpu->arch.apic_base;

	return vcpu->arch.apic && base & MSR_IA32_APICBASE_ENABLE && !(base & X2APIC_ENABLE) &&
	       (base & SPTE_ADDRESS) == (gpa & PAGE_MASK);
}

void *nxk_guest_page(struct kvm_vcpu *vcpu, u64 gpa, bool *writable)
{
	u64 dirty = nxk_dirty_mask(), spte;
	int level;

	spte = leaf_of(vcpu, gpa, &level);
	if (!(spte & SPTE_PRESENT) || !(spte & nxk_vendor->spte_read))
		return NULL;
	*writable = spte & SPTE_WRITABLE && (spte & dirty) == dirty;
	return memory_of(spte, gpa, level);
}

/*
 * Each walk of the guest's page tables looks up the same few pages of their upper levels. What was
 * found holds until it has to be forgotten, but what was not found may come, and what was not
 * writable may become so.
 */
static struct nxk_known_page *known_page(struct nxk_vcpu *v, u64 gpa)
{
	return &v->known[(gpa >> PAGE_SHIFT) % ARRAY_SIZE(v->known)];
}

void nxk_map_page(void *data, uint64_t gpa, struct nx_page *page)
{
	struct nxk_vcpu *v = data;
	struct nxk_known_page *known = known_page(v, gpa);
	struct kvm_vcpu *vcpu = v->vcpu;
	struct kvm_memory_slot *slot;

	page->kind = NX_PAGE_LEAVE;
	if (WARN_ON_ONCE(!v->in_session) || nxk_fails(NXK_FAIL_PAGE))
		return;
	if (known->epoch == v->epoch && known->gpa == gpa) {
		*page = known->page;
		return;
	}
	if (nxk_is_lapic(vcpu, gpa)) {
		page->kind = NX_PAGE_DEVICE;
		return;
	}
	slot = gfn_to_memslot(vcpu->kvm, gpa >> PAGE_SHIFT);
	if (!slot) {
		page->kind = NX_PAGE_DEVICE;
		return;
	}
	/* KVM's internal slots hold pages that the hardware treats specially. */
	if (slot->id >= KVM_USER_MEM_SLOTS || slot->flags & KVM_MEMSLOT_INVALID)
		return;
	page->host = nxk_guest_page(vcpu, gpa, &page->writable);
	if (!page->host)
		return;
	page->kind = NX_PAGE_RAM;
	page->store_is_mmio = slot->flags & KVM_MEM_READONLY;
	page->traced = false;
	if (page->writable)
		*known = (struct nxk_known_page){v->epoch, gpa, *page};
	nxk_audit_note(v, gpa, page->host);
}
