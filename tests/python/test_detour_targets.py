"""Where a call goes for which Python code runs: to where the function went when the call began.

The scenario runs under plain ctypes and under hotcall, and the outcomes are compared.
"""

from ctypes import CFUNCTYPE, POINTER, Structure, c_int

import pytest
from conftest import address_of, compare, in_threads, retarget

TIMES = 5


class Straying:
    """Has Python code that runs during a call point the function elsewhere, and call it, also in another thread."""

    def __init__(self, lib):
        self.outcomes, self.is_straying, self.kind = [], False, c_int
        self.one, self.two = address_of(lib["add_one"]), address_of(lib["add_two"])
        straying = self

        class Converting:
            @classmethod
            def from_param(cls, value):
                return straying.convert()

        class Built(Structure):
            def __init__(self):
                straying.convert()

        class Learned(c_int):
            class Initialiser:
                def __get__(self, instance, owner):
                    if instance is None and not straying.is_straying:
                        # ctypes does not look here.
                        count = len(straying.outcomes)
                        straying.stray()
                        del straying.outcomes[count:]
                    return lambda value: setattr(instance, "value", value)

        self.converting, self.built, self.learned = Converting, Built, Learned
        self.given = type("LookedUp", (), {"_as_parameter_": property(lambda _: straying.convert())})()

    def stray(self):
        self.is_straying = True
        retarget(self.function, self.two)
        self.call()
        in_threads(1, lambda _: self.call())
        self.is_straying = False

    def convert(self):
        if not self.is_straying:
            self.stray()
        return self.kind(97)

    def learn(self, value):
        """An instance of a class that was never seen as it is, but for calls that went astray."""
        if self.is_straying:
            return c_int(value)
        self.learned.__init__ = self.learned.Initialiser()
        instance = self.learned(value)
        self.learned.number = value
        return instance

    def call(self):
        self.outcomes.append(self.function(*self.args))

    def calls(self, function, *args, kind=c_int):
        """The outcomes of some calls, each of a function that begins at the same place."""
        self.function, self.args, self.kind = function, args, kind
        for _ in range(TIMES):
            retarget(function, self.one)
            self.call()
        return self.outcomes


@pytest.mark.parametrize("is_learned", [False, True])
@pytest.mark.parametrize("converted", [(True,), (False, True), (True, True)])
def test_conversions_do_not_change_where_a_call_goes(lib, converted, is_learned):
    def scenario():
        straying = Straying(lib)
        function = CFUNCTYPE(c_int, c_int)(straying.one)
        function.argtypes = [straying.converting if is_converted else c_int for is_converted in converted]
        return straying.calls(function, *[97 for _ in converted], kind=straying.learn if is_learned else c_int)

    compare(scenario)


@pytest.mark.parametrize("kind", [c_int, type("Odd", (int,), {})])
def test_look_ups_do_not_change_where_a_call_goes(lib, kind):
    def scenario():
        straying = Straying(lib)
        function = CFUNCTYPE(c_int, c_int)(straying.one)
        function.argtypes = [c_int]
        return straying.calls(function, straying.given, kind=kind)

    compare(scenario)


def test_built_arguments_do_not_change_where_a_call_goes(lib):
    def scenario():
        straying = Straying(lib)
        kind = CFUNCTYPE(c_int, c_int, POINTER(straying.built))
        function = kind(("add_one", lib), ((1, "x"), (2, "made")))
        function.errcheck = lambda result, function, args: result
        return straying.calls(function, 97)

    compare(scenario)
