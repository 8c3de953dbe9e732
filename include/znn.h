/*
 * znn: lossless compression for the numbers of neural networks.
 *
 * This header is the whole public interface of libznn.
 *
 * Sizes are in bytes and 64 bits wide unless a comment says otherwise. Every
 * source buffer is const and is never written to. Functions return a
 * znn_status; nothing aborts, prints, or keeps a pointer to a caller's buffer
 * after it returns. Functions on different objects may run in different
 * threads with no lock; one object belongs to one thread at a time, except
 * where a comment says more.
 *
 * docs/FORMAT.md specifies what these functions read and write.
 */
#ifndef ZNN_H
#define ZNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ZNN_VERSION_MAJOR 0
#define ZNN_VERSION_MINOR 1
#define ZNN_VERSION_PATCH 0
#define ZNN_VERSION_STRING "0.1.0"

#if defined(_WIN32) || !defined(__GNUC__)
#define ZNN_API
#else
#define ZNN_API __attribute__((visibility("default")))
#endif

/* ---- Status ------------------------------------------------------------ */

typedef enum {
    ZNN_OK = 0,
    ZNN_ERROR_ARGUMENT = 1,     /* a parameter is out of its documented range */
    ZNN_ERROR_MEMORY = 2,       /* an allocation failed */
    ZNN_ERROR_DST_TOO_SMALL = 3,/* the destination cannot hold the result */
    ZNN_ERROR_FORMAT = 4,       /* not a znn frame, or its structure is invalid */
    ZNN_ERROR_UNSUPPORTED = 5,  /* a version, feature or method this build does not know */
    ZNN_ERROR_TRUNCATED = 6,    /* the input ends before the frame does */
    ZNN_ERROR_CHECKSUM = 7,     /* the content does not match its checksum */
    ZNN_ERROR_LIMIT = 8,        /* the frame needs more than options.memory_limit allows */
    ZNN_ERROR_IO = 9,           /* a caller's read or write function failed */
    ZNN_ERROR_BASE = 10         /* a delta needs its base, or was given another one */
} znn_status;

/* A short English sentence, without a final stop; static storage; never NULL. */
ZNN_API const char *znn_status_message(znn_status status);

/* "0.1.0"; the library in use, which may differ from the header's. */
ZNN_API const char *znn_version(void);

/* The instruction set that the coders use in this process: "avx512" (with VBMI
 * and VBMI2), "avx2", "neon" or "scalar". Set the environment variable ZNN_ISA to
 * one of these before the first call to have no more than that. The bytes do not
 * depend on it. */
ZNN_API const char *znn_isa(void);

/* ---- Element types ----------------------------------------------------- */

/* The values are those of the format. AUTO is for options only. */
typedef enum {
    ZNN_AUTO = 0,     /* find safetensors' own types, else probe the bytes */
    ZNN_BYTES = 1,    /* no numbers: text, headers, packed sub-byte types */
    ZNN_BOOL = 2,
    ZNN_I8 = 3,
    ZNN_U8 = 4,
    ZNN_I16 = 5,
    ZNN_U16 = 6,
    ZNN_I32 = 7,
    ZNN_U32 = 8,
    ZNN_I64 = 9,
    ZNN_U64 = 10,
    ZNN_F8_E4M3 = 11,
    ZNN_F8_E5M2 = 12,
    ZNN_F16 = 13,
    ZNN_BF16 = 14,
    ZNN_F32 = 15,
    ZNN_F64 = 16
} znn_dtype;
#define ZNN_DTYPE_COUNT 17

/* "auto", "bytes", "bool", "i8" ... "f8_e4m3", "f16", "bf16", "f32", "f64";
 * NULL if dtype is not one of znn_dtype. Static storage. */
ZNN_API const char *znn_dtype_name(znn_dtype dtype);

/* The inverse; also takes numpy's and safetensors' spellings ("float32",
 * "F32", "bfloat16", "float8_e4m3fn", "int8", "I8"), any case.
 * Returns -1 if the name is unknown. */
