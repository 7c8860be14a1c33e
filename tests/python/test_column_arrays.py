"""`hotcall.map` over arrays whose items are not just numbers in memory, or whose memory may move.

The oracle is a list comprehension over the ctypes function itself.
"""

import array
import ctypes
import itertools
from ctypes import (
    CFUNCTYPE, POINTER, Structure, addressof, c_char, c_char_p, c_double, c_float, c_int, c_void_p,
    create_string_buffer, resize,
)  # fmt: skip

import pytest
from columnkit import COUNT, DOUBLES, cos_of, each, expect_loops
from conftest import observe
from gilkit import declared

import hotcall

pytestmark = pytest.mark.usefixtures("way")


def test_arrays_with_items_of_their_own(way, lib):
    """Subclasses of arrays that say themselves what their items are, and what is assigned to them."""

    class Tenfold(array.array):
        def __iter__(self):
            return (10 * item for item in super().__iter__())

        def __setitem__(self, index, value):
            super().__setitem__(index, 10 * value)

    class Named(array.array):
        pass

    add = declared(lib, "add_one", c_int)
    numbers = range(COUNT)
    assert hotcall.map(add, Tenfold("i", numbers)) == each(add, Tenfold("i", numbers)) == [10 * n + 1 for n in numbers]
    out = Tenfold("i", bytes(4 * COUNT))
    assert hotcall.map(add, array.array("i", numbers), out=out) is out
    assert bytes(out) == array.array("i", [10 * (n + 1) for n in numbers]).tobytes()
    cos = cos_of(lib)
    out = Named("d", bytes(8 * COUNT))
    assert hotcall.map(cos, Named("d", DOUBLES), out=out) is out
    assert list(out) == each(cos, DOUBLES)
    expect_loops(cos, way, 1)


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element")
def test_subclasses_of_numpy_arrays(way, lib, tmp_path):
    numpy = pytest.importorskip("numpy")

    class Tenfold(numpy.ndarray):
        def __getitem__(self, index):
            return 10 * super().__getitem__(index)

        def __setitem__(self, index, value):
            super().__setitem__(index, 10 * value)

    cos = cos_of(lib)
    plain = numpy.array(DOUBLES)
    tenfold = plain.copy().view(Tenfold)
    assert hotcall.map(cos, tenfold) == each(cos, tenfold) == each(cos, 10 * plain)
    masked = numpy.ma.array(plain, mask=False)
    assert hotcall.map(cos, masked) == each(cos, masked) == each(cos, plain)
    masked[7] = numpy.ma.masked
    assert observe(hotcall.map, cos, masked) == observe(each, cos, masked)
    for out in (numpy.zeros(COUNT).view(Tenfold), numpy.ma.masked_all(COUNT)):
        expected = each(cos, plain, out=out.copy())
        for call in (hotcall.map, hotcall.vectorize(cos)):
            arguments = (cos, plain) if call is hotcall.map else (plain,)
            place = out.copy()
            assert call(*arguments, out=place) is place
            assert place.tolist() == expected.tolist()
    expect_loops(cos, way, 0)
    mapped = numpy.memmap(tmp_path / "numbers", "f8", "w+", shape=COUNT)
    assert hotcall.map(cos, plain, out=mapped) is mapped
    assert hotcall.map(cos, mapped) == each(cos, each(cos, plain))
    expect_loops(cos, way, 2)


def test_arrays_that_are_no_buffers(way, lib):
    """NumPy gives no buffer of dates: they are iterated over."""
    numpy = pytest.importorskip("numpy")
    add = declared(lib, "add_one", c_int)
    dates = numpy.array(["2020", "2021"], dtype="M8[D]")
    assert observe(hotcall.map, add, dates) == observe(each, add, dates)


def test_arrays_of_ctypes(way, lib):
    """They may be resized meanwhile, so there is no loop over their memory; a view of numbers has one."""
    add = declared(lib, "add_one", c_int)
    numbers, out = (c_int * COUNT)(*range(COUNT)), (c_int * COUNT)()
    assert hotcall.map(add, numbers, out=out) is out
    assert list(out) == list(range(1, COUNT + 1))
    view = memoryview(numbers)
    for column, place in ((view, None), (range(COUNT), view)):
        with pytest.raises(NotImplementedError, match="unsupported format <i"):
            hotcall.map(add, column, out=place)
    expect_loops(add, way, 0)
    column, place = (memoryview(array).cast("B").cast("i") for array in (out, numbers))
    assert hotcall.map(add, column, out=place) is place
    assert list(numbers) == list(range(2, COUNT + 2))
    expect_loops(add, way, 1)


