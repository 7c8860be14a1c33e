// The functions of functions.h, wrapped with nanobind. They hold the GIL, as nanobind's functions do unless told otherwise.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>

extern "C" {
#include "functions.h"
}

namespace nb = nanobind;

static nb::object *callable;

NB_MODULE(wrapped_nanobind, m)
{
    m.def("answer", &answer);
    m.def("add", &add);
    m.def("negate", &negate);
    m.def("large", &large);
    m.def("half", &half);
    m.def("scale", &scale);
    m.def("length", [](nb::bytes text) { return length(text.c_str()); });
    m.def("name", &name);
    m.def("is_even", &is_even);
    m.def("is_null", [](void *address) { return is_null(address); }, nb::arg().none());
    m.def("nothing", &nothing);
    m.def("six", &six);
    m.def("ten", &ten);
    nb::class_<point>(m, "Point")
        .def("__init__", [](point *p, double x, double y) { new (p) point{x, y}; })
        .def_rw("x", &point::x)
        .def_rw("y", &point::y);
    m.def("norm", &norm);
    m.def("shift", &shift);
    m.def("total", [](nb::bytes text) { return total(text.c_str(), text.size()); });
    m.def("sum", [](nb::ndarray<const double, nb::ndim<1>, nb::c_contig> items) { return sum(items.data(), items.size()); });
    m.def("sum_ints", [](int a, int b, int c) { return sum_ints(3, a, b, c); });
    m.def("split", [](double a) {
        int whole;
        double half = split(a, &whole);
        return std::make_tuple(half, whole);
    });
    m.def("count", [](nb::object call, int times) {
        callable = &call;
        return count([](int number) { return nb::cast<int>((*callable)(number)); }, times);
    });
}
