/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef NX_SHIM_UNISTD_H
#define NX_SHIM_UNISTD_H

int shim_ftruncate(int file, long size);
#define ftruncate shim_ftruncate
/* The file lives as long as its mappings. */
#define close(file) ((void)(file))

#endif
