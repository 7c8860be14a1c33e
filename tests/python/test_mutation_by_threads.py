"""What another thread may change about a function while calls of it run: each outcome must be one of the legal ones."""

import ctypes
import sys
import threading
import time
from ctypes import CDLL, c_byte, c_int, c_ubyte, c_void_p

from conftest import SECONDS, address_of, observe

import hotcall


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
