"""Calls for whole columns of arguments: ``map`` and ``vectorize``."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from ctypes import _SimpleCData
from dataclasses import dataclass
from inspect import Parameter, Signature
from itertools import repeat
from typing import Any

from hotcall._api import _function, _native

_ARRAYS = (list, tuple, range, array, memoryview)
"""What is an array for ``vectorize``, beside those of NumPy."""
_CODES = {**{code: code for code in "bBhHiIlLqQfd"}, "?": "B"}
"""The typecode of an ``array`` of results, by the code of the simple type that is returned."""
_FORMATS = frozenset("?cbBhHiIlLqQnNfdP")
"""The formats of the items that every memoryview can read and assign to."""
_READING = ("__getitem__", "__iter__", "__buffer__")
"""What has a say in what the items of an array are."""
_WRITING = ("__setitem__", "__buffer__")
"""What has a say in what assigning to an item does."""
_SIGNATURE = Signature(
    [
        Parameter("arguments", Parameter.VAR_POSITIONAL),
        Parameter("out", Parameter.KEYWORD_ONLY, default=None),
    ]
)
"""The signature of what ``vectorize`` gives."""


@dataclass(frozen=True)
class _Column:
    """The arguments at one place."""

    items: Any
    """A buffer of one dimension, a tuple, or the object that is passed each time."""
    length: int | None
    """How many there are; None for one object that is passed each time."""

    @classmethod
    def read(cls, given: Iterable[Any]) -> _Column:
        """The column that was given."""
        if type(given) is repeat and _is_endless(given):
            return cls(next(given), None)
        if not _overrides(given, _READING) and (view := _view(given)) is not None:
            return cls(given, len(view))
        items = tuple(given)
        return cls(items, len(items))

    def objects(self) -> Iterable[Any]:
        """The items as objects: those of a buffer are the numbers in it."""
        if self.length is None:
            return repeat(self.items)
        view = _view(self.items)
        return self.items if view is None else view.tolist()  # type: ignore[no-any-return]


def map(  # noqa: A001
    function: Callable[..., Any], /, *columns: Iterable[Any], out: Any = None
) -> Any:
    """Call a ctypes function for each item of columns, in one native loop where it can be.

    ``map(f, xs, ys)`` gives what ``[f(x, y) for x, y in zip(xs, ys)]`` gives, with the errors of
    these calls; that columns are equally long is looked at before the first one. A column is
    anything that can be iterated over; each is read by itself, so an iterator in the place of two
    gives the first all its items, where ``zip`` would take turns. A buffer of one dimension, such
    as an ``array`` or a NumPy array, is taken for the numbers in it, as Python's own (truths of
    NumPy are 0 and 1), unless it is of a subclass that overrides how items are read, such as a
    masked array. ``itertools.repeat(x)`` is ``x`` each time.

    With ``out``, results are assigned to ``out[0]``, ``out[1]`` and so on, and ``out`` is
    returned; it must be as long as the columns.

    The loop is native where no call needs an object: the columns have numbers, or objects that
    are passed as one word for good (ints, floats, bytes, what ``byref`` gives), and the result
    is a number or None; with ``out``, an ``array``, ``bytearray``, memoryview or NumPy array whose
    items hold every such number, and whose class does not override how they are assigned. It
    takes as many items as make a function hot, all calls of ``map`` counted. The GIL is then
    released once for many calls, unless the function holds it; signals are looked at every
    50 ms. Columns are read before the first call or as the loop goes: they should not change
    meanwhile.

    What a call raises has a note with the index of its item. Before the first call TypeError is
    raised if it is not a ctypes function, there is no column, one cannot be iterated over, or
    ``out`` is no mutable sequence; ValueError if lengths differ or no column has an end.
    """
    function = _function("map", function)
    if not columns:
        raise TypeError("hotcall.map: expected a function and at least one column")
    return _results("map", function, columns, out)


def _results(
    caller: str, function: Callable[..., Any], columns: Iterable[Iterable[Any]], out: Any
) -> Any:
    """What ``map`` gives; errors and notes name the caller."""
    read = [_Column.read(column) for column in columns]
    count = _count(caller, read)
    if out is not None:
        _check_out(caller, out, count)
    if _native is not None and (out is None or _is_memory(out)):
        given = tuple(column.items for column in read)
        same = tuple(column.length is None for column in read)
        results = _native.loop(caller, function, given, same, count, out)
        if results is not NotImplemented:
            return results
    rows = zip(*(column.objects() for column in read), strict=False)
    return _call_each(caller, function, rows, out)


def _check_out(caller: str, out: Any, count: int) -> None:
    """Refuse what results cannot be assigned to, or what is not as long as the columns."""
    if not all(hasattr(type(out), name) for name in ("__len__", "__setitem__")):
        given = type(out).__name__
        raise TypeError(f"hotcall.{caller}: out must be a mutable sequence, not {given}")
    if len(out) != count:
        raise ValueError(f"hotcall.{caller}: out has {len(out)} items, the columns have {count}")


def vectorize(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays that calls a ctypes function for each of their items, by ``map``.

    Arguments that are lists, tuples, ranges, ``array``s, memoryviews or NumPy arrays are
    arrays; all others are the same in each call. Arrays must be equally long. If one is
    NumPy's, or ``out`` is, all are broadcast against each other, whatever their dimensions.
    Items are read and assigned as by ``map``. A new array is a plain one: it has no mask.

    The result is ``out`` if that is given; else a new array of the number that the function
    returns: NumPy's if there is one among the arguments, else an ``array.array``; None for a
    function without result. Without arrays it is that of one call::

        cos = hotcall.vectorize(libm.cos)
        cos(xs, out=ys)

    Raises TypeError if it is not a ctypes function. The new function raises what ``map`` raises,
    and TypeError if its results are no numbers and ``out`` is not given. The ctypes function is
    its ``__wrapped__``.
    """
    function = _function("vectorize", function)

    def vectorized(*arguments: Any, out: Any = None) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is not None and any(isinstance(a, numpy.ndarray) for a in (*arguments, out)):
            return _over_numpy(numpy, function, arguments, out)
        return _over_arrays(function, arguments, out)

    name = _name(function)
    vectorized.__name__ = vectorized.__qualname__ = name
    vectorized.__doc__ = (
        f"Call {name} for each item of arrays, and once where there is none.\n\n"
        "Results are assigned to the items of ``out`` if that is given, else to a new array.\n"
        "See ``hotcall.vectorize``."
    )
    vectorized.__wrapped__ = function  # type: ignore[attr-defined]
    # What is wrapped has no signature, and would be asked for it.
    vectorized.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
    return vectorized


