/* znn._core's functions for the format of the Python package zipnn. */
#include "core.h"

#define DIMENSIONS_MAX 255

/* A Python tuple of ints to shape; how many, or -1 with an exception set. */
static int read_shape(PyObject *tuple, uint64_t shape[DIMENSIONS_MAX])
{
    Py_ssize_t n = PyTuple_Size(tuple);
    if (n < 0)
        return -1;
    if (n > DIMENSIONS_MAX) {
        PyErr_SetString(PyExc_ValueError, "ZipNN's format holds 255 dimensions at most");
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        shape[i] = PyLong_AsUnsignedLongLong(PyTuple_GetItem(tuple, i));
        if (shape[i] == (uint64_t)-1 && PyErr_Occurred())
            return -1;
    }
    return (int)n;
}

/* The caller's base, or none for None; false with an exception set. */
static int open_base(PyObject *object, Py_buffer *base)
{
    memset(base, 0, sizeof *base);
    return object == Py_None || PyObject_GetBuffer(object, base, PyBUF_SIMPLE) == 0;
}

static void close_base(Py_buffer *base)
{
    if (base->obj)
        PyBuffer_Release(base);
}

/* bytes, or a bytearray for who wants to write there. */
static PyObject *new_buffer(uint64_t size, int writable, char **memory)
{
    if (size > PY_SSIZE_T_MAX - 4096)
        return PyErr_NoMemory();
    PyObject *buffer = writable ? PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)size)
                                : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (buffer)
        *memory = writable ? PyByteArray_AsString(buffer) : PyBytes_AsString(buffer);
    return buffer;
}

static void cut(PyObject **buffer, uint64_t size, int writable)
{
    if (!writable)
        core_resize(buffer, (Py_ssize_t)size);
    else if (PyByteArray_Resize(*buffer, (Py_ssize_t)size) != 0)
        Py_CLEAR(*buffer);
}

static PyObject *zipnn_compress(PyObject *module, PyObject *args)
{
    (void)module;
    znn_zipnn_options o;
    znn_zipnn_options_init(&o);
    int dtype, input, writable;
    unsigned long long chunk, streaming_chunk;
    PyObject *shape_tuple, *base_object;
    uint64_t shape[DIMENSIONS_MAX];
    Py_buffer src, base;
    if (!PyArg_ParseTuple(args, "y*iiO!iKKdiOp", &src, &dtype, &input, &PyTuple_Type, &shape_tuple, &o.method, &chunk,
                          &streaming_chunk, &o.threshold, &o.delta, &base_object, &writable))
        return NULL;
    int dimensions = read_shape(shape_tuple, shape);
    PyObject *result = NULL;
    if (dimensions < 0 || !open_base(base_object, &base)) {
        PyBuffer_Release(&src);
        return NULL;
    }
    o.dtype = (znn_dtype)dtype;
    o.input = (znn_zipnn_input)input;
    o.shape = shape;
    o.dimensions = (unsigned)dimensions;
    o.chunk = chunk;
    o.streaming_chunk = streaming_chunk;
    o.base = base.buf;
    o.base_size = (uint64_t)base.len;
    uint64_t capacity = znn_zipnn_bound((uint64_t)src.len, &o), size = 0;
    char *dst = NULL;
    result = capacity ? new_buffer(capacity, writable, &dst) : core_raise(ZNN_ERROR_ARGUMENT, NULL);
    if (result) {
        core_expect_writes(dst, (size_t)capacity);
        znn_status status;
        Py_BEGIN_ALLOW_THREADS status = znn_zipnn_compress(dst, capacity, &size, src.buf, (uint64_t)src.len, &o);
        Py_END_ALLOW_THREADS if (status == ZNN_OK)
        {
            cut(&result, size, writable);
        }
        else
        {
            Py_CLEAR(result);
            core_raise(status, NULL);
        }
    }
    close_base(&base);
    PyBuffer_Release(&src);
    return result;
}

/* Decompress into dst of that capacity; false with an exception set. */
static int decompress_to(char *dst, uint64_t capacity, uint64_t *size, const Py_buffer *src, const Py_buffer *base)
{
    znn_options options;
    znn_options_init(&options);
    options.base = base->buf;
    options.base_size = (uint64_t)base->len;
    core_expect_writes(dst, (size_t)capacity);
    znn_status status;
    Py_BEGIN_ALLOW_THREADS status =
        znn_zipnn_decompress(dst, capacity, size, src->buf, (uint64_t)src->len, &options);
    Py_END_ALLOW_THREADS if (status == ZNN_OK) return 1;
    core_raise(status, "ZipNN stream");
    return 0;
}

