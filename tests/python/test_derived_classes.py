"""Classes that come to derive from others whose instances hotcall frees: weak references, finalisers and attributes of their
instances are seen as under plain ctypes.
"""

import threading
import weakref
from ctypes import POINTER, Array, Structure, Union, _Pointer, c_int, c_long, c_void_p

import pytest
from conftest import compare, observe, python
from instance_program import Watched


class Made(type(Structure)):
    """Metaclasses that derive from one of ctypes: this one has its slots, the others their own."""


class MadeBefore(type(Structure)):
    def __new__(cls, name, bases, attributes):
        return super().__new__(cls, name, bases, {**attributes, "before": name})


class MadeBehind(type(Structure)):
    def __init__(cls, name, bases, attributes):
        super().__init__(name, bases, attributes)
        cls.behind = name


class MadeByName(type(Structure)):
    def __init__(cls, *args):
        type(Structure).__init__(cls, *args)


def make_base(kind):
    """A class of a kind, or one of ctypes' own, of which there have been instances."""
    if kind in ("Structure", "Union"):
        base = {"Structure": Structure, "Union": Union}[kind]
        base = type(base)("Base", (base,), {"_fields_": [("x", c_long)]})
    elif kind == "Array":
        base = type(Array)("Base", (Array,), {"_type_": c_int, "_length_": 7})
    elif kind == "pointer":
        base = POINTER(type("Target", (Structure,), {"_fields_": [("x", c_long)]}))
    else:
        base = {"c_int": c_int, "c_void_p": c_void_p}[kind]
    use(base)
    return base


def derive(base, name="Derived", **attributes):
    """A class that derives from one of any kind; classes of pointers have to say again what they point to."""
    if issubclass(base, _Pointer):
        attributes["_type_"] = base._type_
    return type(base)(name, (base,), attributes)


def use(base):
    """Makes instances and drops them, so that the class is a hot one."""
    for _ in range(50):
        base(), base()
    return [base() for _ in range(3)]


KINDS = ["Structure", "Union", "Array", "pointer", "c_int", "c_void_p"]


def watch(events, instance, name):
    """Has events told of what happens to an instance; returns the weak reference that does it."""
    instance.attribute = Watched(events, f"attribute of {name}")
    return weakref.ref(instance, lambda _: events.append(f"weak reference to {name}"))


