"""What lives for how long in a call that Python code runs for: arguments, their copies, what conversions gave, results.

Each scenario runs under plain ctypes and under hotcall, and the outcomes are compared: what is finalised, when, and how
often.
"""

from ctypes import CFUNCTYPE, POINTER, Structure, c_int, c_int64, c_ubyte, c_void_p

from conftest import compare, observe

import hotcall

TIMES = 5


class Converting:
    """A converter that cannot be left out."""

    @classmethod
    def from_param(cls, value):
        return c_int64(value)


def finalised(base, log, **members):
    """A class whose instances note in `log` that they are finalised."""
    return type("Finalised", (base,), {"__del__": lambda self: log.append("finalised"), **members})


def test_copies_are_not_finalised(lib):
    """An argument that is passed by value before a conversion runs is finalised once, when the program gives it up."""

    def scenario():
        log, outcomes = [], []
        point = finalised(Structure, log, _fields_=[("x", c_int), ("y", c_int)])
        for argtypes, make in [
            ([finalised(c_void_p, log), Converting], lambda number: number),
            ([c_int64, Converting], finalised(c_int64, log)),
            ([point, Converting], lambda number: point(number, 1)),
            (None, finalised(c_int64, log)),
        ]:
            function = lib["same"]
            function.argtypes, function.restype = argtypes, c_int64
            late = 2 if argtypes else type("LookedUp", (), {"_as_parameter_": 2})()
            for number in range(TIMES):
                value = make(number)
                if argtypes and isinstance(value, int):
                    value = argtypes[0](value)
                outcomes.append((function(value, late), log.copy()))
                del value
                outcomes.append(log.copy())
                log.clear()
        return outcomes

    compare(scenario)


def test_outcomes_of_conversions_are_finalised_once(lib):
    """So is what a conversion gave, which later conversions of the call outlive."""

    def scenario():
        log, outcomes = [], []
        first = type("First", (), {"from_param": staticmethod(finalised(c_int64, log))})
        second = type("Second", (), {"from_param": lambda value: log.append("converted") or c_int64(value)})
        function = lib["mix_i"]
        function.argtypes, function.restype = [first, second, second], c_int64
        for number in range(TIMES):
            outcomes.append((function(number, 2, 3), log.copy()))
            log.clear()
        return outcomes

    compare(scenario)


def test_copies_are_not_finalised_by_a_later_finaliser(lib):
    """A conversion may give the class of an argument before it a finaliser."""

    def scenario():
        log, outcomes = [], []
        late = type("Late", (c_int64,), {})
        given = type("Given", (), {"from_param": lambda value: setattr(late, "__del__", finaliser) or c_ubyte(value)})

        def finaliser(self):
            log.append("finalised")

        function = lib["same"]
        function.argtypes, function.restype = [late, given], c_int64
        for number in range(TIMES):
            value = late(number)
            outcomes.append((function(value, 2), log.copy()))
            del value, late.__del__
            outcomes.append(log.copy())
        return outcomes

    compare(scenario)


def test_a_finaliser_has_a_name_among_the_refusals(lib):
    function = lib["same"]
    function.argtypes, function.restype = [finalised(c_void_p, []), Converting], c_int64
    hotcall.install()
    value = function.argtypes[0](7)
    assert [function(value, 2) for _ in range(TIMES)] == [7] * TIMES
    assert "finaliser" in str(hotcall.explain(function))


def test_a_result_dies_before_out_parameters_are_asked(lib):
    """Unless it is returned; what `errcheck` does not give back dies too, the result before the arguments."""

    def scenario():
        log, outcomes = [], []

        class Out(c_int64):
            def __ctypes_from_outparam__(self):
                log.append("asked")
                return self.value

            def __del__(self):
                log.append("argument finalised")

        kind = CFUNCTYPE(finalised(c_int64, log), POINTER(Out))
        for flags in [((2, "out"),), ((3, "out"),), ((1, "out"),)]:
            for errcheck in [None, lambda result, function, args: args, lambda *_: "other", lambda *_: log.missing]:
                function = kind(("read_long", lib), flags)
                if errcheck:
                    function.errcheck = errcheck
                for _ in range(TIMES):
                    given = () if flags[0][0] == 2 else (Out(3),)
                    outcomes.append((observe(function, *given)[0], log.copy()))
                    del given
                    outcomes.append(log.copy())
                    log.clear()
        return outcomes

    compare(scenario)


def test_a_number_is_given_up_when_it_is_converted(lib):
    """ctypes has read what a conversion gave before the next one runs: an int of the program's own class dies then."""

    def scenario():
        log, outcomes = [], []
        number = finalised(int, log)

        def converting(convert):
            return type("Logging", (), {"from_param": lambda value: log.append("converted") or convert(value)})

        function = lib["mix_i"]
        function.restype = c_int64
        for value in [0, -1, 2**31, 2**63 - 1, -(2**63), 2**64, -(2**63) - 1]:
            for first, second in [(number, number), (number, c_int64), (c_int64, number)]:
                function.argtypes = [converting(first), converting(second), c_ubyte]
                for _ in range(TIMES):
                    outcomes.append(observe(function, value, 2, 3))
                    # An exception, which may hold a number, is gone here.
                    outcomes.append(log.copy() if outcomes[-1][0] == "returned" else len(log))
                    log.clear()
        return outcomes

    compare(scenario)
