/* Encoder and Decoder: bytes in, bytes out. What Python's classes promise
 * beyond that (eof, unused_data and so on) is theirs, in znn/_streams.py. */
#include "core.h"

#define LEAST_OUTPUT 65536

typedef struct {
    PyObject_HEAD PyThread_type_lock lock;
    znn_encoder *encoder;
} encoder_object;

typedef struct {
    PyObject_HEAD PyThread_type_lock lock;
    znn_decoder *decoder;
} decoder_object;

/* Room for what is to be made: at least twice what there was. */
static int grow(PyObject **bytes, znn_out_buffer *out, size_t most)
{
    size_t size = out->size > most / 2 ? most : 2 * out->size;
    if (size <= out->size) {
        Py_CLEAR(*bytes);
        PyErr_NoMemory();
        return 0;
    }
    if (!core_resize(bytes, (Py_ssize_t)size))
        return 0;
    out->dst = PyBytes_AsString(*bytes);
    out->size = size;
    return 1;
}

static PyObject *encoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    int dtype, level, threads, checksum;
    PyObject *size;
    if (!PyArg_ParseTuple(args, "iiiiO", &dtype, &level, &threads, &checksum, &size))
        return NULL;
    znn_options options = core_options(dtype, level, threads, checksum);
    if (size != Py_None) {
        options.content_size = PyLong_AsUnsignedLongLong(size);
        if (PyErr_Occurred())
            return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    encoder_object *self = (encoder_object *)allocate(type, 0);
    if (!self)
        return NULL;
    self->lock = PyThread_allocate_lock();
    znn_status status = self->lock ? znn_encoder_new(&self->encoder, &options) : ZNN_ERROR_MEMORY;
    if (status != ZNN_OK) {
        Py_DECREF(self);
        return core_raise(status, NULL);
    }
    return (PyObject *)self;
}

static void encoder_dealloc(PyObject *object)
{
    encoder_object *self = (encoder_object *)object;
    znn_encoder_free(self->encoder);
    if (self->lock)
        PyThread_free_lock(self->lock);
    core_free_object(object);
}

/* Take all of src and return what is ready; after FLUSH or END, all there is. */
static PyObject *encoder_run(PyObject *object, PyObject *args)
{
    encoder_object *self = (encoder_object *)object;
    Py_buffer src;
    int directive;
    if (!PyArg_ParseTuple(args, "y*i", &src, &directive))
        return NULL;
    znn_in_buffer in = {src.buf, (size_t)src.len, 0};
    znn_out_buffer out = {NULL, LEAST_OUTPUT + (size_t)src.len, 0};
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)out.size);
    znn_status status = ZNN_OK;
    core_lock(self->lock);
    if (bytes)
        out.dst = PyBytes_AsString(bytes);
    while (bytes) {
        size_t pending;
        Py_BEGIN_ALLOW_THREADS status = znn_encoder_run(self->encoder, &out, &in, (znn_directive)directive, &pending);
        Py_END_ALLOW_THREADS if (status != ZNN_OK || (in.pos == in.size && out.pos < out.size &&
                                                      (directive == ZNN_CONTINUE || !pending))) break;
        if (out.pos == out.size)
            grow(&bytes, &out, PY_SSIZE_T_MAX - 4096);
    }
    PyThread_release_lock(self->lock);
    PyBuffer_Release(&src);
    if (bytes && status != ZNN_OK) {
        Py_CLEAR(bytes);
        core_raise(status, NULL);
    } else if (bytes) {
        core_resize(&bytes, (Py_ssize_t)out.pos);
    }
    return bytes;
}

static PyObject *decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    int threads, checksum;
    if (!PyArg_ParseTuple(args, "ii", &threads, &checksum))
        return NULL;
    znn_options options = core_options(ZNN_AUTO, ZNN_LEVEL_DEFAULT, threads, checksum);
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    decoder_object *self = (decoder_object *)allocate(type, 0);
    if (!self)
        return NULL;
    self->lock = PyThread_allocate_lock();
    znn_status status = self->lock ? znn_decoder_new(&self->decoder, &options) : ZNN_ERROR_MEMORY;
    if (status != ZNN_OK) {
        Py_DECREF(self);
        return core_raise(status, NULL);
    }
    return (PyObject *)self;
}

