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

/*
 * The vCPU that was found last, on a processor, to be of no enabled VM: each exit of such a VM
 * looks for its vCPU. It is to be looked for again when a VM has been enabled, or when a vCPU has
 * gone whose address another one may get.
 */
static DEFINE_PER_CPU(struct nxk_seen, stranger);
static atomic_t changes;

static struct nxk_seen nobody;
DEFINE_PER_CPU(struct nxk_seen *, nxk_seen);

/* The loader of modules relocates no data of processors'. */
void __init nxk_vms_init(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu) per_cpu(nxk_seen, cpu) = &nobody;
}

/*
 * What has been changed before is seen by whoever looks from here on. Whoever has looked before,
 * and notes a stranger only after it has been forgotten here, sees the new number
 * (note_stranger()).
 */
void nxk_forget_strangers(void)
{
	unsigned int cpu;

	atomic_inc(&changes);
	smp_mb__after_atomic();
	for_each_possible_cpu(cpu) WRITE_ONCE(per_cpu_ptr(&stranger, cpu)->vcpu, NULL);
}

/* Note that the tables did not have the vCPU's VM when there had been so many changes, or later. */
static void note_stranger(const struct kvm_vcpu *vcpu, int seen)
{
	struct nxk_seen *known;

	preempt_disable();
	known = this_cpu_ptr(&stranger);
	WRITE_ONCE(known->vcpu, vcpu);
	smp_mb();
	if (atomic_read(&changes) != seen)
		WRITE_ONCE(known->vcpu, NULL);
	this_cpu_write(nxk_seen, known);
	preempt_enable();
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

void nxk_vm_put(struct nxk_vm *vm)
{
	if (!refcount_dec_and_test(&vm->count))
		return;
	nxk_share_close(vm);
	put_pid(vm->process);
	kfree(vm);
	module_put(THIS_MODULE);
}

/* Enable a VM. If it is of a kind that the module does not support, log why and return an error. */
int nxk_enable(struct kvm *kvm, bool beside, bool weigh)
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
	vm->beside = beside;
	vm->weigh = weigh;
	spin_lock_init(&vm->slots_lock);
	if (!nxk_share_open(vm)) {
		kfree(vm);
		return -ENOMEM;
	}
	refcount_set(&vm->count, 1);
	__module_get(THIS_MODULE);
	spin_lock(&lock);
	known = find_vm(kvm);
	if (!known)
		hash_add_rcu(vms, &vm->node, (unsigned long)kvm);
	else
		WRITE_ONCE(known->off, NULL);
	if (known) {
		WRITE_ONCE(known->beside, beside);
		WRITE_ONCE(known->weigh, weigh);
		memset(known->share->off, 0, sizeof(known->share->off));
	}
	spin_unlock(&lock);
	if (known) {
		nxk_vm_put(vm);
	} else {
		atomic_inc(&enabled);
		nxk_forget_strangers();
	}
	return 0;
}

static void turn_off(struct nxk_vm *vm, const char *why)
{
	WRITE_ONCE(vm->off, why);
	nx_share_off(vm->share->off, why);
}

/* Let no stay begin from here on. The vCPUs' engines are kept until the VM is destroyed. */
void nxk_disable(struct kvm *kvm)
{
	struct nxk_vm *vm;

	rcu_read_lock();
	vm = find_vm(kvm);
	if (vm)
		turn_off(vm, "it was turned off");
	rcu_read_unlock();
}

void nxk_alone(struct kvm *kvm)
{
	struct nxk_vm *vm;

	rcu_read_lock();
	vm = find_vm(kvm);
	if (vm)
		WRITE_ONCE(vm->beside, false);
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
	nxk_vm_put(vm);
}

/* ---- vCPUs ---- */

/* The structure is in the table no more, and no thread runs its vCPU. */
static void forget_last(struct nxk_vcpu *v)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu) cmpxchg(per_cpu_ptr(&nxk_seen, cpu), &v->seen, &nobody);
}

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
	nx_share_off(v->shared->off, why);
	pr_info("no exits are avoided on vCPU %d of process %d from here on: %s\n",
		v->vcpu->vcpu_id, task_tgid_nr(current), why);
}

/* Create the vCPU's structure. Only the vCPU's own thread calls this, so there is no race. Not
 * inlined: each exit looks for the structure, and one makes it. */
