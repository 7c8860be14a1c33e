"""Compiles the foreign functions, and the extension module that wraps them, for the Python that runs this."""

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATE = Path(os.environ.get("HOTCALL_BUILD") or HERE.parents[1] / ".build").resolve()
SOURCES = ["functions.c", "functions.h", "ext.c", "wrappers.h"]


class CannotBuild(Exception):
    """There is no C compiler, or there are no headers of this Python."""


def build():
    """Compiles what is out of date. Returns the folder with functions.so and ext.so."""
    folder = STATE / "bench" / sys.implementation.cache_tag
    folder.mkdir(parents=True, exist_ok=True)
    newest = max((HERE / source).stat().st_mtime for source in SOURCES)
    compile_shared(folder / "functions.so", newest, ["functions.c"])
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").exists():
        raise CannotBuild("the headers of this Python are not installed")
    # The extension links to the very library that ctypes loads, as an ordinary binding does.
    linked = [f"-I{headers}", f"-L{folder}", "-l:functions.so", "-Wl,-rpath,$ORIGIN"]
    compile_shared(folder / "ext.so", newest, ["ext.c", *linked])
    return folder


def compile_shared(target, newest, arguments):
    """Makes the shared object `target` unless it is younger than `newest`."""
    if target.exists() and target.stat().st_mtime > newest:
        return
    # Made aside and then moved, so that an interrupted build leaves nothing that looks finished.
    partial = target.with_suffix(f".{os.getpid()}")
    compiler = shlex.split(os.environ.get("CC") or "cc")
    flags = ["-O2", "-Wall", "-shared", "-fPIC", f"-Wl,-soname,{target.name}"]
    try:
        subprocess.run([*compiler, *flags, "-o", partial, *arguments], cwd=HERE, check=True)
    except FileNotFoundError:
        raise CannotBuild(f"there is no C compiler {compiler[0]!r}") from None
    partial.replace(target)


def load_extension(folder):
    """Imports ext.so from `folder`."""
    spec = importlib.util.spec_from_file_location("ext", folder / "ext.so")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
