"""The native half of the package; use ``hotcall`` itself."""

from typing import Any

__version__: str

def configure(options: str) -> None:
    """Set the process up with options; the first call decides."""

def install() -> bool:
    """Put the hook in place; False if hotcall is off."""

def uninstall() -> None:
    """Put everything back."""

def explain(caller: str, function: object) -> dict[str, Any]:
    """What is known of a ctypes function."""

def stats() -> dict[str, Any]:
    """The figures of the process."""

def status() -> dict[str, Any]:
    """What is on and off."""