static noinline struct nxk_vcpu *make_vcpu(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v;
	struct nxk_vm *vm;

	if (READ_ONCE(nxk_all) && nxk_enable(vcpu->kvm, false, false))
		return NULL;
	v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);
	if (!v)
		return NULL;
	v->seen = (struct nxk_seen){.vcpu = vcpu, .known = true};
	v->vcpu = vcpu;
	rcu_read_lock();
	vm = find_vm(vcpu->kvm);
	if (vm && !refcount_inc_not_zero(&vm->count))
		vm = NULL;
	rcu_read_unlock();
	if (!vm) {
		kfree(v);
		return NULL;
	}
	v->vm = vm;
	if (!nxk_share_vcpu_open(v)) {
		nxk_vm_put(vm);
		kfree(v);
		return NULL;
	}
	if (!nxk_engine_make(v))
		nxk_vcpu_off(v, "there is no memory for its engine");
	spin_lock(&lock);
	if (!vm->process) {
		vm->user = current_euid();
		vm->process = get_task_pid(current, PIDTYPE_TGID);
	}
	hash_add_rcu(vcpus, &v->node, (unsigned long)vcpu);
	spin_unlock(&lock);
	return v;
}

/*
 * With all=1 a VM that cannot be enabled is tried again at each exit, which costs time; the
 * parameter is for tests and appliances.
 */
static noinline struct nxk_vcpu *find_or_make(struct kvm_vcpu *vcpu)
{
	int seen = atomic_read_acquire(&changes);
	struct nxk_vcpu *v;
	bool wanted;

	rcu_read_lock();
	v = find_vcpu(vcpu);
	wanted = !v && (READ_ONCE(nxk_all) || find_vm(vcpu->kvm));
	rcu_read_unlock();
	if (wanted)
		v = make_vcpu(vcpu);
	else if (!v)
		note_stranger(vcpu, seen);
	if (v)
		this_cpu_write(nxk_seen, &v->seen);
	return v;
}

struct nxk_vcpu *nxk_vcpu_of(struct kvm_vcpu *vcpu)
{
	struct nxk_seen *seen = this_cpu_read(nxk_seen);
	struct nxk_vcpu *v = nxk_is_seen(seen, vcpu) ? nxk_vcpu_seen(seen) : find_or_make(vcpu);

	return v && !v->off && !READ_ONCE(v->vm->off) ? v : NULL;
}

struct nxk_vcpu *nxk_vcpu_look_up(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v;

	if (!nxk_any_vm())
		return NULL;
	rcu_read_lock();
	v = find_vcpu(vcpu);
	rcu_read_unlock();
	return v;
}

static void free_vcpu(struct rcu_head *head)
{
	kfree(container_of(head, struct nxk_vcpu, rcu));
}

void nxk_vcpu_gone(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v;

	spin_lock(&lock);
	v = find_vcpu(vcpu);
	if (v)
		hash_del_rcu(&v->node);
	spin_unlock(&lock);
	if (!v) {
		nxk_forget_strangers();
		return;
	}
	forget_last(v);
	synchronize_rcu();
	if (v->engine)
		v->shared->figures.engine = *nx_engine_counters(v->engine);
	nxk_totals_add(&v->shared->figures);
	nxk_share_vcpu_close(v);
	nxk_engine_free(v);
	nxk_vm_put(v->vm);
	call_rcu_tasks(&v->rcu, free_vcpu);
}

/* ---- Readers ---- */

static void refresh_engines(const struct nxk_vm *vm)
{
	struct nxk_vcpu *v;
	unsigned int bucket;

	hash_for_each_rcu(vcpus, bucket, v, node) if (v->vm == vm && v->engine)
	    v->shared->figures.engine = *nx_engine_counters(v->engine);
}

struct nxk_vm *nxk_vm_of_process(pid_t process, unsigned int number)
{
	struct nxk_vm *vm, *found = ERR_PTR(-ENOENT);
	unsigned int bucket;

	rcu_read_lock();
	hash_for_each_rcu(vms, bucket, vm, node)
	{
		if (!READ_ONCE(vm->process) || pid_vnr(vm->process) != process || number--)
			continue;
		if (!uid_eq(current_euid(), vm->user) && !capable(CAP_SYS_ADMIN))
			found = ERR_PTR(-EACCES);
		else if (refcount_inc_not_zero(&vm->count))
			found = vm;
		if (!IS_ERR(found))
			refresh_engines(vm);
		break;
	}
	rcu_read_unlock();
	return found;
}
