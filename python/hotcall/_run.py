"""Runs a program in this process as the interpreter itself would: the same names, paths and exit.

A script, a folder or archive with a ``__main__``, a module or a text finds ``sys.argv``,
``sys.path`` and ``__main__`` as if it were run by ``python``, and its tracebacks do not show us.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import linecache
import os
import pkgutil
import runpy
import sys
import textwrap
from types import CodeType, ModuleType, TracebackType
from typing import Any


def script(path: str, arguments: list[str]) -> None:
    """Run the file, folder or archive ``path``, as ``python path`` does."""
    sys.argv = [path, *arguments]
    _leave_path()
    if _is_importable(path):
        sys.path.insert(0, os.path.abspath(path))
        _fresh_main()
        _as_program(lambda: runpy._run_module_as_main("__main__", False))  # type: ignore[attr-defined]
        return
    full = os.path.abspath(path)
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    loader: importlib.machinery.SourceFileLoader | importlib.machinery.SourcelessFileLoader
    if path.endswith(".pyc"):
        loader = importlib.machinery.SourcelessFileLoader("__main__", full)
        code = loader.get_code("__main__")
        assert code is not None, "a compiled file has code, or cannot be read"
    else:
        loader = importlib.machinery.SourceFileLoader("__main__", full)
        try:
            with open(path, "rb") as file:
                source = file.read()
        except OSError as error:
            sys.stderr.write(f"{sys.executable}: can't open file {full!r}: {_reason(error)}\n")
            raise SystemExit(2) from None
        code = _as_program(lambda: compile(source, full, "exec", dont_inherit=True))
    main = _fresh_main()
    main.__file__ = full
    main.__loader__ = loader
    if sys.version_info < (3, 15):
        main.__dict__["__cached__"] = None
    _execute(code, main)


def module(name: str, arguments: list[str]) -> None:
    """Run the module ``name``, as ``python -m name`` does."""
    sys.argv = ["-m", *arguments]
    _leave_path()
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())
    _fresh_main()
    _as_program(lambda: runpy._run_module_as_main(name))  # type: ignore[attr-defined]


def text(source: str, arguments: list[str]) -> None:
    """Run ``source``, as ``python -c source`` does."""
    sys.argv = ["-c", *arguments]
    _leave_path()
    if not sys.flags.safe_path:
        sys.path.insert(0, "")
    if sys.version_info >= (3, 14):
        source = textwrap.dedent(source)
    code = _as_program(lambda: compile(source, "<string>", "exec", dont_inherit=True))
    register = getattr(linecache, "_register_code", None)
    if register is not None:
        # Tracebacks show the text. It was kept by its name before it was kept by its code.
        by_code = hasattr(linecache, "_interactive_cache")
        register(code if by_code else "<string>", source, "<string>")
    main = _fresh_main()
    main.__loader__ = importlib.machinery.BuiltinImporter
    _execute(code, main)


def _leave_path() -> None:
    """Take away the folder that ``python -m hotcall`` has put first."""
    if not sys.flags.safe_path and sys.path:
        del sys.path[0]


def _is_importable(path: str) -> bool:
    """Whether ``path`` is a folder or an archive."""
    return pkgutil.get_importer(path) is not None


def _reason(error: OSError) -> str:
    return f"[Errno {error.errno}] {error.strerror}"


def _fresh_main() -> ModuleType:
    """Put a new module in the place of ours."""
    main = ModuleType("__main__")
    if sys.version_info < (3, 14):
        main.__dict__["__annotations__"] = {}
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return main


def _execute(code: CodeType, main: ModuleType) -> None:
    _as_program(lambda: exec(code, main.__dict__))


def _as_program(run: Any) -> Any:
    """Run it; an exception that leaves it is shown and ends the process as if we were not there."""
    try:
        return run()
    except SystemExit:
        raise
    except BaseException:
        _hide_frames()
        raise


def _hide_frames() -> None:
    """Have the exception that is about to end the process shown without our frames."""
    original = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        sys.excepthook = original
        at = _below_us(at)
        error.__traceback__ = at
        sys.last_traceback = at
        original(kind, error, at)

    sys.excepthook = show


def _below_us(at: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of this package, and those before them, of what runs it as a module."""
    program = at
    while at is not None:
        package = at.tb_frame.f_globals.get("__package__")
        at = at.tb_next
        if package == __package__:
            program = at
    return program