ZNN_API int znn_dtype_from_name(const char *name);

/* Bytes of one element: 1, 2, 4 or 8; 0 for AUTO or an unknown value. */
ZNN_API unsigned znn_dtype_size(znn_dtype dtype);

/* ---- Options ----------------------------------------------------------- */

#define ZNN_LEVEL_FAST 1     /* the fastest that still saves */
#define ZNN_LEVEL_DEFAULT 3  /* decompression about as fast as memcpy */
#define ZNN_LEVEL_MAX 9      /* the strongest */

typedef void *(*znn_alloc_fn)(void *opaque, size_t size);
typedef void (*znn_free_fn)(void *opaque, void *address);

typedef struct {
    size_t struct_size;       /* set by znn_options_init; guards the ABI */
    znn_dtype dtype;          /* of the content; default ZNN_AUTO */
    int level;                /* 1 to 9; default 3. There are three: 1 and 2 compress a fifth faster than the
                                 default, for some tenths of a point; 7 to 9 make it smallest */
    int threads;              /* 1 (default) to 256 workers; 0: one per core.
                                 With 1, the calling thread does the work and no thread is made */
    int checksum;             /* 1 (default): write, and verify. 0: neither */
    uint64_t content_size;    /* streaming encoder: the size if known, for the header
                                 (then checked at the end); default ZNN_SIZE_UNKNOWN */
    uint64_t memory_limit;    /* decoding: refuse frames whose chunk size needs more than
                                 this many bytes of working memory a thread; default 64 MiB */
    const void *base;         /* delta: the base's bytes and their count; NULL for none. */
    uint64_t base_size;       /* Must stay valid while the encoder, decoder or reader lives */
    znn_alloc_fn alloc;       /* NULL for malloc and free. Called from worker threads too */
    znn_free_fn free;
    void *opaque;
} znn_options;

#define ZNN_SIZE_UNKNOWN UINT64_MAX

/* Fill in the defaults. Call it before setting any field. Everywhere below a
 * NULL options pointer means the defaults. */
ZNN_API void znn_options_init(znn_options *options);

/* ---- One shot, in memory ----------------------------------------------- */

/* The most bytes a frame of `size` bytes of content can take, for any dtype
 * and level. Saturates at UINT64_MAX. */
ZNN_API uint64_t znn_compress_bound(uint64_t size);

/* Compress src into one frame at dst. dst and src must not overlap. On success
 * *dst_size is the frame's size. If dst_capacity is znn_compress_bound(src_size)
 * or more, ZNN_ERROR_DST_TOO_SMALL cannot happen. The same content, dtype and
 * level give the same bytes for any threads and any instruction set. */
ZNN_API znn_status znn_compress(void *dst, uint64_t dst_capacity, uint64_t *dst_size, const void *src,
                                uint64_t src_size, const znn_options *options);

/* The content's size of the frames in src, without decoding them: the sum over
 * the frames that follow one another. ZNN_ERROR_TRUNCATED if src does not hold
 * them whole. Believe the size only as far as memory allows: a small frame may
 * hold terabytes of zeros. */
ZNN_API znn_status znn_content_size(const void *src, uint64_t src_size, uint64_t *content_size);

/* Decompress the frames in src into dst. On success *dst_size is the content's
 * size. On failure the contents of dst are unspecified. */
ZNN_API znn_status znn_decompress(void *dst, uint64_t dst_capacity, uint64_t *dst_size, const void *src,
                                  uint64_t src_size, const znn_options *options);

/* 1 if the first bytes are those of a znn frame, else 0. */
ZNN_API int znn_is_frame(const void *src, uint64_t src_size);

/* ---- Streaming --------------------------------------------------------- */

typedef struct {
    const void *src;
    size_t size;
    size_t pos;   /* bytes consumed; moved on by the call */
} znn_in_buffer;

typedef struct {
    void *dst;
    size_t size;
    size_t pos;   /* bytes produced; moved on by the call */
} znn_out_buffer;

