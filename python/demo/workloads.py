"""What the demo runs: each workload makes many foreign calls and returns everything that they gave."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from libraries import Math, Strings, Zlib
from sqlite import Database


@dataclass(frozen=True)
class Workload:
    """Some work, with the ctypes functions that it spends its time in."""

    name: str
    run: Callable[[], Any]
    """Does the work once; two runs must return the same."""
    calls: int
    """Foreign calls in one run."""
    functions: list
    """The ctypes functions that make them."""


def math():
    c = Math()
    numbers = [n * 0.37 - 300.0 for n in range(2000)]
    pairs = [(n * 0.01, 3.5 - n % 7) for n in range(1, 2001)]
    yield Workload("libm sin(x)", lambda: [c.sin(x) for x in numbers], 2000, [c.sin])
    yield Workload("libm pow(x, y)", lambda: [c.pow(x, y) for x, y in pairs], 2000, [c.pow])
    yield Workload("libm fma(x, y, 1)", lambda: [c.fma(x, y, 1) for x, y in pairs], 2000, [c.fma])
    yield Workload("libm ilogb(x)", lambda: [c.ilogb(x) for x in numbers], 2000, [c.ilogb])


def strings():
    c = Strings()
    words = [b"word %d of many" % (n * n) for n in range(2000)]
    yield Workload("libc strlen(s)", lambda: [c.strlen(s) for s in words], 2000, [c.strlen])
    yield Workload("libc strcmp(s, t)", lambda: [c.strcmp(s, b"word 5") for s in words], 2000, [c.strcmp])
    yield Workload("libc strstr(s, t)", lambda: [c.strstr(s, b"4 of") for s in words], 2000, [c.strstr])
    yield Workload("libc strspn(s, t)", lambda: [c.strspn(s, b"drow ") for s in words], 2000, [c.strspn])
    yield Workload("libc toupper(n)", lambda: [c.toupper(n) for n in range(256)], 256, [c.toupper])


def zlib():
    c = Zlib()
    blocks = [bytes(range(n % 64)) for n in range(2000)]

    def checksums(function, start):
        checksum, all_of_them = start, []
        for block in blocks:
            checksum = function(checksum, block, len(block))
            all_of_them.append(checksum)
        return all_of_them

    yield Workload("zlib crc32(n, s, size)", lambda: checksums(c.crc32, 0), 2000, [c.crc32])
    yield Workload("zlib adler32(n, s, size)", lambda: checksums(c.adler32, 1), 2000, [c.adler32])


ROWS = 500


def sqlite():
    database = Database()
    c = database.c
    data = [(n, n / 7, f"row {n}" if n % 5 else None) for n in range(ROWS)]

    def insert():
        database.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (a, b, c); BEGIN")
        with database.prepare("INSERT INTO t VALUES (?, ?, ?)") as statement:
            for row in data:
                statement.run(*row)
        database.execute("COMMIT")
        return len(data)

    def select():
        with database.prepare("SELECT * FROM t WHERE a >= ? ORDER BY a") as statement:
            statement.bind(0)
            return list(statement.rows())

    def prepare():
        plans = []
        for n in range(50):
            with database.prepare(f"SELECT {n}, b FROM t") as statement:
                plans.append((statement.step(), statement.row()))
        return plans

    insert()
    binding = [c.bind_int64, c.bind_double, c.bind_text, c.bind_null, c.step, c.reset]
    reading = [c.step, c.column_count, c.column_type, c.column_int64, c.column_double, c.column_text]
    texts = sum(text is not None for _, _, text in data)
    # Around the rows there is one call each of exec (twice), prepare and finalize.
    yield Workload("sqlite3 insert rows", insert, 5 * ROWS + 4, binding)
    # Per row: step, column_count, and for each column its type and, unless it is null, its value. One more step ends it.
    yield Workload("sqlite3 select rows", select, 7 * ROWS + texts + 4, reading)
    # Per statement: prepare, step, column_count, type and value of two columns, finalize.
    yield Workload("sqlite3 prepare often", prepare, 8 * 50, [c.prepare, c.finalize])


GROUPS = [math, strings, zlib, sqlite]
