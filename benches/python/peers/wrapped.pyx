# cython: language_level=3
"""The functions of functions.h, wrapped with Cython. They hold the GIL, as Cython's functions do unless told otherwise."""

from libc.stddef cimport size_t

cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"

cdef extern from "functions.h" nogil:
    ctypedef struct point:
        double x
        double y
    ctypedef int counter(int)
    int c_answer "answer"()
    int c_add "add"(int a, int b)
    int c_negate "negate"(int a)
    long c_large "large"(long a)
    double c_half "half"(double a)
    double c_scale "scale"(double a, double b)
    size_t c_length "length"(const char *text)
    const char *c_name "name"(int index)
    c_bool c_is_even "is_even"(int a)
    int c_is_null "is_null"(void *address)
    void c_nothing "nothing"(int a)
    int c_six "six"(int a, int b, int c, int d, int e, int f)
    double c_ten "ten"(int a, double b, int c, double d, int e, double f, int g, double h, int i, double j)
    double c_norm "norm"(point p)
    void c_shift "shift"(point *p, double by)
    long c_total "total"(const char *bytes, size_t size)
    double c_sum "sum"(const double *items, size_t size)
    int c_sum_ints "sum_ints"(int count, ...)
    double c_split "split"(double a, int *whole)
    long c_count "count"(counter *call, int times)


def answer():
    return c_answer()


def add(int a, int b):
    return c_add(a, b)


def negate(int a):
    return c_negate(a)


def large(long a):
    return c_large(a)


def half(double a):
    return c_half(a)


def scale(double a, double b):
    return c_scale(a, b)


def length(const char *text):
    return c_length(text)


def name(int index):
    return c_name(index)


def is_even(int a):
    return <bint>c_is_even(a)


def is_null(object address):
    return c_is_null(NULL if address is None else <void *><size_t>address)


def nothing(int a):
    c_nothing(a)


def six(int a, int b, int c, int d, int e, int f):
    return c_six(a, b, c, d, e, f)


def ten(int a, double b, int c, double d, int e, double f, int g, double h, int i, double j):
    return c_ten(a, b, c, d, e, f, g, h, i, j)


cdef class Point:
    cdef point value

    def __init__(self, double x, double y):
        self.value = point(x, y)


def norm(Point p not None):
    return c_norm(p.value)


def shift(Point p not None, double by):
    c_shift(&p.value, by)


def total(bytes text not None):
    return c_total(text, len(text))


def sum(const double[::1] items):
    return c_sum(&items[0], items.shape[0])


def sum_ints(int a, int b, int c):
    return c_sum_ints(3, a, b, c)


def split(double a):
    cdef int whole
    half = c_split(a, &whole)
    return half, whole


cdef object callable = None


cdef int call_counter(int number) noexcept with gil:
    return callable(number)


def count(call, int times):
    global callable
    callable = call
    return c_count(call_counter, times)
