"""Attributes of libraries, which hotcall makes faster on CPython 3.11: the same under every change of class and object."""

import ctypes
import os
import sys

import pytest
from conftest import compare, observe, python

import hotcall


def unbound(path):
    """Subclasses of CDLL that have their own ideas, each with an object."""

    class Counting(ctypes.CDLL):
        asked = 0

        def __getattr__(self, name):
            type(self).asked += 1
            return super().__getattr__(name)

    class Deciding(ctypes.CDLL):
        def __getattribute__(self, name):
            if name == "length":
                return "mine"
            return super().__getattribute__(name)

    class Failing(ctypes.PyDLL):
        asked = 0

        @property
        def length(self):
            type(self).asked += 1
            raise AttributeError("not today")

        @property
        def add_one(self):
            raise KeyError("never")

        add_two = 5

    class Slotted(ctypes.CDLL):
        __slots__ = ("length", "extra")

    return [kind(path) for kind in (ctypes.CDLL, ctypes.PyDLL, Counting, Deciding, Failing, Slotted)]


class Text(str):
    """A name that is no exact str."""

    __slots__ = ()


NAMES = [
    "length", "add_one", "add_two", "no_such_function", "_name", "_handle", "_FuncPtr", "__class__", "__dict__", "__nothing__",
    "_func_flags_", Text("length"), Text("add_one"), Text("missing"), "extra", "", "\udc80",
]  # fmt: skip


def shape(outcome, library):
    """An outcome without what differs from object to object."""
    if outcome[0] == "returned" and outcome[1][0] not in ("int", "str"):
        return (outcome[0], outcome[1][0])
    if outcome[0] == "returned" and outcome[1][1] == library._handle:
        return "the handle"
    return tuple(str(part).replace(hex(id(library)), "here") for part in outcome)


def look(library):
    """All that can be seen of a library's attributes."""
    outcomes = []
    for name in NAMES * 2:
        outcomes.append((str(name), shape(observe(getattr, library, name), library)))
        outcomes.append(observe(hasattr, library, name)[:3])
    outcomes.append(shape(observe(getattr, library, 5), library))
    outcomes += [observe(lambda name: getattr(library, name) is getattr(library, name), name)[:3] for name in NAMES]
    outcomes.append(sorted(vars(library)))
    outcomes.append(getattr(type(library), "asked", None))
    return outcomes


def test_libraries_of_many_classes(fixture_path):
    compare(lambda: [look(library) for library in unbound(fixture_path)])


def test_changes_of_objects(fixture_path):
    def scenario():
        outcomes = []
        for library in unbound(fixture_path)[:3]:
            first = library.add_one
            outcomes.append(library.add_one is first)
            del library.add_one
            outcomes.append(library.add_one is first)
            library.add_one = 7
            outcomes.append(library.add_one)
            library.__dict__["length"] = "put"
            library.__dict__[5] = "odd"
            outcomes.append((library.length, library.add_one))
            library.__dict__ = {"_FuncPtr": library._FuncPtr, "_handle": library._handle, "_name": "x", "length": 3}
            outcomes.append((library.length, library.add_two(3), sorted(vars(library))))
        return outcomes

    compare(scenario)


def test_changes_of_classes(fixture_path):
    """A class that changes while hotcall is installed, or is made then, has its say at once."""

    def scenario():
        class Library(ctypes.CDLL):
            pass

        outcomes = []
        hot = hotcall.status().installed
        if hot:
            # Classes are patched when hotcall is installed.
            hotcall.uninstall()
            hotcall.install()

        class Later(Library):
            pass

        libraries = [Library(fixture_path), Later(fixture_path)]

        def tell():
            outcomes.append([(observe(getattr, it, "length")[0], it.add_one(1), observe(getattr, it, "more")) for it in libraries])

        tell()
        Library.length = Library.more = "of the class"
        outcomes.append([(type(it.length).__name__, it.more) for it in libraries])
        del Library.more
        Library.length = property(lambda self: ("made", type(self).__name__))
        outcomes.append([it.length for it in libraries])
        del Library.length
        outcomes.append([type(it.length).__name__ for it in libraries])
        Library.__getattribute__ = lambda self, name: "all" if name == "length" else object.__getattribute__(self, name)
        outcomes.append([it.length for it in libraries])
        del Library.__getattribute__
        outcomes.append([type(it.length).__name__ for it in libraries])
        original = ctypes.CDLL.__getattr__
        Library.__getattr__ = lambda self, name: f"got {name}"
        outcomes.append([(it.nothing, it.more, type(it.length).__name__) for it in libraries])
        del Library.__getattr__
        libraries[0].__class__ = Later
        tell()
        try:
            ctypes.CDLL.__getattr__ = lambda self, name: original(self, "add_two")
            outcomes.append([it.unheard_of(5) for it in libraries])
        finally:
            ctypes.CDLL.__getattr__ = original
        tell()
        return outcomes

    compare(scenario)


def change(library, name, step, choice):
    """Changes the dictionary of a library, or its class, in one of many ways."""
    kind, own = type(library), vars(library)
    return [
        lambda: setattr(library, name, step),
        lambda: delattr(library, name),
        lambda: own.update({name: step}),
        lambda: own.pop(name, None),
        lambda: own.setdefault(name, step),
        lambda: own.__ior__({name: [step]}) and None,
        lambda: setattr(library, "__dict__", dict(own)),
        lambda: setattr(library, "__dict__", {**own, name: step}),
        lambda: setattr(kind, name, step),
        lambda: delattr(kind, name),
        lambda: own.clear() or own.update(_name="cleared"),
        lambda: own.popitem()[0],
    ][choice]()


