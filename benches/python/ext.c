/* The hand-written extension module that hotcall is compared with: every function once releasing the GIL around the
 * foreign call, as CDLL does, and once, under the name held_*, holding it, as PyDLL does. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

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

/* A point, as an object of its own. */
typedef struct {
    PyObject_HEAD
    point value;
} Point;

static PyMemberDef point_members[] = {
    {"x", T_DOUBLE, offsetof(Point, value.x), 0, NULL},
    {"y", T_DOUBLE, offsetof(Point, value.y), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int point_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "y", NULL};
    point *value = &((Point *)self)->value;
    return PyArg_ParseTupleAndKeywords(args, kwargs, "dd", names, &value->x, &value->y) ? 0 : -1;
}

static PyTypeObject point_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "ext.Point",
    .tp_basicsize = sizeof(Point),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_members = point_members,
    .tp_init = point_init,
    .tp_new = PyType_GenericNew,
};

static inline bool is_point(PyObject *object)
{
    if (Py_IS_TYPE(object, &point_type))
        return true;
    PyErr_SetString(PyExc_TypeError, "expected a Point");
    return false;
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

/* What C calls back, by the name of the function that it is given to: all of it holds the GIL throughout. */
static _Thread_local PyObject *callable;

static int to_result(PyObject *result)
{
    int number = 0;
    if (result == NULL || !to_int(result, &number))
        PyErr_WriteUnraisable(callable);
    Py_XDECREF(result);
    return number;
}

static int call_counter(int number)
{
    PyObject *args[2] = {NULL, PyLong_FromLong(number)};
    if (args[1] == NULL)
        return to_result(NULL);
    PyObject *result = PyObject_Vectorcall(callable, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(args[1]);
    return to_result(result);
}

static int call_order(long a, long b)
{
    PyObject *args[3] = {NULL, PyLong_FromLong(a), PyLong_FromLong(b)};
    PyObject *result = NULL;
    if (args[1] != NULL && args[2] != NULL)
        result = PyObject_Vectorcall(callable, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(args[1]);
    Py_XDECREF(args[2]);
    return to_result(result);
}

/* count(callable, times) */
static PyObject *held_count(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    int times;
    if (!has_count("held_count", nargs, 2) || !to_int(args[1], &times))
        return NULL;
    callable = args[0];
    return PyLong_FromLong(count(call_counter, times));
}

/* sort(callable, address, size) */
static PyObject *held_sort(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    int size;
    if (!has_count("held_sort", nargs, 3) || !to_int(args[2], &size))
        return NULL;
    long *numbers = PyLong_AsVoidPtr(args[1]);
    if (numbers == NULL && PyErr_Occurred())
        return NULL;
    callable = args[0];
    sort(numbers, (size_t)size, call_order);
    Py_RETURN_NONE;
}

/* half_all(doubles, results): what a loop over a whole array is worth writing in C for. */
static PyObject *half_all(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer from, to;
    if (!has_count("half_all", nargs, 2) || PyObject_GetBuffer(args[0], &from, PyBUF_CONTIG_RO) < 0)
        return NULL;
    if (PyObject_GetBuffer(args[1], &to, PyBUF_CONTIG) < 0) {
        PyBuffer_Release(&from);
        return NULL;
    }
    if (from.len == to.len && from.itemsize == sizeof(double)) {
        const double *doubles = from.buf;
        double *results = to.buf;
        Py_ssize_t count = from.len / (Py_ssize_t)sizeof(double);
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t index = 0; index < count; index++)
            results[index] = half(doubles[index]);
        Py_END_ALLOW_THREADS
    } else
        PyErr_SetString(PyExc_ValueError, "expected two arrays of as many doubles");
    PyBuffer_Release(&from);
    PyBuffer_Release(&to);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *saved_errno(PyObject *module, PyObject *unused)
{
    return PyLong_FromLong(kept_errno);
}

/* Built-in functions that do nothing: what they take is CPython's own part of a call. */
static PyObject *empty(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Py_RETURN_NONE;
}

static PyObject *empty_of_one(PyObject *module, PyObject *arg)
{
    Py_RETURN_NONE;
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
    METHOD(norm, METH_O),
    METHOD(shift, METH_FASTCALL),
    METHOD(total, METH_O),
    METHOD(sum, METH_O),
    METHOD(sum_ints, METH_FASTCALL),
    METHOD(split, METH_O),
    METHOD(fail, METH_O),
    {"held_count", (PyCFunction)(void (*)(void))held_count, METH_FASTCALL, NULL},
    {"held_sort", (PyCFunction)(void (*)(void))held_sort, METH_FASTCALL, NULL},
    {"half_all", (PyCFunction)(void (*)(void))half_all, METH_FASTCALL, NULL},
    {"saved_errno", saved_errno, METH_NOARGS, NULL},
    {"empty", (PyCFunction)(void (*)(void))empty, METH_FASTCALL, NULL},
    {"empty_of_one", empty_of_one, METH_O, NULL},
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
    if (PyType_Ready(&point_type) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddObjectRef(made, "Point", (PyObject *)&point_type) < 0)
        return NULL;
    return made;
}
