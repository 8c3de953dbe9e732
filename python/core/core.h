/* What the parts of znn._core share. Only the stable ABI of Python 3.11 is used. */
#ifndef ZNN_PYTHON_CORE_H
#define ZNN_PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h> /* not in Python.h with the stable ABI */

#include <znn.h>

extern PyObject *core_error; /* znn.ZnnError */

/* Raise what fits the status: MemoryError, ValueError or ZnnError. `what` (may
 * be NULL) says what the message is about. Returns NULL. */
PyObject *core_raise(znn_status status, const char *what);

/* Options from Python's arguments, checked there. */
znn_options core_options(int dtype, int level, int threads, int checksum);

/* Ask for large pages under memory that is about to be filled: first touches
 * then take a third of the time, which is more than decoding takes. */
void core_expect_writes(void *address, size_t size);

/* Let *bytes, which nobody else has seen, be of another size. True, or false
 * with an exception set and *bytes NULL. */
int core_resize(PyObject **bytes, Py_ssize_t size);

/* A lock that lets go of the GIL while it waits, for objects whose C side
 * belongs to one thread at a time. */
void core_lock(PyThread_type_lock lock);

/* Types of the module; NULL with an exception set. */
PyObject *core_encoder_type(void);
PyObject *core_decoder_type(void);
PyObject *core_reader_type(void);
PyObject *core_safetensors_type(void);

/* Functions of the module. */
extern PyMethodDef core_zipnn_functions[];

/* The object's memory and its type, at the end of every tp_dealloc. */
void core_free_object(PyObject *object);

#endif
