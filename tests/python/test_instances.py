"""Instances that hotcall makes, frees and keeps itself: parts of structures, arrays and pointers, and what classes give when they
are called. The same values, effects, exceptions and order of finalisers as with plain ctypes.

Random programs run under plain ctypes and under hotcall, on classes of their own, and all that they saw is compared.
"""

import gc
import sys
import weakref
from ctypes import (
    POINTER, Array, Structure, addressof, byref, c_bool, c_char_p, c_double, c_int, c_long, c_short, pointer, resize, sizeof,
)  # fmt: skip

import pytest
from conftest import LONG, compare, in_threads, observe, python
from instance_program import Program, look

import hotcall


def test_random_programs(rng):
    """The collector runs at chosen moments only: what objects it counts is CPython's own business."""
    seed = rng.randrange(2**32)

    def scenario():
        gc.collect()
        gc.disable()
        try:
            return Program(type(rng)(seed)).run(20000 if LONG else 3000)
        finally:
            gc.enable()

    compare(scenario)


def test_kept_instances_are_as_new():
    """What an instance had is not what the next one has."""

    def scenario():
        class Point(Structure):
            _fields_ = [("x", c_long), ("y", c_long)]

        class Large(Structure):
            _fields_ = [("point", Point), ("values", c_double * 8), ("text", c_char_p)]

        seen = []
        for turn in range(200):
            large, point, number, values = Large(), Point(), c_int(), (c_int * 30)()
            seen += [bytes(large), bytes(point), bytes(number), bytes(values), look(large), look(point), look(number), look(values)]
            large.text = b"kept %d" % turn
            large.point.x, large.values[3], point.y, number.value, values[7] = turn, 1.5, turn, turn, turn
            number.attribute = large.attribute = turn
            part = large.point
            part.attribute = turn
            seen += [look(part), look(large), look(large.point), large.point.x, addressof(part) == addressof(large)]
            resize(large, 200)
            seen += [sizeof(large), sizeof(Large()), c_int(turn).value, c_double(turn).value, c_bool(turn).value]
        return seen

    compare(scenario)


def test_counts():
    """Classes, bases and targets keep their counts, and hotcall keeps nothing alive."""

    def scenario():
        class Point(Structure):
            _fields_ = [("x", c_int)]

        class Outer(Structure):
            _fields_ = [("point", Point), ("points", Point * 2), ("p", POINTER(Point))]

        outer, number = Outer(), c_int(5)
        objects = [outer, number, Point, Outer, Point * 2, POINTER(Point), POINTER(c_int), c_int, type(byref(number))]
        before = [sys.getrefcount(value) for value in objects]
        for _ in range(1000):
            outer.point, outer.points, outer.points[1], outer.p, Outer(), c_int(), c_int(7), byref(number)  # noqa: B018
            pointer(number).contents, pointer(outer.point)[0], outer.points[:], list(outer.points), (Point * 2)()  # noqa: B018
        after = [sys.getrefcount(value) for value in objects]
        gone = weakref.ref(outer)
        part = outer.points[1]
        del outer, objects
        kept = gone() is not None
        del part
        return [b - a for a, b in zip(before, after, strict=True)], kept, gone() is None

    compare(scenario)


def test_instances_that_changed_their_class():
    """An instance may get another class of the same layout, whose own instances have other sizes and lengths.

    All classes are new, so that both runs begin alike.
    """

    def array(kind, length):
        return type(Array)("Made", (Array,), {"_type_": kind, "_length_": length})

    def scenario():
        two, four, eight = array(c_long, 2), array(c_int, 4), array(c_short, 8)

        class Small(Structure):
            _fields_ = [("x", c_short)]

        class Large(Structure):
            _fields_ = [("x", c_long), ("values", c_int * 8)]

        class Holder(Structure):
            _fields_ = [("small", Small), ("large", Large), ("two", two), ("four", four)]

        seen = []
        classes = [Small, Large, two, four, eight]
        for turn in range(300):
            holder = Holder()
            parts = [holder.small, holder.large, holder.two, holder.four]
            for instance in [kind() for kind in classes] + parts:
                seen.append(observe(setattr, instance, "__class__", classes[turn % len(classes)]))
                seen.append((type(instance).__name__, len(instance) if isinstance(instance, Array) else 0))
            del instance, parts
            for kind in classes:
                made = kind()
                seen += [look(made), bytes(made), len(made) if isinstance(made, Array) else 0]
            seen += [look(holder.large), list(holder.two), list(holder.four), len(holder.two), holder.four[:]]
        return seen

    compare(scenario)


@pytest.mark.usefixtures("small_heap")
def test_classes_that_are_made_endlessly():
    """What is kept of classes that are dead does not add up."""

    def work(turns):
        for _ in range(turns):
            made = type("Made", (Structure,), {"_fields_": [("inner", c_int * 2)]})
            instances = [made() for _ in range(60)]
            assert [instance.inner[1] for instance in instances] == [0] * 60
            del made, instances
            gc.collect()

    with hotcall.installed():
        work(50)
        before = sys.getallocatedblocks()
        work(300)
        assert sys.getallocatedblocks() - before < 300 * 10


