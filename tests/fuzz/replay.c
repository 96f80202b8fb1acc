// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * replay.c - runs a fuzz target on the files of a folder, once each: regression tests that need
 * neither clang nor time.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

static void run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct stat info;
	uint8_t *data;

	if (!file || fstat(fileno(file), &info)) {
		perror(path);
		exit(1);
	}
	/* The copy is as long as the input, so that a sanitizer sees reads past it. */
	data = malloc((size_t)info.st_size + !info.st_size);
	if (!data || fread(data, 1, (size_t)info.st_size, file) != (size_t)info.st_size) {
		perror(path);
		exit(1);
	}
	fclose(file);
	/* The log of a crash has to name the input. */
	printf("%s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, (size_t)info.st_size);
	free(data);
}

int main(int argc, char **argv)
{
	unsigned inputs = 0;
	struct dirent *entry;
	DIR *folder;

	if (argc != 2 || !(folder = opendir(argv[1]))) {
		fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	while ((entry = readdir(folder))) {
		char path[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		run_file(path);
		inputs++;
	}
	closedir(folder);
	printf("%u inputs\n", inputs);
	return inputs ? 0 : 1;
}
