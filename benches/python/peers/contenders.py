"""The calls that peers are compared by, and each contender's way to make them.

Where a function takes an address, a size, or gives a result at an address, each contender is called as a program would
with it: what ctypes and cffi programs say for each call, a wrapper of the others does in C.
"""

import array
from ctypes import (
    CDLL, CFUNCTYPE, POINTER, PyDLL, Structure, byref, c_bool, c_char_p, c_double, c_int, c_long, c_size_t, c_void_p,
)  # fmt: skip
from dataclasses import dataclass, field

import making

import hotcall

PLAIN = {
    "int()": ("answer", ()),
    "int(int)": ("negate", (3,)),
    "int(int, int)": ("add", (40, 2)),
    "long(long)": ("large", (1 << 40,)),
    "double(double)": ("half", (3.5,)),
    "double(double, double)": ("scale", (1.5, 2.5)),
    "bool(int)": ("is_even", (4,)),
    "void(int)": ("nothing", (7,)),
    "int(void *), None": ("is_null", (None,)),
    "size_t(char *)": ("length", (b"hello",)),
    "char *(int)": ("name", (1,)),
    "6 ints": ("six", (1, 2, 3, 4, 5, 6)),
    "5 ints, 5 doubles": ("ten", (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5)),
}
"""Function and arguments by label, where all contenders take the same."""
SPECIAL = {
    "bytes and size": "total",
    "struct": "norm",
    "struct *": "shift",
    "array of doubles": "sum",
    "out parameter": "split",
    "variadic, 3 ints": "sum_ints",
    "callback": "count",
    "errno kept": "fail",
}
"""Function by label, where they differ."""
LABELS = [*PLAIN, *SPECIAL]
BASE = "extension, GIL held"
INTERPRETER = "hotcall, interpreter"
EMPTY = "an empty function"
PEERS = {"Cython": "wrapped", "nanobind": "wrapped_nanobind", "PyO3": "wrapped_pyo3", "pybind11": "wrapped_pybind11"}
"""The peers whose modules have the functions under their names."""
NAMES = [
    EMPTY, "hotcall, bound", "hotcall", "hotcall, PyDLL", BASE, *PEERS, "extension, GIL released",
    "cffi, API mode", INTERPRETER, "cffi, ABI mode", "ctypes, undeclared", "ctypes, PyDLL", "ctypes",
]  # fmt: skip
"""All contenders, in the order in which they are shown."""
MADE = {"struct", "struct *", "array of doubles", "out parameter"}
"""Where a program of ctypes makes objects of its own."""


@dataclass
class Call:
    """A call, as a statement over `function` and the names of the arguments a0, a1 and so on."""

    function: object
    args: tuple
    statement: str | None = None
    """The statement, if it is more than a call with the arguments."""
    names: dict = field(default_factory=dict)
    """What else the statement refers to."""
    is_made: bool = True
    """Whether the foreign function is called."""


def triple(number):
    """The function that is called back."""
    return 3 * number


class Wrapped:
    """A module whose functions were wrapped by hand or by a peer, with an object for each struct."""

    def __init__(self, module, prefix=""):
        self.module, self.prefix = module, prefix

    def call(self, label):
        """The call that the label stands for; None if the module has none."""
        name, args = PLAIN.get(label) or (SPECIAL[label], None)
        function = getattr(self.module, self.prefix + name, None)
        if function is None:
            return None
        return Call(function, self.special(label) if args is None else args)

    def special(self, label):
        """The arguments of a call that contenders make in different ways."""
        return {
            "bytes and size": lambda: (b"hello",),
            "struct": lambda: (self.module.Point(1.5, 2.5),),
            "struct *": lambda: (self.module.Point(1.5, 2.5), 0.5),
            "array of doubles": lambda: (array.array("d", range(8)),),
            "out parameter": lambda: (7.0,),
            "variadic, 3 ints": lambda: (1, 2, 3),
            "callback": lambda: (triple, 1),
            "errno kept": lambda: (2,),
        }[label]()


class Empty(Wrapped):
    """Built-in functions that do nothing, with the arguments of the extension."""

    def call(self, label):
        """A call that is not one of the label's function."""
        args = super().call(label).args
        return Call(self.module.empty_of_one if len(args) == 1 else self.module.empty, args, is_made=False)


class Point(Structure):
    _fields_ = [("x", c_double), ("y", c_double)]


Counter = CFUNCTYPE(c_int, c_int)
DECLARATIONS = {
    "answer": (c_int, []),
    "negate": (c_int, [c_int]),
    "add": (c_int, [c_int, c_int]),
    "large": (c_long, [c_long]),
    "half": (c_double, [c_double]),
    "scale": (c_double, [c_double, c_double]),
    "is_even": (c_bool, [c_int]),
    "nothing": (None, [c_int]),
    "is_null": (c_int, [c_void_p]),
    "length": (c_size_t, [c_char_p]),
    "name": (c_char_p, [c_int]),
    "six": (c_int, [c_int] * 6),
    "ten": (c_double, [c_int, c_double] * 5),
    "total": (c_long, [c_char_p, c_size_t]),
    "norm": (c_double, [Point]),
    "shift": (None, [POINTER(Point), c_double]),
    "sum": (c_double, [POINTER(c_double), c_size_t]),
    "split": (c_double, [c_double, POINTER(c_int)]),
    "sum_ints": (c_int, [c_int]),
    "count": (c_long, [Counter, c_int]),
    "fail": (c_int, [c_int]),
}