typedef enum {
    ZNN_CONTINUE = 0, /* take input; produce what is ready */
    ZNN_FLUSH = 1,    /* produce everything taken so far, at some cost in size */
    ZNN_END = 2       /* flush, and finish the frame */
} znn_directive;

typedef struct znn_encoder znn_encoder;

/* A new encoder in *encoder, to be freed by znn_encoder_free. With threads > 1
 * it starts workers that share a batch of chunks within each call. */
ZNN_API znn_status znn_encoder_new(znn_encoder **encoder, const znn_options *options);
ZNN_API void znn_encoder_free(znn_encoder *encoder); /* NULL is allowed */

/* Consume from in, produce to out, until in is empty or out is full. *pending
 * (may be NULL) is 0 when nothing is left inside: after ZNN_FLUSH or ZNN_END,
 * call again with room in out until it is 0. After ZNN_END with *pending 0 the
 * encoder starts a new frame. An error is final. */
ZNN_API znn_status znn_encoder_run(znn_encoder *encoder, znn_out_buffer *out, znn_in_buffer *in,
                                   znn_directive directive, size_t *pending);

typedef struct znn_decoder znn_decoder;

ZNN_API znn_status znn_decoder_new(znn_decoder **decoder, const znn_options *options);
ZNN_API void znn_decoder_free(znn_decoder *decoder);

/* Consume from in, produce to out, until in is empty or out is full. *frame_ended
 * (may be NULL) is set to 1 when a frame has been read whole, verified, and all
 * its content handed over; input after it is not consumed in that call, and the
 * next call expects another frame. The input has ended well if it ends there.
 * An error is final. */
ZNN_API znn_status znn_decoder_run(znn_decoder *decoder, znn_out_buffer *out, znn_in_buffer *in, int *frame_ended);

/* The content's offset (bytes since the first frame's begin) and the input's
 * offset that the last error is about. */
ZNN_API void znn_decoder_position(const znn_decoder *decoder, uint64_t *input_offset, uint64_t *content_offset);

/* ---- Random access and description ------------------------------------- */

/* Read `size` bytes at `offset` into dst: 0 for success, anything else for an
 * error. Called from worker threads at the same time where threads > 1. */
typedef int (*znn_read_fn)(void *opaque, uint64_t offset, void *dst, size_t size);

typedef struct znn_reader znn_reader;

/* A reader of the frames in src, which must stay valid while the reader lives. */
ZNN_API znn_status znn_reader_open(znn_reader **reader, const void *src, uint64_t src_size, const znn_options *options);

/* The same through a function, for files: `size` is the file's. */
ZNN_API znn_status znn_reader_open_fn(znn_reader **reader, znn_read_fn read, void *opaque, uint64_t size,
                                      const znn_options *options);
ZNN_API void znn_reader_free(znn_reader *reader);

/* znn_content_size for files: checks what znn_reader_open_fn does, in memory
 * that does not grow with the file. */
ZNN_API znn_status znn_content_size_fn(znn_read_fn read, void *opaque, uint64_t size, const znn_options *options,
                                       uint64_t *content_size);

/* The whole content's size. */
ZNN_API uint64_t znn_reader_size(const znn_reader *reader);

/* Decompress content bytes [offset, offset + size) into dst, reading only the
 * chunks that hold them. ZNN_ERROR_ARGUMENT if the range is not inside. Each
 * chunk is compared with its checksum; a frame with its own, which tells that
 * no chunk is at another's place, by the read that makes it whole: this one
 * and those before it with this reader. */
ZNN_API znn_status znn_reader_read(znn_reader *reader, void *dst, uint64_t offset, uint64_t size);

/* Coding methods of a chunk; the values are those of the format. */
typedef enum {
    ZNN_METHOD_STORED = 0,
    ZNN_METHOD_CONSTANT = 1,  /* one element, repeated */
    ZNN_METHOD_ZSTD = 2,
    ZNN_METHOD_FLOAT = 3,     /* exponents entropy-coded, the rest by bit field */
    ZNN_METHOD_GROUPS = 4,    /* byte groups, each by its own method */
    ZNN_METHOD_REPEAT = 5,    /* the same bytes as earlier in the content */
    ZNN_METHOD_DELTA = 6      /* against the base */
} znn_method;

