"""Times a few C functions with plain ctypes and with hotcall, in turns, and shows what became of one of them."""

import ctypes
import time

import hotcall

LOOPS = 200_000


def functions():
    libc, libm = ctypes.CDLL(None), ctypes.CDLL("libm.so.6")
    absolute, length, power = libc["abs"], libc["strlen"], libm["pow"]
    absolute.argtypes = [ctypes.c_int]
    length.argtypes, length.restype = [ctypes.c_char_p], ctypes.c_size_t
    power.argtypes, power.restype = [ctypes.c_double, ctypes.c_double], ctypes.c_double
    return {"abs(-5)": (absolute, (-5,)), "strlen(b'hello')": (length, (b"hello",)), "pow(2.0, 10.0)": (power, (2.0, 10.0))}


def nanoseconds(function, args):
    """The time of one call; that of the loop itself is part of it."""
    rounds = range(LOOPS)
    started = time.perf_counter()
    for _ in rounds:
        function(*args)
    return (time.perf_counter() - started) / LOOPS * 1e9


def main():
    print(hotcall.status())
    print()
    print(f"{'':20} {'ctypes':>9} {'hotcall':>9}   ratio")
    for name, (function, args) in functions().items():
        plain, hot = [], []
        for _ in range(5):
            plain.append(nanoseconds(function, args))
            with hotcall.installed():
                hot.append(nanoseconds(function, args))
        print(f"{name:20} {min(plain):6.0f} ns {min(hot):6.0f} ns {min(plain) / min(hot):6.1f}x")
    print()
    with hotcall.installed():
        absolute, args = functions()["abs(-5)"]
        nanoseconds(absolute, args)
        for view in [hotcall.explain, hotcall.trace, hotcall.disassemble]:
            print(f"{view.__name__}(abs):")
            print(view(absolute))
            print()


if __name__ == "__main__":
    main()
