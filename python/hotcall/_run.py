"""Runs a program in this process as the interpreter itself would: the same names, paths and exit.

A script, a folder or archive with a ``__main__``, a module or a text finds ``sys.argv``,
``sys.path`` and ``__main__`` as if it were run by ``python``, and its tracebacks do not show us.

**Invariant.** What this module imports stays in ``sys.modules``, where the program finds it in
place of a module of its own by that name. So it imports what ``python -m`` has, and no more.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import os
import runpy
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType, TracebackType
    from typing import Any

_OF_FILES = ("__file__", "__cached__")
"""Names that ``__main__`` has while it runs a file."""


def script(path: str, arguments: list[str]) -> None:
    """Run the file, folder or archive ``path``, as ``python path`` does."""
    sys.argv = [path, *arguments]
    full = _absolute(path)
    if _is_importable(full):
        sys.path.insert(0, full)
        _fresh_main()
        _as_program(lambda: runpy._run_module_as_main("__main__", False))  # type: ignore[attr-defined]
        return
    try:
        with open(full, "rb") as file:
            source = file.read()
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        sys.stderr.write(f"{sys.executable}: can't open file {full!r}: {reason}\n")
        _fresh_main()
        if sys.flags.inspect:
            # The interpreter prompts next.
            return
        raise SystemExit(2) from None
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(full)))
    main = _fresh_main()
    if full.endswith(".pyc") or source[:2] == importlib.util.MAGIC_NUMBER[:2]:
        main.__loader__ = importlib.machinery.SourcelessFileLoader("__main__", full)
        _run_file(full, main, lambda: exec(_load(source), main.__dict__))
    else:
        main.__loader__ = importlib.machinery.SourceFileLoader("__main__", full)
        _run_file(full, main, lambda: _execute_source(source, full, main.__dict__))


def standard_input(name: str, arguments: list[str]) -> None:
    """Run what is read from the standard input, as ``python -`` does, or ``python`` alone."""
    sys.argv = [name, *arguments]
    if not sys.flags.safe_path:
        sys.path.insert(0, "")
    source = sys.stdin.buffer.read() if sys.stdin is not None else b""
    main = _fresh_main()
    _run_file("<stdin>", main, lambda: _execute_source(source, "<stdin>", main.__dict__))


def module(name: str, arguments: list[str]) -> None:
    """Run the module ``name``, as ``python -m name`` does."""
    sys.argv = ["-m", *arguments]
    folder = _working_folder()
    if not sys.flags.safe_path and folder is not None:
        sys.path.insert(0, folder)
    _fresh_main()
    _as_program(lambda: runpy._run_module_as_main(name))  # type: ignore[attr-defined]


def text(source: str, arguments: list[str]) -> None:
    """Run ``source``, as ``python -c source`` does."""
    sys.argv = ["-c", *arguments]
    main = _fresh_main()
    # The interpreter ends the text so, which errors of syntax show.
    source += "\n"
    if sys.version_info >= (3, 14) and source[:1].isspace():
        import textwrap

        source = textwrap.dedent(source)
    if not _is_encodable(source):
        sys.stderr.write("Unable to decode the command from the command line:\n")
    code = _as_program(lambda: compile(source, "<string>", "exec", dont_inherit=True))
    if sys.version_info >= (3, 13):
        import linecache

        # Tracebacks show the text. It was kept by its name before it was kept by its code.
        by_code = hasattr(linecache, "_interactive_cache")
        linecache._register_code(code if by_code else "<string>", source, "<string>")  # type: ignore[attr-defined]
    if not sys.flags.safe_path:
        sys.path.insert(0, "")
    _as_program(lambda: exec(code, main.__dict__))


def leave_path() -> None:
    """Take away the folder that ``python -m hotcall`` has put first."""
    if not sys.flags.safe_path and _working_folder() is not None:
        del sys.path[0]


def _working_folder() -> str | None:
    """The working folder; None if it is gone, and ``python`` does without."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _absolute(path: str) -> str:
    """Put the working folder before the path, as the interpreter does: links and dots remain."""
    folder = _working_folder()
    if folder is None or os.path.isabs(path):
        return path
    return folder if path == "." else f"{folder}/{path}"


