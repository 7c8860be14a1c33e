"""Fields of structures, and `byref`, which hotcall makes faster in place: the same values, errors and effects as ctypes' own.

Random programs run under plain ctypes and under hotcall, on classes of their own, and all that they saw is compared.
"""

import ctypes
import gc
import inspect
import pydoc
import sys
from ctypes import (
    POINTER, BigEndianStructure, Structure, Union, addressof, byref, c_bool, c_byte, c_char, c_char_p, c_double, c_float, c_int,
    c_int64, c_long, c_longdouble, c_short, c_ubyte, c_uint, c_ulong, c_ulonglong, c_ushort, c_void_p, c_wchar, c_wchar_p, py_object,
)  # fmt: skip

import pytest
from conftest import LONG, compare, in_threads, observe, python
from values import Both, FloatSub, IntSub, MyInt, Raising

import hotcall

SIMPLE = [
    c_bool, c_byte, c_ubyte, c_short, c_ushort, c_int, c_uint, c_long, c_ulong, c_int64, c_ulonglong, c_float, c_double,
    c_longdouble, c_char, c_wchar, c_char_p, c_wchar_p, c_void_p, py_object, MyInt, c_int.__ctype_be__, c_double.__ctype_be__,
]  # fmt: skip
# Whatever is assigned to these, they may be read; ints that are assigned to the others are taken for addresses.
ADDRESSES = (c_char_p, c_wchar_p, py_object)
NUMBERS = [kind for kind in SIMPLE if kind not in ADDRESSES]
KEPT = (b"kept bytes", "kept text")
VALUES = [
    0, 1, -1, 5, 255, 256, -129, 2**15, 2**30 - 1, 2**30, -(2**30), 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64 + 9, -(2**70),
    True, False, None, 0.0, -0.0, 1.5, float("nan"), float("inf"), 1e300, 1e-320, IntSub(6), FloatSub(3.5), Both(), Raising(),
    b"a", "a", b"ab", *KEPT, c_int(5), MyInt(6), c_double(1.5), c_void_p(7), [1], 1j, 10**400,
]  # fmt: skip


def make_class(rng, base):
    """A structure or union of random fields, some of them special."""
    fields = []
    for index in range(rng.randint(1, 12)):
        kind = rng.choice(SIMPLE if base is Structure else NUMBERS)
        if base is BigEndianStructure:
            kind = rng.choice([c_int, c_short, c_double, c_ubyte])
        if kind in (c_int, c_uint, c_ubyte, c_short) and rng.random() < 0.2:
            fields.append((f"f{index}", kind, rng.randint(1, 8)))
        elif rng.random() < 0.1 and base is not BigEndianStructure:
            fields.append((f"f{index}", rng.choice([c_char * 4, c_wchar * 3, c_int * 2, POINTER(c_int)])))
        else:
            fields.append((f"f{index}", kind))
    attributes = {"_fields_": fields}
    if rng.random() < 0.2 and base is not BigEndianStructure:
        attributes["_pack_"] = rng.choice([1, 2])
        attributes["_layout_"] = "ms"
    return type(base)("Made", (base,), attributes)


def look(instance):
    """The bytes and the kept objects of an instance; addresses differ between runs."""
    kept = instance._objects
    return (type(kept).__name__, sorted(map(str, kept)) if isinstance(kept, dict) else None)


def read(instance, name):
    """What a field gives; an instance by its bytes and what it belongs to."""
    value = getattr(instance, name)
    if isinstance(value, ctypes._SimpleCData | ctypes.Array | ctypes._Pointer):
        return (type(value).__name__, bytes(value), value._b_base_ is instance, value._b_needsfree_)
    return value


def test_random_fields(rng):
    """Every kind of field, read and assigned in random order, with right values and wrong ones."""
    seed = rng.randrange(2**32)

    def scenario():
        random = type(rng)(seed)
        outcomes = []
        for _ in range(300 if LONG else 40):
            base = random.choice([Structure, Structure, Structure, Union, BigEndianStructure])
            made = make_class(random, base)
            instance = made()
            for _ in range(60):
                field = random.choice(made._fields_)
                name = field[0]
                if random.random() < 0.6:
                    value = random.choice(VALUES)
                    if len(field) == 3 and isinstance(value, ctypes._SimpleCData):
                        # ctypes copies far more than a bit field has.
                        continue
                    outcome = observe(setattr, instance, name, value)
                    outcomes.append((name, outcome[:1] if outcome[0] == "returned" else outcome, look(instance)))
                elif field[1] not in ADDRESSES:
                    outcomes.append((name, observe(read, instance, name)))
        # The text of an exception may name an address.
        return [outcome for outcome in outcomes if "0x" not in str(outcome)]

    compare(scenario)