def test_numbers_of_numpy_wherever_they_lie(way, lib):
    """Unaligned ones, in the other order of bytes, or of 16 bits: ints and floats, in short columns and long ones."""
    numpy = pytest.importorskip("numpy")
    address = declared(lib, "same", c_void_p, restype=c_void_p)
    add = declared(lib, "add_one", c_int)
    half = declared(lib, "mix_d", c_double, c_float, c_int, restype=c_double)
    for count in (3, COUNT):
        numbers = list(range(1, count + 1))
        for name, dtype in [("a", "u1"), ("b", "i8"), ("b", ">i8"), ("b", ">u2")]:
            column = numpy.zeros(count, [("a", "u1"), ("b", dtype)])[name]
            column[:] = numbers
            assert hotcall.map(address, column) == numbers
            assert hotcall.map(add, column) == each(add, numbers)
            out = numpy.zeros(count, [("a", "u1"), ("b", "i8")])["b"]
            assert hotcall.map(add, column, out=out) is out and out.tolist() == each(add, numbers)
            assert hotcall.vectorize(add)(column).tolist() == each(add, numbers)
        for dtype in ("f2", ">f4", "f8"):
            column = numpy.zeros(count, [("a", "u1"), ("b", dtype)])["b"]
            column[:] = numbers
            assert hotcall.map(half, column, column, numbers) == each(half, numbers, numbers, numbers)
            assert observe(hotcall.map, add, column) == observe(each, add, column.tolist())
        # A memoryview does not read such items, so neither map nor a loop in Python does.
        view = memoryview(numpy.zeros(count, [("a", "u1"), ("b", "i4")])["b"])
        for column, place in ((view, None), (numbers, view)):
            with pytest.raises(NotImplementedError, match="unsupported format =i"):
                hotcall.map(add, column, out=place)
        assert hotcall.map(add, numpy.array(numbers, object)) == each(add, numbers)
        for column in (numpy.zeros(count, "c16"), numpy.zeros(count, [("a", "i4")]), numpy.array(["x"] * count)):
            assert observe(hotcall.map, add, column) == observe(each, add, column)


@pytest.mark.needs_exec
def test_arrays_and_structures_whose_memory_moves(way, lib):
    """A callback resizes what later calls are given the address of: these get the new one, as from ctypes."""

    class Pair(Structure):
        _fields_ = [("a", c_int), ("b", c_int)]

    for kind, target in ((c_int * 300, c_int), (Pair, Pair), (c_int, c_int), (POINTER(c_int), POINTER(c_int))):
        made, hits = kind(), []

        def note(pointer, number, made=made, hits=hits):
            hits.append(addressof(pointer.contents) == addressof(made))
            if number == COUNT // 2:
                resize(made, 40_960)
            return number

        function = CFUNCTYPE(c_int, POINTER(target), c_int)(note)
        function.argtypes = [POINTER(target), c_int]
        for column in (itertools.repeat(made), [made] * COUNT):
            assert hotcall.map(function, column, range(COUNT)) == list(range(COUNT))
        assert hits == [True] * (2 * COUNT)
        expect_loops(function, way, 0)
    text, lengths = create_string_buffer(b"one", 8), []

    def spell(place, number):
        lengths.append(place == addressof(text))
        if number == COUNT // 2:
            resize(text, 40_960)
        return number

    function = CFUNCTYPE(c_int, c_void_p, c_int)(spell)
    for rule in (c_void_p, c_char_p, c_char * 8):
        function.argtypes = [rule, c_int]
        assert hotcall.map(function, itertools.repeat(text), range(COUNT)) == list(range(COUNT))
        assert lengths == [True] * len(lengths)
        expect_loops(function, way, 0)


@pytest.mark.needs_exec
def test_instances_whose_value_changes(way, lib):
    """Each call gets what an instance has by then."""
    number, place, items, seen = c_int(0), c_void_p(1), [c_int(10 * item) for item in range(COUNT + 1)], []
    pointer = ctypes.pointer(items[0])

    def change(value, address, pointed):
        seen.append((value, address, pointed.contents.value))
        number.value += 1
        place.value += 1
        pointer.contents = items[number.value]
        return value

    function = CFUNCTYPE(c_int, c_int, c_void_p, POINTER(c_int))(change)
    function.argtypes = [c_int, c_void_p, POINTER(c_int)]
    assert hotcall.map(function, [number] * COUNT, itertools.repeat(place), itertools.repeat(pointer)) == list(range(COUNT))
    assert seen == [(item, item + 1, 10 * item) for item in range(COUNT)]
    expect_loops(function, way, 0)
