"""z3: puts queens on a board, looks through the terms that say so, and solves them. Every argument has a `from_param`."""

import z3

SIZE = 20
# What a run may gain if calls cost nothing, and if all of ctypes did, by version.
CEILING = {"3.11": (1.60, 1.64), "3.13": (1.82, 1.88)}


def setup():
    return 8


def place(queens):
    """Constraints on the rows of so many queens, one in each column."""
    rows = [z3.Int(f"row{column}") for column in range(queens)]
    on_board = [z3.And(0 <= row, row < queens) for row in rows]
    apart = [
        z3.And(rows[left] - rows[right] != right - left, rows[right] - rows[left] != right - left)
        for right in range(queens)
        for left in range(right)
    ]
    return rows, [*on_board, z3.Distinct(rows), *apart]


def measure(term):
    """How many terms a term is made of, and how long their names are."""
    waiting, count, letters = [term], 0, 0
    while waiting:
        current = waiting.pop()
        declared = current.decl()
        count += 1
        letters += len(declared.name()) + declared.arity() + declared.kind() % 7
        waiting += current.children()
    return count, letters


def work(size, queens):
    seen = []
    for _ in range(size):
        rows, constraints = place(queens)
        solver = z3.Solver()
        solver.add(constraints)
        seen.append([sum(part) for part in zip(*map(measure, solver.assertions()), strict=True)])
    solved = solver.check() == z3.sat
    columns = [solver.model()[row].as_long() for row in rows]
    return seen, solved, sorted(columns) == list(range(queens))