def _is_importable(path: str) -> bool:
    """Whether ``path`` is a folder or an archive; ``sys.path_importer_cache`` keeps the answer."""
    finder = importlib.machinery.PathFinder._path_importer_cache(path)  # type: ignore[attr-defined]
    return finder is not None


def _is_encodable(text: str) -> bool:
    """Whether all bytes of what was given on the command line are characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fresh_main() -> ModuleType:
    """Put a new module in the place of ours."""
    main = type(sys)("__main__")
    main.__loader__ = importlib.machinery.BuiltinImporter
    if sys.version_info < (3, 14):
        main.__dict__["__annotations__"] = {}
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return main


def _run_file(name: str, main: ModuleType, run: Callable[[], None]) -> None:
    """Run a file by ``run()``, whose ``__main__`` knows its name until it ends."""
    names = main.__dict__
    names["__file__"] = name
    if sys.version_info < (3, 15):
        names["__cached__"] = None
    # Up to 3.13 an exception is shown before they go, and an exit leaves them.
    keeps = sys.version_info < (3, 14)
    try:
        _as_program(run, names if keeps else None)
        keeps = False
    finally:
        if not keeps:
            # Threads and handlers of the exit run next. A trace function sees no call here.
            for of_file in _OF_FILES:
                names.pop(of_file, None)


def _load(compiled: bytes) -> CodeType:
    """The code in the contents of a compiled file."""
    import marshal

    if compiled[:4] != importlib.util.MAGIC_NUMBER:
        raise RuntimeError("Bad magic number in .pyc file")
    code = marshal.loads(compiled[16:])
    if not isinstance(code, type(_load.__code__)):
        raise RuntimeError("Bad code object in .pyc file")
    return code


def _execute_source(source: bytes, name: str, names: dict[str, Any]) -> None:
    """Run the contents of a file."""
    try:
        code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        if not hasattr(os, "memfd_create"):
            raise
        code = None
    if code is None:
        _leave_to_interpreter(source, name, names)
    else:
        exec(code, names)


def _leave_to_interpreter(source: bytes, name: str, names: dict[str, Any]) -> None:
    """Have the interpreter itself read what is no program: of a file it speaks in other words."""
    import ctypes

    c = ctypes.PyDLL(None)
    with os.fdopen(os.memfd_create("program"), "wb") as copy:
        copy.write(source)
        copy.flush()
        os.lseek(copy.fileno(), 0, os.SEEK_SET)
        c.fdopen.restype = ctypes.c_void_p
        file = c.fdopen(os.dup(copy.fileno()), b"rb")
    c.PyRun_FileExFlags.restype = ctypes.py_object
    scope, file_input, close = ctypes.py_object(names), 257, 1
    path = os.fsencode(name)
    c.PyRun_FileExFlags(ctypes.c_void_p(file), path, file_input, scope, scope, close, None)


def _as_program(run: Callable[[], Any], names: dict[str, Any] | None = None) -> Any:
    """Run it; an exception that leaves it is shown and ends the process as if we were not there.

    When that has been shown, ``names`` lose what is of the file. With ``-i`` an exit is shown, too.
    """
    try:
        return run()
    except BaseException as error:
        if sys.flags.inspect or not issubclass(type(error), SystemExit):
            _show_from(_of_program(error), names or {})
        raise


def _of_program(error: BaseException) -> TracebackType | None:
    """The traceback of the exception without our own frames."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_globals is globals():
        at = at.tb_next
    return at


def _show_from(at: TracebackType | None, names: dict[str, Any]) -> None:
    """Have the exception that is about to end the process shown from there.

    Behind that, unless it ends in an exit, ``names`` lose what is of the file.
    """
    missing = not hasattr(sys, "excepthook")
    original = sys.__excepthook__ if missing else sys.excepthook

    def show(kind: type[BaseException], error: BaseException, whole: object) -> None:
        ended = names
        error.__traceback__ = sys.last_traceback = at
        if missing:
            del sys.excepthook
            sys.stderr.write("sys.excepthook is missing\n")
        else:
            sys.excepthook = original
        try:
            original(kind, error, at)
        except BaseException as failure:
            failure.__traceback__ = _of_program(failure)
            if issubclass(type(failure), SystemExit) and not sys.flags.inspect:
                ended = {}
            raise
        finally:
            for of_file in _OF_FILES:
                ended.pop(of_file, None)

    sys.excepthook = show
