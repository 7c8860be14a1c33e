"""What a program may change between two calls, during one, and from another thread: no call may use what is stale.

Changes that are certain are compared with plain ctypes. Where threads race, each outcome must be one of the legal ones.
"""

import ctypes
import sys
import threading
import time
from ctypes import CDLL, CFUNCTYPE, POINTER, PyDLL, c_byte, c_char_p, c_double, c_int, c_int64, c_long, c_uint, c_ubyte, c_void_p

import pytest
from conftest import SECONDS, compare, observe
from values import MyInt

import hotcall

TIMES = 5
Binary = CFUNCTYPE(c_int, c_int)


def address_of(function):
    return ctypes.cast(function, c_void_p).value


def retarget(function, address):
    """Points a function object elsewhere through its memory."""
    ctypes.memmove(ctypes.addressof(function), ctypes.byref(c_void_p(address)), 8)


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


CHANGES = {
    "argtypes": lambda function: setattr(function, "argtypes", [c_byte, c_byte]),
    "no argtypes": lambda function: setattr(function, "argtypes", None),
    "restype": lambda function: setattr(function, "restype", c_ubyte),
    "errcheck": lambda function: setattr(function, "errcheck", lambda result, function, args: ("checked", result)),
    "no errcheck": lambda function: function.__delattr__("errcheck"),
    "uninstall": lambda function: hotcall.uninstall(),
    "install": lambda function: hotcall.install(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_from_within_a_conversion(change, lib):
    """A from_param that changes its own function: this call goes on as it began, and the next sees the change."""

    def scenario():
        class Changing:
            active = False

            @classmethod
            def from_param(cls, value):
                if cls.active:
                    CHANGES[change](function)
                return c_int(value)

        # What the call in progress uses must outlive the change: older versions of ctypes only borrow it.
        kept = [[Changing, c_int, c_ubyte], c_int64, lambda result, function, args: ("first", result)]
        outcomes = []
        for _ in range(3):
            function = lib["mix_i"]
            function.argtypes, function.restype, function.errcheck = kept
            outcomes.append([observe(function, 1, 2**40 + 3, 300) for _ in range(TIMES)])
            Changing.active = True
            outcomes.append(observe(function, 1, 300, 44))
            Changing.active = False
            outcomes.append([observe(function, 1, 300, 44) for _ in range(TIMES)])
        return outcomes

    compare(scenario)


@pytest.mark.needs_exec
@pytest.mark.parametrize("change", CHANGES)
def test_change_from_within_a_callback(change, lib):
    """A callback that changes the function through which it is called."""

    def scenario():
        @Binary
        def callback(number):
            if active:
                CHANGES[change](function)
            return number * 2

        kept = [[Binary, c_int], c_int, lambda result, function, args: ("first", result)]
        outcomes = []
        for _ in range(3):
            active = False
            function = lib["call_back"]
            function.argtypes, function.restype, function.errcheck = kept
            outcomes.append([observe(function, callback, number) for number in [1, 300]])
            active = True
            outcomes.append(observe(function, callback, 300))
            active = False
            if change not in ("argtypes", "no argtypes"):
                outcomes.append([observe(function, callback, number) for number in [1, 300]])
        return outcomes

    compare(scenario)


@pytest.mark.needs_exec
def test_address_from_within_a_callback(lib):
    def scenario():
        @Binary
        def callback(number):
            retarget(function, address)
            return number

        function = lib["call_back"]
        function.argtypes = [Binary, c_int]
        home, address = address_of(function), address_of(lib["call_back_in_thread"])
        outcomes = []
        for _ in range(TIMES):
            outcomes.append([observe(function, callback, 5) for _ in range(3)])
            retarget(function, home)
        return outcomes

    compare(scenario)


@pytest.mark.needs_exec
def test_dropping_the_function_during_its_call(lib):
    """The last reference to a hot function goes away while C runs on its behalf."""

    def scenario():
        box = []

        @Binary
        def callback(number):
            box.clear()
            return number + 1

        outcomes = []
        for _ in range(TIMES):
            function = lib["call_back"]
            function.argtypes = [Binary, c_int]
            for _ in range(TIMES):
                function(callback, 1)
            box.append(function)
            del function
            outcomes.append(observe(lambda: box[0](callback, 6)))
        return outcomes

    compare(scenario)


@pytest.mark.needs_exec
def test_recursion_through_one_site(lib):
    def scenario():
        function = lib["call_back"]
        function.argtypes = [Binary, c_int]

        @Binary
        def callback(number):
            return 0 if number <= 0 else 1 + function(callback, number - 1)

        return [observe(function, callback, depth) for depth in [0, 1, 5, 30, 30, 2]]

    compare(scenario)


def race(change, call, legal):
    """Lets one thread change things while others call; every outcome must be legal, and all of them finish."""
    stop = threading.Event()
    bad = []

    def changer():
        while not stop.is_set():
            change()

    def caller():
        while not stop.is_set():
            outcome = observe(call)
            if not legal(outcome):
                bad.append(outcome)
                return

    threads = [threading.Thread(target=target) for target in [changer, caller, caller, caller]]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    hotcall.install()
    try:
        for thread in threads:
            thread.start()
        time.sleep(SECONDS / 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    assert not bad, bad[:3]


def alternately(*actions):
    state = {"turn": 0}

    def act():
        state["turn"] += 1
        actions[state["turn"] % len(actions)]()

    return act


def returned(*values):
    return lambda outcome: outcome[0] == "returned" and outcome[1] in [(type(value).__name__, value) for value in values]


def test_argtypes_from_another_thread(lib):
    function = lib["add_one"]
    kept = [[c_int], [c_byte]]
    function.argtypes = kept[0]
    change = alternately(*(lambda types=types: setattr(function, "argtypes", types) for types in kept))
    race(change, lambda: function(300), returned(301, 45))


def test_restype_from_another_thread(lib):
    function = lib["add_one"]
    function.argtypes = [c_int]
    change = alternately(*(lambda kind=kind: setattr(function, "restype", kind) for kind in [c_int, c_ubyte, None]))
    race(change, lambda: function(299), returned(300, 44, None))


def test_errcheck_from_another_thread(lib):
    function = lib["add_one"]
    function.argtypes = [c_int]
    kept = [lambda result, function, args: "one", lambda result, function, args: "two"]
    change = alternately(*(lambda check=check: setattr(function, "errcheck", check) for check in kept))
    race(change, lambda: function(1), returned(2, "one", "two"))


def test_address_from_another_thread(lib):
    function = lib["add_one"]
    function.argtypes = [c_int]
    one, two = address_of(lib["add_one"]), address_of(lib["add_two"])
    window = c_void_p.from_address(ctypes.addressof(function))
    change = alternately(lambda: setattr(window, "value", one), lambda: setattr(window, "value", two))
    race(change, lambda: function(1), returned(2, 3))


def test_call_of_the_class_from_another_thread(lib):
    kind = CDLL(lib._name)._FuncPtr
    function = kind(("add_one", lib))
    function.argtypes = [c_int]
    # The list is walked from its second entry on.
    change = alternately(lambda: delattr(kind, "__call__"), lambda: setattr(kind, "__call__", lambda self, number: "mine"))
    try:
        race(change, lambda: function(1), returned(2, "mine"))
    finally:
        if "__call__" in vars(kind):
            del kind.__call__


def test_install_from_another_thread(lib):
    function = lib["add_one"]
    function.argtypes = [c_int]
    race(alternately(hotcall.uninstall, hotcall.install), lambda: function(1), returned(2))