class Ctypes:
    """Function objects of ctypes, declared or not, and bound where hotcall binds them."""

    def __init__(self, folder, loader=CDLL, *, declared=True, bound=False):
        self.folder, self.loader, self.declared, self.bound = folder, loader, declared, bound

    def call(self, label):
        """The call that the label stands for; None if it cannot be made undeclared."""
        name, args = PLAIN.get(label) or (SPECIAL[label], None)
        function = self.loader(str(self.folder / "functions.so"), use_errno=label == "errno kept")[name]
        restype, argtypes = DECLARATIONS[name]
        function.restype = restype
        if self.declared:
            function.argtypes = argtypes
        elif c_double in argtypes or label == "long(long)":
            return None
        if self.bound:
            function = hotcall.bind(function)
        return Call(function, args) if args is not None else self.special(label, function)

    def special(self, label, function):
        return {
            "bytes and size": lambda: Call(function, (b"hello", 5)),
            "struct": lambda: Call(function, (Point(1.5, 2.5),)),
            "struct *": lambda: Call(function, (Point(1.5, 2.5), 0.5)),
            "array of doubles": lambda: Call(function, ((c_double * 8)(*range(8)), 8)),
            "out parameter": lambda: Call(function, (7.0, c_int()), "function(a0, byref(a1))", {"byref": byref}),
            "variadic, 3 ints": lambda: Call(function, (3, 1, 2, 3)),
            "callback": lambda: Call(function, (Counter(triple), 1)),
            "errno kept": lambda: Call(function, (2,)),
        }[label]()


class Cffi:
    """A library of cffi, in ABI or API mode."""

    def __init__(self, ffi, library, callback):
        self.ffi, self.library, self.callback = ffi, library, callback

    def call(self, label):
        """The call that the label stands for."""
        name, args = PLAIN.get(label) or (SPECIAL[label], None)
        function, ffi = getattr(self.library, name), self.ffi
        if label == "int(void *), None":
            return Call(function, (ffi.NULL,))
        if label == "char *(int)":
            return Call(function, args, "string(function(a0))", {"string": ffi.string})
        if args is not None:
            return Call(function, args)
        return {
            "bytes and size": lambda: Call(function, (b"hello", 5)),
            "struct": lambda: Call(function, (ffi.new("point *", (1.5, 2.5)),), "function(a0[0])"),
            "struct *": lambda: Call(function, (ffi.new("point *", (1.5, 2.5)), 0.5)),
            "array of doubles": lambda: Call(function, (ffi.new("double[]", list(range(8))), 8)),
            "out parameter": lambda: Call(function, (7.0, ffi.new("int *"))),
            "variadic, 3 ints": lambda: Call(function, (3, *(ffi.cast("int", number) for number in (1, 2, 3)))),
            "callback": lambda: Call(function, (self.callback, 1)),
            "errno kept": lambda: Call(function, (2,)),
        }[label]()


def cffi_abi(folder):
    """cffi without a compiler; None if it is not there."""
    try:
        import cffi
    except ImportError:
        return None
    ffi = cffi.FFI()
    ffi.cdef(making.DECLARATIONS)
    return Cffi(ffi, ffi.dlopen(str(folder / "functions.so")), ffi.callback("int(int)")(triple))


def cffi_api():
    """cffi with a compiler; None if it cannot be had."""
    module = making.load("wrapped_cffi")
    if module is None:
        return None
    module.ffi.def_extern(name="call_counter")(triple)
    return Cffi(module.ffi, module.lib, module.lib.call_counter)


def all_contenders(folder, extension):
    """The contenders by name, those that hotcall accelerates apart; and those that cannot be had left out."""
    peers = {name: making.load(module) for name, module in PEERS.items()}
    outside = {
        BASE: Wrapped(extension, "held_"),
        EMPTY: Empty(extension, "held_"),
        "extension, GIL released": Wrapped(extension),
        **{name: Wrapped(module) for name, module in peers.items() if module},
        "cffi, API mode": cffi_api(),
        "cffi, ABI mode": cffi_abi(folder),
        "ctypes": Ctypes(folder),
        "ctypes, PyDLL": Ctypes(folder, PyDLL),
        "ctypes, undeclared": Ctypes(folder, declared=False),
    }
    inside = {
        "hotcall": Ctypes(folder),
        "hotcall, PyDLL": Ctypes(folder, PyDLL),
        "hotcall, bound": Ctypes(folder, bound=True),
    }
    return {name: contender for name, contender in outside.items() if contender}, inside


def result_of(call):
    """What a call gives, in a form in which all contenders give the same."""
    names = {f"a{index}": arg for index, arg in enumerate(call.args)}
    statement = call.statement or f"function({', '.join(names)})"
    result = eval(statement, {"function": call.function, **names, **call.names})
    if isinstance(result, tuple):
        result = result[0]
    return result.decode() if isinstance(result, bytes) else result


