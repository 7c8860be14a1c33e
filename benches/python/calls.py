"""Times every case through the extension, with plain ctypes and with hotcall, and prints the results as JSON.

Run as `calls.py ROUNDS` with HOTCALL=threshold=1 for the stubs, and with jit=off as well for the interpreter.
"""

import json
import sys

import build
import cases
from timing import Contender, Group, alternate

import hotcall

CALLS = 1000


def time_case(case, libraries, ext, rounds):
    """The results of one case by contender, such as "released ctypes"."""
    outside, plain, hot = [], [], []
    wants = None
    for gil in ["released", "held"]:
        wrapped = cases.extension_function(ext, case, gil)
        wants = wrapped(*case.args)
        function = libraries.declare(case, gil)
        check(case, function, wants)
        outside.append(Contender(f"{gil} extension", wrapped, case.args))
        plain.append(Contender(f"{gil} ctypes", function, case.args))
        hot.append(Contender(f"{gil} hotcall", function, case.args))
    groups = [Group(outside), Group(plain), Group(hot, hotcall.install, hotcall.uninstall)]
    return alternate(groups, rounds, CALLS)


def check(case, function, wants):
    """Stops the program if hotcall does not accelerate a call, or changes its result."""
    plain = function(*case.args)
    with hotcall.installed():
        hot = [function(*case.args) for _ in range(20)]
        explanation = hotcall.explain(function)
    if any(repr(result) != repr(wants) for result in [plain, *hot]):
        sys.exit(f"{case.label}: the extension gives {wants!r}, ctypes {plain!r}, hotcall {hot!r}")
    if explanation.tier not in ("stub", "interpreter"):
        sys.exit(f"{case.label} is not accelerated: {explanation}")


def stub_bytes(case, libraries):
    """The bytes of code of the case's stub; 0 if the interpreter makes its calls."""
    function = libraries.declare(case, "released")
    with hotcall.installed():
        for _ in range(20):
            function(*case.args)
        return hotcall.explain(function).code_bytes


def main():
    rounds = int(sys.argv[1])
    folder = build.build()
    libraries, ext = cases.Libraries(folder), build.load_extension(folder)
    results = {}
    for case in cases.CASES:
        timed = time_case(case, libraries, ext, rounds)
        times = {name: result.times for name, result in timed.items()}
        results[case.label] = {"bytes": stub_bytes(case, libraries), "times": times}
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
