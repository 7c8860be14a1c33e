"""The public functions, on top of the native half of the package."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType

# What type checkers take for true: the module of types takes longer to import than all of this one.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hotcall._facts import Callback, Explanation, Gil, Shape, Status

_FUNCTIONS: tuple[type, ...] = ()
"""The class of all ctypes functions; none in interpreters that cannot import ctypes."""
try:
    from _ctypes import CFuncPtr as _CFuncPtr
except ImportError:
    pass
else:
    _FUNCTIONS = (_CFuncPtr,)

STARTED = time.monotonic()
"""When hotcall was imported."""


def _why_missing(error: ImportError) -> str:
    """Why there is no native module, and what to do."""
    if error.name != "hotcall":
        return f"the native module cannot be loaded: {error}"
    import platform

    version = ".".join(platform.python_version_tuple()[:2])
    python = f"{platform.python_implementation()} {version}"
    if "t" in getattr(sys, "abiflags", ""):
        python += " without a GIL"
    return (
        f"this installation has no native module for {python} on {sys.platform}, "
        f"{platform.machine()}; there is one for CPython 3.11 to 3.15 with a GIL on Linux, x86-64, "
        "in the wheel: install that, and leave the folder of the sources"
    )


def _environment() -> str:
    """The options in the environment; bytes that are no text are shown, and are no option."""
    return os.environ.get("HOTCALL", "").encode(errors="backslashreplace").decode()


def _is_command() -> bool:
    """Whether the interpreter is looking for what ``python -m hotcall`` runs."""
    arguments = getattr(sys, "argv", None) or [""]
    module = sys.orig_argv[-len(arguments) :][:1]
    return arguments[0] == "-m" and module in (["hotcall"], ["-mhotcall"])


_missing = ""
try:
    from hotcall import _native as _native
except ImportError as _error:
    _native = None  # type: ignore[assignment]
    _missing = _why_missing(_error)
else:
    try:
        _native.configure(_environment(), "HOTCALL")
    except ValueError:
        # The command line says it in one line.
        if not _is_command():
            raise


def _version() -> str:
    """The version of the package; ``unknown`` where it is not installed, and has no native half."""
    if _native is not None:
        return _native.__version__
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hotcall")
    except PackageNotFoundError:
        return "unknown"


_POLICIES = ("release", "lend", "hold")


def install(*, gil: Gil | None = None) -> None:
    """Accelerate all ctypes functions of the process, existing and future ones, in place.

    ``gil`` says who has the GIL during calls; None leaves that as it is, which at first is
    ``lend``, or what ``HOTCALL=gil=...`` says.

    Where hotcall cannot work nothing happens, and ``status()`` says why. Installing twice is
    the same as installing once. Raises ValueError if ``gil`` is no policy.
    """
    _check_policy(gil)
    if _native is not None:
        _native.install(gil)


def options(function: Callable[..., Any], *, gil: Gil | None = None) -> None:
    """Set who has the GIL during the calls of one ctypes function; None: as in the process.

    Where hotcall is off nothing happens. Raises TypeError if it is not a ctypes function,
    ValueError if ``gil`` is no policy.
    """
    function = _function("options", function)
    _check_policy(gil)
    if _native is not None:
        _native.set_options(function, gil)


def bind(function: Callable[..., Any]) -> Callable[..., Any]:
    """A built-in function that does what a ctypes function does, and is called faster.

    ``bind(f)(...)`` is ``f(...)``: the same arguments, keywords, results and errors, whatever
    becomes of the declaration of ``f``, which is its ``__self__`` and stays alive with it. It
    has ``f``'s name and documentation, or the name of its class. CPython calls built-in
    functions faster than other objects, so this is for functions that are called often from
    Python code::

        cos = hotcall.bind(libm.cos)

    Bind when ``argtypes`` is declared: from 3.14 on a function of one argument is then handed
    it directly. It works whether hotcall is installed or not. Where there is no native module
    it is a Python function, with the same name, documentation and ``__self__``. Raises
    TypeError if it is not a ctypes function.
    """
    function = _function("bind", function)
    if _native is not None:
        return _native.bind(function)

    def bound(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    name = str(getattr(function, "__name__", type(function).__name__))
    bound.__name__ = bound.__qualname__ = name
    bound.__doc__ = function.__doc__
    bound.__self__ = function
    return bound


def _function(caller: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The ctypes function that is meant: this one, or that which ``bind`` bound it to."""
    if _native is not None:
        function = _native.unbound(function)
    elif type(function) is FunctionType:
        function = getattr(function, "__self__", function)
    # What its `__class__` says is up to the object.
    if issubclass(type(function), _FUNCTIONS):
        return function
    if (around := _around(function)) is not None:
        name = getattr(function, "__name__", "")
        raise TypeError(
            f"hotcall.{caller}: ctypes.{name} is a Python function around a ctypes function; "
            f"pass ctypes.{around}"
        )
    given = type(function).__name__
    raise TypeError(f"hotcall.{caller}: expected a ctypes function, not {given}")


