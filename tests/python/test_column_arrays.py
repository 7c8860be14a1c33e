"""`hotcall.map` over arrays whose items are not just numbers in memory, or whose memory may move.

The oracle is a list comprehension over the ctypes function itself.
"""

import array
from ctypes import c_int

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
