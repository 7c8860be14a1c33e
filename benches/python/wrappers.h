/* The functions of the extension, as a careful author writes them by hand. ext.c includes this file twice: with NAME,
 * BEGIN and END for functions that release the GIL around the call, and for functions that hold it. */

static PyObject *NAME(answer)(PyObject *module, PyObject *unused)
{
    int result;
    BEGIN
    result = answer();
    END
    return PyLong_FromLong(result);
}

static PyObject *NAME(add)(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int a, b, result;
    if (!has_count("add", count, 2) || !to_int(args[0], &a) || !to_int(args[1], &b))
        return NULL;
    BEGIN
    result = add(a, b);
    END
    return PyLong_FromLong(result);
}

static PyObject *NAME(negate)(PyObject *module, PyObject *arg)
{
    int a, result;
    if (!to_int(arg, &a))
        return NULL;
    BEGIN
    result = negate(a);
    END
    return PyLong_FromLong(result);
}

static PyObject *NAME(large)(PyObject *module, PyObject *arg)
{
    long result, a = PyLong_AsLong(arg);
    if (a == -1 && PyErr_Occurred())
        return NULL;
    BEGIN
    result = large(a);
    END
    return PyLong_FromLong(result);
}

static PyObject *NAME(half)(PyObject *module, PyObject *arg)
{
    double a, result;
    if (!to_double(arg, &a))
        return NULL;
    BEGIN
    result = half(a);
    END
    return PyFloat_FromDouble(result);
}

static PyObject *NAME(scale)(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    double a, b, result;
    if (!has_count("scale", count, 2) || !to_double(args[0], &a) || !to_double(args[1], &b))
        return NULL;
    BEGIN
    result = scale(a, b);
    END
    return PyFloat_FromDouble(result);
}

static PyObject *NAME(length)(PyObject *module, PyObject *arg)
{
    size_t result;
    const char *text = PyBytes_AsString(arg);
    if (!text)
        return NULL;
    BEGIN
    result = length(text);
    END
    return PyLong_FromSize_t(result);
}

static PyObject *NAME(name)(PyObject *module, PyObject *arg)
{
    const char *result;
    int index;
    if (!to_int(arg, &index))
        return NULL;
    BEGIN
    result = name(index);
    END
    if (!result)
        Py_RETURN_NONE;
    return PyBytes_FromString(result);
}

static PyObject *NAME(is_even)(PyObject *module, PyObject *arg)
{
    bool result;
    int a;
    if (!to_int(arg, &a))
        return NULL;
    BEGIN
    result = is_even(a);
    END
    return PyBool_FromLong(result);
}

static PyObject *NAME(is_null)(PyObject *module, PyObject *arg)
{
    void *address = NULL;
    int result;
    if (arg != Py_None) {
        address = PyLong_AsVoidPtr(arg);
        if (!address && PyErr_Occurred())
            return NULL;
    }
    BEGIN
    result = is_null(address);
    END
    return PyLong_FromLong(result);
}

static PyObject *NAME(nothing)(PyObject *module, PyObject *arg)
{
    int a;
    if (!to_int(arg, &a))
        return NULL;
    BEGIN
    nothing(a);
    END
    Py_RETURN_NONE;
}

static PyObject *NAME(six)(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int a[6], result;
    if (!has_count("six", count, 6))
        return NULL;
    for (int i = 0; i < 6; i++)
        if (!to_int(args[i], &a[i]))
            return NULL;
    BEGIN
    result = six(a[0], a[1], a[2], a[3], a[4], a[5]);
    END
    return PyLong_FromLong(result);
}

static PyObject *NAME(ten)(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    double d[5], result;
    int i[5];
    if (!has_count("ten", count, 10))
        return NULL;
    for (int n = 0; n < 5; n++)
        if (!to_int(args[2 * n], &i[n]) || !to_double(args[2 * n + 1], &d[n]))
            return NULL;
    BEGIN
    result = ten(i[0], d[0], i[1], d[1], i[2], d[2], i[3], d[3], i[4], d[4]);
    END
    return PyFloat_FromDouble(result);
}

static PyObject *NAME(norm)(PyObject *module, PyObject *arg)
{
    double result;
    if (!is_point(arg))
        return NULL;
    point p = ((Point *)arg)->value;
    BEGIN
    result = norm(p);
    END
    return PyFloat_FromDouble(result);
}

static PyObject *NAME(shift)(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    double by;
    if (!has_count("shift", count, 2) || !is_point(args[0]) || !to_double(args[1], &by))
        return NULL;
    BEGIN
    shift(&((Point *)args[0])->value, by);
    END
    Py_RETURN_NONE;
}

static PyObject *NAME(total)(PyObject *module, PyObject *arg)
{
    long result;
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(arg, &bytes, &size) < 0)
        return NULL;
    BEGIN
    result = total(bytes, (size_t)size);
    END
    return PyLong_FromLong(result);
}

static PyObject *NAME(sum)(PyObject *module, PyObject *arg)
{
    double result;
    Py_buffer items;
    if (PyObject_GetBuffer(arg, &items, PyBUF_CONTIG_RO | PyBUF_FORMAT) < 0)
        return NULL;
    if (strcmp(items.format, "d")) {
        PyBuffer_Release(&items);
        PyErr_SetString(PyExc_TypeError, "expected doubles");
        return NULL;
    }
    BEGIN
    result = sum(items.buf, (size_t)items.len / sizeof(double));
    END
    PyBuffer_Release(&items);
    return PyFloat_FromDouble(result);
}

static PyObject *NAME(sum_ints)(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int a, b, c, result;
    if (!has_count("sum_ints", count, 3) || !to_int(args[0], &a) || !to_int(args[1], &b) || !to_int(args[2], &c))
        return NULL;
    BEGIN
    result = sum_ints(3, a, b, c);
    END
    return PyLong_FromLong(result);
}

/* Gives both: the half, and its whole part. */
static PyObject *NAME(split)(PyObject *module, PyObject *arg)
{
    double a, half;
    int whole;
    if (!to_double(arg, &a))
        return NULL;
    BEGIN
    half = split(a, &whole);
    END
    return Py_BuildValue("di", half, whole);
}

/* Keeps errno for saved_errno(), as a binding does whose users ask for it later. */
static PyObject *NAME(fail)(PyObject *module, PyObject *arg)
{
    int code, result;
    if (!to_int(arg, &code))
        return NULL;
    BEGIN
    errno = kept_errno;
    result = fail(code);
    kept_errno = errno;
    END
    return PyLong_FromLong(result);
}
