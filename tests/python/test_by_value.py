"""Structures by value, as arguments and results, under plain ctypes and under hotcall.

ctypes passes them as libffi sees its description of them, which for packed structures and bit fields is not what a C
compiler does; hotcall has to put every byte where libffi puts it.
"""

import ctypes
import gc
import mmap
import sys
from ctypes import (
    CDLL, CFUNCTYPE, PyDLL, Structure, Union, addressof, byref, c_byte, c_char, c_double, c_float, c_int, c_int64, c_long, c_longdouble,
    c_short, c_ubyte, c_uint, c_void_p, resize, sizeof,
)  # fmt: skip

import pytest
from conftest import EXPECT_STUBS, LIBRARY, LONG, Seen, compare, observe

import hotcall

TIMES = 5


def structure(name, *fields, base=Structure, **attributes):
    return type(base)(name, (base,), {**attributes, "_fields_": fields})


Pair = structure("Pair", ("x", c_int), ("y", c_int))
Doubles = structure("Doubles", ("x", c_double), ("y", c_double))
Floats = structure("Floats", ("x", c_float), ("y", c_float), ("z", c_float))
Mixed = structure("Mixed", ("x", c_long), ("y", c_double))
Cursor = structure("Cursor", ("kind", c_int), ("flags", c_int), ("data", c_void_p * 3))
Three = structure("Three", ("x", c_ubyte * 3))
Five = structure("Five", ("x", c_ubyte * 5))


class SubPair(Pair):
    pass


ROUND_TRIPS = {
    "swap_pair": (Pair, (1, -2)),
    "swap_doubles": (Doubles, (1.5, -2.5)),
    "swap_floats": (Floats, (1.5, 2.5, 3.5)),
    "swap_mixed": (Mixed, (7, 8.0)),
    "next_cursor": (Cursor, (1, 2, (c_void_p * 3)(3, 4, 5))),
    "swap_three": (Three, ((c_ubyte * 3)(1, 2, 3),)),
    "swap_five": (Five, ((c_ubyte * 5)(1, 2, 3, 4, 5),)),
}


def tell(result):
    """A result, and all that ctypes keeps in it."""
    if not isinstance(result, Structure | Union):
        return result
    return (type(result), bytes(result), result._objects, result._b_base_, result._b_needsfree_, sys.getrefcount(result))


@pytest.mark.parametrize("loader", [ctypes.CDLL, PyDLL])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trips(name, declared, loader):
    kind, values = ROUND_TRIPS[name]

    def scenario():
        function = loader(LIBRARY)[name]
        function.restype = kind
        if declared:
            function.argtypes = [kind]
        instance = kind(*values)
        gc.collect()
        before = sys.getrefcount(instance), sys.getrefcount(kind)
        outcomes = [tell(function(instance)) for _ in range(TIMES)]
        outcomes += [tell(function(function(instance))) for _ in range(TIMES)]
        for wrong in [5, None, b"x", Pair if kind is not Pair else Mixed, Doubles() if kind is not Doubles else Pair(), byref]:
            outcomes += [observe(function, wrong)[0:4] for _ in range(2)] if declared else []
        gc.collect()
        return outcomes, sys.getrefcount(instance) - before[0], sys.getrefcount(kind) - before[1], bytes(instance)

    compare(scenario)


def test_results_go_through_the_rest(lib):
    """Checks, callables and errors after a structure is returned, and instances of subclasses."""

    def scenario():
        outcomes = []

        class Checked(Pair):
            def _check_retval_(self):
                if self.x < 0:
                    raise ArithmeticError(self.x)
                return self.x, self.y

        for restype in [Pair, SubPair, Checked]:
            function = lib["swap_pair"]
            function.argtypes, function.restype = [Pair], restype
            for instance in [Pair(1, 2), SubPair(3, 4), Pair(5, -6)]:
                for _ in range(TIMES):
                    outcome = observe(lambda instance=instance, function=function: tell(function(instance)))
                    outcomes.append(outcome if outcome[0] == "raised" else str(outcome))
            function.errcheck = lambda result, function, args: (bytes(result) if isinstance(result, Pair) else result, len(args))
            outcomes += [observe(function, Pair(1, 2)) for _ in range(TIMES)]
            outcomes += [observe(function, Pair(1, -2)) for _ in range(TIMES)]
        return outcomes

    compare(scenario)


def test_registers_run_out(lib):
    """A structure goes to registers as a whole or not at all; those behind it use what is left."""

    def scenario():
        function = lib["many_structs"]
        function.argtypes = [c_long] * 5 + [Mixed, Pair, Cursor, Doubles, c_double]
        function.restype = c_long
        cursor = Cursor(1, 2, (c_void_p * 3)(3, 4, 5))
        outcomes = []
        for number in range(TIMES * 2):
            if number == TIMES:
                function.argtypes = None
            args = [c_long(number), c_long(2), c_long(3), c_long(4), c_long(5), Mixed(6, 7.0), Pair(8, 9), cursor, Doubles(1, 2)]
            outcomes.append(function(*args, c_double(11.0)))
        return outcomes

    compare(scenario)


