"""Compiles the modules that wrap functions.h with the peers, for the Python that runs this.

Each is made once, in the folder of the other benchmarks; what cannot be made is told in one line and left out.
"""

import importlib.util
import os
import subprocess
import sys
import sysconfig
from contextlib import redirect_stdout
from pathlib import Path

import build

HERE = Path(__file__).resolve().parent
DECLARATIONS = """
typedef struct { double x, y; } point;
int answer(void); int add(int, int); int negate(int); long large(long); double half(double); double scale(double, double);
size_t length(const char *); const char *name(int); bool is_even(int); int is_null(void *); void nothing(int);
int six(int, int, int, int, int, int);
double ten(int, double, int, double, int, double, int, double, int, double);
double norm(point); void shift(point *, double); long total(const char *, size_t); double sum(const double *, size_t);
int sum_ints(int, ...); double split(double, int *); int fail(int); long count(int (*)(int), int);
"""
"""functions.h as cffi reads it."""
CPLUSPLUS = ["g++", "-std=c++17", "-O3", "-DNDEBUG", "-fvisibility=hidden", "-shared", "-fPIC"]


def linked(folder):
    """What links a module to the library that ctypes loads."""
    include = sysconfig.get_paths()["include"]
    return [f"-I{include}", f"-I{build.HERE}", f"-L{folder}", "-l:functions.so", "-Wl,-rpath,$ORIGIN"]


def run(command, **options):
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr, **options)


def make_cffi(folder, target):
    import cffi

    ffi = cffi.FFI()
    callbacks = 'extern "Python" int call_counter(int);'
    ffi.cdef(DECLARATIONS + callbacks)
    ffi.set_source(target.stem, '#include "functions.h"')
    source = folder / f"{target.stem}.c"
    ffi.emit_c_code(str(source))
    run(["cc", "-O2", "-shared", "-fPIC", "-o", target, source, *linked(folder)])


def make_cython(folder, target):
    source = folder / "wrapped.c"
    run([sys.executable, "-m", "cython", "-3", "-o", source, HERE / "wrapped.pyx"])
    # The module is called by the name of its source.
    run(["cc", "-O2", "-shared", "-fPIC", "-o", target, source, *linked(folder)])


def make_pybind11(folder, target):
    import pybind11

    run([*CPLUSPLUS, "-o", target, HERE / "wrapped_pybind11.cpp", f"-I{pybind11.get_include()}", *linked(folder)])


def make_nanobind(folder, target):
    import nanobind

    root = Path(nanobind.include_dir()).parent
    include = [f"-I{root / 'include'}", f"-I{root / 'ext' / 'robin_map' / 'include'}"]
    sources = [HERE / "wrapped_nanobind.cpp", root / "src" / "nb_combined.cpp"]
    run([*CPLUSPLUS, "-fno-strict-aliasing", "-o", target, *sources, *include, *linked(folder)])


def make_pyo3(folder, target):
    flags = f"-L native={folder} -C link-arg=-Wl,-rpath,$ORIGIN"
    state = folder / "pyo3"
    environment = {**os.environ, "PYO3_PYTHON": sys.executable, "RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(state)}
    run(["cargo", "build", "--release", "--quiet", "--manifest-path", HERE / "pyo3" / "Cargo.toml"], env=environment)
    (state / "release" / "libwrapped_pyo3.so").replace(target)


MAKERS = {
    "wrapped_cffi": (make_cffi, "making.py"),
    "wrapped": (make_cython, "wrapped.pyx"),
    "wrapped_pybind11": (make_pybind11, "wrapped_pybind11.cpp"),
    "wrapped_nanobind": (make_nanobind, "wrapped_nanobind.cpp"),
    "wrapped_pyo3": (make_pyo3, "pyo3/src/lib.rs"),
}


def load(name):
    """A module that wraps functions.h, made if it is not there or out of date; None if it cannot be made."""
    folder = build.build()
    make, source = MAKERS[name]
    target = folder / f"{name}.so"
    newest = max(path.stat().st_mtime for path in (HERE / source, build.HERE / "functions.h"))
    if not target.exists() or target.stat().st_mtime < newest:
        try:
            # What measures writes its results to standard output.
            with redirect_stdout(sys.stderr):
                make(folder, target)
        except (ImportError, OSError, subprocess.CalledProcessError) as error:
            print(f"#### SKIPPED: {name}: {error} ####", file=sys.stderr)
            return None
    spec = importlib.util.spec_from_file_location(name, target)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
