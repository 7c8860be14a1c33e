"""What `explain` says of functions that ctypes calls: why, and what would change it."""

import ctypes
from ctypes import c_int

import pytest
from conftest import EXPECT_STUBS, python

import hotcall


def test_where_hotcall_is_not_installed(lib):
    function = lib["add_one"]
    function.argtypes = [c_int]
    for _ in range(2):
        explanation = hotcall.explain(function)
        assert (explanation.tier, explanation.refused.name) == ("ctypes", "not-installed")
        assert "hotcall.install()" in str(explanation)
        hotcall.install()
        for number in range(5):
            assert function(number) == number + 1
        assert (hotcall.explain(function).refused is None) == EXPECT_STUBS
        hotcall.uninstall()


def test_keyword_arguments(lib):
    """They are refused by name, and stand in nobody's way."""
    hotcall.install()
    plain = lib["add_one"]
    plain.argtypes = [c_int]
    prototype = ctypes.CFUNCTYPE(c_int, c_int)(("add_two", lib), ((1, "value", 7),))
    before = hotcall.stats()["refusals"].get("keyword-arguments", 0)
    for _ in range(40):
        assert plain(5, ignored=object()) == 6
        assert prototype(value=5) == 7
        assert prototype() == 9
    assert hotcall.stats()["refusals"]["keyword-arguments"] - before == 80
    for function in (plain, prototype):
        assert "keyword-arguments" in [refusal.name for refusal in hotcall.explain(function).refusals]
    for number in range(10_000):
        assert (plain(number), prototype(number)) == (number + 1, number + 2)
    tiers = {hotcall.explain(function).tier for function in (plain, prototype)}
    assert tiers == {"stub" if EXPECT_STUBS else "interpreter"}


def test_refusals_are_counted_until_ctypes_is_left_to_it(lib):
    hotcall.install()
    function = lib["add_one"]
    function.argtypes = [c_int]
    for _ in range(300):
        function(5, ignored=1)
    explanation = hotcall.explain(function)
    (refusal,) = explanation.refusals
    assert explanation.tier == "ctypes" and 0 < refusal.count < 300
    assert f"({refusal.count} calls)" in str(refusal)
    assert str(explanation).endswith("which are not counted here")


def test_policy_where_the_gil_cannot_be_lent():
    code = """if True:
        import ctypes, hotcall
        hotcall.install()
        function = ctypes.CDLL(None).abs
        function.argtypes = [ctypes.c_int]
        for number in range(300):
            function(number)
        print(hotcall.explain(function).gil, hotcall.status().lending_off, sep="|")
    """
    gil, reason = python(code, setting="monitor=deny").stdout.strip().split("|")
    assert gil == f"release, since {reason}"
    assert python(code).stdout.strip() == "lend|None"


@pytest.mark.parametrize("name", ["cast", "string_at", "wstring_at"])
def test_views_of_python_functions_of_ctypes(name):
    """The error names the ctypes function that is called, which has a view."""
    with pytest.raises(TypeError, match=f"^hotcall.explain: ctypes.{name} is a Python function .*; pass ctypes._{name}$"):
        hotcall.explain(getattr(ctypes, name))
    hotcall.install()
    assert hotcall.explain(getattr(ctypes, f"_{name}")).tier
    with pytest.raises(TypeError, match="^hotcall.bind: expected a ctypes function, not function$"):
        hotcall.bind(ctypes.CFUNCTYPE)
