"""How instances die that hotcall frees itself: derived classes, code that destructors run, long chains, and the end of the process."""

import gc
from ctypes import Array, Structure, Union, _Pointer, _SimpleCData, c_char_p, c_int, c_long, pointer, py_object, resize, sizeof

import pytest
from conftest import compare, observe, python
from instance_program import Watched, look


def test_derived_classes():
    """The order of what happens when instances of derived classes die, made before and after their base was used."""

    def scenario():
        events = []
        for late in (False, True):

            class Base(Structure):
                _fields_ = [("x", c_int)]

            class Holder(Structure):
                _fields_ = [("base", Base)]

            holder = Holder()
            if late:
                for _ in range(50):
                    holder.base, Base()  # noqa: B018

            class Derived(Base):
                __slots__ = ("slot",)

                def __del__(self):
                    events.append("deleted")

            class Further(Derived):
                pass

            for kind in (Derived, Further, Base, Derived):
                instance = kind(3)
                if kind is not Base:
                    instance.slot = Watched(events, "slot")
                instance.attribute = Watched(events, "attribute")
                events.append((kind.__name__, bytes(instance)))
                del instance
                holder.base, Base()  # noqa: B018
                events.append(observe(setattr, Base(), "__class__", Derived)[0])
                events.append(observe(setattr, Derived(), "__class__", Further)[0])
                gc.collect()
        return events

    compare(scenario)


def test_what_a_destructor_does():
    """Code that runs while an instance dies makes others, and changes and ends its class."""

    def scenario():
        events = []

        class Inner(Structure):
            _fields_ = [("x", c_long)]

        class Outer(Structure):
            _fields_ = [("inner", Inner), ("text", c_char_p)]

        class Trouble:
            def __init__(self, action):
                self.action = action

            def __del__(self):
                events.append(self.action(Outer()))

        actions = [
            lambda outer: look(outer.inner),
            lambda outer: [look(outer.inner) for _ in range(40)],
            lambda outer: gc.collect() >= 0,
            lambda outer: setattr(Inner, "__del__", lambda instance: events.append("inner deleted")),
            lambda outer: observe(delattr, Inner, "__del__"),
            lambda outer: type("Child", (Inner,), {"__slots__": ("slot",)})() is None,
            lambda outer: len([outer.inner for _ in range(100)]),
        ]
        for action in actions * 3:
            outer = Outer()
            instances = [outer.inner, Inner(), outer, pointer(outer), py_object(Trouble(action))]
            for instance in instances[:-1]:
                instance.attribute = Trouble(action)
            del outer, instance
            while instances:
                instances.pop()
            events.append(look(Outer().inner))
        observe(delattr, Inner, "__del__")
        return events

    compare(scenario)


def test_an_array_that_is_resized_while_it_is_sliced():
    """Where the collector runs within a slice, code that it runs may move the array's memory."""

    def scenario():
        seen = []
        for turn in range(40):
            array, kept = (c_int * 400)(*[7] * 400), []
            array[1]  # noqa: B018

            def move(phase, info, array=array, turn=turn, kept=kept):
                resize(array, sizeof(array) + 64 + turn)
                kept.append(bytearray(b"\xff" * 1600))

            # So many that the next one is allocated, for which the collector may run.
            lists = [[] for _ in range(200)]
            gc.callbacks.append(move)
            thresholds = gc.get_threshold()
            gc.set_threshold(1)
            try:
                slices = [array[:], array[::3]]
            finally:
                gc.set_threshold(*thresholds)
                gc.callbacks.remove(move)
            del lists
            seen += slices
        return seen

    compare(scenario)


# Classes that live for a time, one after the other or all at once, with hotcall or while it is out.
CLASSES = """if True:
    import gc, sys
    from ctypes import Structure, c_int
    import hotcall
    def one():
        class Point(Structure):
            _fields_ = [("x", c_int), ("y", c_int)]
        class Outer(Structure):
            _fields_ = [("point", Point), ("points", Point * 3)]
        outer = Outer()
        for kind in (Point, Outer, Point * 3):
            for _ in range(60):
                kind(), outer.point, outer.points
            instances = [kind() for _ in range(40)]
        return outer
    def some(count, way):
        hotcall.install()
        if way == "one after the other":
            for _ in range(count):
                one(), gc.collect()
        else:
            kept = [one() for _ in range(count)]
            if way == "while it is out":
                hotcall.uninstall()
            del kept
            gc.collect()
            hotcall.install()
            one()
        gc.collect()
        return sys.getallocatedblocks()
    some(20, WAY), some(20, WAY)
    before = some(20, WAY)
    print(some(600, WAY) - before)
"""