def _name(function: Any) -> str:
    """What a function is called; those that were made from an address have no name."""
    return str(getattr(function, "__name__", "a function"))


def _array_class(given: Any) -> type | None:
    """The class of arrays that this is an instance of; None if it is something else."""
    numpy = sys.modules.get("numpy")
    of_numpy = (getattr(numpy, name, None) for name in ("memmap", "ndarray"))
    kinds = (array, bytearray, bytes, memoryview, *of_numpy)
    return next((k for k in kinds if isinstance(k, type) and issubclass(type(given), k)), None)


def _view(given: Any) -> Any:
    """What tells the numbers in a buffer of one dimension: NumPy in an array of its own, wherever
    and in whatever order their bytes lie, else a memoryview; None if neither knows them."""
    kind = _array_class(given)
    if kind is not None and hasattr(kind, "dtype"):
        plain = sys.modules["numpy"].asarray(given)
        return plain if plain.ndim == 1 and plain.dtype.kind in "biuf" else None
    try:
        view = memoryview(given)
    except (TypeError, ValueError, BufferError):
        return None
    return view if view.ndim == 1 and view.format.removeprefix("@") in _FORMATS else None


def _overrides(given: Any, methods: Sequence[str]) -> bool:
    """Whether a class that derives from one of arrays has one of these methods of its own."""
    kind, base = type(given), _array_class(given)
    return base is not None and any(
        getattr(kind, name, None) is not getattr(base, name, None) for name in methods
    )


def _is_memory(out: Any) -> bool:
    """Whether assigning to an item does nothing but write to memory."""
    is_plain = _array_class(out) is not None and not _overrides(out, _WRITING)
    return is_plain and _view(out) is not None


def _is_endless(repeated: Iterator[Any]) -> bool:
    """Whether a ``repeat`` has no end; then it has no length either."""
    try:
        repeated.__length_hint__()  # type: ignore[attr-defined]
    except TypeError:
        return True
    return False


