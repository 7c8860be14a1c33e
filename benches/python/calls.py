"""Times every case through the extension, with plain ctypes and with hotcall, and prints the results as JSON.

Run as `calls.py ROUNDS` with HOTCALL=threshold=1 for the stubs, and with jit=off as well for the interpreter.
"""

import json
import sys

import hotcall

import build
import cases
from timing import Contender, Group, alternate

CALLS = 1000


def groups_of(case, libraries, ext):
    """The contenders of one case, named (label, gil, kind), in groups to be timed by turns."""
    outside, plain, hot = [], [], []
    for gil in ["released", "held"]:
        wrapped = cases.extension_function(ext, case, gil)
        function = libraries.declare(case, gil)
        check(case, function, wrapped(*case.args))
        outside.append(Contender((case.label, gil, "extension"), wrapped, case.args))
        plain.append(Contender((case.label, gil, "ctypes"), function, case.args))
        hot.append(Contender((case.label, gil, "hotcall"), function, case.args))
        hot.append(Contender((case.label, gil, "bound"), hotcall.bind(function), case.args))
    return [Group(outside), Group(plain), Group(hot, hotcall.install, hotcall.uninstall)]


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
    groups = [group for case in cases.CASES for group in groups_of(case, libraries, ext)]
    results = {case.label: {"bytes": stub_bytes(case, libraries), "times": {}} for case in cases.CASES}
    for (label, gil, kind), result in alternate(groups, rounds, CALLS).items():
        results[label]["times"][f"{gil} {kind}"] = result.times
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
