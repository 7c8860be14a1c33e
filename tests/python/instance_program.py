"""A random program that makes, reads, assigns to, changes and drops instances of ctypes, and tells all that it saw."""

import ctypes
import gc
import sys
import weakref
from ctypes import (
    POINTER, Structure, Union, byref, c_bool, c_byte, c_char, c_char_p, c_double, c_float, c_int, c_short, c_ubyte, c_ushort,
    c_void_p, c_wchar, pointer, py_object, resize, sizeof,
)  # fmt: skip


def make_classes(events):
    """Classes of all kinds, some of which are left to CPython."""

    class Letter(c_char):
        """Its arrays are text, though their items are instances."""

    class Number(c_int):
        pass

    class Point(Structure):
        _fields_ = [("x", c_int), ("y", c_int)]

    class Small(Union):
        _fields_ = [("i", c_int), ("f", c_float), ("bytes", c_ubyte * 4)]

    class Outer(Structure):
        _fields_ = [
            ("before", c_byte), ("point", Point), ("points", Point * 3), ("small", Small), ("number", Number), ("p", POINTER(Point)),
            ("pi", POINTER(c_int)), ("ints", c_int * 5), ("text", c_char * 6), ("letters", Letter * 4), ("d", c_double),
            ("objects", c_char_p), ("rows", (c_short * 2) * 3),
        ]  # fmt: skip

    class Derived(Outer):
        _fields_ = [("more", Point)]

    class Slotted(Point):
        __slots__ = ("slot", "other")

    class Finalised(Structure):
        _fields_ = [("point", Point)]

        def __del__(self):
            events.append(("deleted", bytes(self)))

    class Started(Structure):
        _fields_ = [("x", c_int)]

        def __init__(self, *args, **kwargs):
            events.append(("started", len(args)))
            super().__init__(*args, **kwargs)

    class Made(Structure):
        _fields_ = [("x", c_int)]

        def __new__(cls, *args):
            events.append(("made", len(args)))
            return super().__new__(cls, *args)

    class Own(Point * 2):
        def __getitem__(self, index):
            return ("own", index) if index in (0, 1) else super().__getitem__(index)

    class Bare(Structure):
        __slots__ = ()
        _fields_ = [("point", Point), ("x", c_int)]

    classes = [Point, Small, Outer, Derived, Slotted, Finalised, Started, Made, Own, Bare, Number, c_int, c_double, c_bool, c_void_p]
    classes += [c_char, c_wchar, c_char_p, py_object, Point * 3, c_int * 4, c_char * 5, Letter * 3, Number * 2, (Point * 2) * 2]
    classes += [POINTER(Point), POINTER(c_int), POINTER(Outer), c_int * 0, POINTER(Point) * 2, c_ushort.__ctype_be__]
    return classes


def look(instance):
    """What an instance is: addresses differ between runs."""
    kept = instance._objects
    if isinstance(kept, dict):
        kept = sorted((key, type(value).__name__) for key, value in kept.items())
    elif kept is not None:
        kept = type(kept).__name__
    addresses = (ctypes._Pointer, c_char_p, c_void_p, py_object)
    holds_address = issubclass(getattr(instance, "_type_", int) if isinstance(instance, ctypes.Array) else type(instance), addresses)
    holds_address = holds_address or sizeof(instance) > 60
    base = instance._b_base_
    attributes = sorted(getattr(instance, "__dict__", {}))
    return (
        type(instance).__name__, None if holds_address else bytes(instance), type(base).__name__, instance._b_needsfree_, kept,
        attributes, gc.is_tracked(instance), sizeof(instance), sys.getsizeof(instance),
    )  # fmt: skip


