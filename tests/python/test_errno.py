"""errno where a program looks closely: C's own while hotcall is busy with something else."""

from conftest import python


def test_errno_when_lines_of_the_log_are_lost():
    """Writing one fails where standard error is closed, before ctypes makes the call that is refused."""
    done = python(
        """
import ctypes, os, hotcall
os.close(2)
hotcall.install()
library = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])
for number in range(40, 60):
    refused = library["get_errno"]
    refused.argtypes = [ctypes.c_longdouble]
    seen = [library.set_errno(number) and refused(1) for _ in range(4)]
    if seen != [number] * 4:
        os._exit(1)
os._exit(0)
""",
        setting="threshold=1,log=events",
    )
    assert done.returncode == 0
