/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Runs a fuzz target on the files that are named, where there is no fuzzing
 * library: to repeat a finding, or to replay a corpus with any compiler.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (16u << 20)

static int run_file(const char *path)
{
	FILE *file = fopen(path, "re");
	uint8_t *data = malloc(INPUT_MAX);
	int failed = 1;

	if (!file || !data) {
		perror(path);
	} else {
		size_t size = fread(data, 1, INPUT_MAX, file);

		failed = ferror(file) != 0;
		/* In memory of its own size, so that a sanitizer sees the end. */
		if (!failed) {
			uint8_t *exact = malloc(size ? size : 1);

			for (size_t i = 0; exact && i < size; i++)
				exact[i] = data[i];
			if (exact)
				LLVMFuzzerTestOneInput(exact, size);
			free(exact);
		}
	}
	free(data);
	if (file)
		fclose(file);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: %s FILE...\n", argv[0]);
		return 2;
	}
	for (int i = 1; i < argc; i++)
		failed |= run_file(argv[i]);
	return failed;
}
