"""Functions with `errcheck`, which CPython enters through the call slot: more of them than hotcall has room for, that
change, die, and are made again at the same address."""

import ctypes
from ctypes import c_int, c_long, c_short

from conftest import compare, observe

FUNCTIONS = 1_500


def check(result, function, args):
    """An errcheck that tells all that it gets."""
    return result, function.__name__, args


def test_many_functions(fixture_path):
    """Each is entered as itself, whoever had its place in the table last."""

    def scenario():
        library = ctypes.CDLL(fixture_path)
        names = ["add_one", "add_two"]
        functions = []
        for number in range(FUNCTIONS):
            function = library[names[number % 2]]
            function.argtypes = [(c_int, c_short, c_long)[number % 5 % 3]]
            function.errcheck = check
            functions.append(function)
        return [function(number) for _ in range(4) for number, function in enumerate(functions)]

    compare(scenario)


def test_random_changes(fixture_path, rng):
    """Between calls a function is declared anew, replaced by another one, or given a class that calls it in its own way."""
    steps = [(rng.randrange(9), rng.randrange(12), rng.randrange(-9, 9)) for _ in range(4_000)]

    def scenario():
        library = ctypes.CDLL(fixture_path)

        class Calling(library._FuncPtr):
            _flags_ = library._FuncPtr._flags_
            _restype_ = c_int

            def __call__(self, *args):
                return "through the class", super().__call__(*args)

        def made(name="add_one"):
            function = library[name]
            function.errcheck = check
            return function

        functions = [made() for _ in range(9)]
        outcomes = []
        for at, choice, value in steps:
            function = functions[at]
            if choice == 0:
                function.argtypes = [c_short]
            elif choice == 1:
                function.argtypes = [c_int]
            elif choice == 2:
                function.restype = c_long
            elif choice == 3:
                function.errcheck = lambda result, function, args: ("other", result, args)
            elif choice == 4:
                del function.errcheck
            elif choice == 5:
                functions[at] = function = None
                functions[at] = made("add_two")
            elif choice == 6:
                functions[at] = made()
            elif choice == 7:
                function.restype = c_short if value == 0 else c_int
            elif choice == 8:
                outcomes.append(observe(setattr, function, "__class__", Calling)[:2])
            arguments = (value,) if value != 3 else (object,)
            outcomes.extend(observe(functions[at], *arguments)[:3] for _ in range(5))
            if observe(functions[at], value)[0] == "returned" and isinstance(given := functions[at](*(whole := (value,))), tuple):
                outcomes.append(given[-1] is whole)
        return outcomes

    compare(scenario)
