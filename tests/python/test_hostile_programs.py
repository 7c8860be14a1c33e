"""Programs that do at the worst moment what no program should: nothing goes stale, and nothing crashes."""

import ctypes

import pytest

from conftest import compare, observe, python

PROGRAMS = {
    "a class whose __subclasses__ raises": """
        class Odd(_ctypes.CFuncPtr):
            _flags_, _restype_ = 1, c_int
            @classmethod
            def __subclasses__(cls):
                raise RuntimeError("asked")
        for _ in range(3):
            hotcall.install()
            check(lib["add_one"])
            hotcall.uninstall()
            check(lib["add_one"])
    """,
    "functions that die while hotcall is taken out": """
        functions = [lib["add_one"] for _ in range(300)]
        for function in functions:
            function.argtypes = [c_int]
            check(function)
        class Odd(_ctypes.CFuncPtr):
            _flags_, _restype_ = 1, c_int
            @classmethod
            def __subclasses__(cls):
                functions.clear()
                gc.collect()
                return []
        hotcall.uninstall()
        check(lib["add_one"])
    """,
    "a declaration that changes while a class is looked at": """
        function = lib["same"]
        function.restype = c_void_p
        function.errcheck = lambda result, function, args: result
        function.argtypes = [py_object]
        class Evil:
            armed = False
            def __hash__(self):
                return hash("__class__")
            def __eq__(self, other):
                if Evil.armed:
                    Evil.armed = False
                    del function.errcheck
                    function.argtypes = [py_object]
                    function(None)
                return False
        value = type("Value", (), {Evil(): 1})()
        Evil.armed = True
        for _ in range(4):
            assert function(value) == id(value)
    """,
    "a function class that dies and is replaced at its address": """
        def make(restype):
            class Made(_ctypes.CFuncPtr):
                _flags_, _restype_ = 1, restype
            return Made
        first = make(c_int)
        address = cast(lib["add_one"], c_void_p).value
        function = first(address)
        function.argtypes = [c_int]
        for _ in range(5):
            check(function)
        function.__class__ = type(lib["add_one"])
        place = id(first)
        del first
        gc.collect()
        made = []
        while len(made) < 2000 and (not made or id(made[-1]) != place):
            made.append(make(c_ubyte))
        function.__class__ = made[-1]
        assert [function(255), function(299)] == [0, 44], "the class's result type counts"
    """,
    "relays that die when hotcall is uninstalled": """
        import hotcall
        class Converting:
            @classmethod
            def from_param(cls, value):
                return c_int(value)
        for _ in range(100):
            functions = [lib["add_one"] for _ in range(20)]
            for function in functions:
                function.argtypes = [Converting]
                check(function)
            hotcall.uninstall()
            junk = [CFUNCTYPE(c_int)() for _ in range(200)]
            assert not any(junk)
            for function in functions:
                check(function)
            del functions, function
            hotcall.install()
    """,
    "hotcall is uninstalled while relays are on the way": """
        import hotcall
        class Converting:
            @classmethod
            def from_param(cls, value):
                hotcall.uninstall()
                hotcall.install()
                gc.collect()
                return c_int(value)
        function = lib["add_one"]
        function.argtypes = [Converting]
        for _ in range(100):
            check(function)
    """,
    "hotcall is uninstalled while a site is being made": """
        import hotcall
        class Hooked:
            armed = False
            def __get__(self, function, owner):
                if function is None and Hooked.armed:
                    Hooked.armed = False
                    hotcall.uninstall()
                return lambda *args: None
        class Odd(_ctypes.CFuncPtr):
            _flags_, _restype_, __init__ = 1, c_int, Hooked()
        for turn in range(20):
            function = Odd(("add_one", lib))
            function.restype = c_ubyte
            Odd.turn = turn  # takes the version of the class away
            Hooked.armed = True
            assert [function(1), function(299)] == [2, 44]
            assert not Hooked.armed and not hotcall.status().installed
            place = id(function)
            del function
            gc.collect()
            hotcall.install()
            functions = [Odd(("add_one", lib))]
            while len(functions) < 5000 and id(functions[-1]) != place:
                functions.append(Odd(("add_one", lib)))
            assert [functions[-1](299) for _ in range(4)] == [300] * 4
            del functions
    """,
    "an argument's class that dies during the call that learns it": """
        for _ in range(200):
            class Made(Structure):
                _fields_ = [("a", c_int)]
            other = lib["same"]
            other.restype = c_void_p
            value = Made(1)
            for _ in range(3):
                assert other(byref(value)) == addressof(value)
            del Made, value
        gc.collect()
    """,
}

