"""How a policy of the GIL is chosen, for the process and for a function, and who tells of it."""

import ctypes
from ctypes import CDLL, c_int

import pytest
from conftest import python
from gilkit import CAN_LEND, POLICIES, declared

import hotcall


class TestChoosing:
    def test_process(self, lib):
        for policy in POLICIES:
            hotcall.install(gil=policy)
            assert hotcall.status().gil == policy
            function = declared(lib, "add_one", c_int)
            assert [function(number) for number in range(5)] == [1, 2, 3, 4, 5]
            assert hotcall.explain(function).gil == (policy if CAN_LEND or policy != "lend" else "release")

    def test_existing_functions_follow(self, lib):
        function = declared(lib, "add_one", c_int)
        for policy in [*POLICIES, *POLICIES]:
            hotcall.install(gil=policy)
            assert [function(number) for number in range(5)] == [1, 2, 3, 4, 5]
            assert hotcall.explain(function).gil == (policy if CAN_LEND or policy != "lend" else "release")

    @pytest.mark.stubs
    def test_function(self, lib):
        hotcall.install(gil="release")
        function, other = declared(lib, "add_one", c_int), declared(lib, "add_two", c_int)
        hotcall.options(function, gil="hold")
        for _ in range(2):
            assert [function(1) + other(1) for _ in range(5)] == [5] * 5
            assert (hotcall.explain(function).gil, hotcall.explain(other).gil) == ("hold", "release")
            assert "save_thread" not in hotcall.trace(function)
            assert "save_thread" in hotcall.trace(other)
            # The choice outlives a declaration.
            function.argtypes = [ctypes.c_int32]
        hotcall.options(function)
        function(1), function(1)
        assert hotcall.explain(function).gil == "release"

    def test_choice_dies_with_its_function(self, fixture_path):
        hotcall.install(gil="release")
        for _ in range(50):
            function = declared(CDLL(fixture_path), "add_one", c_int)
            hotcall.options(function, gil="hold")
            hotcall.uninstall()
            del function
            hotcall.install()
            function = declared(CDLL(fixture_path), "add_one", c_int)
            function(1), function(1)
            assert hotcall.explain(function).gil == "release"

    def test_python_api_holds(self, fixture_path):
        hotcall.install(gil="release")
        function = declared(ctypes.PyDLL(fixture_path), "add_one", c_int)
        function(1), function(1)
        assert hotcall.explain(function).gil == "hold"

    def test_environment(self):
        for policy in POLICIES:
            code = "import hotcall; hotcall.install(); print(hotcall.status().gil, 'GIL: ' in str(hotcall.status()))"
            assert python(code, setting=f"gil={policy}").stdout.split() == [policy, "True"]
        assert "gil=release, gil=lend or gil=hold" in python("import hotcall", setting="gil=keep").stderr

    def test_bad_arguments(self, lib):
        for call in [lambda: hotcall.install(gil="keep"), lambda: hotcall.options(lib["add_one"], gil="keep")]:
            with pytest.raises(ValueError, match="'keep' is no policy of the GIL; expected 'release', 'lend' or 'hold'"):
                call()
        with pytest.raises(TypeError, match="hotcall.options: expected a ctypes function, not builtin_function_or_method"):
            hotcall.options(len, gil="hold")

    def test_stats_count(self):
        assert {"thefts", "yields", "demotions"} <= hotcall.stats().keys()