@pytest.mark.parametrize("kind", KINDS)
def test_order(kind):
    """Weak references are told before attributes die, also of the first instance."""

    def scenario():
        events = []
        base = make_base(kind)

        Derived = derive(base)
        for name in ("first", "second"):
            instance = Derived()
            told = watch(events, instance, name)
            del instance
            events.append((name, told() is None, len(use(base))))
        return events

    compare(scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_finalisers_that_let_others_die(kind):
    """While a finaliser runs, instances of the same class, of another derived one, and of the base die."""

    def scenario():
        events = []
        base = make_base(kind)

        Other = derive(base, "Other")

        def finaliser(_):
            events.append("finaliser")
            if events.count("finaliser") < 4:
                for one in (Other(), base(), Derived()):
                    told = watch(events, one, type(one).__name__)
                    del one
                    events.append(told() is None)
                use(base)

        Derived = derive(base, __del__=finaliser)
        instance = Derived()
        told = watch(events, instance, "outermost")
        del instance
        events.append((told() is None, len(use(base))))
        return events

    compare(scenario)


def test_threads_that_let_others_die():
    """While a finaliser sleeps, another thread makes and drops instances of a class that derives from the same one."""

    def scenario():
        events, asleep, woken = [], threading.Event(), threading.Event()
        base = make_base("Structure")

        class Slow(base):
            def __del__(self):
                asleep.set()
                woken.wait(10)

        def work():
            instance = Slow()
            told = watch(events, instance, "slow one")
            del instance
            events.append(told() is None)

        thread = threading.Thread(target=work)
        thread.start()
        asleep.wait(10)
        type("Other", (base,), {})()
        use(base)
        woken.set()
        thread.join()
        events.append(len(use(base)))
        return events

    compare(scenario)


@pytest.mark.parametrize("metaclass", [Made, MadeBefore, MadeBehind, MadeByName, None])
def test_metaclasses(metaclass):
    """Metaclasses of the program's own, defined before hotcall was there or after, make the derived class."""

    def scenario():
        events = []
        base = make_base("Structure")
        made_by = metaclass or type("MadeLate", (type(Structure),), {})

        class Derived(base, metaclass=made_by):
            def __del__(self):
                Derived.finaliser(self)

            @staticmethod
            def finaliser(_):
                Derived.finaliser = events.append
                Derived()
                use(base)

        instance = Derived()
        told = watch(events, instance, "instance")
        del instance
        events.append((told() is None, len(use(base)), type(Derived).__name__, getattr(Derived, "before", None)))
        return [event if isinstance(event, (str, tuple)) else type(event).__name__ for event in events]

    compare(scenario)


def test_a_resolution_order_that_leaves_the_base_out():
    """Destructors go up the bases that a class has, whatever its own order of them says."""

    def scenario():
        events = []

        class Meta(type(Structure)):
            leaves_out = None

            def mro(cls):
                return [one for one in super().mro() if one is not Meta.leaves_out]

        base = Meta("Base", (Structure,), {"_fields_": [("x", c_long)]})
        # Calls of a class of the program's own metaclass are left to CPython, but parts are not.
        holder = type("Holder", (Structure,), {"_fields_": [("base", base)]})()
        for _ in range(50):
            holder.base, base()

        def finaliser(_):
            events.append("finaliser")
            Meta("Further", (base,), {})

        Meta.leaves_out = base
        instance = Meta("Derived", (base,), {"_fields_": [("y", c_long)], "__del__": finaliser})()
        Meta.leaves_out = None
        told = watch(events, instance, "instance")
        del instance
        kept = [holder.base for _ in range(20)]
        return [*events, told() is None, len(kept)]

    compare(scenario)


def test_bases_that_are_assigned():
    """A class gets other bases, while there are instances of it, and while one of them dies."""

    def scenario():
        events = []

        class Base(Structure):
            pass

        class Another(Structure):
            pass

        class Derived(Base):
            _fields_ = [("x", c_long)]
            assigned = None

            def __del__(self):
                if Derived.assigned:
                    Derived.__bases__, Derived.assigned = Derived.assigned, None
                    Derived()
                    use(Base), use(Another)

        for assigned in ((Another,), (Base,), (Another, Base)):
            use(Base), use(Another)
            for assign in (True, False):
                instance = Derived()
                told = watch(events, instance, "instance")
                if assign:
                    Derived.__bases__ = assigned
                else:
                    Derived.assigned = assigned[::-1]
                del instance
                events.append((told() is None, len(use(Base)), len(use(Another)), Derived.__bases__ == assigned))
        for wrong in ((), (int,), (5,), 5, (Derived,)):
            events.append(observe(setattr, Derived, "__bases__", wrong)[:3])
        events.append(observe(delattr, Derived, "__bases__")[:3])
        return events

    compare(scenario)


def test_taken_out_in_a_finaliser():
    """`uninstall()` may be called while an instance of a derived class dies."""
    code = """if True:
        import hotcall, weakref
        from ctypes import Structure, c_long
        hotcall.install()
        class Base(Structure):
            _fields_ = [("x", c_long)]
        for _ in range(100):
            Base()
        class Derived(Base):
            def __del__(self):
                hotcall.uninstall()
        instance = Derived()
        told = weakref.ref(instance, lambda _: print("told"))
        del instance
        kept = [Base() for _ in range(50)]
        print(told())
    """
    done = python(code)
    assert done.stdout.split() == ["told", "None"], done.stderr


def test_classes_that_are_not_hot_any_more():
    """An instance dies whose attributes' destructor drives its class out of hotcall's table and has it hot again."""
    code = """if True:
        import hotcall.auto
        from ctypes import Structure, c_long, py_object
        class Holder(Structure):
            _fields_ = [("object", py_object)]
        for _ in range(60):
            Holder()
        made = []
        class Trouble:
            def __del__(self):
                for number in range(600):
                    made.append(type("Made", (Structure,), {"_fields_": [("v", c_long * (1 + number % 7))]}))
                    made[-1](), made[-1]()
                    Holder(), Holder(), Holder()
        for _ in range(4):
            holder = Holder()
            holder.object = Trouble()
            del holder
        print({type(kind()) is kind for kind in made})
    """
    done = python(code)
    assert done.stdout.split() == ["{True}"], done.stderr
