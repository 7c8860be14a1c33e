"""libclang: parses C and visits each node of the syntax tree. Cursors, locations and types are structures by value."""

from clang.cindex import Index

SIZE = 5
CEILING = {"3.11": (1.47, 1.62), "3.13": (1.65, 1.90)}

FUNCTION = """
struct item_{0} {{ long key; struct item_{0} *next; double share[3]; }};
static long total_{0}(const struct item_{0} *item, int most) {{
    long sum = {0};
    while (item && most-- > 0) {{
        sum += item->key % 2 ? item->key * (most + 1) : (long)item->share[most % 3];
        item = item->next;
    }}
    return sum > 0 ? sum : -sum;
}}
"""


def setup():
    return Index.create(), "".join(FUNCTION.format(number) for number in range(70))


def work(size, state):
    index, text = state
    kinds, sums = {}, [0, 0, 0]
    for _ in range(size):
        unit = index.parse("generated.c", args=["-std=c11"], unsaved_files=[("generated.c", text)])
        for cursor in unit.cursor.walk_preorder():
            name = cursor.kind.name
            kinds[name] = kinds.get(name, 0) + 1
            sums[0] += len(cursor.spelling) + len(cursor.type.spelling)
            sums[1] += cursor.location.line
            sums[2] += cursor.location.column
    return sums, sorted(kinds.items())