static PyObject *zipnn_decompress(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src, base;
    PyObject *base_object, *result = NULL;
    char *dst = NULL;
    int writable;
    if (!PyArg_ParseTuple(args, "y*Op", &src, &base_object, &writable))
        return NULL;
    if (!open_base(base_object, &base)) {
        PyBuffer_Release(&src);
        return NULL;
    }
    uint64_t size = 0;
    znn_status status = znn_zipnn_content_size(src.buf, (uint64_t)src.len, &size);
    if (status != ZNN_OK)
        core_raise(status, "ZipNN stream");
    else
        result = new_buffer(size, writable, &dst);
    if (result && !decompress_to(dst, size, &size, &src, &base))
        Py_CLEAR(result);
    close_base(&base);
    PyBuffer_Release(&src);
    return result;
}

static PyObject *zipnn_decompress_into(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src, dst, no_base = {0};
    if (!PyArg_ParseTuple(args, "y*w*", &src, &dst))
        return NULL;
    uint64_t size = 0;
    int ok = decompress_to(dst.buf, (uint64_t)dst.len, &size, &src, &no_base);
    PyBuffer_Release(&src);
    PyBuffer_Release(&dst);
    return ok ? PyLong_FromUnsignedLongLong(size) : NULL;
}

static PyObject *zipnn_content_size(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src;
    if (!PyArg_ParseTuple(args, "y*", &src))
        return NULL;
    uint64_t size = 0;
    znn_status status = znn_zipnn_content_size(src.buf, (uint64_t)src.len, &size);
    PyBuffer_Release(&src);
    return status == ZNN_OK ? PyLong_FromUnsignedLongLong(size) : core_raise(status, "ZipNN stream");
}

static PyObject *zipnn_is(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src;
    if (!PyArg_ParseTuple(args, "y*", &src))
        return NULL;
    int answer = znn_zipnn_is(src.buf, (uint64_t)src.len);
    PyBuffer_Release(&src);
    return PyBool_FromLong(answer);
}

/* The first stream's part as a tuple; NULL with an exception set. */
static PyObject *describe(znn_zipnn_reader *reader)
{
    znn_zipnn_info info;
    znn_zipnn_part part = {0};
    znn_status status = znn_zipnn_reader_info(reader, &info);
    if (status == ZNN_OK && info.parts)
        status = znn_zipnn_reader_part(reader, 0, &part);
    if (status != ZNN_OK)
        return core_raise(status, "ZipNN stream");
    PyObject *shape = PyTuple_New((Py_ssize_t)part.dimensions);
    for (unsigned d = 0; shape && d < part.dimensions; d++)
        if (PyTuple_SetItem(shape, (Py_ssize_t)d, PyLong_FromUnsignedLongLong(part.shape[d])) != 0)
            Py_CLEAR(shape);
    return shape ? Py_BuildValue("(isNiKKi)", info.input, znn_dtype_name(part.dtype), shape, info.delta,
                                 (unsigned long long)info.streaming_chunk, (unsigned long long)info.content_size,
                                 info.is_safetensors)
                 : NULL;
}

static PyObject *zipnn_info(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src;
    if (!PyArg_ParseTuple(args, "y*", &src))
        return NULL;
    znn_zipnn_reader *reader;
    znn_status status = znn_zipnn_reader_open(&reader, src.buf, (uint64_t)src.len, NULL);
    PyObject *info = status == ZNN_OK ? describe(reader) : core_raise(status, "ZipNN stream");
    znn_zipnn_reader_free(reader);
    PyBuffer_Release(&src);
    return info;
}

PyMethodDef core_zipnn_functions[] = {
    {"zipnn_compress", zipnn_compress, METH_VARARGS,
     "zipnn_compress(src, dtype, input, shape, method, chunk, streaming_chunk, threshold, delta, base, writable)"},
    {"zipnn_decompress", zipnn_decompress, METH_VARARGS, "zipnn_decompress(src, base, writable) -> bytes or bytearray"},
    {"zipnn_decompress_into", zipnn_decompress_into, METH_VARARGS, "zipnn_decompress_into(src, dst) -> bytes written"},
    {"zipnn_content_size", zipnn_content_size, METH_VARARGS, "zipnn_content_size(src) -> int"},
    {"zipnn_is", zipnn_is, METH_VARARGS, "zipnn_is(src) -> bool"},
    {"zipnn_info", zipnn_info, METH_VARARGS,
     "zipnn_info(src) -> (input, dtype, shape, delta, streaming_chunk, content_size, is_safetensors)"},
    {NULL, NULL, 0, NULL},
};
