/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Which signals end the wait of a program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>

#include "base/util.h"
#include "fuse/private.h"

#define BIT(signal) (UINT64_C(1) << ((signal)-1))

static void test_masks(void **state)
{
	static const struct {
		uint64_t pending, blocked, ignored, caught;
		bool ends;
	} cases[] = {
		{ 0, 0, 0, 0, false },
		{ BIT(SIGINT), 0, 0, 0, true },
		{ BIT(SIGINT), 0, 0, BIT(SIGINT), true },
		{ BIT(SIGTERM), 0, 0, BIT(SIGTERM), true },
		{ BIT(SIGINT), 0, BIT(SIGINT), 0, false },
		{ BIT(SIGTERM), BIT(SIGTERM), 0, 0, false },
		{ BIT(SIGKILL), 0, 0, 0, true },
		{ BIT(SIGALRM), 0, 0, BIT(SIGALRM), false },
		{ BIT(SIGALRM), 0, 0, 0, true },
		{ BIT(SIGCHLD), 0, 0, 0, false },
		{ BIT(SIGURG), 0, 0, BIT(SIGURG), false },
		{ BIT(SIGTSTP) | BIT(SIGCONT) | BIT(SIGWINCH), 0, 0, 0, false },
		{ BIT(SIGUSR1) | BIT(SIGALRM), 0, 0, BIT(SIGALRM), true },
		{ BIT(34), 0, 0, BIT(34), false },
		{ BIT(64), 0, 0, 0, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (s3c_ended_by(cases[i].pending, cases[i].blocked, cases[i].ignored,
				 cases[i].caught) != cases[i].ends)
			fail_msg("case %zu", i);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_masks) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
