// The functions of functions.h, wrapped with pybind11. They hold the GIL, as pybind11's functions do unless told otherwise.
#include <pybind11/pybind11.h>

#include <tuple>

extern "C" {
#include "functions.h"
}

namespace py = pybind11;

static py::object callable;

PYBIND11_MODULE(wrapped_pybind11, m)
{
    m.def("answer", &answer);
    m.def("add", &add);
    m.def("negate", &negate);
    m.def("large", &large);
    m.def("half", &half);
    m.def("scale", &scale);
    m.def("length", &length);
    m.def("name", &name);
    m.def("is_even", &is_even);
    m.def("is_null", &is_null);
    m.def("nothing", &nothing);
    m.def("six", &six);
    m.def("ten", &ten);
    py::class_<point>(m, "Point")
        .def(py::init([](double x, double y) { return point{x, y}; }))
        .def_readwrite("x", &point::x)
        .def_readwrite("y", &point::y);
    m.def("norm", &norm);
    m.def("shift", &shift);
    m.def("total", [](py::bytes text) {
        char *bytes;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(text.ptr(), &bytes, &size) < 0)
            throw py::error_already_set();
        return total(bytes, size);
    });
    m.def("sum", [](py::buffer items) {
        py::buffer_info info = items.request();
        if (!info.item_type_is_equivalent_to<double>() || info.ndim != 1)
            throw py::type_error("expected doubles");
        return sum(static_cast<const double *>(info.ptr), info.size);
    });
    m.def("sum_ints", [](int a, int b, int c) { return sum_ints(3, a, b, c); });
    m.def("split", [](double a) {
        int whole;
        double half = split(a, &whole);
        return std::make_tuple(half, whole);
    });
    m.def("count", [](py::object call, int times) {
        callable = std::move(call);
        return count([](int number) { return callable(number).cast<int>(); }, times);
    });
}