@pytest.mark.needs_exec
@pytest.mark.skipif(sys.version_info < (3, 13), reason="structures have no _align_ yet")
def test_aligned_structures_behind_the_registers(lib):
    """A structure that would fit registers is aligned where none are left, in both directions."""
    Aligned = structure("Aligned", ("x", c_long), ("y", c_long), _align_=16)

    def scenario():
        function = lib["behind_seven"]
        function.argtypes, function.restype = [c_long] * 7 + [Aligned, c_long], c_long
        outcomes = [function(*range(7), Aligned(number, 3), 4) for number in range(TIMES)]
        assert outcomes[1] == 3125
        back = CFUNCTYPE(c_long, *[c_long] * 7, Aligned)(lambda *args: args[6] * 100 + args[7].x * 10 + args[7].y)
        function = lib["call_behind_seven"]
        function.argtypes, function.restype = [type(back), c_long], c_long
        return outcomes + [function(back, number) for number in range(TIMES)]

    compare(scenario)


def random_structure(rng, depth=2):
    """A structure of any kind that ctypes makes: packed, of bit fields, with arrays and structures in it."""
    kinds = [c_byte, c_ubyte, c_short, c_int, c_uint, c_int64, c_float, c_double, c_void_p, c_char]
    fields = []
    for index in range(rng.randint(1, 5)):
        kind = rng.choice(kinds)
        if kind in (c_int, c_uint, c_short) and rng.random() < 0.25:
            fields.append((f"f{index}", kind, rng.randint(1, 8 * sizeof(kind))))
            continue
        if depth and rng.random() < 0.2:
            kind = random_structure(rng, depth - 1)
        if rng.random() < 0.15:
            kind = kind * rng.randint(1, 3)
        fields.append((f"f{index}", kind))
    attributes = {"_fields_": fields}
    if rng.random() < 0.25:
        attributes.update(_pack_=rng.choice([1, 2, 4]), _layout_="ms")
    elif sys.version_info >= (3, 13) and rng.random() < 0.1:
        attributes["_align_"] = rng.choice([8, 16])
    return type(Structure)("Random", (Structure,), attributes)


def covered(kind, offset=0):
    """The offsets of bytes that belong to a field; the others are padding, which nobody has to pass."""
    if issubclass(kind, ctypes.Array):
        size = sizeof(kind._type_)
        return {byte for index in range(kind._length_) for byte in covered(kind._type_, offset + index * size)}
    if issubclass(kind, Structure):
        fields = [(getattr(kind, field[0]).offset, field[1]) for field in kind._fields_]
        return {byte for start, inner in fields for byte in covered(inner, offset + start)}
    return set(range(offset, offset + sizeof(kind)))


# Of 8 bytes in which libffi finds a float alone it passes the lower half.
LOW = 0xFFFFFFFF


def places_of(words, masks, seen):
    """Where the words of a structure arrived: the registers and stack slots that have their bytes."""
    found = [*seen.ints, *seen.floats, *seen.slots]
    return [
        {place for place, word in enumerate(found) if word & mask & LOW == expected & LOW}
        for expected, mask in zip(words, masks, strict=True)
    ]


@pytest.mark.parametrize("before", [0, 5, 6])
def test_random_structures_arrive_where_libffi_puts_them(before, lib, rng):
    """Random bytes tell where each word of an argument went. Other places may hold copies: one place has to be the same."""
    seen = Seen.in_dll(lib, "seen")
    seed = rng.randrange(2**32)

    def scenario():
        random = type(rng)(seed)
        outcomes = []
        for _ in range(600 if LONG else 120):
            kind = random_structure(random)
            size = sizeof(kind)
            mask = bytes(255 if byte in covered(kind) else 0 for byte in range(size))
            data = bytes(byte & bits for byte, bits in zip(random.randbytes(size), mask, strict=True))
            instance = kind.from_buffer_copy(data)
            words, masks = (
                [int.from_bytes(half[start : start + 8], "little") for start in range(0, size, 8)] for half in (data, mask)
            )
            function = lib["record_i"]
            function.argtypes, function.restype = [c_long] * before + [kind], None
            places = []
            for _ in range(TIMES):
                seen.clear()
                outcome = observe(function, *range(before), instance)
                places.append(places_of(words, masks, seen) if outcome[0] == "returned" else outcome)
            # Fewer bytes are found by chance.
            outcomes.append((str(kind._fields_), [mask & LOW == LOW for mask in masks], places))
        return outcomes

    hotcall.uninstall()
    plain = scenario()
    with hotcall.installed():
        hot = scenario()
    for (fields, is_long, old), (_, _, new) in zip(plain, hot, strict=True):
        for first, second in zip(old, new, strict=True):
            if isinstance(first, tuple):
                assert first == second, fields
            else:
                # The function sees no more than 40 slots of the stack; what lies beyond is at best left over in some register.
                pairs = list(zip(first, second, is_long, strict=True))[: 40 - before]
                known = [(one, other) for one, other, counts in pairs if counts and one]
                assert all(one & other for one, other in known), (fields, first, second)


