"""Performance does not jump: whatever a program did before, and in whatever order, a function that is called with the same
arguments again and again ends in the same tier, in the same stub.

Each round is a process of its own that permutes imports, declarations, unrelated work and the history of arguments.
"""

import json
import random

import pytest
from conftest import LONG, SEED, python

pytestmark = pytest.mark.stubs

PROGRAM = r"""
import importlib, json, random, sys
rng = random.Random(int(sys.argv[1]))
modules = ["json", "decimal", "ctypes", "hotcall", "threading", "array", "collections", "fractions"]
rng.shuffle(modules)
installed = rng.random() < 0.5
for name in modules:
    importlib.import_module(name)
    if name == "hotcall" and installed:
        sys.modules["hotcall"].install()
import ctypes, gc, hotcall, os, threading
from ctypes import *

class Pair(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]

class Handle:
    _as_parameter_ = 5

path = os.environ["HOTCALL_FIXTURE"]
def errno_kept(name): return CDLL(path, use_errno=True)[name]
def released(name): return CDLL(path)[name]
def held(name): return PyDLL(path)[name]
kept = lambda result, function, args: result

# Name: how it is found, its declaration, the arguments that it is called with in the end, and those that it met before.
FUNCTIONS = {
    "int": (released, "add_one", [c_int], c_int, None, (3,), [(True,), (c_int(3),), ("x",)]),
    "int, held": (held, "add_two", [c_int], c_int, None, (3,), [(True,), (None,)]),
    "several": (released, "mix_i", [c_int, c_int64, c_ubyte], c_int64, None, (1, 2**40, 3), [(1, 2, 3), (c_int(1), 2, 3)]),
    "doubles": (released, "mix_d", [c_double, c_float, c_int], c_double, None, (1.5, 2.5, 3), [(1, 2, 3), (1.5, 2, 3)]),
    "bytes": (released, "length", [c_char_p], c_size_t, None, (b"text",), [(None,), (c_char_p(b"x"),), (5,)]),
    "address": (released, "same", [c_void_p], c_void_p, None, (1 << 33,), [(None,), (b"x",), (byref(c_int(1)),)]),
    "reference": (released, "read_long", [POINTER(c_long)], c_int64, None, (byref(c_long(7)),), [(None,), (c_long(7),)]),
    "structure": (released, "swap_pair", [Pair], Pair, None, (Pair(1, 2),), [(5,)]),
    "undeclared": (released, "call_back", None, c_int, None, (None, 4), [(0, 4), (b"", 5)][:1]),
    "errno": (errno_kept, "swap_errno", [c_int], c_int, None, (4,), [(True,)]),
    "checked": (released, "add_one", [c_int], c_int, kept, (9,), [(True,), ("x",)]),
    "attribute": (released, "add_one", [c_int], c_int, None, (Handle(),), [(1,), (c_int(2),)]),
}

def call(function, args):
    try:
        function(*args)
    except Exception:
        pass

def unrelated():
    kind = rng.randrange(6)
    if kind == 0:
        gc.collect()
    elif kind == 1:
        type("Other", (Structure,), {"_fields_": [("z", c_double), ("w", c_short)]})(1.5)
    elif kind == 2:
        thread = threading.Thread(target=call, args=(released("nothing"), ()))
        thread.start()
        thread.join()
    elif kind == 3:
        for _ in range(rng.randrange(300)):
            call(noise, (1.5,))
    elif kind == 4:
        noise.argtypes = [rng.choice([c_double, c_float, c_void_p])]
    else:
        call(CFUNCTYPE(c_int, c_int)(abs), (-3,))

noise = CDLL(None)["labs"]
names = list(FUNCTIONS)
rng.shuffle(names)
made = {}
def make(name):
    find, symbol, argtypes, restype, errcheck, *_ = FUNCTIONS[name]
    function = find(symbol)
    function.argtypes, function.restype = argtypes, restype
    if errcheck:
        function.errcheck = errcheck
    made[name] = function

late = set(rng.sample(names, 4))
for name in names:
    if name not in late:
        make(name)
if not installed:
    hotcall.install()
for name in names:
    if name in late:
        make(name)
work = [(name, history) for name in names for history in FUNCTIONS[name][6] if rng.random() < 0.5]
rng.shuffle(work)
for name, history in work:
    for _ in range(rng.choice([1, 5, 40, 150])):
        call(made[name], history)
    unrelated()
rng.shuffle(names)
for _ in range(8):
    rng.shuffle(names)
    for name in names:
        for _ in range(300):
            made[name](*FUNCTIONS[name][5])
    unrelated()

def last(name):
    explanation = hotcall.explain(made[name])
    return explanation.tier, [shape.disassembly for shape in explanation.shapes]

print(json.dumps({name: last(name) for name in sorted(names)}))
"""


def outcome(seed):
    """What became of each function in a process that was permuted by `seed`: its tier, and the code of its stubs."""
    finished = python(f"import sys; sys.argv = ['-c', '{seed}']\n" + PROGRAM, setting=None)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def steady(runs):
    """The stubs that every run has of each function."""
    common = {}
    for run in runs:
        for name, (_, stubs) in run.items():
            common[name] = common.get(name, set(stubs)) & set(stubs)
    return common


def test_the_same_function_gets_the_same_stub_whatever_came_before():
    rng = random.Random(SEED)
    runs = [outcome(rng.randrange(2**32)) for _ in range(40 if LONG else 8)]
    for run in runs:
        assert {name: tier for name, (tier, _) in run.items()} == dict.fromkeys(run, "stub"), f"HOTCALL_SEED={SEED}"
    common = steady(runs)
    assert [name for name, stubs in common.items() if not stubs] == [], f"HOTCALL_SEED={SEED}"
    for run in runs:
        for name, (_, stubs) in run.items():
            # No history leaves more than a stub for each shape in it.
            assert len(stubs) <= 8, name
            assert len(stubs) == len(set(stubs)), f"{name} has a stub twice, HOTCALL_SEED={SEED}"
