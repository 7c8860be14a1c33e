"""What the tests of the GIL share: how far other threads get, and programs of their own for what could hang."""

import threading
import time
from ctypes import CFUNCTYPE, c_int

import hotcall
from conftest import python

Unary = CFUNCTYPE(c_int, c_int)
POLICIES = ["release", "lend", "hold"]
# Those that keep the promise of ctypes.
FAIR = ["release", "lend"]
CAN_LEND = hotcall.status().lending_off is None


def declared(library, name, *argtypes, restype=c_int):
    """A new function object of a library, with a declaration."""
    function = library[name]
    function.argtypes, function.restype = argtypes, restype
    return function


def progress(call, seconds):
    """How far a counting thread gets per second while `call` is made again and again."""
    count, stop = 0, threading.Event()

    def work():
        nonlocal count
        while not stop.is_set():
            count += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while not count:
            time.sleep(0.001)
        before, started = count, time.perf_counter()
        while time.perf_counter() - started < seconds:
            call()
        return (count - before) / (time.perf_counter() - started)
    finally:
        stop.set()
        thread.join()


def in_process(code, **options):
    """Runs code in a process of its own, which must print `done` last and end well."""
    prelude = """if True:
    import ctypes, os, signal, sys, threading, time
    from ctypes import *
    import hotcall
    hotcall.install()
    lib = CDLL(os.environ["HOTCALL_FIXTURE"])
    Unary = CFUNCTYPE(c_int, c_int)
    def declared(name, *argtypes, restype=c_int):
        function = lib[name]
        function.argtypes, function.restype = argtypes, restype
        return function
    add_one, sleep_us = declared("add_one", c_int), declared("sleep_us", c_int)
    def heat():
        assert [add_one(number) for number in range(200)] == list(range(1, 201))
    def tasks():
        return len(os.listdir("/proc/self/task"))
    heat()
"""
    finished = python(prelude + code.strip("\n"), **options)
    assert finished.returncode == 0, (finished.returncode, finished.stdout, finished.stderr)
    assert finished.stdout.split()[-1:] == ["done"], (finished.stdout, finished.stderr)
    return finished
