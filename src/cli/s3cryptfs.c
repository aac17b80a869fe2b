/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <string.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";

	return strncmp(name, "umount.", 7) == 0 ? s3c_cli_umount(argc, argv)
						: s3c_cli_mount(argc, argv);
}
