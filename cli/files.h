/* One file, or standard input. */
#ifndef CLI_FILES_H
#define CLI_FILES_H

#include "options.h"

#include <sys/stat.h>

#define SOURCE_START 9 /* bytes that tell the kinds of files apart */

typedef struct {
    int fd;
    const char *name; /* as in messages */
    bool is_stdin;
    struct stat status;
    uint64_t size; /* UINT64_MAX if it is not known before the end */
    uint8_t start[SOURCE_START]; /* of a pipe: what was read to know its kind */
    size_t start_size;
    znn_zipnn_reader *zipnn;      /* of a ZipNN file that is to be read; else NULL */
    znn_safetensors *safetensors; /* of a safetensors file that is to be read; else NULL */
    bool is_spooled;              /* fd is a temporary file that has a pipe's content */
} source_file;

/* False after a message. "-" is standard input. */
bool source_open(source_file *source, const char *name, const cli_options *options);
void source_close(source_file *source);

/* False after a message: if it is a file that was written to since it was opened. */
bool source_stayed(const source_file *source);

/* Remove it, unless it is no more what was read. False after a message. */
bool source_remove(const source_file *source);

/* Say why frames cannot be read, and where if the decoder can tell, which finds what -t finds. */
void frames_explain(const cli_options *options, const source_file *source, znn_status status);

/* Compress, decompress, test or convert; false after a message. */
bool file_process(const cli_options *options, const char *name);

/* For znn_reader_open_fn: opaque points to the file's descriptor. */
int read_at(void *opaque, uint64_t offset, void *dst, size_t size);

#endif
