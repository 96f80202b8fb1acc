// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* vm.c - the tables of enabled VMs and of their vCPUs. */
#include "host.h"

#include <linux/cred.h>
#include <linux/hashtable.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#define TABLE_BITS 8

static DEFINE_HASHTABLE(vms, TABLE_BITS);
static DEFINE_HASHTABLE(vcpus, TABLE_BITS);
static DEFINE_SPINLOCK(lock); /* serializes writers of the two tables */
static atomic_t enabled;

bool nxk_any_vm(void)
{
	return atomic_read(&enabled) || READ_ONCE(nxk_all);
}

bool nxk_tables_empty(void)
{
	return hash_empty(vms) && hash_empty(vcpus);
}

/* ---- VMs ---- */

/* Find the VM; the caller holds the lock or is an RCU reader. */
static struct nxk_vm *find_vm(const struct kvm *kvm)
{
	struct nxk_vm *vm;

	hash_for_each_possible_rcu(vms, vm, node, (unsigned long)kvm,
				   true) if (vm->kvm == kvm) return vm;
	return NULL;
}

static void put_vm(struct nxk_vm *vm)
{
	if (refcount_dec_and_test(&vm->count)) {
		kfree(vm);
		module_put(THIS_MODULE);
	}
}

/* Enable a VM. If it is of a kind that the module does not support, log why and return an error. */
int nxk_enable(struct kvm *kvm)
{
	struct nxk_vm *vm, *known;
	const char *why = nxk_vendor->refuse(kvm);

	if (why) {
		pr_info("no exits are avoided in the VM of process %d: %s\n", task_tgid_nr(current),
			why);
		return -EOPNOTSUPP;
	}
	vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return -ENOMEM;
	vm->kvm = kvm;
	refcount_set(&vm->count, 1);
	__module_get(THIS_MODULE);
	spin_lock(&lock);
	known = find_vm(kvm);
	if (!known)
		hash_add_rcu(vms, &vm->node, (unsigned long)kvm);
	else
		WRITE_ONCE(known->off, NULL);
	spin_unlock(&lock);
	if (known)
		put_vm(vm);
	else
		atomic_inc(&enabled);
	return 0;
}

/* Let no stay begin from here on. The vCPUs' engines are kept until the VM is destroyed. */
void nxk_disable(struct kvm *kvm)
{
	struct nxk_vm *vm;

	rcu_read_lock();
	vm = find_vm(kvm);
	if (vm)
		WRITE_ONCE(vm->off, "it was turned off");
	rcu_read_unlock();
}

void nxk_vm_gone(struct kvm *kvm)
{
	struct nxk_vm *vm;

	spin_lock(&lock);
	vm = find_vm(kvm);
	if (vm)
		hash_del_rcu(&vm->node);
	spin_unlock(&lock);
	if (!vm)
		return;
	atomic_dec(&enabled);
	synchronize_rcu();
	put_vm(vm);
}

/* ---- vCPUs ---- */

static struct nxk_vcpu *find_vcpu(const struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v;

	hash_for_each_possible_rcu(vcpus, v, node, (unsigned long)vcpu,
				   true) if (v->vcpu == vcpu) return v;
	return NULL;
}

void nxk_vcpu_off(struct nxk_vcpu *v, const char *why)
{
	if (v->off)
		return;
	WRITE_ONCE(v->off, why);
	pr_info("no exits are avoided on vCPU %d of process %d from here on: %s\n",
		v->vcpu->vcpu_id, task_tgid_nr(current), why);
}

/* Create the vCPU's structure. Only the vCPU's own thread calls this, so there is no race. */
static struct nxk_vcpu *make_vcpu(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v;
	struct nxk_vm *vm;

	if (READ_ONCE(nxk_all) && nxk_enable(vcpu->kvm))
		return NULL;
	v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);
	if (!v)
		return NULL;
	v->vcpu = vcpu;
	v->process = get_task_pid(current, PIDTYPE_TGID);
	v->user = current_euid();
	rcu_read_lock();
	vm = find_vm(vcpu->kvm);
	if (vm && !refcount_inc_not_zero(&vm->count))
		vm = NULL;
	rcu_read_unlock();
	if (!vm) {
		put_pid(v->process);
		kfree(v);
		return NULL;
	}
	v->vm = vm;
	if (!nxk_engine_make(v))
		nxk_vcpu_off(v, "there is no memory for its engine");
	spin_lock(&lock);
	hash_add_rcu(vcpus, &v->node, (unsigned long)vcpu);
	spin_unlock(&lock);
	return v;
}

/*
 * With all=1 a VM that cannot be enabled is tried again at each exit, which costs time; the
 * parameter is for tests and appliances.
 */
struct nxk_vcpu *nxk_vcpu_of(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v;
	bool wanted;

	if (!nxk_any_vm())
		return NULL;
	rcu_read_lock();
	v = find_vcpu(vcpu);
	wanted = !v && (READ_ONCE(nxk_all) || find_vm(vcpu->kvm));
	rcu_read_unlock();
	if (wanted)
		v = make_vcpu(vcpu);
	return v && !v->off && !READ_ONCE(v->vm->off) ? v : NULL;
}

struct nxk_vcpu *nxk_vcpu_known(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v;

	if (!nxk_any_vm())
		return NULL;
	rcu_read_lock();
	v = find_vcpu(vcpu);
	rcu_read_unlock();
	return v;
}

void nxk_vcpu_gone(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v;

	spin_lock(&lock);
	v = find_vcpu(vcpu);
	if (v)
		hash_del_rcu(&v->node);
	spin_unlock(&lock);
	if (!v)
		return;
	synchronize_rcu();
	nxk_totals_add(v);
	nxk_engine_free(v);
	put_vm(v->vm);
	put_pid(v->process);
	kfree(v);
}

static void show(struct seq_file *file, const struct nxk_vcpu *v)
{
	const char *off = v->off ?: READ_ONCE(v->vm->off) ?: "";

	seq_printf(file, "vcpu %d %d %s\n", pid_vnr(v->process), v->vcpu->vcpu_id, off);
#define NX_X(name, text) seq_printf(file, #name " %llu\n", READ_ONCE(v->stats.name));
	NXK_STATS(NX_X)
#undef NX_X
}

void nxk_vcpus_show(struct seq_file *file)
{
	struct nxk_vcpu *v;
	unsigned int bucket;

	rcu_read_lock();
	hash_for_each_rcu(vcpus, bucket, v, node) if (uid_eq(current_euid(), v->user) ||
						      capable(CAP_SYS_ADMIN)) show(file, v);
	rcu_read_unlock();
}
