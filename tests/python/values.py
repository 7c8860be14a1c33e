"""The argument types and values whose every pair the differential tests call: the table of what ctypes accepts.

`make_values` gives fresh objects, so that no test sees what another did to them.
"""

from ctypes import (
    CFUNCTYPE, POINTER, Structure, byref, c_bool, c_byte, c_char, c_char_p, c_double, c_float, c_int, c_int8, c_long,
    c_longdouble, c_longlong, c_short, c_size_t, c_ubyte, c_uint, c_ulong, c_ulonglong, c_ushort, c_void_p, c_wchar,
    c_wchar_p, create_string_buffer, create_unicode_buffer, pointer, py_object,
)  # fmt: skip


class IntSub(int):
    pass


class FloatSub(float):
    def __float__(self):
        return 77.0


class StrSub(str):
    pass


class BytesSub(bytes):
    pass


class Index:
    def __index__(self):
        return 7


class Float:
    def __float__(self):
        return 2.5


class Both(Index, Float):
    pass


class Raising:
    """Fails in every conversion, each time with another text."""

    def __bool__(self):
        raise ValueError("no truth here")

    def __index__(self):
        raise ZeroDivisionError("no index here")

    def __float__(self):
        raise KeyError("no float here")


class AsParameter:
    def __init__(self, value):
        self._as_parameter_ = value


class RaisingParameter:
    @property
    def _as_parameter_(self):
        raise LookupError("no parameter here")


class Liar:
    """Says that it is an int of ctypes."""

    __class__ = c_int


class MyInt(c_int):
    pass


class MyDouble(c_double):
    pass


class MyPointer(c_void_p):
    pass


class Point(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]


class SubPoint(Point):
    pass


class FromParam:
    """An argument type of Python's own."""

    @classmethod
    def from_param(cls, value):
        if isinstance(value, str):
            return c_int(len(value))
        if value is None:
            raise TypeError("None is nothing to us")
        return value


Callback = CFUNCTYPE(c_int, c_int)

ARGTYPES = {
    "untyped": None,
    "c_bool": c_bool,
    "c_char": c_char,
    "c_wchar": c_wchar,
    "c_byte": c_byte,
    "c_ubyte": c_ubyte,
    "c_short": c_short,
    "c_ushort": c_ushort,
    "c_int": c_int,
    "c_uint": c_uint,
    "c_long": c_long,
    "c_ulong": c_ulong,
    "c_longlong": c_longlong,
    "c_ulonglong": c_ulonglong,
    "c_size_t": c_size_t,
    "c_float": c_float,
    "c_double": c_double,
    "c_char_p": c_char_p,
    "c_wchar_p": c_wchar_p,
    "c_void_p": c_void_p,
    "py_object": py_object,
    "MyInt": MyInt,
    "MyDouble": MyDouble,
    "MyPointer": MyPointer,
    "POINTER(c_int)": POINTER(c_int),
    "POINTER(c_char)": POINTER(c_char),
    "POINTER(c_wchar)": POINTER(c_wchar),
    "POINTER(Point)": POINTER(Point),
    "c_int*3": c_int * 3,
    "c_char*4": c_char * 4,
    "Point": Point,
    "Callback": Callback,
    "FromParam": FromParam,
}

FLOATS = (c_float, c_double, c_longdouble, MyDouble)

# Pairs that crash CPython itself: byref(), also as a parameter of an object, where the type has no item type.
CRASHING = {("Point", "byref"), ("Callback", "byref")}