def _around(function: Callable[..., Any]) -> str | None:
    """The name of the ctypes function that a Python function of ctypes calls, as ``cast`` does."""
    if type(function) is not FunctionType or function.__module__ != "ctypes":
        return None
    name = f"_{function.__name__}"
    return name if isinstance(function.__globals__.get(name), _FUNCTIONS) else None


def _check_policy(gil: str | None) -> None:
    if gil is not None and gil not in _POLICIES:
        raise ValueError(
            f"hotcall: {gil!r} is no policy of the GIL; expected 'release', 'lend' or 'hold'"
        )


def uninstall() -> None:
    """Put everything back as it was before ``install()``; harmless if it was not called."""
    if _native is not None:
        _native.uninstall()


@contextmanager
def installed() -> Iterator[None]:
    """Accelerate ctypes within a ``with`` block; leave it as it was found."""
    before = status().installed
    install()
    try:
        yield
    finally:
        if not before:
            uninstall()


def status() -> Status:
    """What is on, what is off, and why."""
    from hotcall._facts import Status

    if _native is None:
        return Status(False, _missing, None, None, None, False, None)
    native = _native.status()
    return Status(
        installed=native["installed"],
        off=native["off"],
        stubs_off=native["stubs_off"],
        gil=native["gil"],
        lending_off=native["lending_off"],
        data=native["data"],
        callbacks_off=native["callbacks_off"],
    )


def stats() -> dict[str, Any]:
    """Figures of the process, as a new dict.

    ``functions`` (with a call site), ``shapes`` (stubs in their chains), ``full_chains``,
    ``renewals`` (chains that were dropped for new shapes), ``thefts`` (how often the GIL was
    taken away from a call that had lent it), ``yields`` (how often calls gave other threads a
    chance), ``demotions`` (functions that release the GIL since lending it did not pay),
    ``stubs``, ``code_bytes``, ``code_capacity``; of callbacks ``callbacks`` (functions that live),
    ``callback_shapes``, ``callback_stubs``, ``trampolines``, and ``callback_refusals``, a dict from
    name to the number of functions; and, where ``HOTCALL=count=1`` was set before the import
    (``counting`` is then True), the exact numbers of calls: ``stub_calls``,
    ``interpreter_calls``, ``ctypes_calls``, ``stub_callbacks``, ``interpreter_callbacks``, and
    ``refusals``, a dict from name to number.
    Where hotcall is off, all figures are 0.
    """
    if _native is None or _native.status()["off"]:
        names = ("stub_calls", "interpreter_calls", "ctypes_calls")
        sites = ("functions", "shapes", "full_chains", "renewals")
        gil = ("thefts", "yields", "demotions")
        code = ("stubs", "code_bytes", "code_capacity", "trampolines")
        back = ("callbacks", "callback_shapes", "callback_stubs")
        called = ("stub_callbacks", "interpreter_callbacks")
        figures = dict.fromkeys(names + sites + gil + code + back + called, 0)
        return {"counting": False, **figures, "refusals": {}, "callback_refusals": {}}
    return dict(_native.stats())


def explain(function: Callable[..., Any]) -> Explanation:
    """Tell in which tier a ctypes function is, what it was compiled for, and what was refused.

    Raises TypeError if it is not a ctypes function, RuntimeError where hotcall is off.
    """
    return _explain("explain", function)


def trace(function: Callable[..., Any]) -> str:
    """The traces of a ctypes function as text, oldest first, loops last; empty if it has none.

    Raises TypeError if it is not a ctypes function, RuntimeError where hotcall is off.
    """
    explanation = _explain("trace", function)
    return "\n".join(shape.trace for shape in explanation.shapes + explanation.loops)


def disassemble(function: Callable[..., Any]) -> str:
    """The stubs of a ctypes function as text, oldest first, loops last; empty if it has none.

    Raises TypeError if it is not a ctypes function, RuntimeError where hotcall is off.
    """
    explanation = _explain("disassemble", function)
    return "\n".join(shape.disassembly for shape in explanation.shapes + explanation.loops)


def _explain(caller: str, function: Callable[..., Any]) -> Explanation:
    from hotcall._facts import Explanation, Refusal

    if _native is None:
        raise RuntimeError(f"hotcall is off: {_missing}")
    native = _native.explain(caller, _function(caller, function))
    refused = native["refused"]
    return Explanation(
        name=native["name"],
        tier=native["tier"],
        gil=native["gil"],
        signature=native["signature"],
        refused=Refusal(refused[0], refused[1], 0) if refused else None,
        refusals=tuple(Refusal(*refusal) for refusal in native["refusals"]),
        shapes=tuple(_shape(native) for native in native["shapes"]),
        loops=tuple(_shape(native) for native in native["loops"]),
        callback=_callback(native["callback"]),
    )


def _shape(native: dict[str, Any]) -> Shape:
    from hotcall._facts import Shape

    return Shape(**{**native, "guards": tuple(native["guards"])})


def _callback(native: dict[str, Any] | None) -> Callback | None:
    from hotcall._facts import Callback, Refusal

    if native is None:
        return None
    refused = native["refused"]
    refusal = Refusal(refused[0], refused[1], 0) if refused else None
    return Callback(**{**native, "refused": refusal})
