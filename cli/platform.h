/* Included first by every file here: what to ask of the system's headers. */
#ifndef CLI_PLATFORM_H
#define CLI_PLATFORM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define _FILE_OFFSET_BITS 64

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __APPLE__
#define ST_ATIME st_atimespec
#define ST_MTIME st_mtimespec
#else
#define ST_ATIME st_atim
#define ST_MTIME st_mtim
#endif

#endif
