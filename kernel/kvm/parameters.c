// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* parameters.c - the module's parameters. */
#include "host.h"

bool nxk_all;

static int all_set(const char *text, const struct kernel_param *parameter)
{
	int result = param_set_bool(text, parameter);

	nxk_forget_strangers();
	return result;
}

static const struct kernel_param_ops all = {
    .flags = KERNEL_PARAM_OPS_FL_NOARG, .set = all_set, .get = param_get_bool};
module_param_cb(all, &all, &nxk_all, 0644);
MODULE_PARM_DESC(all, "Enable every VM, at its first exit (default: only those asked for)");

bool nxk_weigh;
module_param_named(weigh, nxk_weigh, bool, 0644);
MODULE_PARM_DESC(weigh, "Begin stays only where they pay in measured time (default: wherever exits "
			"can be avoided)");

unsigned int nxk_latency_us = 50;
module_param_named(latency_us, nxk_latency_us, uint, 0644);
MODULE_PARM_DESC(
    latency_us,
    "A stay's bound; 20 times as much while the guest's interrupts are off (default 50)");

enum nxk_user_cpuid nxk_user_cpuid = NXK_USER_CPUID_PMU;

static const char *const words[] = {
    [NXK_USER_CPUID_OFF] = "off", [NXK_USER_CPUID_PMU] = "pmu", [NXK_USER_CPUID_ON] = "on"};

static int user_cpuid_set(const char *text, const struct kernel_param *parameter)
{
	int word = sysfs_match_string(words, text);

	if (word < 0)
		return word;
	nxk_user_cpuid = word;
	return 0;
}

static int user_cpuid_get(char *text, const struct kernel_param *parameter)
{
	return sysfs_emit(text, "%s\n", words[nxk_user_cpuid]);
}

static const struct kernel_param_ops user_cpuid = {.set = user_cpuid_set, .get = user_cpuid_get};
module_param_cb(user_cpuid, &user_cpuid, NULL, 0644);
MODULE_PARM_DESC(
    user_cpuid,
    "CPUID in user mode: off, pmu (not while the guest counts events, the default), on");

unsigned int nxk_check;
module_param_named(check, nxk_check, uint, 0644);
MODULE_PARM_DESC(check, "Testing: leave every Nth exit of the engine to the hardware and compare");

unsigned int nxk_audit_us;
module_param_named(audit_us, nxk_audit_us, uint, 0644);
MODULE_PARM_DESC(audit_us,
		 "Testing: hold each session for N microseconds and look at its pages again");

enum nxk_fail nxk_fail;

static const char *const fail_words[] = {
#define NX_X(name, word, what) word,
    NXK_FAILS(NX_X)
#undef NX_X
};

static int fail_set(const char *text, const struct kernel_param *parameter)
{
	int word = sysfs_match_string(fail_words, text);

	if (word < 0)
		return word;
	WRITE_ONCE(nxk_fail, word);
	return 0;
}

static int fail_get(char *text, const struct kernel_param *parameter)
{
	return sysfs_emit(text, "%s\n", fail_words[nxk_fail]);
}

static const struct kernel_param_ops fail_ops = {.set = fail_set, .get = fail_get};
module_param_cb(fail, &fail_ops, NULL, 0600);
MODULE_PARM_DESC(fail, "Testing: a step that fails (fail.h)");
