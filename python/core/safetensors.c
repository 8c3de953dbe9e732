/* Safetensors: a .safetensors file in a buffer, a row of buffers, or a file. */
#include "core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD znn_safetensors *file;
    int fd; /* a duplicate; -1 if the source is memory */
    Py_ssize_t parts;
    Py_buffer *buffers;
    uint64_t *ends; /* of the parts, in the file */
} safetensors_object;

static PyObject *raise_reason(znn_status status, const znn_reason *reason)
{
    if (status == ZNN_ERROR_MEMORY)
        return PyErr_NoMemory();
    if (PyErr_Occurred())
        return NULL;
    /* Names may be cut within a character. */
    const char *text = reason->text[0] ? reason->text : znn_status_message(status);
    PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    if (message) {
        PyErr_SetObject(core_error, message);
        Py_DECREF(message);
    }
    return NULL;
}

/* ---- Sources ---- */

static int read_fd(void *opaque, uint64_t offset, void *dst, size_t size)
{
    const safetensors_object *self = opaque;
    while (size) {
        ssize_t n = pread(self->fd, dst, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        dst = (char *)dst + n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static int read_parts(void *opaque, uint64_t offset, void *dst, size_t size)
{
    const safetensors_object *self = opaque;
    Py_ssize_t low = 0, high = self->parts;
    while (low < high) { /* the first part that ends behind offset */
        const Py_ssize_t middle = low + (high - low) / 2;
        if (self->ends[middle] <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    for (; size && low < self->parts; low++) {
        const uint64_t begin = self->ends[low] - (uint64_t)self->buffers[low].len;
        const uint64_t rest = self->ends[low] - offset;
        const size_t n = rest < size ? (size_t)rest : size;
        if (n)
            memcpy(dst, (const char *)self->buffers[low].buf + (offset - begin), n);
        dst = (char *)dst + n;
        offset += n;
        size -= n;
    }
    return size ? -1 : 0;
}

static int take_buffers(safetensors_object *self, PyObject *sequence)
{
    const Py_ssize_t count = PySequence_Size(sequence);
    if (count < 0)
        return 0;
    self->buffers = calloc((size_t)count + 1, sizeof *self->buffers);
    self->ends = calloc((size_t)count + 1, sizeof *self->ends);
    if (!self->buffers || !self->ends) {
        PyErr_NoMemory();
        return 0;
    }
    uint64_t end = 0;
    for (; self->parts < count; self->parts++) {
        PyObject *part = PySequence_GetItem(sequence, self->parts);
        if (!part)
            return 0;
        const int failed = PyObject_GetBuffer(part, &self->buffers[self->parts], PyBUF_SIMPLE);
        Py_DECREF(part);
        if (failed)
            return 0;
        end += (uint64_t)self->buffers[self->parts].len;
        self->ends[self->parts] = end;
    }
    return 1;
}

static PyObject *object_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    PyObject *source;
    int level, threads, checksum;
    if (!PyArg_ParseTuple(args, "Oiii", &source, &level, &threads, &checksum))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    safetensors_object *self = (safetensors_object *)allocate(type, 0);
    if (!self)
        return NULL;
    self->fd = -1;
    znn_options options = core_options(ZNN_AUTO, level, threads, checksum);
    znn_reason reason = {""};
    znn_status status = ZNN_OK;
    struct stat info;
    if (PyLong_Check(source)) {
        self->fd = dup((int)PyLong_AsLong(source));
        if (self->fd < 0 || fstat(self->fd, &info) != 0) {
            PyErr_SetFromErrno(PyExc_OSError);
        } else {
            Py_BEGIN_ALLOW_THREADS status =
                znn_safetensors_open_fn(&self->file, read_fd, self, (uint64_t)info.st_size, &options, &reason);
            Py_END_ALLOW_THREADS
        }
    } else if (take_buffers(self, source)) {
        const uint64_t size = self->parts ? self->ends[self->parts - 1] : 0;
        Py_BEGIN_ALLOW_THREADS if (self->parts == 1) status =
            znn_safetensors_open(&self->file, self->buffers[0].buf, size, &options, &reason);
        else status = znn_safetensors_open_fn(&self->file, read_parts, self, size, &options, &reason);
        Py_END_ALLOW_THREADS
    }
    if (PyErr_Occurred() || status != ZNN_OK) {
        if (status != ZNN_OK)
            raise_reason(status, &reason);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void object_dealloc(PyObject *object)
{
    safetensors_object *self = (safetensors_object *)object;
    znn_safetensors_free(self->file);
    for (Py_ssize_t i = 0; i < self->parts; i++)
        PyBuffer_Release(&self->buffers[i]);
    free(self->buffers);
    free(self->ends);
    if (self->fd >= 0)
        close(self->fd);
    core_free_object(object);
}

/* ---- Asking and reading ---- */

static PyObject *is_compressed(PyObject *object, PyObject *args)
{
    (void)args;
    return PyBool_FromLong(znn_safetensors_is_compressed(((safetensors_object *)object)->file));
}

static PyObject *header(PyObject *object, PyObject *args)
{
    (void)args;
    uint64_t size;
    const char *text = znn_safetensors_header(((safetensors_object *)object)->file, &size);
    return PyBytes_FromStringAndSize(text, (Py_ssize_t)size);
}

static PyObject *describe(const znn_safetensors_tensor *t)
{
    PyObject *shape = PyTuple_New((Py_ssize_t)t->rank);
    for (size_t i = 0; shape && i < t->rank; i++) {
        PyObject *n = PyLong_FromUnsignedLongLong(t->shape[i]);
        if (!n || PyTuple_SetItem(shape, (Py_ssize_t)i, n) != 0)
            Py_CLEAR(shape);
    }
    return shape ? Py_BuildValue("(ssNKKKK)", t->name, t->dtype, shape, (unsigned long long)t->size,
                                 (unsigned long long)t->stored_offset, (unsigned long long)t->stored_size,
                                 (unsigned long long)t->order)
                 : NULL;
}

static PyObject *tensors(PyObject *object, PyObject *args)
{
    (void)args;
    const znn_safetensors *file = ((safetensors_object *)object)->file;
    const uint64_t count = znn_safetensors_count(file);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (uint64_t i = 0; list && i < count; i++) {
        znn_safetensors_tensor tensor;
        znn_safetensors_tensor_info(file, i, &tensor);
        PyObject *item = describe(&tensor);
        if (!item || PyList_SetItem(list, (Py_ssize_t)i, item) != 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *read_into(PyObject *object, PyObject *args)
{
    safetensors_object *self = (safetensors_object *)object;
    unsigned long long index, offset;
    Py_buffer dst;
    if (!PyArg_ParseTuple(args, "Kw*K", &index, &dst, &offset))
        return NULL;
    znn_reason reason;
    znn_status status;
    core_expect_writes(dst.buf, (size_t)dst.len);
    Py_BEGIN_ALLOW_THREADS status =
        znn_safetensors_read(self->file, index, dst.buf, offset, (uint64_t)dst.len, &reason);
    Py_END_ALLOW_THREADS PyBuffer_Release(&dst);
    if (status != ZNN_OK)
        return raise_reason(status, &reason);
    Py_RETURN_NONE;
}

/* Before memory is taken for the tensor: its frame says how much that is. */
static PyObject *check(PyObject *object, PyObject *args)
{
    safetensors_object *self = (safetensors_object *)object;
    unsigned long long index;
    if (!PyArg_ParseTuple(args, "K", &index))
        return NULL;
    znn_reason reason;
    char nothing;
    const znn_status status = znn_safetensors_read(self->file, index, &nothing, 0, 0, &reason);
    if (status != ZNN_OK)
        return raise_reason(status, &reason);
    Py_RETURN_NONE;
}

/* ---- Writing ---- */

typedef struct {
    const znn_safetensors *file;
    int fd; /* -1: to memory */
    char *memory;
    uint64_t room;
    PyObject *progress; /* or None */
} sink;

static int write_memory(sink *s, uint64_t offset, const void *src, size_t size)
{
    const uint64_t end = offset + size;
    if (end > s->room) {
        const uint64_t room = end > 2 * s->room ? end : 2 * s->room;
        char *larger = room <= PY_SSIZE_T_MAX ? realloc(s->memory, (size_t)room) : NULL;
        if (!larger)
            return ENOMEM;
        s->memory = larger;
        s->room = room;
        core_expect_writes(larger, (size_t)room);
    }
    memcpy(s->memory + offset, src, size);
    return 0;
}

static int write_fd(const sink *s, uint64_t offset, const void *src, size_t size)
{
    while (size) {
        ssize_t n = pwrite(s->fd, src, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        src = (const char *)src + n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

/* Called without the GIL; leaves an exception where it fails. */
static int write_sink(void *opaque, uint64_t offset, const void *src, size_t size)
{
    sink *s = opaque;
    const int error = s->fd < 0 ? write_memory(s, offset, src, size) : write_fd(s, offset, src, size);
    PyGILState_STATE gil = PyGILState_Ensure();
    if (error) {
        errno = error;
        if (error == ENOMEM)
            PyErr_NoMemory();
        else
            PyErr_SetFromErrno(PyExc_OSError);
    } else if (PyErr_CheckSignals() == 0 && s->progress != Py_None) {
        PyObject *answer = PyObject_CallFunction(s->progress, "K", (unsigned long long)znn_safetensors_done(s->file));
        Py_XDECREF(answer);
    }
    const int failed = PyErr_Occurred() != NULL;
    PyGILState_Release(gil);
    return failed;
}

static PyObject *transform(PyObject *object, PyObject *args,
                           znn_status (*run)(znn_safetensors *, znn_write_fn, void *, uint64_t *, znn_reason *))
{
    safetensors_object *self = (safetensors_object *)object;
    int fd;
    PyObject *progress;
    if (!PyArg_ParseTuple(args, "iO", &fd, &progress))
        return NULL;
    sink s = {.file = self->file, .fd = fd, .progress = progress};
    uint64_t written = 0;
    znn_reason reason = {""};
    znn_status status;
    Py_BEGIN_ALLOW_THREADS status = run(self->file, write_sink, &s, &written, &reason);
    Py_END_ALLOW_THREADS PyObject *result = NULL;
    if (status != ZNN_OK)
        raise_reason(status, &reason);
    else if (fd >= 0 && ftruncate(fd, (off_t)written) != 0)
        PyErr_SetFromErrno(PyExc_OSError);
    else
        result =
            fd < 0 ? PyBytes_FromStringAndSize(s.memory, (Py_ssize_t)written) : PyLong_FromUnsignedLongLong(written);
    free(s.memory);
    return result;
}

static PyObject *compress(PyObject *object, PyObject *args)
{
    return transform(object, args, znn_safetensors_compress);
}

static PyObject *decompress(PyObject *object, PyObject *args)
{
    return transform(object, args, znn_safetensors_decompress);
}

PyObject *core_safetensors_type(void)
{
    static PyMethodDef methods[] = {
        {"is_compressed", is_compressed, METH_NOARGS, "is_compressed() -> bool"},
        {"header", header, METH_NOARGS, "header() -> the plain file's header, bytes of JSON"},
        {"tensors", tensors, METH_NOARGS,
         "tensors() -> [(name, dtype, shape, size, stored offset, stored size, place in the header)] by their data"},
        {"read_into", read_into, METH_VARARGS, "read_into(index, dst, offset): fill dst with the tensor's content"},
        {"check", check, METH_VARARGS, "check(index): raise if the tensor's frame does not fit its dtype and shape"},
        {"compress", compress, METH_VARARGS,
         "compress(fd, progress or None) -> bytes written; with fd -1, the bytes. One call at a time"},
        {"decompress", decompress, METH_VARARGS, "decompress(fd, progress or None): the inverse"},
        {NULL, NULL, 0, NULL}};
    static PyType_Slot slots[] = {
        {Py_tp_new, (void *)object_new},
        {Py_tp_dealloc, (void *)object_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_doc, "Safetensors(sequence of buffers or file descriptor, level, threads, checksum)"},
        {0, NULL}};
    static PyType_Spec spec = {"znn._core.Safetensors", sizeof(safetensors_object), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromSpec(&spec);
}
