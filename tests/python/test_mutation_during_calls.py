"""What a conversion or a callback may change about the very function that is being called, up to dropping it.

Each change is made under plain ctypes and under hotcall, and the outcomes are compared.
"""

import gc
from ctypes import CFUNCTYPE, c_byte, c_int, c_int64, c_ubyte

import pytest
from conftest import address_of, compare, observe, retarget

import hotcall

TIMES = 5
Binary = CFUNCTYPE(c_int, c_int)
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
            function.argtypes, function.restype, function.errcheck = kept[:3]
            outcomes.append([observe(function, 1, 2**40 + 3, 300) for _ in range(TIMES)])
            # So must the tuple of converters, which nothing in Python names.
            kept.append(gc.get_referents(function))
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
