/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/cli.h"

int main(int argc, char **argv)
{
	return s3c_cli_mount(argc, argv);
}
