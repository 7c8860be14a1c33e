/* The hand-written extension module that hotcall is compared with: every function once releasing the GIL around the
 * foreign call, as CDLL does, and once, under the name held_*, holding it, as PyDLL does. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <limits.h>

#include "functions.h"

static _Thread_local int kept_errno;

static inline bool has_count(const char *function, Py_ssize_t count, Py_ssize_t expected)
{
    if (count == expected)
        return true;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", function, expected, count);
    return false;
}

static inline bool to_int(PyObject *object, int *value)
{
    long number = PyLong_AsLong(object);
    if (number == -1 && PyErr_Occurred())
        return false;
    if (number < INT_MIN || number > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the number does not fit a C int");
        return false;
    }
    *value = (int)number;
    return true;
}

static inline bool to_double(PyObject *object, double *value)
{
    *value = PyFloat_AsDouble(object);
    return !(*value == -1.0 && PyErr_Occurred());
}

#define NAME(function) released_##function
#define BEGIN Py_BEGIN_ALLOW_THREADS
#define END Py_END_ALLOW_THREADS
#include "wrappers.h"
#undef NAME
#undef BEGIN
#undef END

#define NAME(function) held_##function
#define BEGIN
#define END
#include "wrappers.h"

static PyObject *saved_errno(PyObject *module, PyObject *unused)
{
    return PyLong_FromLong(kept_errno);
}

#define METHOD(function, flags)                                                                                        \
    {#function, (PyCFunction)(void (*)(void))released_##function, flags, NULL},                                        \
        {"held_" #function, (PyCFunction)(void (*)(void))held_##function, flags, NULL}

static PyMethodDef methods[] = {
    METHOD(answer, METH_NOARGS),
    METHOD(add, METH_FASTCALL),
    METHOD(negate, METH_O),
    METHOD(large, METH_O),
    METHOD(half, METH_O),
    METHOD(scale, METH_FASTCALL),
    METHOD(length, METH_O),
    METHOD(name, METH_O),
    METHOD(is_even, METH_O),
    METHOD(is_null, METH_O),
    METHOD(nothing, METH_O),
    METHOD(six, METH_FASTCALL),
    METHOD(ten, METH_FASTCALL),
    METHOD(fail, METH_O),
    {"saved_errno", saved_errno, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ext",
    .m_doc = "The functions of functions.h, wrapped by hand.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&module);
}
