"""The native half of the package; use ``hotcall`` itself."""

from collections.abc import Callable
from typing import Any, final

__all__ = [
    "_Failed",
    "__version__",
    "bind",
    "checked",
    "configure",
    "explain",
    "install",
    "listen",
    "loop",
    "profiled",
    "set_options",
    "stats",
    "status",
    "unbound",
    "uninstall",
]
__version__: str

@final
class _Failed:
    """An exception in the place of an argument whose conversion ended in it."""

    def __call__(self, _owner: object) -> None: ...

def configure(options: str, source: str) -> bool:
    """Choose the options of the process; the last choice before the first use holds.

    False if this one came later, and differs. An error begins with the source.
    """

def install(gil: str | None = None) -> bool:
    """Put the hook in place, and set the policy of the GIL; False if hotcall is off."""

def set_options(function: object, gil: str | None = None) -> None:
    """Set the policy of the GIL of a function; None for that of the process."""

def uninstall() -> None:
    """Put everything back."""

def listen(event: str, hook: Callable[[str, tuple[object, ...]], object]) -> None:
    """Add an audit hook for events of one name, other than calls, which go on as they are."""

def bind(function: object) -> Callable[..., Any]:
    """A built-in function over a ctypes function."""

def unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ctypes function that a built-in function is bound to; anything else as it is."""

def loop(
    caller: str,
    function: object,
    columns: tuple[Any, ...],
    same: tuple[bool, ...],
    count: int,
    out: Any,
    /,
) -> Any:
    """The results of a function for columns, or ``NotImplemented``; errors name the caller."""

def explain(caller: str, function: object) -> dict[str, Any]:
    """What is known of a ctypes function."""

def stats() -> dict[str, Any]:
    """The figures of the process."""

def status() -> dict[str, Any]:
    """What is on and off."""

def profiled() -> dict[str, Any]:
    """What was timed of each foreign function."""

def checked() -> dict[str, Any]:
    """What came of the calls that were checked."""