def test_every_value_for_every_type():
    def scenario():
        outcomes = []
        for kind in SIMPLE:
            made = type("Made", (Structure,), {"_fields_": [("before", c_ubyte), ("field", kind), ("after", c_ubyte)]})
            for value in VALUES:
                instance = made(1)
                instance.after = 2
                outcomes.append((observe(setattr, instance, "field", value), look(instance), instance.before, instance.after))
                if kind not in ADDRESSES:
                    outcomes.append((observe(read, instance, "field"), bytes(instance)))
                elif kind is not py_object and isinstance(value, (bytes, str)):
                    outcomes.append(observe(read, instance, "field"))
        return outcomes

    compare(scenario)


def test_descriptors_by_hand():
    """The slots as Python code reaches them, with and without instances, right and wrong ones."""

    def scenario():
        class Point(Structure):
            _fields_ = [("x", c_int), ("y", c_double)]

        class Other(Structure):
            _fields_ = [("a", c_long), ("b", c_long)]

        field = Point.__dict__["x"]
        point, other = Point(1, 2.5), Other(7, 8)
        get, put, delete = type(field).__get__, type(field).__set__, type(field).__delete__
        outcomes = [Point.x is field, observe(delattr, point, "x")]
        for instance in [point, other, c_int(5), None, 5, "x", Point]:
            outcomes.append(observe(get, field, instance) if instance is not None else get(field, None, Point) is field)
            outcomes.append(observe(get, field, instance, Point)[0])
            outcomes.append(observe(put, field, instance, 9))
            outcomes.append(observe(delete, field, instance))
        outcomes += [point.x, other.a, observe(put, field, point), observe(put, 5, point, 6), observe(field.__get__, point)]
        return outcomes

    compare(scenario)


def test_classes_that_change_and_die():
    """Fields and classes at the addresses of dead ones are taken for what they are."""

    def scenario():
        outcomes = []
        for turn in range(300):
            kind = [(c_int,), (c_float,), (c_uint,), (MyInt,), (c_int.__ctype_be__,), (c_int, 3), (c_char * 4,)][turn % 7]
            made = type("Made", (Structure,), {"_fields_": [("x", *kind)]})
            instance = made()
            outcomes.append([observe(setattr, instance, "x", value)[0] for value in (1, 1.5, 2**31)])
            outcomes.append((observe(read, instance, "x"), bytes(instance)))
            if turn % 8 == 0:
                made.x = turn
                outcomes.append(instance.x)
            del made, instance
            if turn % 50 == 0:
                gc.collect()
        return outcomes

    compare(scenario)


def test_one_field_of_many_classes(rng):
    """A field is given instances of its class, of classes that derive from it, which change, and of others, in turn."""
    seed = rng.randrange(2**32)

    def scenario():
        random = type(rng)(seed)

        class Point(Structure):
            _fields_ = [("x", c_int), ("y", c_double)]

        class Wide(Point):
            _fields_ = [("z", c_long)]

        class Other(Structure):
            _fields_ = [("a", c_long), ("b", c_long)]

        field = Point.__dict__["x"]
        given = [Point(1), Wide(2), type("Plain", (Wide,), {})(3), Other(4), (c_int * 4)(5), 6, "x"]
        outcomes = []
        for turn in range(400):
            one = random.choice(given)
            outcomes.append(observe(field.__get__, one, type(one)))
            outcomes.append(observe(field.__set__, one, random.choice([turn, turn + 2**31, -(2**70), 1.5, "x"])))
            outcomes.append(bytes(one) if isinstance(one, Point | Other) else None)
            if turn % 9 == 0:
                random.choice([Point, Wide, Other]).added = turn
        return outcomes

    compare(scenario)


@pytest.mark.parametrize("base", [Structure, Union])
def test_arrays_of_what_was_incomplete(base):
    """Ctypes has items of a class that was incomplete, or smaller, when that of the array was made at the distances of then."""

    def scenario():
        outcomes = []
        for inherits in (False, True):
            for early in ("nothing", "failure", "both"):
                above = type("Above", (base,), {"_fields_": [("x", c_long)]}) if inherits else base
                item = type("Item", (above,), {})
                array = (item * 3)()
                if early != "nothing":
                    outcomes.append([observe(array.__setitem__, 0, 5) for _ in range(3)])
                if early == "both":
                    outcomes.append([addressof(array[0]) - addressof(array) for _ in range(3)])
                outcomes.append(observe(setattr, item, "_fields_", [("y", c_long), ("z", c_long)])[:3])
                for _ in range(3):
                    outcomes.append([addressof(array[index]) - addressof(array) for index in (0, 1, 2, -1)])
                    outcomes.append([addressof(one) - addressof(array) for one in array[:]])
        return outcomes

    compare(scenario)