/* Static storage; NULL if unknown. */
ZNN_API const char *znn_method_name(znn_method method);

typedef struct {
    uint64_t content_offset;
    uint64_t content_size;
    uint64_t stored_offset; /* of the chunk's header in the file */
    uint64_t stored_size;   /* header included */
    uint64_t checksum;      /* XXH3, 64 bits, of the content; 0 if there is none */
    znn_dtype dtype;
    znn_method method;
    int starts_segment;     /* 1: the first chunk of a segment */
} znn_chunk_info;

typedef struct {
    uint64_t frames;        /* that follow one another in the file */
    uint64_t segments;
    uint64_t chunks;
    uint64_t content_size;
    uint64_t stored_size;
    uint64_t checksum;      /* of the whole first frame; 0 if there is none */
    uint32_t chunk_max;     /* the largest content of a chunk, bytes */
    int version;            /* of the format */
    int has_checksum;
    int needs_base;         /* 1: a delta */
} znn_frame_info;

ZNN_API znn_status znn_reader_info(znn_reader *reader, znn_frame_info *info);

/* Chunk `index` of znn_frame_info.chunks, over all frames. Reads the chunk's
 * header, not its payload. */
ZNN_API znn_status znn_reader_chunk(znn_reader *reader, uint64_t index, znn_chunk_info *info);

/* ---- Compressed safetensors -------------------------------------------- */

/* A .safetensors file, plain or compressed, read alike. A compressed one is a
 * safetensors file too, each tensor of which is a frame of its own, or stays as
 * it was if that is no larger (docs/FORMAT.md, "Compressed safetensors"). */
typedef struct znn_safetensors znn_safetensors;

/* What an error is about, with the tensor's name: a sentence without a final
 * stop, UTF-8 unless the file's names are cut in it, no control characters. */
typedef struct {
    char text[512];
} znn_reason;

typedef struct {
    const char *name;      /* UTF-8; this and the next two are valid while the file lives */
    const char *dtype;     /* as safetensors spells it: "BF16" */
    const uint64_t *shape; /* in elements */
    size_t rank;           /* 0 for a scalar */
    uint64_t size;         /* bytes of its content */
    uint64_t stored_offset;/* in the file */
    uint64_t stored_size;  /* in the file; less than `size` exactly if it is compressed */
    uint64_t order;        /* its place among the header's names, from 0 */
} znn_safetensors_tensor;

/* Read the header of the file in src, which must stay valid while *file lives.
 * Names, types, shapes, and that the tensors cover the file without gaps are
 * checked here; frames when they are read. Of the options, threads, checksum
 * and memory_limit are for reading, level, threads and checksum for
 * znn_safetensors_compress. reason may be NULL, here and below. Takes memory
 * for the header only: at most 100 MB of JSON. */
ZNN_API znn_status znn_safetensors_open(znn_safetensors **file, const void *src, uint64_t size,
                                        const znn_options *options, znn_reason *reason);

/* The same through a function, for files. */
ZNN_API znn_status znn_safetensors_open_fn(znn_safetensors **file, znn_read_fn read, void *opaque, uint64_t size,
                                           const znn_options *options, znn_reason *reason);
ZNN_API void znn_safetensors_free(znn_safetensors *file); /* NULL is allowed */

ZNN_API int znn_safetensors_is_compressed(const znn_safetensors *file);

/* The header of the plain file, JSON as it was (or is), without its length before it. */
ZNN_API const char *znn_safetensors_header(const znn_safetensors *file, uint64_t *size);

/* Tensors are counted in the order of their data. */
ZNN_API uint64_t znn_safetensors_count(const znn_safetensors *file);
ZNN_API znn_status znn_safetensors_tensor_info(const znn_safetensors *file, uint64_t index,
                                               znn_safetensors_tensor *tensor);

