"""The recording functions of the fixtures: loading them in every flavour, calling them, and reading what C received."""

import ctypes
from ctypes import CDLL, PyDLL, c_float, py_object

from conftest import Seen, observe
from values import FLOATS, goes_in_vector_register, unwrapped

FLAVOURS = {
    "CDLL": CDLL,
    "use_errno": lambda path: CDLL(path, use_errno=True),
    "PyDLL": PyDLL,
}


def flavoured(flavour, path):
    library = FLAVOURS[flavour](path)
    return library, Seen.in_dll(library, "seen")


def text_behind(seen, wide):
    """The text up to its NUL in the memory that the recorder read."""
    data = bytes(seen.bytes)[: max(seen.size, 0)]
    if not wide:
        return data.split(b"\0")[0]
    words = [data[i : i + 4] for i in range(0, len(data), 4)]
    return b"".join(words[: words.index(bytes(4))] if bytes(4) in words else words)


def what_c_saw(seen, in_vector, narrow, text):
    """The first argument as C received it: all 64 bits of its register, or the text behind a temporary."""
    if in_vector:
        return seen.floats[0] & (0xFFFFFFFF if narrow else 2**64 - 1)
    word = seen.ints[0]
    # A str is passed as a copy whose address means nothing.
    if text and word > 2**20:
        return text_behind(seen, wide=True)
    return word


def call_one(function, seen, argtype, value):
    """One observed call of a recorder with one argument."""
    before = seen.calls
    in_vector = goes_in_vector_register(argtype, value)
    outcome = observe(function, value)
    if seen.calls == before:
        return outcome
    narrow = argtype is c_float or isinstance(unwrapped(value), c_float)
    # A py_object is passed as it is: its address is compared, and not the count of references that is behind it.
    text = argtype is not py_object and isinstance(unwrapped(value), str)
    return outcome, seen.calls - before, what_c_saw(seen, in_vector, narrow, text)


def one_argument(library, argtype, value):
    """A fresh recorder for one argument of this type."""
    function = library["record_f" if goes_in_vector_register(argtype, value) else "record_p"]
    if argtype is not None:
        function.argtypes = [argtype]
    function.restype = None
    return function


def defined_words(seen, argtypes):
    """The words that C received, as far as a signature of these types defines them."""
    ints, floats, slots, words = 0, 0, 0, []
    for argtype in argtypes:
        mask = 256 ** ctypes.sizeof(argtype) - 1
        if issubclass(argtype, FLOATS) and floats < 8:
            words.append(seen.floats[floats] & mask)
            floats += 1
        elif not issubclass(argtype, FLOATS) and ints < 6:
            # Integers are widened to the whole register.
            words.append(seen.ints[ints])
            ints += 1
        else:
            words.append(seen.slots[slots] & mask)
            slots += 1
    return words