class Program:
    """Steps that a random number generator chooses, and what was seen at each."""

    def __init__(self, random):
        self.random = random
        self.seen = []
        self.classes = make_classes(self.seen)
        self.alive = []
        self.weak = []

    def keep(self, value):
        if isinstance(value, list):
            for item in value:
                self.keep(item)
        elif isinstance(value, ctypes._SimpleCData.__base__):
            self.alive.append(value)
            self.seen.append(look(value))
        else:
            self.seen.append(repr(value))

    def attempt(self, call, *args, **keywords):
        try:
            self.keep(call(*args, **keywords))
        except Exception as error:
            self.seen.append((type(error).__name__, str(error) if "0x" not in str(error) else ""))

    def some(self):
        return self.random.choice(self.alive)

    def make(self):
        chosen = self.random.choice(self.classes)
        values = [0, 1, -7, 2**31, 2**70, 1.5, True, None, b"a", b"text", "w", [3], self.some() if self.alive else 4]
        arguments = [self.random.choice(values) for _ in range(self.random.choice([0, 0, 0, 1, 1, 2, 3]))]
        keywords = {"x": self.random.choice(values)} if self.random.random() < 0.1 else {}
        if not arguments and issubclass(chosen, Structure) and self.random.random() < 0.1:
            # Before it has parts, whose memory it would take away.
            self.attempt(self.resized, chosen)
        if chosen is py_object and not arguments:
            return
        if issubclass(chosen, ctypes._Pointer):
            # A pointer takes an instance of any class, and what is read through it may be anything.
            arguments = [value for value in arguments if not isinstance(value, ctypes._SimpleCData.__base__)]
        if chosen is c_char_p:
            # An int is an address.
            arguments = [value for value in arguments if not isinstance(value, int)]
        self.attempt(chosen, *arguments, **keywords)

    @staticmethod
    def resized(kind):
        instance = kind()
        resize(instance, sizeof(instance) + 60)
        return instance

    def read(self):
        instance = self.some()
        names = [field[0] for field in getattr(instance, "_fields_", [])]
        if names and not isinstance(instance, py_object):
            name = self.random.choice(names)
            if name not in ("objects",):
                self.attempt(getattr, instance, name)

    def item(self):
        instance = self.some()
        if isinstance(instance, ctypes.Array):
            bound = [None, 0, 1, 2, -1, 9, -9, 2**70, 1.5, True]
            index = self.random.choice([0, 1, -1, 2, 7, -8, 2**70, True, "x", None, slice(*(self.random.choice(bound) for _ in range(3)))])
            self.attempt(lambda: instance[index])
            if self.random.random() < 0.3:
                self.attempt(list, instance)
        elif isinstance(instance, ctypes._Pointer) and bool(instance):
            # What it points to is alive as long as it is, but for what was written over.
            self.attempt(lambda: instance.contents)
            self.attempt(lambda: instance[0])
            self.attempt(lambda: instance[0:1])

    def assign(self):
        instance = self.some()
        if isinstance(instance, ctypes.Array) and not isinstance(instance[0:1], bytes | str):
            value = self.random.choice([5, -1, 2**40, 2.5, None, "x", True, self.some()])
            index = self.random.choice([0, 1, -1, 8, True, "x"])
            if not isinstance(value, ctypes._Pointer):
                self.attempt(instance.__setitem__, index, value)
                self.attempt(instance.__delitem__, index)

    def point(self):
        target = self.some()
        self.attempt(pointer, target)
        kind = self.random.choice([POINTER(self.classes[0]), POINTER(c_int)])
        if isinstance(target, kind._type_):
            self.attempt(kind, target)
            self.attempt(lambda: kind(target).contents)
        self.seen.append(byref(target)._obj is target)

    def dress(self):
        instance = self.some()
        action = self.random.randrange(3)
        if action == 0:
            self.attempt(setattr, instance, "attribute", Watched(self.seen, len(self.seen)))
        elif action == 1 and hasattr(instance, "__weakref__"):
            number = len(self.weak)
            self.weak.append(weakref.ref(instance, lambda _, number=number: self.seen.append(("gone", number))))
        elif action == 2 and isinstance(instance, self.classes[4]):
            instance.slot = Watched(self.seen, len(self.seen))

    def change(self):
        """Classes that change while they have instances."""
        point, number = self.classes[0], self.classes[10]
        action = self.random.randrange(5)
        if action == 0:
            child = type(f"Child{len(self.seen)}", (self.random.choice(self.classes[:4]),), {"__slots__": ("slot",)})
            self.classes.append(child)
        elif action == 1 and "__del__" not in point.__dict__:
            point.__del__ = lambda instance: self.seen.append(("point deleted", bytes(instance)))
        elif action == 2 and "__del__" in point.__dict__:
            del point.__del__
        elif action == 3:
            number.__init__ = lambda instance, *args: self.seen.append(("number", args == ()))
        elif "__init__" in number.__dict__:
            del number.__init__

    def drop(self):
        for _ in range(self.random.choice([1, 3, 20])):
            if self.alive:
                del self.alive[self.random.randrange(len(self.alive))]
                self.seen.append("dropped")

    def run(self, steps):
        actions = [self.make] * 6 + [self.read] * 8 + [self.item] * 6 + [self.assign] * 2 + [self.point] * 2 + [self.dress] * 2
        actions += [self.drop] * 4
        for step in range(steps):
            action = self.change if self.random.random() < 0.01 else self.random.choice(actions)
            if not self.alive:
                action = self.make
            action()
            if len(self.alive) > 300:
                self.alive.clear()
            if step % 500 == 0:
                gc.collect()
        self.alive.clear()
        gc.collect()
        self.seen.append([reference() is None for reference in self.weak])
        return self.seen


class Watched:
    """Tells when it dies."""

    def __init__(self, events, number):
        self.events, self.number = events, number

    def __del__(self):
        self.events.append(("died", self.number))