static void decoder_dealloc(PyObject *object)
{
    decoder_object *self = (decoder_object *)object;
    znn_decoder_free(self->decoder);
    if (self->lock)
        PyThread_free_lock(self->lock);
    core_free_object(object);
}

/* (content, bytes of src consumed, whether a frame ended). At most `most` bytes
 * of content; -1 for all that src gives. Stops behind a frame's end. */
static PyObject *decoder_run(PyObject *object, PyObject *args)
{
    decoder_object *self = (decoder_object *)object;
    Py_buffer src;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "y*n", &src, &most))
        return NULL;
    const size_t limit = most < 0 ? PY_SSIZE_T_MAX - 4096 : (size_t)most;
    znn_in_buffer in = {src.buf, (size_t)src.len, 0};
    size_t first = LEAST_OUTPUT + 2 * (size_t)src.len;
    znn_out_buffer out = {NULL, first < limit ? first : limit, 0};
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)out.size);
    znn_status status = ZNN_OK;
    int ended = 0;
    core_lock(self->lock);
    if (bytes)
        out.dst = PyBytes_AsString(bytes);
    while (bytes) {
        Py_BEGIN_ALLOW_THREADS status = znn_decoder_run(self->decoder, &out, &in, &ended);
        Py_END_ALLOW_THREADS if (status != ZNN_OK || ended || out.pos < out.size || out.size == limit) break;
        grow(&bytes, &out, limit);
    }
    uint64_t input_offset = 0, content_offset = 0;
    if (status != ZNN_OK)
        znn_decoder_position(self->decoder, &input_offset, &content_offset);
    PyThread_release_lock(self->lock);
    PyBuffer_Release(&src);
    if (bytes && status != ZNN_OK) {
        Py_CLEAR(bytes);
        if (status == ZNN_ERROR_MEMORY)
            return PyErr_NoMemory();
        return PyErr_Format(core_error, "%s (at byte %llu of the input, byte %llu of the content)",
                            znn_status_message(status), (unsigned long long)input_offset,
                            (unsigned long long)content_offset);
    }
    if (bytes)
        core_resize(&bytes, (Py_ssize_t)out.pos);
    return bytes ? Py_BuildValue("(NnN)", bytes, (Py_ssize_t)in.pos, PyBool_FromLong(ended)) : NULL;
}

PyObject *core_encoder_type(void)
{
    static PyMethodDef methods[] = {
        {"run", encoder_run, METH_VARARGS, "run(src, directive) -> bytes; 0 continue, 1 flush, 2 end"},
        {NULL, NULL, 0, NULL}};
    static PyType_Slot slots[] = {{Py_tp_new, (void *)encoder_new},
                                  {Py_tp_dealloc, (void *)encoder_dealloc},
                                  {Py_tp_methods, methods},
                                  {Py_tp_doc, "Encoder(dtype, level, threads, checksum, content_size or None)"},
                                  {0, NULL}};
    static PyType_Spec spec = {"znn._core.Encoder", sizeof(encoder_object), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromSpec(&spec);
}

PyObject *core_decoder_type(void)
{
    static PyMethodDef methods[] = {
        {"run", decoder_run, METH_VARARGS, "run(src, most) -> (content, consumed, frame ended)"},
        {NULL, NULL, 0, NULL}};
    static PyType_Slot slots[] = {{Py_tp_new, (void *)decoder_new},
                                  {Py_tp_dealloc, (void *)decoder_dealloc},
                                  {Py_tp_methods, methods},
                                  {Py_tp_doc, "Decoder(threads, checksum)"},
                                  {0, NULL}};
    static PyType_Spec spec = {"znn._core.Decoder", sizeof(decoder_object), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromSpec(&spec);
}
