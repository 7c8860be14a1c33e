"""Assignments to a function's attributes that run Python code, or that hotcall might overlook: nothing goes stale."""

import ctypes
import threading
from ctypes import c_char, c_int, c_short

import pytest
from conftest import EXPECT_STUBS, compare, is_active, python

import hotcall

TIMES = 30


def declared(fixture_path):
    """A function of a class of its own."""
    function = ctypes.CDLL(fixture_path)["add_one"]
    function.argtypes = [c_int]
    return function


def heated(function, value=-3):
    """The last of many results."""
    return [function(value) for _ in range(TIMES)][-1]


@pytest.mark.parametrize("is_bound", [False, True])
def test_while_the_function_is_of_a_class_with_a_call_of_its_own(is_bound, fixture_path):
    """The class may be older than the hook."""

    class Result:
        def __init__(self, number):
            self.number = number

        def __call__(self, value):
            return self.number, value

    def scenario():
        function = declared(fixture_path)
        plain = type(function)

        class Other(plain):
            _flags_, _restype_ = 1, c_int

            def __call__(self, *args):
                return "other", args

        if is_active():
            hotcall.uninstall()
            hotcall.install()
        call = hotcall.bind(function) if is_bound else function
        seen = []

        def step(name, value):
            seen.append(heated(call))
            function.__class__ = Other
            seen.append(call(-3))
            setattr(function, name, value)
            function.__class__ = plain
            seen.append(heated(call))

        step("restype", c_char)
        step("restype", Result(1))
        step("restype", Result(2))
        for number in (3, 4):
            step("errcheck", lambda result, function, args, number=number: (number, result))
        step("argtypes", [c_short])
        del Other.__call__
        function.__class__ = Other
        seen.append(heated(call))
        function.restype = c_int
        seen.append(heated(call))
        return seen

    compare(scenario)


def test_a_checker_that_dies_calls_the_function(fixture_path):
    """ctypes looks the checker up anew where a result class is assigned again, and then gives the older one up."""

    def scenario():
        function = declared(fixture_path)
        seen, made = [], []

        class Attribute:
            def __init__(self, number):
                self.number = number

            def __del__(self):
                result = function(-5)
                seen.append(("dies", self.number, getattr(result, "value", result)))

        class Checker:
            def __init__(self):
                made.append(None)
                self.number = len(made)
                self.attribute = Attribute(self.number)

            def __call__(self, value):
                return self.number, value.value

        class Lookup:
            def __get__(self, instance, owner):
                return Checker()

        class Result(c_int):
            _check_retval_ = Lookup()

        for _ in range(5):
            function.restype = Result
            seen.append(heated(function))
        function.restype = c_int
        return list(seen)

    compare(scenario)


def test_a_look_up_assigns_another_value(fixture_path):
    """What is assigned is there already, until ctypes asks it for a checker."""

    def scenario():
        function = declared(fixture_path)
        seen = []

        class Attribute:
            def __del__(self):
                seen.append(("dies", function(-5)))

        class Inner:
            def __init__(self):
                self.attribute = Attribute()

            def __call__(self, value):
                return "inner", value

        class Outer:
            is_on = False

            def __call__(self, value):
                return "outer", value

            @property
            def _check_retval_(self):
                if Outer.is_on:
                    Outer.is_on = False
                    function.restype = Inner()
                    seen.append(heated(function, -4))
                raise AttributeError

        outer = Outer()
        function.restype = outer
        seen.append(heated(function))
        Outer.is_on = True
        function.restype = outer
        seen.append(heated(function, -7))
        return seen

    compare(scenario)


def test_two_threads_assign(fixture_path):
    """One assigns what is there already, and ends in the middle of the other one's assignment."""

    def scenario():
        function = declared(fixture_path)
        look, seen = [], []

        class Result:
            def __init__(self, name):
                self.name = name

            def __call__(self, value):
                return self.name, value

            @property
            def _check_retval_(self):
                for action in look:
                    action(self.name)
                raise AttributeError

            def __del__(self):
                seen.append(("dies", self.name, function(-5)))

        first_is_in, second_is_in, first_goes_on, second_goes_on = (threading.Event() for _ in range(4))

        def wait(name):
            if name == "second":
                second_is_in.set()
                second_goes_on.wait()
                seen.append(heated(function, -4))
            else:
                first_is_in.set()
                first_goes_on.wait()

        there = [Result("first")]
        function.restype = there[0]
        seen.append(heated(function))
        look.append(wait)
        first = threading.Thread(target=lambda: setattr(function, "restype", there[0]))
        first.start()
        first_is_in.wait()
        second = threading.Thread(target=lambda: setattr(function, "restype", Result("second")))
        second.start()
        second_is_in.wait()
        first_goes_on.set()
        first.join()
        there.clear()
        second_goes_on.set()
        second.join()
        seen.append(heated(function))
        look.clear()
        function.restype = c_int
        return list(seen)

    compare(scenario)


@pytest.mark.skipif(not EXPECT_STUBS, reason="there are no stubs here")
def test_a_function_that_is_declared_before_each_call_becomes_hot():
    """By the usual threshold, where calls are counted before there is a site."""
    code = (
        "import ctypes, hotcall\nhotcall.install()\nfunction = ctypes.CDLL(None).labs\n"
        "for number in range(1000):\n    function.restype = ctypes.c_long\n    assert function(-number) == number\n"
        "print(hotcall.explain(function).tier)"
    )
    done = python(code, setting="")
    assert (done.stdout, done.stderr) == ("stub\n", "")
