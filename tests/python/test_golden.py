"""Golden texts: the traces of a few functions and their machine code, the same on every version of a layout.

`HOTCALL_BLESS=1` writes the files anew. 3.11 has texts of its own: its ints are laid out in another way, and its stubs
also look at the class's call slot.
"""

import os
import sys
from pathlib import Path

import pytest

from conftest import python

GOLDEN = Path(__file__).parent / "golden"
LAYOUT = "3.11" if sys.version_info < (3, 12) else "3.12"

PRELUDE = """if True:
    import hotcall.auto, ctypes, os
    from ctypes import *
    lib = CDLL(os.environ["HOTCALL_FIXTURE"])
    def show(library, restype, *argtypes):
        function = library["mix_i"] if restype is not c_double else library["mix_d"]
        function.restype, function.argtypes = restype, argtypes
        return function
    def struct(*kinds):
        return type("Struct", (Structure,), {"_fields_": [(f"f{index}", kind) for index, kind in enumerate(kinds)]})
    def declared(name, restype, *argtypes):
        function = lib[name]
        function.restype, function.argtypes = restype, argtypes
        return function
    Pair, Cursor = struct(c_int, c_int), struct(c_int, c_int, c_void_p * 3)
    Given = type("Given", (), {"from_param": lambda value: value})
    def tell(function, *args):
        function(*args)
        function(*args)
        shapes = hotcall.explain(function).shapes
        print(shapes[-1].trace + "\\n" + shapes[-1].disassembly, end="")
    def tell_trace(function, *args):
        function(*args)
        function(*args)
        print(hotcall.trace(function), end="")
    def tell_callback(restype, *argtypes):
        function = CFUNCTYPE(restype, *argtypes)(lambda *args: 1)
        function(*[kind() for kind in argtypes])
        print(hotcall.explain(function).callback.trace, end="")
"""

CASES = {
    "float": "tell(show(lib, c_double, c_double), 0.5)",
    "ints": "tell(show(lib, c_int, c_int, c_ubyte), 5, 6)",
    "large-int": "tell(show(lib, c_ulong, c_ulong), 2**60)",
    "bytes-and-none": "tell(show(lib, None, c_char_p, c_void_p), b'x', None)",
    "instance": "tell(show(lib, c_bool, c_short), c_short(3))",
    "subclass-result": "tell(show(lib, type('Mine', (c_int,), {})), *[])",
    # Its code has the distance of errno, which differs from process to process.
    "use-errno": "tell_trace(show(CDLL(lib._name, use_errno=True), c_void_p), *[])",
    # Its code has offsets that differ by version: of the thread state, and of the exception in it.
    "python-api": "tell_trace(show(PyDLL(lib._name), c_float, c_float), 1.0)",
    # Lending has offsets in each call, so the other texts are of calls that release the GIL.
    "lent": "tell_trace(show(lib, c_int, c_int), 5)",
    "struct-in-registers": "tell(declared('swap_pair', Pair, Pair), Pair(1, 2))",
    "struct-in-memory": "tell(declared('kind_of_cursor', c_int, Cursor, c_int), Cursor(), 5)",
    "left-out-converter": "tell_trace(declared('add_one', c_int, Given), c_int(5))",
    "detour": "tell_trace(declared('add_one', c_int, c_int), type('Holder', (), {'_as_parameter_': 5})())",
    # Their code has the offset of the thread state.
    "callback": "tell_callback(c_int, c_short, c_char_p, POINTER(c_int), Pair, Cursor)",
    "callback-nothing": "tell_callback(None, c_double)",
    "on-the-stack": "tell(show(lib, c_double, *[c_double, c_int] * 9), *[0.5, 5] * 9)",
}


@pytest.mark.stubs
@pytest.mark.parametrize("case", CASES)
def test_text(case):
    if case == "left-out-converter" and sys.version_info[:2] == (3, 12):
        pytest.skip("3.12 does not show who watches Python code, so converters are called")
    # The functions get arguments that they do not expect, which in C's conventions of this machine harms nobody.
    setting = "threshold=1" if case == "lent" else "threshold=1,gil=release"
    done = python(PRELUDE + f"    {CASES[case]}\n", setting=setting)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    file = GOLDEN / f"{case}-{LAYOUT}.txt"
    if os.environ.get("HOTCALL_BLESS"):
        file.write_text(done.stdout)
    expected, told = file.read_text(), done.stdout
    assert told.strip(), "there is a trace"
    if id(int) < 2**32:
        # An executable that is not position independent has addresses that fit into shorter instructions.
        expected, told = (text.partition("\n\n")[0] for text in (expected, told))
    assert told == expected
