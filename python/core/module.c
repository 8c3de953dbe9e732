/* znn._core: the functions of one shot. The package's Python modules check
 * arguments and choose defaults; here buffers meet the library. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "core.h"

#include <dlfcn.h>
#include <sys/mman.h>

#define LARGE ((size_t)4 << 20)

PyObject *core_error;

PyObject *core_raise(znn_status status, const char *what)
{
    PyObject *type = core_error;
    if (status == ZNN_ERROR_MEMORY)
        return PyErr_NoMemory();
    if (status == ZNN_ERROR_ARGUMENT)
        type = PyExc_ValueError;
    /* An error of the caller's own read or write function is the better message. */
    if (status == ZNN_ERROR_IO && PyErr_Occurred())
        return NULL;
    return PyErr_Format(type, "%s%s%s", what ? what : "", what ? ": " : "", znn_status_message(status));
}

znn_options core_options(int dtype, int level, int threads, int checksum)
{
    znn_options options;
    znn_options_init(&options);
    options.dtype = (znn_dtype)dtype;
    options.level = level;
    options.threads = threads;
    options.checksum = checksum;
    return options;
}

void core_lock(PyThread_type_lock lock)
{
    if (PyThread_acquire_lock(lock, NOWAIT_LOCK))
        return;
    Py_BEGIN_ALLOW_THREADS PyThread_acquire_lock(lock, WAIT_LOCK);
    Py_END_ALLOW_THREADS
}

void core_expect_writes(void *address, size_t size)
{
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 4096, begin = ((uintptr_t)address + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)address + size) & ~(page - 1);
    if (size >= LARGE)
        madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* a hint: failing does not matter */
#else
    (void)address;
    (void)size;
#endif
}

/* CPython's own function for it is documented, but no part of the stable ABI:
 * it is used if there, and saves a copy. */
int core_resize(PyObject **bytes, Py_ssize_t size)
{
    typedef int (*resize_fn)(PyObject **, Py_ssize_t);
    static resize_fn resize;
    static int looked;
    if (!looked) {
        *(void **)&resize = dlsym(RTLD_DEFAULT, "_PyBytes_Resize");
        looked = 1;
    }
    if (resize)
        return resize(bytes, size) == 0;
    PyObject *other = PyBytes_FromStringAndSize(NULL, size);
    if (other) {
        const Py_ssize_t had = PyBytes_Size(*bytes);
        memcpy(PyBytes_AsString(other), PyBytes_AsString(*bytes), (size_t)(had < size ? had : size));
    }
    Py_DECREF(*bytes);
    *bytes = other;
    return other != NULL;
}

void core_free_object(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyObject *compress(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src;
    int dtype, level, threads, checksum;
    if (!PyArg_ParseTuple(args, "y*iiii", &src, &dtype, &level, &threads, &checksum))
        return NULL;
    znn_options options = core_options(dtype, level, threads, checksum);
    uint64_t capacity = znn_compress_bound((uint64_t)src.len), size = 0;
    PyObject *frame =
        capacity <= PY_SSIZE_T_MAX ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)capacity) : PyErr_NoMemory();
    if (frame) {
        char *dst = PyBytes_AsString(frame);
        core_expect_writes(dst, (size_t)capacity);
        znn_status status;
        Py_BEGIN_ALLOW_THREADS status = znn_compress(dst, capacity, &size, src.buf, (uint64_t)src.len, &options);
        Py_END_ALLOW_THREADS if (status != ZNN_OK)
        {
            Py_CLEAR(frame);
            core_raise(status, NULL);
        }
        else
        {
            core_resize(&frame, (Py_ssize_t)size);
        }
    }
    PyBuffer_Release(&src);
    return frame;
}

/* Decompress into dst of that capacity; false with an exception set. */
static int decompress_to(char *dst, uint64_t capacity, uint64_t *size, const Py_buffer *src, int threads, int checksum)
{
    znn_options options = core_options(ZNN_AUTO, ZNN_LEVEL_DEFAULT, threads, checksum);
    znn_status status;
    core_expect_writes(dst, (size_t)capacity);
    Py_BEGIN_ALLOW_THREADS status = znn_decompress(dst, capacity, size, src->buf, (uint64_t)src->len, &options);
    Py_END_ALLOW_THREADS if (status == ZNN_OK) return 1;
    core_raise(status, NULL);
    return 0;
}