def _count(caller: str, columns: Sequence[_Column]) -> int:
    """How many items each column has."""
    counts = [column.length for column in columns if column.length is not None]
    if not counts:
        raise ValueError(f"hotcall.{caller}: every column is repeated without end")
    if len(set(counts)) > 1:
        lengths = ", ".join(str(count) for count in counts)
        raise ValueError(f"hotcall.{caller}: the columns have different lengths, {lengths}")
    return counts[0]


def _call_each(
    caller: str, function: Callable[..., Any], rows: Iterable[tuple[Any, ...]], out: Any
) -> Any:
    """Make one call after the other."""
    results: Any = [] if out is None else out
    index = 0
    try:
        for index, row in enumerate(rows):
            result = function(*row)
            if out is None:
                results.append(result)
            else:
                out[index] = result
    except BaseException as error:
        # What has no notes is raised without one.
        with suppress(Exception):
            error.add_note(f"hotcall.{caller}: item {index}")
        raise
    return results


def _code(function: Any) -> str | None:
    """The code of the simple type that a function returns; None if it returns nothing."""
    restype = function.restype
    if restype is None:
        return None
    simple = isinstance(restype, type) and restype.__base__ is _SimpleCData
    if simple and restype._type_ in _CODES:
        return str(restype._type_)
    raise TypeError(
        f"hotcall.vectorize: {_name(function)} returns {restype!r}, which is no number; "
        "give out, or use hotcall.map"
    )


def _single(function: Callable[..., Any], arguments: Sequence[Any], out: Any) -> Any:
    """Call a function that was given no array."""
    if out is not None:
        raise TypeError(
            "hotcall.vectorize: out is for arrays, and no argument is one; expected a list, "
            "tuple, range, array, memoryview or NumPy array"
        )
    return function(*arguments)


def _over_arrays(function: Callable[..., Any], arguments: Sequence[Any], out: Any) -> Any:
    """Call a function for arrays of one dimension."""
    if not any(isinstance(argument, _ARRAYS) for argument in arguments):
        return _single(function, arguments, out)
    columns = [a if isinstance(a, _ARRAYS) else repeat(a) for a in arguments]
    if out is None and (code := _code(function)) is not None:
        count = next(len(a) for a in arguments if isinstance(a, _ARRAYS))
        out = array(_CODES[code], [0]) * count
    _results("vectorize", function, columns, out)
    return out


def _readable(numpy: Any, given: Any) -> Any:
    """An array whose items lie in its memory: objects, if its class overrides reading."""
    if not _overrides(given, _READING):
        return given
    flat = numpy.ravel(given) if isinstance(given, numpy.ndarray) else given
    return numpy.fromiter(flat, object, len(flat)).reshape(numpy.shape(given))


def _over_numpy(
    numpy: Any, function: Callable[..., Any], arguments: Sequence[Any], out: Any
) -> Any:
    """Call a function for NumPy arrays, which are broadcast."""
    if out is not None and not isinstance(out, numpy.ndarray):
        given = type(out).__name__
        raise TypeError(
            f"hotcall.vectorize: out must be a NumPy array where an argument is one, not {given}"
        )
    kinds = (*_ARRAYS, numpy.ndarray)
    places = [place for place, a in enumerate(arguments) if isinstance(a, kinds)]
    if not places:
        return _single(function, arguments, out)
    arrays = numpy.broadcast_arrays(*(_readable(numpy, arguments[place]) for place in places))
    shape = arrays[0].shape
    if out is not None and out.shape != shape:
        raise ValueError(f"hotcall.vectorize: out has the shape {out.shape}, not {shape}")
    columns: list[Any] = [repeat(argument) for argument in arguments]
    for place, a in zip(places, arrays, strict=True):
        columns[place] = numpy.ravel(a)
    if out is None and (code := _code(function)) is not None:
        out = numpy.empty(shape, code)
    if out is None or out.flags.c_contiguous:
        _results("vectorize", function, columns, None if out is None else numpy.ravel(out))
    else:
        results = numpy.empty(out.size, out.dtype)
        out[...] = _results("vectorize", function, columns, results).reshape(shape)
    return out