def test_random_results_come_from_the_registers_of_libffi(lib, rng):
    """A function that fills every register for results, or memory, tells where a structure is read from."""
    seed = rng.randrange(2**32)

    def scenario():
        random = type(rng)(seed)
        outcomes = []
        for _ in range(600 if LONG else 150):
            kind = random_structure(random)
            if sizeof(kind) > 16:
                continue
            function = lib["answer_all"]
            function.argtypes, function.restype = [c_long, c_long], kind
            results = [observe(lambda function=function, size=sizeof(kind): bytes(function(7, size))) for _ in range(TIMES)]
            outcomes.append((str(kind._fields_), results))
        return outcomes

    compare(scenario)


def test_nothing_behind_a_structure_is_read():
    """Structures of odd sizes at the very end of a page, behind which nothing may be read."""
    region = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [c_void_p, ctypes.c_size_t, c_int]
    start = addressof(c_byte.from_buffer(region))
    assert protect(start + mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0

    def scenario():
        outcomes = []
        for name, kind in [("swap_three", Three), ("swap_five", Five), ("swap_floats", Floats), ("next_cursor", Cursor)]:
            function = ctypes.CDLL(LIBRARY)[name]
            function.argtypes, function.restype = [kind], kind
            instance = kind.from_address(start + mmap.PAGESIZE - sizeof(kind))
            ctypes.memmove(addressof(instance), bytes(range(1, sizeof(kind) + 1)), sizeof(kind))
            outcomes.append([bytes(function(instance)) for _ in range(TIMES)])
        return outcomes

    compare(scenario)


@pytest.mark.needs_exec
def test_bytes_are_taken_before_the_call(lib):
    """What other code does to a structure during the call, even giving its memory back, is not seen by it."""

    def scenario():
        cursor = Cursor(1, 2, (c_void_p * 3)(3, 4, 5))

        @CFUNCTYPE(None)
        def between():
            cursor.kind = 1000
            resize(cursor, 4096)

        function = lib["read_later"]
        function.argtypes, function.restype = [Cursor, CFUNCTYPE(None)], c_long
        outcomes = []
        for _ in range(TIMES):
            cursor = Cursor(1, 2, (c_void_p * 3)(3, 4, 5))
            outcomes.append((function(cursor, between), cursor.kind))
        return outcomes

    compare(scenario)


def test_what_libffi_may_see_differently(lib):
    """Unions, empty structures and long doubles stay with ctypes, by name, and do what they did."""
    Small = structure("Small", ("i", c_int), ("f", c_float), base=Union)
    Outer = structure("Outer", ("u", Small), ("i", c_int))
    Empty = structure("Empty")
    Long = structure("Long", ("x", c_longdouble))
    Large = structure("Large", ("a", c_int64 * 4), ("b", c_double), base=Union)

    def scenario():
        outcomes = []
        for kind in [Small, Outer, Empty, Long, Large]:
            for name, restype in [("record_i", None), ("kind_of_cursor", c_int)]:
                function = lib[name]
                function.argtypes, function.restype = [kind, c_int], restype
                for _ in range(TIMES):
                    outcome = observe(function, kind(), 5)
                    outcomes.append(outcome if outcome[0] == "raised" or kind is Large else outcome[0])
        return outcomes

    compare(scenario)
    hotcall.install()
    kinds = [Small]
    if sys.version_info >= (3, 13):
        # The stack is aligned to 16 bytes, and libffi puts such structures where it is not.
        kinds.append(structure("Aligned", ("a", c_int64 * 4), _align_=32))
    for kind in kinds:
        function = lib["record_i"]
        function.argtypes = [kind]
        for _ in range(5):
            function(kind())
        assert hotcall.explain(function).refused.name == "by-value"


def test_structures_larger_than_memory(lib):
    """Classes of structures that nobody could have by value, as laid over mapped files: their references are passed as others."""

    def scenario():
        outcomes = []
        for power in (32, 38, 62):
            large = structure("Large", ("bytes", c_char * (1 << power)))
            overlay = large.from_address(4096)
            function = CDLL(None)["labs"]
            for argtypes in ([ctypes.POINTER(large)], [c_void_p], None):
                function.argtypes = argtypes
                outcomes.append([function(byref(overlay)) & 0xFFFFF000 for _ in range(TIMES)])
            function.argtypes = [large]
            outcomes.append([observe(function, "wrong")[:3] for _ in range(TIMES)])
        return outcomes

    compare(scenario)


def test_calls_run_in_stubs(lib):
    if not EXPECT_STUBS:
        pytest.skip("stubs are off in this run")
    hotcall.install()
    for name, (kind, values) in ROUND_TRIPS.items():
        function, instance = lib[name], kind(*values)
        function.argtypes, function.restype = [kind], kind
        for _ in range(5):
            function(instance)
        before = hotcall.stats()["stub_calls"]
        for _ in range(100):
            function(instance)
        assert hotcall.stats()["stub_calls"] - before == 100, name