def test_fields_at_the_addresses_of_classes():
    """Ctypes gives an array of characters as bytes from a field, and as an array from a class of arrays that lay there before."""
    code = """if True:
        import hotcall.auto, gc
        from ctypes import Array, Structure, c_char
        text = c_char * 4
        for turn in range(60):
            classes = [type(Array)("Made", (Array,), {"_type_": text, "_length_": n + 1}) for n in range(40)]
            for made in classes:
                array = made()
                array[0], array[0], array[0]
            del classes, made, array
            gc.collect()
            kept = []
            for number in range(400):
                made = type("Made", (Structure,), {"_fields_": [("a", text), ("b", text)]})
                kept.append(made())
                for name in ("a", "b"):
                    assert type(getattr(kept[-1], name)) is bytes
            del kept, made
            gc.collect()
        print("done")
    """
    done = python(code, env={"PYTHONMALLOC": "malloc"})
    assert done.stdout.split() == ["done"], done.stderr


def test_byref():
    def scenario():
        class Point(Structure):
            _fields_ = [("x", c_int), ("y", c_int)]

        outcomes = [repr(byref), byref.__name__, byref.__doc__, byref.__self__ is sys.modules["_ctypes"], callable(byref)]
        outcomes += [byref.__text_signature__, pydoc.render_doc(byref), observe(lambda: str(inspect.signature(byref)))[:3]]
        instances = [Point(1, 2), c_int(5), (c_int * 3)(), POINTER(c_int)(), ctypes.CDLL(None).abs, Point, 5, None, "x", object()]
        for instance in instances:
            for args in [(instance,), (instance, 4), (instance, 0), (instance, "x"), (instance, 2**70), (instance, 1, 2), ()]:
                outcome = observe(byref, *args)
                outcomes.append(outcome if outcome[0] == "raised" else (outcome[0], outcome[1][0]))
            outcomes.append(observe(byref, instance, offset=4)[:4])
            outcomes.append(observe(lambda instance=instance: byref(*(instance,), **{}))[0])
        point = Point(1, 2)
        before = sys.getrefcount(point)
        reference = byref(point)
        outcomes += [reference._obj is point, sys.getrefcount(point) - before, gc.is_tracked(reference), sys.getsizeof(reference)]
        outcomes.append(ctypes.cast(reference, c_void_p).value == addressof(point))
        outcomes.append(repr(reference).split("(")[0])
        del reference
        outcomes.append(sys.getrefcount(point) - before)
        return outcomes

    compare(scenario)


def test_reference_counts():
    """Values that are read and assigned keep their counts."""

    def scenario():
        class Point(Structure):
            _fields_ = [("x", c_int64), ("y", c_double), ("p", c_void_p), ("b", c_bool)]

        point = Point()
        held = [10**15, 2.25, 7, True]
        before = [sys.getrefcount(value) for value in (*held, point, Point)]
        for _ in range(1000):
            point.x, point.y, point.p, point.b = held
            point.x, point.y, point.p, point.b  # noqa: B018
            byref(point)
        return [sys.getrefcount(value) - count for value, count in zip((*held, point, Point), before, strict=True)][:3]

    compare(scenario)


def test_threads():
    """Threads that use the same fields, and others that make classes, see their own values."""

    class Point(Structure):
        _fields_ = [("x", c_int), ("y", c_double)]

    def work(number):
        point = Point()
        for step in range(3000):
            point.x, point.y = number * step, float(step)
            if (point.x, point.y) != (number * step, float(step)):
                wrong.append(number)
            if step % 100 == 0:
                made = type("Made", (Structure,), {"_fields_": [("x", c_short if number % 2 else c_float)]})()
                made.x = step
                if made.x != step:
                    wrong.append(number)

    wrong = []
    with hotcall.installed():
        in_threads(6, work)
    assert not wrong


def test_everything_is_put_back():
    """Uninstalling restores each slot and each word of the built-in function."""
    code = """if True:
        import ctypes, hotcall
        class Point(ctypes.Structure):
            _fields_ = [("x", ctypes.c_int)]
        field, kind = Point.x, type(Point.x)
        def words():
            at = lambda object, offset: ctypes.c_uint64.from_address(id(object) + offset).value
            wrapped = [at(kind.__dict__[name], 48) for name in ("__get__", "__set__", "__delete__")]
            return [at(kind, 272), at(kind, 280), *wrapped, *(at(ctypes.byref, offset) for offset in (16, 24, 32, 48))]
        before = words()
        for _ in range(3):
            hotcall.install()
            assert hotcall.status().data and words() != before
            hotcall.uninstall()
            assert words() == before
        print("done")
    """
    done = python(code, setting="")
    assert done.stdout.split() == ["done"], done.stderr


def test_off():
    """`data=off` leaves all of it to ctypes."""
    done = python("import hotcall; hotcall.install(); print(hotcall.status().data)", setting="data=off")
    assert done.stdout.split() == ["False"], done.stderr
