"""Interpreters beside the main one: hotcall is off there and says so, and nothing that they do decides for the main one."""

import pytest
from conftest import python

PRELUDE = """if True:
    import os, sys, textwrap
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    is_old = sys.version_info < (3, 13)
    def run(code):
        child = interpreters.create(isolated=False) if is_old else interpreters.create("legacy")
        failed = (getattr(interpreters, "exec", None) or interpreters.run_string)(child, textwrap.dedent(code))
        assert failed is None, failed
        return child
    def works():
        import ctypes, hotcall
        hotcall.install()
        status = hotcall.status()
        assert status.installed and status.off is None and status.data and not status.callbacks_off, status
        function = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]).add_one
        for number in range(50):
            assert function(number) == number + 1
        assert hotcall.explain(function).tier in ("stub", "interpreter"), hotcall.explain(function)
"""

# What another interpreter does with hotcall.
CHILD = '''
    import hotcall
    hotcall.install()
    status = hotcall.status()
    assert not status.installed and "main interpreter" in status.off, status
    assert (status.data, status.gil, status.callbacks_off, status.lending_off) == (False, None, None, None), status
    import ctypes, os
    function = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]).add_one
    hotcall.options(function, gil="hold")
    for number in range(50):
        assert function(number) == number + 1
    assert hotcall.bind(function)(5) == 6
    assert hotcall.stats()["stubs"] == 0
    try:
        hotcall.explain(function)
    except RuntimeError as error:
        assert "main interpreter" in str(error), error
    else:
        raise AssertionError("it explains")
    with hotcall.installed():
        assert function(5) == 6
    hotcall.uninstall()
    back = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda number: number * 2)
    ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]).call_back(back, 4)
'''


@pytest.mark.needs_exec
@pytest.mark.parametrize("first", ["", "import ctypes", "import hotcall", "import ctypes, hotcall", "works()"])
@pytest.mark.parametrize("ends", [False, True])
def test_that_others_decide_nothing(first, ends):
    """Whatever was imported before, and where, the main interpreter has hotcall, and the others have a plain reason."""
    finished = python(
        f"""{PRELUDE}
    {first}
    child = run('''{CHILD}''')
    if {ends}:
        interpreters.destroy(child)
    works()
    child = run('''{CHILD}''')
    works()
    print("done")
    """,
        seconds=20,
    )
    assert (finished.returncode, finished.stdout) == (0, "done\n"), finished


def test_interpreters_with_a_gil_of_their_own():
    """Some cannot import ctypes, nor hotcall's native half: hotcall itself can be imported, and says so."""
    finished = python("""if True:
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        child = interpreters.create()
        failed = (getattr(interpreters, "exec", None) or interpreters.run_string)(child, '''if True:
            import hotcall
            hotcall.install()
            with hotcall.installed():
                status = hotcall.status()
            assert not status.installed and "interpreter" in status.off, status
            assert hotcall.stats()["stubs"] == 0
            for function in (hotcall.explain, hotcall.bind):
                try:
                    function(len)
                except (RuntimeError, TypeError):
                    print("done")
        ''')
        assert failed is None, failed
    """)
    assert (finished.returncode, finished.stdout) == (0, "done\ndone\n"), finished
