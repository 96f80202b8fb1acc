// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * audit.c - audit_us=N: a session is held open for N microseconds before it ends, and its pages are
 * compared before and after. With the protocol of memory.c no page may have been freed or changed,
 * even if the VMM takes pages away meanwhile: the page-table entry disappears, and the task that
 * has removed it waits for the session. A page that sessions keep may not have been freed since it
 * was looked up either.
 */
#include "host.h"

#include <linux/crc32.h>
#include <linux/delay.h>
#include <linux/mm.h>

void nxk_audit_note(struct nxk_vcpu *v, u64 gpa, const void *host)
{
	if (nxk_audit_us && v->audited < ARRAY_SIZE(v->audit))
		v->audit[v->audited++] = (struct nxk_audit_page){
		    .gpa = gpa,
		    .host = host,
		    .mapping = READ_ONCE(virt_to_page(host)->mapping),
		};
}

static u32 sum(const void *host)
{
	return crc32_le(0, host, PAGE_SIZE);
}

void nxk_audit(struct nxk_vcpu *v)
{
	if (!v->audited)
		return;
	for (unsigned int i = 0; i < v->audited; i++)
		v->audit[i].sum = sum(v->audit[i].host);
	udelay(nxk_audit_us);
	for (unsigned int i = 0; i < v->audited; i++) {
		const struct nxk_audit_page *page = &v->audit[i];
		struct page *p = virt_to_page(page->host);
		bool writable;

		v->stats->audited++;
		v->stats->audit_changed += sum(page->host) != page->sum;
		v->stats->audit_freed += READ_ONCE(p->mapping) != page->mapping || !page_count(p);
		v->stats->audit_zapped +=
		    nxk_guest_page(v->vcpu, page->gpa, &writable) != page->host;
	}
}
