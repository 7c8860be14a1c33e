"""Bindings of a few system libraries, as one writes them with ctypes. Nothing here knows of hotcall."""

import ctypes
import ctypes.util
import sys
from ctypes import c_char_p, c_double, c_int, c_size_t, c_uint, c_ulong, c_void_p
from pathlib import Path


class Missing(Exception):
    """A library that this machine does not have."""


def load(name, file):
    """Loads the library called `name`, whose file is usually called `file`."""
    candidates = [ctypes.util.find_library(name), file, str(Path(sys.prefix, "lib", file))]
    for candidate in filter(None, candidates):
        try:
            return ctypes.CDLL(candidate)
        except OSError:
            pass
    raise Missing(f"lib{name}, also known as {file}, is not on this machine")


def declare(library, name, restype, *argtypes):
    """Gives the library's function its C declaration."""
    function = getattr(library, name)
    function.restype, function.argtypes = restype, argtypes
    return function


class Math:
    """libm."""

    def __init__(self):
        library = load("m", "libm.so.6")
        self.sin = declare(library, "sin", c_double, c_double)
        self.pow = declare(library, "pow", c_double, c_double, c_double)
        self.fma = declare(library, "fma", c_double, c_double, c_double, c_double)
        self.ilogb = declare(library, "ilogb", c_int, c_double)


class Strings:
    """The string functions of libc."""

    def __init__(self):
        library = load("c", "libc.so.6")
        self.strlen = declare(library, "strlen", c_size_t, c_char_p)
        self.strcmp = declare(library, "strcmp", c_int, c_char_p, c_char_p)
        self.strstr = declare(library, "strstr", c_char_p, c_char_p, c_char_p)
        self.strspn = declare(library, "strspn", c_size_t, c_char_p, c_char_p)
        self.toupper = declare(library, "toupper", c_int, c_int)


class Zlib:
    """The checksums of zlib."""

    def __init__(self):
        library = load("z", "libz.so.1")
        self.crc32 = declare(library, "crc32", c_ulong, c_ulong, c_char_p, c_uint)
        self.adler32 = declare(library, "adler32", c_ulong, c_ulong, c_char_p, c_uint)


class SqliteFunctions:
    """The C functions of sqlite3 that `sqlite.py` is made of. Handles are `void *`."""

    def __init__(self):
        library = load("sqlite3", "libsqlite3.so.0")
        handles = ctypes.POINTER(c_void_p)
        self.open = declare(library, "sqlite3_open", c_int, c_char_p, handles)
        self.close = declare(library, "sqlite3_close", c_int, c_void_p)
        self.errmsg = declare(library, "sqlite3_errmsg", c_char_p, c_void_p)
        self.exec = declare(library, "sqlite3_exec", c_int, c_void_p, c_char_p, c_void_p, c_void_p, c_void_p)
        self.prepare = declare(library, "sqlite3_prepare_v2", c_int, c_void_p, c_char_p, c_int, handles, c_void_p)
        self.finalize = declare(library, "sqlite3_finalize", c_int, c_void_p)
        self.step = declare(library, "sqlite3_step", c_int, c_void_p)
        self.reset = declare(library, "sqlite3_reset", c_int, c_void_p)
        self.bind_int64 = declare(library, "sqlite3_bind_int64", c_int, c_void_p, c_int, ctypes.c_int64)
        self.bind_double = declare(library, "sqlite3_bind_double", c_int, c_void_p, c_int, c_double)
        self.bind_text = declare(library, "sqlite3_bind_text", c_int, c_void_p, c_int, c_char_p, c_int, c_void_p)
        self.bind_null = declare(library, "sqlite3_bind_null", c_int, c_void_p, c_int)
        self.column_count = declare(library, "sqlite3_column_count", c_int, c_void_p)
        self.column_type = declare(library, "sqlite3_column_type", c_int, c_void_p, c_int)
        self.column_int64 = declare(library, "sqlite3_column_int64", ctypes.c_int64, c_void_p, c_int)
        self.column_double = declare(library, "sqlite3_column_double", c_double, c_void_p, c_int)
        self.column_text = declare(library, "sqlite3_column_text", c_char_p, c_void_p, c_int)
