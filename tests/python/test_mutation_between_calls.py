"""What a program may change between two calls of a hot function: the next call uses nothing that is stale.

Each change is made under plain ctypes and under hotcall, and the outcomes are compared.
"""

import ctypes
from ctypes import CDLL, CFUNCTYPE, POINTER, PyDLL, c_byte, c_char_p, c_double, c_int, c_int64, c_long, c_uint, c_ubyte, c_void_p

from conftest import EXPECT_STUBS, address_of, compare, observe, retarget
from values import MyInt

import hotcall

TIMES = 5
Binary = CFUNCTYPE(c_int, c_int)


def test_argtypes_between_calls(lib):
    def scenario():
        function = lib["mix_i"]
        function.restype = c_int64
        outcomes = []
        for _ in range(3):
            for argtypes in [[c_int, c_int64, c_ubyte], [c_byte, c_byte, c_byte], None, (c_long, c_uint, MyInt), [c_int] * 3, []]:
                function.argtypes = argtypes
                for args in [(1, 2, 3), (300, -300, 300), (2**40, 2**40, 2**40), (1, 2), (1, 2, 2.5), (True, c_int(2), 3)]:
                    if len(args) == 2 and not argtypes:
                        continue
                    outcomes.append([observe(function, *args) for _ in range(TIMES)])
            del function.argtypes
            outcomes.append([observe(function, 1, 2, 3) for _ in range(TIMES)])
        return outcomes

    compare(scenario)


def test_changing_the_list_of_argtypes_has_no_effect(lib):
    def scenario():
        function = lib["add_one"]
        types = [c_int]
        function.argtypes = types
        outcomes = [observe(function, 1) for _ in range(TIMES)]
        types[0] = c_char_p
        types.append(c_int)
        outcomes += [observe(function, 1) for _ in range(TIMES)]
        outcomes.append(function.argtypes is types)
        function.argtypes = types
        return outcomes + [observe(function, *args) for args in [(1,), (b"x", 1), (None, 2)] for _ in range(TIMES)]

    compare(scenario)


def test_failed_assignments_change_nothing(lib):
    def scenario():
        function = lib["add_one"]
        function.argtypes = [c_int]
        outcomes = []
        for name, value in [("argtypes", 5), ("argtypes", [5]), ("argtypes", [c_int, object()]), ("restype", 5), ("errcheck", 5)]:
            outcomes += [observe(function, 1) for _ in range(TIMES)]
            outcomes.append(observe(setattr, function, name, value))
            outcomes += [observe(function, argument) for argument in [1, "x"] for _ in range(TIMES)]
        return outcomes

    compare(scenario)


def test_restype_between_calls(lib):
    def scenario():
        function = lib["add_one"]
        function.argtypes = [c_int]
        outcomes = []
        for _ in range(3):
            for restype in [c_int, c_ubyte, None, MyInt, c_void_p, hex, c_int64, POINTER(c_int), c_int]:
                function.restype = restype
                kept = [observe(function, number) for number in [-1, 254, 1000, 41]]
                outcomes += [kept, function.restype is restype]
        return outcomes

    compare(scenario)


def test_errcheck_between_calls(lib):
    def scenario():
        function = lib["add_one"]
        function.argtypes = [c_int]
        outcomes = []
        for turn in range(6):
            outcomes += [observe(function, 1) for _ in range(TIMES)]
            function.errcheck = lambda result, function, args, turn=turn: (turn, result, args)
            outcomes += [observe(function, 2) for _ in range(TIMES)]
            if turn % 2:
                del function.errcheck
        return outcomes

    compare(scenario)


def test_class_between_calls(fixture_path):
    """Another class means other flags: errno, the lock, the default result."""

    def scenario():
        libraries = [CDLL(fixture_path), CDLL(fixture_path, use_errno=True), PyDLL(fixture_path)]
        function = libraries[0]["swap_errno"]
        function.argtypes = [c_int]
        other = CFUNCTYPE(c_double, c_int)
        outcomes = []
        for kind in [library._FuncPtr for library in libraries] + [other, libraries[1]._FuncPtr, libraries[0]._FuncPtr]:
            outcomes.append(observe(setattr, function, "__class__", kind))
            ctypes.set_errno(17)
            outcomes.append(type(function) is kind)
            if kind is not other:
                outcomes.append([observe(function, number) for number in range(3, 3 + TIMES)][1:])
                outcomes.append(ctypes.get_errno())
        return outcomes

    compare(scenario)


def test_address_between_calls(lib):
    def scenario():
        one, two = address_of(lib["add_one"]), address_of(lib["add_two"])
        function = lib["add_one"]
        function.argtypes = [c_int]
        outcomes = []
        for address in [one, two, one, two, two, one]:
            retarget(function, address)
            outcomes.append([observe(function, 10) for _ in range(TIMES)])
        view = ctypes.cast(ctypes.byref(function), POINTER(c_void_p))
        for address in [one, two, one]:
            view[0] = address
            outcomes.append([observe(function, 10) for _ in range(TIMES)])
        window = c_void_p.from_address(ctypes.addressof(function))
        for address in [two, one]:
            window.value = address
            outcomes.append([observe(function, 10) for _ in range(TIMES)])
        return outcomes

    compare(scenario)


class Table(ctypes.Structure):
    _fields_ = [("first", Binary), ("second", Binary)]