@pytest.mark.parametrize("way", ["one after the other", "all at once", "while it is out"])
def test_what_is_kept_of_a_class_is_freed_with_it(way):
    done = python(CLASSES.replace("WAY", repr(way)), setting=None, seconds=120)
    assert abs(int(done.stdout)) < 1000, done


def test_classes_of_all_metaclasses_die():
    """Those whose metaclass derives from others, says when they die, keeps one of them alive, or is replaced."""

    def scenario():
        events, saved = [], []

        class Loud(type(Structure)):
            def __del__(cls):
                events.append(("died", cls.__name__))
                if cls.__name__ == "Saved0":
                    saved.append(cls)

        class Louder(Loud):
            __slots__ = ()

        class Plain(type):
            pass

        fields = {"_fields_": [("x", c_int), ("y", c_long)]}
        kinds = {Structure: fields, Union: fields, Array: {"_type_": c_int, "_length_": 2}, _SimpleCData: {"_type_": "i"}}
        kinds[_Pointer] = {"_type_": c_int}
        quiet = [type(f"Quiet{number}", (type(kind),), {}) for number, kind in enumerate(kinds)]
        for turn in range(3):
            made = [Loud(f"Saved{turn}", (Structure,), fields), Louder(f"Further{turn}", (Structure,), fields)]
            for (kind, members), metaclass in zip(kinds.items(), quiet, strict=True):
                made.append(metaclass(f"Quiet{turn}", (kind,), members))
            for cls in made:
                for _ in range(60):
                    cls()
                instances = [cls() for _ in range(20)]
                for other in (Louder, Loud, Plain, *quiet, type(cls)):
                    outcome = observe(setattr, cls, "__class__", other)
                    events.append((cls.__name__, other.__name__, outcome[:3]))
                    events += [observe(lambda cls=cls: sizeof(cls())) for _ in range(20)]
            del made, cls, instances
            gc.collect()
            for cls in saved:
                events.append([look(cls()) for _ in range(40)])
        return events

    compare(scenario)


@pytest.mark.parametrize("install", [False, True])
def test_long_chains(install):
    """Chains of a hundred thousand instances, each of which keeps the next one alive, die without using up the stack."""
    code = f"""if True:
        import ctypes, gc
        from ctypes import POINTER, Structure, pointer, py_object
        if {install}:
            import hotcall
            hotcall.install()
        class Node(Structure):
            pass
        class Inner(Structure):
            _fields_ = [("node", POINTER(Node))]
        Node._fields_ = [("next", POINTER(Node)), ("inner", Inner)]
        node = Node()
        node.next = node.inner.node = pointer(node)
        for _ in range(100):
            node.next.contents, node.inner.node[0], py_object(1), Node()
        end = node
        for step in range(100_000):
            end = end.next.contents if step % 3 else end.inner.node[0]
        del end
        chain = None
        for step in range(100_000):
            chain = py_object(chain)
            if step % 5 == 0:
                chain = pointer(chain)
            if step % 7 == 0:
                chain.attribute = chain = py_object(chain)
        del chain
        gc.collect()
        print("done")
    """
    done = python(code, setting="")
    assert done.stdout.split() == ["done"], done.stderr


def test_the_end_of_the_process():
    """Instances of adopted classes that are alive, in cycles and in modules, when the interpreter ends."""
    code = """if True:
        import ctypes, hotcall, sys
        from ctypes import Structure, c_int, pointer, byref
        hotcall.install()
        class Point(Structure):
            _fields_ = [("x", c_int)]
        class Outer(Structure):
            _fields_ = [("point", Point), ("points", Point * 2)]
            def __del__(self):
                self.point, self.points[1], Point(), c_int(5), byref(self)
        outer = Outer()
        parts = [outer.point, outer.points, pointer(outer), byref(outer), Point(), c_int(7)]
        parts[0].cycle = parts
        sys.modules["kept"] = parts
        print("done")
    """
    done = python(code, setting="")
    assert (done.stdout.split(), done.returncode) == (["done"], 0), done.stderr