def test_random_changes(fixture_path, rng):
    """Names are made anew, so that others get their addresses; there are more than hotcall has room for."""
    steps = [(rng.randrange(3), rng.randrange(40), rng.randrange(48)) for _ in range(6_000)]

    def scenario():
        class Library(ctypes.CDLL):
            pass

        libraries = [ctypes.CDLL(fixture_path), Library(fixture_path), Library(fixture_path)]
        outcomes = []
        for step, (which, number, choice) in enumerate(steps):
            library, name = libraries[which], "".join(["name", str(number)])
            if choice < 12 and not (which == 0 and choice in (8, 9)):
                outcomes.append(observe(change, library, name, step, choice)[:2])
            outcomes.extend(observe(getattr, library, name)[:2] for _ in range(2))
        for library in libraries:
            vars(library).update((f"many{number}", number) for number in range(2_000))
            outcomes.append([getattr(library, f"many{number}") for number in range(2_000)] * 2)
        held = object()
        libraries[0].held = held
        before = sys.getrefcount(held)
        outcomes.append([libraries[0].held is held for _ in range(9)])
        outcomes.append(sys.getrefcount(held) - before)
        libraries[0].held = None
        outcomes.append(sys.getrefcount(held) - before)
        return outcomes

    compare(scenario)


class Key:
    """A key that has the hash of a name, and acts when it is compared with that."""

    def __init__(self, name, act):
        self.name, self.act = name, act

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        return self.act() if other == self.name else NotImplemented


def test_keys_that_act(fixture_path):
    """What is found while the dictionary, or the class, is changed by a comparison."""

    def scenario():
        class Library(ctypes.CDLL):
            pass

        library = Library(fixture_path)
        outcomes = []

        def replace():
            library.__dict__ = {"_FuncPtr": library._FuncPtr, "_handle": library._handle, "wanted": "new"}
            return False

        def take():
            Library.wanted = "of the class"
            return False

        def fail():
            raise KeyError("compared")

        for act in (replace, take, fail, lambda: True):
            key = Key("wanted", lambda: False)
            vars(library).update({key: "by the key", "".join(["want", "ed"]): "old"})
            outcomes.append(library.wanted)
            key.act = act
            outcomes.extend(observe(getattr, library, "wanted")[:3] for _ in range(3))
            key.act = lambda: False
            if "wanted" in vars(Library):
                del Library.wanted
            vars(library).clear()
            vars(library).update(_FuncPtr=ctypes.CDLL(fixture_path)._FuncPtr, _handle=library.__class__(fixture_path)._handle)
        return outcomes

    compare(scenario)


def test_keys_are_compared_once(fixture_path):
    """How often a key is compared with the name that is looked for, and which error it raises then."""

    def scenario():
        library = ctypes.CDLL(fixture_path)
        library.present = 5
        compared = []

        def count():
            compared.append(len(compared))
            if len(compared) > 4:
                raise KeyError(len(compared))
            return False

        outcomes = [library.present]
        for name in ("present", "absent"):
            vars(library)[Key(name, count)] = 1
            outcomes += [(observe(getattr, library, name)[:3], len(compared)) for _ in range(4)]
        return outcomes

    compare(scenario)


def test_classes_that_are_replaced():
    """`ctypes.CDLL` may be something else while hotcall is installed or uninstalled: what was patched is put back."""
    code = """if True:
        import ctypes, hotcall
        from unittest import mock
        library, slot = ctypes.CDLL, ctypes.c_uint64.from_address(id(ctypes.CDLL) + 144)
        class Derived(ctypes.CDLL): pass
        before = slot.value
        for replacement in (mock.MagicMock(), lambda name: name, Derived, None):
            for early in (False, True):
                with mock.patch("ctypes.CDLL", replacement):
                    hotcall.install() if early else None
                hotcall.install()
                with mock.patch("ctypes.CDLL", replacement):
                    hotcall.uninstall()
                assert ctypes.CDLL is library and slot.value == before
        print("put back")
    """
    done = python(code)
    assert done.stdout == "put back\n", done.stderr


def test_loaders(fixture_path):
    folder, name = os.path.split(fixture_path)

    def scenario():
        class Loader(ctypes.LibraryLoader):
            def __getattr__(self, name):
                return f"loader of {name}"

        loaders = [ctypes.LibraryLoader(ctypes.CDLL), ctypes.LibraryLoader(ctypes.PyDLL), Loader(ctypes.CDLL)]
        loaders[0].ready = 5
        return [
            [observe(getattr, loader, name)[0] for name in ("ready", "_dlltype", "no_such_library", "_private")]
            for loader in loaders
        ]

    compare(scenario)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 CPython does it by itself")
@pytest.mark.parametrize("setting", ["", "data=off"])
def test_slots_are_put_back(setting):
    code = """if True:
        import ctypes, hotcall
        class Mine(ctypes.CDLL): pass
        class Own(ctypes.CDLL):
            def __getattribute__(self, name): return 5
        def slots():
            kinds = ctypes.CDLL, ctypes.PyDLL, Mine, Own, ctypes.LibraryLoader
            return [ctypes.c_uint64.from_address(id(kind) + 144).value for kind in kinds]
        before = slots()
        for _ in range(3):
            hotcall.install()
            print([old != new for old, new in zip(before, slots())])
            hotcall.uninstall()
            assert slots() == before
    """
    done = python(code, setting=setting)
    changed = setting == ""
    assert done.stdout.splitlines() == [str([changed, changed, changed, False, changed])] * 3, done.stderr