static PyObject *decompress(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src;
    int threads, checksum;
    if (!PyArg_ParseTuple(args, "y*ii", &src, &threads, &checksum))
        return NULL;
    PyObject *content = NULL;
    uint64_t size = 0;
    znn_status status = znn_content_size(src.buf, (uint64_t)src.len, &size);
    if (status != ZNN_OK)
        core_raise(status, NULL);
    else if (size > PY_SSIZE_T_MAX - 4096)
        PyErr_NoMemory();
    else
        content = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (content && !decompress_to(PyBytes_AsString(content), size, &size, &src, threads, checksum))
        Py_CLEAR(content);
    PyBuffer_Release(&src);
    return content;
}

static PyObject *decompress_into(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src, dst;
    int threads, checksum;
    if (!PyArg_ParseTuple(args, "y*w*ii", &src, &dst, &threads, &checksum))
        return NULL;
    uint64_t size = 0;
    int ok = decompress_to(dst.buf, (uint64_t)dst.len, &size, &src, threads, checksum);
    PyBuffer_Release(&src);
    PyBuffer_Release(&dst);
    return ok ? PyLong_FromUnsignedLongLong(size) : NULL;
}

static PyObject *content_size(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src;
    if (!PyArg_ParseTuple(args, "y*", &src))
        return NULL;
    uint64_t size = 0;
    znn_status status = znn_content_size(src.buf, (uint64_t)src.len, &size);
    PyBuffer_Release(&src);
    return status == ZNN_OK ? PyLong_FromUnsignedLongLong(size) : core_raise(status, NULL);
}

static PyObject *is_frame(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer src;
    if (!PyArg_ParseTuple(args, "y*", &src))
        return NULL;
    int answer = znn_is_frame(src.buf, (uint64_t)src.len);
    PyBuffer_Release(&src);
    return PyBool_FromLong(answer);
}

static PyObject *dtype_from_name(PyObject *module, PyObject *args)
{
    (void)module;
    const char *name;
    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;
    return PyLong_FromLong(znn_dtype_from_name(name));
}

static PyObject *isa(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
    return PyUnicode_FromString(znn_isa());
}

static PyMethodDef functions[] = {
    {"compress", compress, METH_VARARGS, "compress(src, dtype, level, threads, checksum) -> bytes"},
    {"decompress", decompress, METH_VARARGS, "decompress(src, threads, checksum) -> bytes"},
    {"decompress_into", decompress_into, METH_VARARGS, "decompress_into(src, dst, threads, checksum) -> bytes written"},
    {"content_size", content_size, METH_VARARGS, "content_size(src) -> int"},
    {"is_frame", is_frame, METH_VARARGS, "is_frame(src) -> bool"},
    {"dtype_from_name", dtype_from_name, METH_VARARGS, "dtype_from_name(name) -> int, -1 if unknown"},
    {"isa", isa, METH_NOARGS, "isa() -> the instruction set in use"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "znn._core", .m_size = -1, .m_methods = functions};

static int add(PyObject *module, const char *name, PyObject *value)
{
    int failed = !value || PyModule_AddObjectRef(module, name, value) != 0;
    Py_XDECREF(value);
    return !failed;
}

PyMODINIT_FUNC PyInit__core(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    if (!core_error)
        core_error = PyErr_NewExceptionWithDoc(
            "znn.ZnnError", "The data is no znn frame, is damaged or cut, or does not fit its destination.", NULL,
            NULL);
    if (core_error && PyModule_AddObjectRef(module, "ZnnError", core_error) == 0 &&
        add(module, "Encoder", core_encoder_type()) && add(module, "Decoder", core_decoder_type()) &&
        add(module, "Reader", core_reader_type()) && add(module, "Safetensors", core_safetensors_type()) &&
        PyModule_AddFunctions(module, core_zipnn_functions) == 0 &&
        PyModule_AddStringConstant(module, "version", znn_version()) == 0)
        return module;
    Py_DECREF(module);
    return NULL;
}