def test_more_classes_and_fields_than_tables_have_room_for():
    """What is known of one is never taken for another, and what was forgotten is learned again."""

    def scenario():
        def made(number):
            kind = [c_int, c_double, c_short * 3, c_bool][number % 4]
            inner = type("Inner", (Structure,), {"_fields_": [("value", kind)]})
            return type("Outer", (Structure,), {"_fields_": [("room", c_int * (number % 5)), ("inner", inner), ("more", kind)]})

        outers = [made(number)() for number in range(800)]
        seen = []
        for _ in range(3):
            for outer in outers:
                seen += [look(outer.inner), bytes(outer), len(outer.room)]
                seen += [list(value) if isinstance(value, Array) else value for value in (outer.more, outer.inner.value)]
                seen.append(observe(setattr, outer, "more", 7))
        return seen

    compare(scenario)


@pytest.mark.usefixtures("small_heap")
def test_classes_die():
    """Instances that are kept keep no class alive, and the next class at its address is another one."""

    def scenario():
        seen = []
        for turn in range(200):
            kind = [c_int, c_double, c_short * 9][turn % 3]
            inner = type("Inner", (Structure,), {"_fields_": [("value", kind)]})
            outer = type("Outer", (Structure,), {"_fields_": [("inner", inner), ("more", inner * 2)]})
            instance = outer()
            for _ in range(5):
                seen += [look(instance.inner), look(instance.more[1]), look(inner()), look((inner * 2)())]
            references = [weakref.ref(inner), weakref.ref(outer)]
            del inner, outer, instance
            gc.collect()
            seen.append([reference() is None for reference in references])
        return seen

    compare(scenario)


def test_threads():
    """Threads that make, read and drop instances of the same classes see their own."""

    class Point(Structure):
        _fields_ = [("x", c_int), ("y", c_int)]

    class Outer(Structure):
        _fields_ = [("point", Point), ("points", Point * 3)]

    def work(number):
        for step in range(3000):
            outer = Outer()
            outer.point.x, outer.points[2].y = number, step
            parts = [outer.point, outer.points[2], outer.points[:], c_int(step), pointer(outer)]
            if (parts[0].x, parts[1].y, parts[3].value, parts[4].contents.point.x) != (number, step, step, number):
                wrong.append(number)
            if step % 200 == 0:
                made = type("Made", (Structure,), {"_fields_": [("outer", Outer)]})()
                made.outer.point.x = step
                if made.outer.point.x != step or Outer().point.x:
                    wrong.append(number)

    wrong = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with hotcall.installed():
            in_threads(6, work)
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="no class is adopted")
def test_classes_are_adopted():
    """The destructor of a class whose instances are seen is hotcall's, until the class is derived from."""
    code = """if True:
        import ctypes, hotcall
        from ctypes import Structure, POINTER, Union, c_int, c_void_p
        def destructor(kind):
            return ctypes.c_uint64.from_address(id(kind) + 48).value
        Point = type("Point", (Structure,), {"_fields_": [("x", c_int)]})
        kinds = [Point, type("Either", (Union,), {"_fields_": [("x", c_int)]}), Point * 2, POINTER(Point), c_int, c_void_p]
        before = {destructor(kind) for kind in kinds}
        hotcall.install()
        for kind in kinds:
            for _ in range(50):
                kind()
        adopted = {destructor(kind) for kind in kinds}
        assert len(before) == len(adopted) == 1 and before != adopted, (before, adopted)
        for kind in kinds:
            type(kind)("Derived", (kind,), {"_type_": kind._type_} if hasattr(kind, "_type_") else {})
        assert {destructor(kind) for kind in kinds} == before
        print("done")
    """
    done = python(code, setting="")
    assert done.stdout.split() == ["done"], done.stderr


def test_everything_is_put_back():
    """Uninstalling restores the words of classes and metaclasses, also of those that were made and used meanwhile."""
    code = """if True:
        import ctypes, hotcall
        from ctypes import Structure, POINTER, c_int, pointer, byref
        class Point(Structure):
            _fields_ = [("x", c_int)]
        class Outer(Structure):
            _fields_ = [("point", Point), ("points", Point * 2)]
        Odd = type("Meta", (type(Structure),), {})("Odd", (Structure,), {})
        def words():
            at = lambda object, offset: ctypes.c_uint64.from_address(object + offset).value
            seen = []
            kinds = [Point, Outer, Point * 2, c_int, POINTER(Point), POINTER(c_int), ctypes.Array, ctypes._Pointer]
            for kind in [*kinds, type(byref(c_int()))]:
                seen += [at(id(kind), 48), at(id(kind), 400)]
                mapping = at(id(kind), 112)
                seen += [at(mapping, 8), at(mapping, 16)] if mapping else []
            for kind in (Point, c_int, Point * 2, POINTER(c_int), ctypes.Union, Odd):
                seen += [at(id(type(kind)), offset) for offset in (128, 296, 312)]
            wrappers = [ctypes.Array.__getitem__, ctypes.Array.__setitem__, ctypes._Pointer.__getitem__]
            wrappers += [type(kind).__init__ for kind in (Point, c_int, Point * 2)]
            setter = at(at(id(type.__dict__["__bases__"]), 40), 16)
            return seen + [setter] + [at(id(wrapper), 48) for wrapper in wrappers]
        before = words()
        for _ in range(3):
            hotcall.install()
            outer = Outer()
            for _ in range(3):
                outer.point, outer.points[1], Outer(), c_int(), c_int(5), pointer(outer.point).contents, byref(outer)
            assert words() != before
            late = type("Late", (Point,), {})()
            hotcall.uninstall()
            assert words() == before
            outer.point, outer.points[1], Outer(), c_int(), c_int(5), late
            del late
        print("done")
    """
    done = python(code, setting="")
    assert done.stdout.split() == ["done"], done.stderr
