"""`hotcall.vectorize`: what is an array, what the result is, and how NumPy arrays are broadcast."""

import array
import ctypes
import inspect
import math
import pydoc
from ctypes import c_bool, c_char_p, c_int, c_int64, c_ubyte

import pytest
from columnkit import COUNT, DOUBLES, cos_of
from gilkit import declared

import hotcall

pytestmark = pytest.mark.usefixtures("way")


def test_vectorized_functions_without_numpy(way, lib):
    cos = hotcall.vectorize(cos_of(lib))
    assert cos.__name__ == "cos"
    assert cos(0.0) == 1.0
    made = cos(DOUBLES)
    assert made == array.array("d", [math.cos(x) for x in DOUBLES])
    out = array.array("d", bytes(8 * COUNT))
    assert cos(tuple(DOUBLES), out=out) is out and out == made
    mix = hotcall.vectorize(declared(lib, "mix_i", c_int, c_int64, c_ubyte, restype=c_int64))
    assert mix(range(3), 5, [1, 2, 3]) == array.array("q", [26, 30, 34])
    even = hotcall.vectorize(declared(lib, "add_one", c_int, restype=c_bool))
    assert even([-1, 0, 1]) == array.array("B", [0, 1, 1])
    nothing = hotcall.vectorize(declared(lib, "add_one", c_int, restype=None))
    assert nothing(range(3)) is None
    text = hotcall.vectorize(declared(lib, "same", c_char_p, restype=c_char_p))
    assert text(b"one") == b"one"
    with pytest.raises(TypeError, match="returns <class 'ctypes.c_char_p'>, which is no number"):
        text([b"one"])
    with pytest.raises(TypeError, match="out is for arrays"):
        cos(0.0, out=out)
    with pytest.raises(ValueError, match="^hotcall.vectorize: the columns have different lengths, 3, 4"):
        mix(range(3), range(4), 1)
    with pytest.raises(ValueError, match="^hotcall.vectorize: out has 1 items, the columns have 2"):
        cos([0.0, 1.0], out=[0.0])
    with pytest.raises(TypeError, match="^hotcall.vectorize: out must be a mutable sequence, not tuple"):
        cos([0.0], out=(0.0,))
    listed = [0.0, 0.0]
    assert cos([0.0, 0.0], out=listed) is listed and listed == [1.0, 1.0]


def test_what_a_vectorized_function_says_of_itself(way, lib):
    plain = cos_of(lib)
    cos = hotcall.vectorize(plain)
    assert str(inspect.signature(cos)) == "(*arguments, out=None)"
    assert cos.__wrapped__ is plain and "cos for each item of arrays" in cos.__doc__
    assert "cos(*arguments, out=None)" in pydoc.render_doc(cos, renderer=pydoc.plaintext)


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element", "ignore:the matrix subclass")
def test_arrays_with_items_of_their_own(way, lib):
    """Their items are what `map` takes them for; what comes of them is a plain array."""
    numpy = pytest.importorskip("numpy")

    class Tenfold(numpy.ndarray):
        def __getitem__(self, index):
            return 10 * super().__getitem__(index)

    class Halves(array.array):
        def __getitem__(self, index):
            return super().__getitem__(index) / 2

        def __iter__(self):
            return (item / 2 for item in super().__iter__())

    cos = cos_of(lib)
    vectorized = hotcall.vectorize(cos)
    plain = numpy.array(DOUBLES)
    masked = numpy.ma.array(plain, mask=[number % 3 == 0 for number in range(COUNT)])
    for given in (plain.view(Tenfold), masked):
        made = vectorized(given)
        assert type(made) is numpy.ndarray
        assert numpy.array_equal(made, hotcall.map(cos, given), equal_nan=True)
    assert numpy.array_equal(vectorized(plain.view(Tenfold)), vectorized(10 * plain))
    assert numpy.array_equal(numpy.isnan(vectorized(masked)), masked.mask)
    matrix = numpy.matrix(plain.reshape(2, -1))
    assert numpy.array_equal(vectorized(matrix), vectorized(plain).reshape(2, -1))
    add = hotcall.vectorize(declared(lib, "mix_i", c_int, c_int64, c_ubyte, restype=c_int64))
    with pytest.raises(ctypes.ArgumentError) as raised:
        add(numpy.ma.array([1, 2, 3], mask=[0, 1, 0]), 5, 7)
    assert raised.value.__notes__ == ["hotcall.vectorize: item 1"]
    grid = numpy.ma.array([[1, 2, 3]], mask=False)
    assert add(grid, numpy.arange(2)[:, None], 7).tolist() == [[3 * a + 5 * b + 7 for a in (1, 2, 3)] for b in range(2)]
    halves = Halves("d", DOUBLES)
    assert numpy.array_equal(vectorized(halves, out=numpy.zeros(COUNT)), vectorized(plain / 2))


def test_vectorized_functions_of_numpy_arrays(way, lib):
    numpy = pytest.importorskip("numpy")
    cos = hotcall.vectorize(cos_of(lib))
    grid = numpy.linspace(0, 3, 60).reshape(3, 4, 5)
    assert numpy.array_equal(cos(grid), numpy.vectorize(math.cos)(grid))
    assert cos(grid).shape == grid.shape and cos(grid).dtype == numpy.float64
    assert numpy.array_equal(cos(grid.T), cos(grid).T)
    assert numpy.array_equal(cos(grid[:, ::2, 1]), cos(grid)[:, ::2, 1])
    assert numpy.array_equal(cos(numpy.arange(10)), cos(numpy.arange(10.0)))
    assert numpy.array_equal(cos(grid.astype("f4")), cos(grid.astype("f4").astype("f8")))
    assert numpy.array_equal(cos(grid.astype(">f8")), cos(grid))
    assert cos(numpy.array(0.0)).shape == ()
    mix = hotcall.vectorize(declared(lib, "mix_i", c_int, c_int64, c_ubyte, restype=c_int64))
    table = mix(numpy.arange(3, dtype="i4")[:, None], numpy.arange(4), 7)
    assert table.tolist() == [[3 * a + 5 * b + 7 for b in range(4)] for a in range(3)]
    for out in (numpy.zeros((3, 4, 5)), numpy.zeros((5, 4, 3)).T, numpy.zeros((6, 4, 5))[::2]):
        assert cos(grid, out=out) is out
        assert numpy.array_equal(out, cos(grid))
    with pytest.raises(ValueError, match="out has the shape"):
        cos(grid, out=numpy.zeros(60))
    for out in (array.array("d", bytes(480)), [0.0] * 60):
        text = f"^hotcall.vectorize: out must be a NumPy array where an argument is one, not {type(out).__name__}$"
        with pytest.raises(TypeError, match=text):
            cos(grid, out=out)
    with pytest.raises(ctypes.ArgumentError) as raised:
        mix(grid, 1, 1)
    assert raised.value.__notes__ == ["hotcall.vectorize: item 0"]
    nothing = hotcall.vectorize(declared(lib, "add_one", c_int, restype=None))
    assert nothing(numpy.arange(3, dtype="i4")) is None