PRELUDE = """if True:
    import _ctypes, ctypes, gc, os
    import hotcall.auto
    from ctypes import *
    lib = CDLL(os.environ["HOTCALL_FIXTURE"])
    def check(function):
        assert [function(number) for number in (1, 2, 3)] == [2, 3, 4]
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program):
    code = PRELUDE + "".join(f"{line[4:]}\n" for line in PROGRAMS[program].splitlines())
    done = python(code, setting="threshold=1")
    assert done.returncode == 0, done.stderr


def test_set_type_of_a_pointer_class(lib):
    """What a pointer class points to may be set anew; argtypes that name it follow at once."""
    def scenario():
        first, second = (type(name, (ctypes.Structure,), {"_fields_": [("a", ctypes.c_int)]}) for name in "AB")

        class Pointer(ctypes._Pointer):
            _type_ = first

        function = lib["same"]
        function.restype = ctypes.c_size_t
        function.argtypes = [Pointer]
        values = [first(1), second(2), None]
        outcomes = [observe(function, value)[0] for value in values for _ in range(3)]
        Pointer.set_type(second)
        return outcomes + [observe(function, value)[0] for value in values for _ in range(3)]

    compare(scenario)


def test_references_that_c_code_counts():
    """A tuple that only the call holds may not be changed, and is not."""
    def scenario():
        set_item = ctypes.PyDLL(None)["PyTuple_SetItem"]
        set_item.argtypes = [ctypes.py_object, ctypes.c_ssize_t, ctypes.py_object]
        return [observe(lambda: set_item((object(),), 0, "new"))[:3] for _ in range(5)]

    compare(scenario)


def test_bases_that_change_while_a_class_is_looked_at():
    """Code that runs as names are looked up in a class gives the class other bases, and its objects another class."""
    for action in ("Odd.__bases__ = (A,)", "odd.__class__ = A"):
        done = python(f"""if True:
            import hotcall.auto, gc
            from ctypes import CDLL, c_long
            class A:
                pass
            class Key(str):
                def __hash__(self):
                    return hash("__class__")
                def __eq__(self, other):
                    global armed, junk
                    if armed:
                        armed = False
                        {action}
                        globals().pop("Base", None)
                        gc.collect()
                        junk = [bytearray(b"\\xff" * size) for size in range(800, 1800, 8) for _ in range(40)]
                    return False
            armed = False
            Odd = type("Odd", (type("Base", (), {{}}),), {{Key("k"): 1}})
            odd = Odd()
            odd._as_parameter_ = -3
            function = CDLL(None).labs
            function.argtypes, function.restype = [c_long], c_long
            if "__class__" in {action!r}:
                del Odd
            for turn in range(6):
                armed = turn < 2
                print(function(odd))
        """)
        assert done.stdout.split() == ["3"] * 6, (action, done.stderr)


def test_a_class_that_changes_whenever_it_is_looked_at():
    """Its constructor is a descriptor that assigns to the class: ctypes makes the calls."""
    done = python("""if True:
        import hotcall.auto
        from ctypes import CDLL, c_long
        class Changing:
            def __get__(self, instance, owner):
                owner.changed = object()
                return lambda *args: None
        class Odd:
            __init__ = Changing()
            _as_parameter_ = -3
        odd = Odd()
        function = CDLL(None).labs
        function.argtypes, function.restype = [c_long], c_long
        for turn in range(6):
            Odd.changed = turn
            print(function(odd))
    """)
    assert done.stdout.split() == ["3"] * 6, done.stderr


def test_a_resolution_order_that_leaves_int_out():
    """CPython knows an int by a flag of its class, whatever the class says its bases are."""

    def scenario():
        class Meta(type):
            leaves_out = False

            def mro(cls):
                return (cls, object) if Meta.leaves_out else type.mro(cls)

        class Number(int, metaclass=Meta):
            pass

        number, Meta.leaves_out = Number(-7), True
        Number.__bases__ = (int,)
        function = ctypes.CDLL(None)["labs"]
        function.argtypes, function.restype = [ctypes.c_long], ctypes.c_long
        return [observe(function, number) for _ in range(6)]

    compare(scenario)