/* Content bytes [offset, offset + size) of a tensor into dst, decoding only the
 * chunks that hold them. A tensor that is read whole is compared with its
 * frame's checksum, too; a part, with those of its chunks. Threads may call this for one file at the same time. */
ZNN_API znn_status znn_safetensors_read(const znn_safetensors *file, uint64_t index, void *dst, uint64_t offset,
                                        uint64_t size, znn_reason *reason);

/* Write `size` bytes at `offset`: 0 for success, anything else for an error.
 * Called from the calling thread, mostly in order, but not always. */
typedef int (*znn_write_fn)(void *opaque, uint64_t offset, const void *src, size_t size);

/* Write the compressed file of a plain one, or the plain one of a compressed
 * one, byte for byte as it was. *written is its size: cut off what was written
 * beyond. Memory is bounded by some blocks of 8 MiB, whatever the tensors' size. */
ZNN_API znn_status znn_safetensors_compress(znn_safetensors *file, znn_write_fn write, void *opaque,
                                            uint64_t *written, znn_reason *reason);
ZNN_API znn_status znn_safetensors_decompress(znn_safetensors *file, znn_write_fn write, void *opaque,
                                              uint64_t *written, znn_reason *reason);

/* Content bytes that one of the two has dealt with; for the write function, to show progress. */
ZNN_API uint64_t znn_safetensors_done(const znn_safetensors *file);

/* ---- ZipNN's format ---------------------------------------------------- */

/* Streams of the Python package zipnn, versions 0.4 and 0.5: read, and written
 * so that zipnn 0.5.4 decodes them. Its streams have no checksum: damage within
 * the numbers passes for content. Its uint32, lossy and snappy streams are
 * ZNN_ERROR_UNSUPPORTED; so is lz4 in a build without liblz4. */

/* 1 if the first bytes are those of a ZipNN stream, else 0. */
ZNN_API int znn_zipnn_is(const void *src, uint64_t src_size);

/* What the content was given as; the values are those of the format. */
typedef enum {
    ZNN_ZIPNN_BYTES = 1,
    ZNN_ZIPNN_TORCH = 2, /* with a shape in the header, as for numpy */
    ZNN_ZIPNN_NUMPY = 3,
    ZNN_ZIPNN_FILE = 4   /* zipnn has it in its tables, and never writes it */
} znn_zipnn_input;

/* The content's size of the streams in src, which follow one another to its
 * end, without decoding them. Believe it only as far as memory allows. */
ZNN_API znn_status znn_zipnn_content_size(const void *src, uint64_t src_size, uint64_t *content_size);

/* Decompress the streams in src into dst. On success *dst_size is the content's
 * size. On failure the contents of dst are unspecified. Of the options, base
 * (for deltas, as large as the content) and the allocator count. */
ZNN_API znn_status znn_zipnn_decompress(void *dst, uint64_t dst_capacity, uint64_t *dst_size, const void *src,
                                        uint64_t src_size, const znn_options *options);

typedef struct {
    size_t struct_size;       /* set by znn_zipnn_options_init */
    znn_dtype dtype;          /* ZNN_AUTO (default): what a sample of each stream compresses best
                                 as. Integers and FP64 take the layout of a float as wide */
    znn_zipnn_input input;    /* default ZNN_ZIPNN_BYTES */
    const uint64_t *shape;    /* torch and numpy: written as it is, not compared with the size; */
    unsigned dimensions;      /* at most 255 */
    int method;               /* written, and without effect: 0 (auto, default) or 1 (huffman); 2, 3, 4 */
    uint64_t chunk;           /* content bytes, a power of two from 4096 to 2^30; default 256 KiB */
    uint64_t streaming_chunk; /* 0 (default): one stream. A power of two from 4096 on: a stream
                                 for each so many bytes of content, as is_streaming has it */
    double threshold;         /* a piece is stored if it does not shrink below this part; default 0.95 */
    int delta;                /* with a base: 1 (default) for bytes, 2 for a file */
    const void *base;         /* NULL (default), or as many bytes as the content */
    uint64_t base_size;
    znn_alloc_fn alloc;       /* NULL for malloc and free */
    znn_free_fn free;
    void *opaque;
} znn_zipnn_options;

