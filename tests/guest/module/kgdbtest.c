// SPDX-License-Identifier: MIT OR Apache-2.0
/* A module with a function to stop in: writing a number to its parameter calls it. */
#include <linux/module.h>

static int kgdbtest_sum;

noinline int kgdbtest_add(int amount)
{
	kgdbtest_sum += amount;
	return kgdbtest_sum;
}

static int set_add(const char *text, const struct kernel_param *param)
{
	int amount, result = kstrtoint(text, 0, &amount);

	if (result)
		return result;
	pr_info("kgdbtest: sum %d\n", kgdbtest_add(amount));
	return 0;
}

static const struct kernel_param_ops add_ops = { .set = set_add };
module_param_cb(add, &add_ops, NULL, 0200);

static int __init kgdbtest_init(void)
{
	pr_info("kgdbtest: loaded\n");
	return 0;
}

static void __exit kgdbtest_exit(void)
{
}

module_init(kgdbtest_init);
module_exit(kgdbtest_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("A function to stop in");