def test_functions_in_memory_of_others(lib):
    """Function objects read from fields and arrays point into the owner, which may change under them."""

    def scenario():
        one, two = Binary(("add_one", lib)), Binary(("add_two", lib))
        table = Table(one, two)
        array = (Binary * 2)(one, two)
        field, item = table.first, array[0]
        outcomes = [[observe(call, 5) for _ in range(TIMES)] for call in [field, item]]
        table.first, array[0] = two, two
        outcomes += [[observe(call, 5) for _ in range(TIMES)] for call in [field, item, table.first, array[0]]]
        table.first, array[0] = one, one
        outcomes += [[observe(call, 5) for _ in range(TIMES)] for call in [field, item, table.second, array[1]]]
        return outcomes

    compare(scenario)


def test_call_of_the_class(lib):
    """`__call__` assigned to a class, taken away, and inherited."""

    def scenario():
        class Library(CDLL):
            pass

        outcomes = []
        kind = Library(lib._name)._FuncPtr

        class Derived(kind):
            _flags_ = kind._flags_
            _restype_ = c_int

        for cls in [kind, Derived]:
            function = cls(("add_one", lib))
            function.argtypes = [c_int]
            for _ in range(3):
                outcomes.append([observe(function, 1) for _ in range(TIMES)])
                cls.__call__ = lambda self, *args: ("mine", args)
                outcomes.append([observe(function, 1) for _ in range(TIMES)])
                outcomes.append(observe(super(cls, function).__call__, 1))
                del cls.__call__
                outcomes.append([observe(function, 1) for _ in range(TIMES)])
                outcomes.append([observe(function.__call__, 2) for _ in range(TIMES)])
                outcomes.append([observe(type(function).__call__, function, 2) for _ in range(TIMES)])
        return outcomes

    compare(scenario)


def test_call_of_a_base_class(lib):
    """The class that overrides `__call__` may come between a hot class and its root."""

    def scenario():
        class Base(CDLL(lib._name)._FuncPtr):
            _flags_ = lib._FuncPtr._flags_
            _restype_ = c_int

        class Derived(Base):
            _flags_ = lib._FuncPtr._flags_
            _restype_ = c_int

        function = Derived(("add_one", lib))
        function.argtypes = [c_int]
        outcomes = [observe(function, 1) for _ in range(TIMES)]
        Base.__call__ = lambda self, *args: ("mine", args)
        outcomes += [observe(function, 1) for _ in range(TIMES)]
        del Base.__call__
        return outcomes + [observe(function, 1) for _ in range(TIMES)]

    compare(scenario)


def test_call_that_ends_in_the_base_class(lib):
    """A `__call__` that calls the one that it overrides, as subclasses do."""

    def scenario():
        class Doubling(CDLL(lib._name)._FuncPtr):
            _flags_ = lib._FuncPtr._flags_
            _restype_ = c_int

            def __call__(self, *args):
                return 2 * super().__call__(*args)

        function = Doubling(("add_one", lib))
        function.argtypes = [c_int]
        return [observe(function, *args) for args in [(1,), (), ("x",), (2, 3)] for _ in range(TIMES)]

    compare(scenario)


def test_bases_of_the_result_class_between_calls():
    """Whether a result is an instance or a value depends on the bases of its class at the time of the call."""

    def scenario():
        class Between(ctypes._SimpleCData):
            _type_, __slots__ = "l", ()

        class Result(ctypes._SimpleCData):
            _type_ = "l"

        function = CDLL(None)["labs"]
        function.argtypes, function.restype = [c_long], Result
        outcomes = []
        for bases in ((Between,), (ctypes._SimpleCData,), (Between,)):
            outcomes.append([type(function(-4)).__name__ for _ in range(TIMES)])
            outcomes.append(observe(setattr, Result, "__bases__", bases)[:3])
        outcomes.append([type(function(-4)).__name__ for _ in range(TIMES)])
        return outcomes

    compare(scenario)


def test_what_is_there_already_is_assigned_again(lib):
    """Programs declare functions before each call. The result type, or its `_check_retval_`, may act meanwhile."""

    def scenario():
        function = lib["add_one"]
        other = c_long
        acts = []

        class Meta(type(c_int)):
            @property
            def _check_retval_(self):
                if not acts:
                    raise AttributeError
                return acts[-1]()

        class Acting(c_int, metaclass=Meta):
            pass

        def check(result, function, args):
            return "checked", result

        def declare():
            function.restype = other
            return lambda result: ("by the check", result)

        def vanish():
            function.restype = other
            function(1)
            raise AttributeError

        def fail():
            raise KeyError("refused")

        def call():
            outcomes.append([observe(function, 5), observe(function, 6)])
            raise AttributeError

        outcomes = []
        for kind in (c_int, c_long, None, Acting, MyInt, lambda result: result * 2):
            for act in (None, declare, vanish, fail, call, None):
                function.restype = kind
                outcomes += [observe(function, 1) for _ in range(TIMES)]
                acts[:] = [act] if act else []
                outcomes += [(observe(setattr, function, "restype", kind), observe(function, 2)) for _ in range(TIMES)]
                acts.clear()
                outcomes += [observe(function, 3), function.restype is kind]
            function.errcheck = check
            for value in (check, check, lambda *args: args[0], check):
                function.errcheck = value
                outcomes += [observe(function, 4) for _ in range(TIMES)]
            del function.errcheck
        return outcomes

    compare(scenario)


def test_what_is_there_already_ends_nothing(lib):
    hotcall.install()
    function = lib["add_one"]
    function.argtypes = [c_int]

    def check(result, function, args):
        return result

    function.errcheck = check
    for number in range(300):
        function.restype, function.errcheck = c_int, check
        assert function(number) == number + 1
    assert hotcall.explain(function).tier == ("stub" if EXPECT_STUBS else "interpreter")
    before = hotcall.stats()["stub_calls"]
    for number in range(100):
        function.restype, function.errcheck = c_int, check
        function(number)
    assert not EXPECT_STUBS or hotcall.stats()["stub_calls"] - before == 100
