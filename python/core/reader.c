/* Reader: any byte range of the frames in a buffer. */
#include "core.h"

typedef struct {
    PyObject_HEAD PyThread_type_lock lock;
    Py_buffer src;
    znn_reader *reader;
} reader_object;

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    PyObject *source;
    int threads, checksum;
    if (!PyArg_ParseTuple(args, "Oii", &source, &threads, &checksum))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    reader_object *self = (reader_object *)allocate(type, 0);
    if (!self)
        return NULL;
    self->lock = PyThread_allocate_lock();
    if (!self->lock || PyObject_GetBuffer(source, &self->src, PyBUF_SIMPLE) != 0) {
        if (!self->lock)
            PyErr_NoMemory();
        Py_DECREF(self);
        return NULL;
    }
    znn_options options = core_options(ZNN_AUTO, ZNN_LEVEL_DEFAULT, threads, checksum);
    znn_status status = znn_reader_open(&self->reader, self->src.buf, (uint64_t)self->src.len, &options);
    if (status != ZNN_OK) {
        Py_DECREF(self);
        return core_raise(status, NULL);
    }
    return (PyObject *)self;
}

static PyObject *reader_close(PyObject *object, PyObject *args)
{
    (void)args;
    reader_object *self = (reader_object *)object;
    core_lock(self->lock);
    znn_reader_free(self->reader);
    self->reader = NULL;
    if (self->src.obj)
        PyBuffer_Release(&self->src);
    PyThread_release_lock(self->lock);
    Py_RETURN_NONE;
}

static void reader_dealloc(PyObject *object)
{
    reader_object *self = (reader_object *)object;
    znn_reader_free(self->reader);
    if (self->src.obj)
        PyBuffer_Release(&self->src);
    if (self->lock)
        PyThread_free_lock(self->lock);
    core_free_object(object);
}

static PyObject *reader_size(PyObject *object, PyObject *args)
{
    (void)args;
    reader_object *self = (reader_object *)object;
    if (!self->reader)
        return PyErr_Format(PyExc_ValueError, "the reader is closed");
    return PyLong_FromUnsignedLongLong(znn_reader_size(self->reader));
}

static PyObject *reader_read_into(PyObject *object, PyObject *args)
{
    reader_object *self = (reader_object *)object;
    Py_buffer dst;
    unsigned long long offset;
    if (!PyArg_ParseTuple(args, "w*K", &dst, &offset))
        return NULL;
    core_lock(self->lock);
    const int open = self->reader != NULL;
    znn_status status = ZNN_OK;
    if (open) {
        core_expect_writes(dst.buf, (size_t)dst.len);
        Py_BEGIN_ALLOW_THREADS status = znn_reader_read(self->reader, dst.buf, offset, (uint64_t)dst.len);
        Py_END_ALLOW_THREADS
    }
    PyThread_release_lock(self->lock);
    PyBuffer_Release(&dst);
    if (!open)
        return PyErr_Format(PyExc_ValueError, "the reader is closed");
    if (status != ZNN_OK)
        return core_raise(status, NULL);
    Py_RETURN_NONE;
}

PyObject *core_reader_type(void)
{
    static PyMethodDef methods[] = {{"read_into", reader_read_into, METH_VARARGS,
                                     "read_into(dst, offset): fill dst with the content from offset on"},
                                    {"size", reader_size, METH_NOARGS, "size() -> the content's bytes"},
                                    {"close", reader_close, METH_NOARGS, "close(): let go of the source"},
                                    {NULL, NULL, 0, NULL}};
    static PyType_Slot slots[] = {{Py_tp_new, (void *)reader_new},
                                  {Py_tp_dealloc, (void *)reader_dealloc},
                                  {Py_tp_methods, methods},
                                  {Py_tp_doc, "Reader(src, threads, checksum)"},
                                  {0, NULL}};
    static PyType_Spec spec = {"znn._core.Reader", sizeof(reader_object), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromSpec(&spec);
}
