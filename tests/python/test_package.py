"""What the package says of itself, with its native module and without."""

import shutil
import sys
from ctypes import c_longdouble
from importlib import metadata
from pathlib import Path

from conftest import python

import hotcall


def test_the_version_is_that_of_the_distribution(monkeypatch):
    assert hotcall.__version__ == metadata.version("hotcall")
    monkeypatch.setattr(hotcall._api, "_native", None)
    assert hotcall.__version__ == metadata.version("hotcall")
    assert "importlib.metadata" not in python("import hotcall, sys; print(hotcall.__version__, *sys.modules)").stdout.split()


def test_refusals_have_a_public_type(lib):
    hotcall.install()
    function = lib["record_g"]
    function.argtypes, function.restype = [c_longdouble], c_longdouble
    for _ in range(20):
        function(1.5)
    seen = hotcall.explain(function)
    assert all(type(refusal) is hotcall.Refusal for refusal in (seen.refused, *seen.refusals) if refusal)
    assert seen.refused or seen.refusals


def test_without_the_native_module(tmp_path):
    """The reason names what there is, and what to do."""
    package = tmp_path / "hotcall"
    shutil.copytree(Path(hotcall.__file__).parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    show = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import hotcall; print(hotcall.status().off)"
    off = python(show).stdout
    without = f"[{str(tmp_path)!r}, *(at for at in sys.path if 'site-packages' not in at)]"
    bare = python(f"import sys; sys.path[:] = {without}; import hotcall; print(hotcall.__version__)")
    assert bare.stdout == "unknown\n", bare
    version = "%d.%d" % sys.version_info[:2]
    assert f"no native module for CPython {version} on linux, x86_64" in off and "install" in off
    (package / "_native.abi3.so").write_bytes(b"no library")
    off = python(show).stdout
    assert off.startswith("the native module cannot be loaded: ") and "_native.abi3.so" in off


def test_names_of_the_module():
    assert [name for name in dir(hotcall) if not name.startswith("__")] == [name for name in hotcall.__all__ if name != "__version__"]
    assert all(hasattr(hotcall, name) for name in dir(hotcall))