def make_values(library):
    """Returns a dictionary from a name to a value; `library` gives foreign functions."""
    values = {
        "None": None, "True": True, "False": False, "0": 0, "5": 5, "-1": -1, "255": 255, "256": 256, "-128": -128,
        "2**30-1": 2**30 - 1, "2**30": 2**30, "-2**30": -(2**30), "2**31-1": 2**31 - 1, "2**31": 2**31,
        "-2**31": -(2**31), "2**32-1": 2**32 - 1, "2**40+3": 2**40 + 3, "2**60": 2**60, "2**63-1": 2**63 - 1,
        "2**63": 2**63, "-2**63": -(2**63), "-2**63-1": -(2**63) - 1, "2**64-1": 2**64 - 1, "2**64+9": 2**64 + 9,
        "-2**70": -(2**70), "10**400": 10**400, "IntSub": IntSub(6), "1.5": 1.5, "-0.0": -0.0, "nan": float("nan"),
        "inf": float("inf"), "1e300": 1e300, "1e-320": 1e-320, "FloatSub": FloatSub(3.5), "Index": Index(), "Float": Float(),
        "Both": Both(), "Raising": Raising(), "1j": 1j,
        "b'a'": b"a", "b''": b"", "b'abc'": b"abc", "b'a\\0b'": b"a\0b", "b'\\xff'": b"\xff", "BytesSub": BytesSub(b"sub"),
        "'a'": "a", "''": "", "'abc'": "abc", "'a\\0b'": "a\0b", "'é'": "é", "emoji": "\U0001f600", "surrogate": "\udc80",
        "StrSub": StrSub("sub"), "bytearray": bytearray(b"a"), "memoryview": memoryview(b"abc"), "list": [1], "tuple": (1,),
        "dict": {}, "object": object(), "type": int, "c_int type": c_int, "('P', 5)": ("P", 5),
        "c_int": c_int(5), "MyInt": MyInt(5), "c_uint": c_uint(5), "c_long": c_long(-5), "c_longlong": c_longlong(5),
        "c_short": c_short(-5), "c_ubyte": c_ubyte(200), "c_int8": c_int8(-3), "c_char": c_char(b"x"), "c_wchar": c_wchar("y"),
        "c_float": c_float(1.5), "c_double": c_double(1.5), "MyDouble": MyDouble(1.5), "c_bool": c_bool(True),
        "c_char_p": c_char_p(b"q"), "c_char_p NULL": c_char_p(), "c_wchar_p": c_wchar_p("q"), "c_void_p": c_void_p(9),
        "c_void_p NULL": c_void_p(), "MyPointer": MyPointer(9),
        "string buffer": create_string_buffer(b"buf", 4), "unicode buffer": create_unicode_buffer("buf", 4),
        "c_int*3": (c_int * 3)(1, 2, 3), "c_ubyte*3": (c_ubyte * 3)(1, 2, 3), "c_double*2": (c_double * 2)(1, 2),
        "pointer(c_int)": pointer(c_int(1)), "POINTER(c_int)()": POINTER(c_int)(), "pointer(c_char)": pointer(c_char(b"a")),
        "pointer(Point)": pointer(Point(1, 2)), "byref(c_int)": byref(c_int(1)), "byref(c_char)": byref(c_char(b"a")),
        "byref(Point)": byref(Point(1, 2)), "byref(c_int, 2)": byref(c_int(1), 2), "byref(array)": byref((c_int * 3)()),
        "Point": Point(1, 2), "SubPoint": SubPoint(3, 4), "py_object": py_object(3), "callback": Callback(("add_one", library)),
        "foreign function": library["same"], "Liar": Liar(), "RaisingParameter": RaisingParameter(),
    }  # fmt: skip
    for inner in ["5", "b'abc'", "'abc'", "c_int", "1.5", "None", "pointer(c_int)", "byref(c_int)"]:
        values[f"AsParameter({inner})"] = AsParameter(values[inner])
    values["AsParameter(AsParameter(5))"] = AsParameter(AsParameter(5))
    return values


def unwrapped(value):
    """The value that ctypes finally converts."""
    while isinstance(value, AsParameter):
        value = value._as_parameter_
    return value


def goes_in_vector_register(argtype, value):
    """Whether an accepted value reaches C in xmm0."""
    return issubclass(argtype, FLOATS) if isinstance(argtype, type) and argtype is not FromParam else isinstance(
        unwrapped(value), FLOATS
    )


def is_crash(argtype_name, value_name):
    return any(argtype_name == a and v in value_name for a, v in CRASHING)
