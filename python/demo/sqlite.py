"""A small wrapper of sqlite3's C API, of the kind that people write on top of ctypes. It knows nothing of hotcall."""

import ctypes

from libraries import SqliteFunctions

OK, ROW, DONE = 0, 100, 101
INTEGER, FLOAT, TEXT, NULL = 1, 2, 3, 5
TRANSIENT = ctypes.c_void_p(-1)
"""Asks sqlite3 to copy a text before the call returns."""


class SqliteError(Exception):
    """What sqlite3 says went wrong."""


class Database:
    """An open database."""

    def __init__(self, path=":memory:"):
        self.c = SqliteFunctions()
        self.handle = ctypes.c_void_p()
        self.check(self.c.open(path.encode(), ctypes.byref(self.handle)))

    def check(self, code):
        if code != OK:
            raise SqliteError(self.c.errmsg(self.handle).decode())

    def execute(self, sql):
        """Runs statements that have no parameters and whose rows nobody wants."""
        self.check(self.c.exec(self.handle, sql.encode(), None, None, None))

    def prepare(self, sql):
        return Statement(self, sql)

    def close(self):
        self.check(self.c.close(self.handle))


class Statement:
    """A prepared statement; a context manager that finalizes it."""

    def __init__(self, database, sql):
        self.database, self.c = database, database.c
        self.handle = ctypes.c_void_p()
        database.check(self.c.prepare(database.handle, sql.encode(), -1, ctypes.byref(self.handle), None))

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.c.finalize(self.handle)

    def bind(self, *values):
        """Binds the parameters, from the first on."""
        for index, value in enumerate(values, 1):
            self.database.check(self.bind_one(index, value))

    def bind_one(self, index, value):
        if value is None:
            return self.c.bind_null(self.handle, index)
        if isinstance(value, int):
            return self.c.bind_int64(self.handle, index, value)
        if isinstance(value, float):
            return self.c.bind_double(self.handle, index, value)
        text = value.encode()
        return self.c.bind_text(self.handle, index, text, len(text), TRANSIENT)

    def step(self):
        """Runs to the next row; True if there is one."""
        code = self.c.step(self.handle)
        if code not in (ROW, DONE):
            self.database.check(code)
        return code == ROW

    def run(self, *values):
        """Runs to the end with these parameters, and gets ready to run again."""
        self.bind(*values)
        self.step()
        self.database.check(self.c.reset(self.handle))

    def row(self):
        """The current row as a tuple."""
        return tuple(self.column(index) for index in range(self.c.column_count(self.handle)))

    def column(self, index):
        kind = self.c.column_type(self.handle, index)
        if kind == INTEGER:
            return self.c.column_int64(self.handle, index)
        if kind == FLOAT:
            return self.c.column_double(self.handle, index)
        if kind == TEXT:
            return self.c.column_text(self.handle, index).decode()
        return None

    def rows(self):
        """All rows that are left."""
        while self.step():
            yield self.row()
