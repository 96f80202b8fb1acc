/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * consistency.c - is the guest code still what was translated? (DESIGN.md 3.6)
 *
 * The comparison goes through the page tables that are valid now, so it also notices another
 * address space, a remapped page and a store by anyone, device DMA included. Between it and the end
 * of the cluster only other vCPUs can change the code; the processor gives no stronger promise to
 * code that another one modifies without synchronising (SDM vol. 3, 9.1.3).
 */
#include "form.h"

static bool note_code_page(struct nx_vcpu *vcpu, const uint8_t *host)
{
	for (unsigned i = 0; i < vcpu->code_pages; i++)
		if (vcpu->code_page[i] == host)
			return true;
	if (vcpu->code_pages == NX_MAX_FRAGMENTS)
		return false;
	/* Emitted code compares nothing: the miss handler refuses to map these for writing. */
	vcpu->code_page[vcpu->code_pages++] = (void *)(uintptr_t)host;
	return true;
}

nx_status nx_check_code(struct nx_vcpu *vcpu, const struct nx_cluster *cluster)
{
	uint64_t page = 1;
	const uint8_t *host = NULL;

	vcpu->code_pages = 0;
	for (unsigned i = 0; i < cluster->fragments; i++) {
		const struct nx_fragment *fragment = &cluster->fragment[i];
		uint64_t linear = nx_code_linear(vcpu, fragment->rip);

		if ((linear & NX_PAGE_MASK) != page) {
			nx_status status = nx_code_page(vcpu, linear, &host);

			if (status != NX_OK)
				return NX_LEAVE_CODE_UNREADABLE;
			page = linear & NX_PAGE_MASK;
			if (!note_code_page(vcpu, host))
				return NX_LEAVE_CODE_UNREADABLE;
		}
		if (nx_memcmp(host + (linear & ~NX_PAGE_MASK), cluster->bytes + fragment->bytes,
			      fragment->len))
			return NX_LEAVE_CODE_CHANGED;
	}
	return NX_OK;
}