ZNN_API void znn_zipnn_options_init(znn_zipnn_options *options);

/* The most bytes that znn_zipnn_compress can take; 0 if the options are
 * invalid. Saturates at UINT64_MAX. Options may be NULL, here and below. */
ZNN_API uint64_t znn_zipnn_bound(uint64_t size, const znn_zipnn_options *options);

/* Compress src into one stream at dst, or with a streaming chunk into streams
 * that follow one another. dst and src must not overlap; dst_capacity must be
 * znn_zipnn_bound() or more. On success *dst_size is what was written. */
ZNN_API znn_status znn_zipnn_compress(void *dst, uint64_t dst_capacity, uint64_t *dst_size, const void *src,
                                      uint64_t src_size, const znn_zipnn_options *options);

/* A reader of a whole file: streams that follow one another, or a safetensors
 * file that zipnn's script compressed (NAME.znn.safetensors), the content of
 * which is the safetensors file of the tensors as they were. That one is made
 * anew, in the order of the safetensors library: its tensors and its metadata
 * are those of the source, its header need not be byte for byte. */
typedef struct znn_zipnn_reader znn_zipnn_reader;

/* ZNN_ERROR_FORMAT if it is neither. src must stay valid while the reader
 * lives. Of the options, base, memory_limit (of a chunk read through a
 * function) and the allocator count. A delta's base is missed when reading. */
ZNN_API znn_status znn_zipnn_reader_open(znn_zipnn_reader **reader, const void *src, uint64_t src_size,
                                         const znn_options *options);
ZNN_API znn_status znn_zipnn_reader_open_fn(znn_zipnn_reader **reader, znn_read_fn read, void *opaque, uint64_t size,
                                            const znn_options *options);
ZNN_API void znn_zipnn_reader_free(znn_zipnn_reader *reader); /* NULL is allowed */

ZNN_API uint64_t znn_zipnn_reader_size(const znn_zipnn_reader *reader);

/* Content bytes [offset, offset + size) into dst. */
ZNN_API znn_status znn_zipnn_reader_read(znn_zipnn_reader *reader, void *dst, uint64_t offset, uint64_t size);

typedef struct {
    uint64_t parts;           /* streams, and what is stored between them */
    uint64_t content_size;
    uint64_t stored_size;
    uint64_t streaming_chunk; /* of the first stream, as below; 0 if it is not one of several */
    uint64_t chunk;
    int version[3];
    int input;                /* znn_zipnn_input */
    int method;               /* 0 auto, 1 huffman, 2 zstd, 3 lz4 */
    int delta;                /* 0 none, 1 against bytes, 2 against a file */
    int is_safetensors;
} znn_zipnn_info;

ZNN_API znn_status znn_zipnn_reader_info(znn_zipnn_reader *reader, znn_zipnn_info *info);

typedef struct {
    const char *name;         /* of a tensor; NULL otherwise. Valid while the reader lives */
    uint64_t content_offset;
    uint64_t content_size;
    uint64_t stored_offset;   /* in the file; 0 for a safetensors header, which is made anew */
    uint64_t stored_size;
    znn_dtype dtype;          /* of a stream, or of a stored tensor; ZNN_BYTES for others */
    int is_stream;            /* 0: stored as it was */
    const uint64_t *shape;    /* of a stream of torch's or numpy's; valid until the next call */
    unsigned dimensions;
} znn_zipnn_part;

/* Part `index` of znn_zipnn_info.parts, in the content's order. */
ZNN_API znn_status znn_zipnn_reader_part(znn_zipnn_reader *reader, uint64_t index, znn_zipnn_part *part);

#ifdef __cplusplus
}
#endif
#endif
