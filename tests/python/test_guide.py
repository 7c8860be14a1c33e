"""What the README and the guide say: samples print what stands behind them, tables agree with what they are tables of."""

import csv
import importlib.util
import json
import math
import re
import sys

import pytest
from conftest import ROOT, python

import hotcall

GUIDE = ROOT / "python" / "docs"


def figures_left_out(text):
    return re.sub(r"\d+ bytes", "N bytes", text)


@pytest.mark.stubs
@pytest.mark.skipif(hotcall.status().lending_off is not None, reason="the sample lends the GIL")
def test_samples_of_the_readme():
    """A sample with a text behind it prints that text, but for the sizes of code."""
    readme = (ROOT / "README.md").read_text()
    samples = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", readme, re.DOTALL)
    assert samples and any(shown for _, shown in samples)
    for code, shown in samples:
        done = python(code, setting=None)
        assert done.returncode == 0, done.stderr
        assert figures_left_out(done.stdout) == figures_left_out(shown)


def test_the_calls_before_code_is_made():
    """`when-not.md`: which call prepares a function, and which one compiles it."""
    text = (GUIDE / "when-not.md").read_text()
    assert "Up to 12 calls" in text and "The 13th prepares" in text and "the 100th compiles" in text
    code = """if True:
        import ctypes, hotcall.auto, os
        function = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]).add_one
        function.argtypes = [ctypes.c_int]
        tiers = []
        for number in range(1, 101):
            function(number)
            tiers.append(hotcall.explain(function).tier)
        print(tiers.count("cold"), tiers.count("interpreter"), tiers[-1])
    """
    cold, _, last = python(code, setting=None).stdout.split()
    assert cold == "12"
    assert last == ("stub" if hotcall.status().stubs_off is None else "interpreter")


def test_what_can_be_observed():
    """`identical.md` names each audit event of the start, and what of results differs."""
    code = """if True:
        import ctypes, json, os, sys
        lib = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])
        import hotcall
        events, seeing = [], True
        sys.addaudithook(lambda event, arguments: seeing and events.append(event))
        hotcall.install()
        seeing = False
        lib.same.argtypes, lib.same.restype = [ctypes.c_int64], ctypes.c_int64
        counts = []
        for number in (1 << 40, 1 << 62):
            for turn in range(300):
                result = lib.same(number)
            counts.append(sys.getrefcount(result))
        print(json.dumps([sorted(set(events)), counts]))
    """
    text = (GUIDE / "identical.md").read_text()
    done = python(code, setting=None)
    assert done.returncode == 0, done.stderr
    events, counts = json.loads(done.stdout)
    of_imports = {"import", "open", "os.listdir", "marshal.loads", "exec", "code.__new__"}
    assert all(f"`{event}`" in text for event in set(events) - of_imports), events
    plain = counts[1]
    assert counts[0] in (plain, plain + 1)


CALLS = """if True:
    import ctypes, hotcall.auto
    labs = ctypes.CDLL(None).labs
    labs.argtypes = [ctypes.c_long]
    for number in range(1000):
        labs(number)
        if number > 900:
            try:
                labs("text")
            except ctypes.ArgumentError:
                pass
"""

LONG_DOUBLES = """if True:
    import ctypes, hotcall.auto
    fabsl = ctypes.CDLL(None).fabsl
    fabsl.argtypes, fabsl.restype = [ctypes.c_longdouble], ctypes.c_longdouble
    for number in range(1000):
        fabsl(-3.0)
"""


@pytest.mark.stubs
def test_samples_of_checks():
    """`running.md`: what is shown is what such programs show."""
    text = (GUIDE / "running.md").read_text()
    samples = re.findall(r"```\n(hotcall: (?:no|nothing) .*?)\n```", text, re.DOTALL)
    assert len(samples) == 2
    for code, sample in zip([CALLS, LONG_DOUBLES], samples, strict=True):
        done = python(code + "    print(hotcall.checks())", setting="check=1")
        assert done.stdout.rstrip("\n") == sample, done.stderr


def test_the_options_and_their_ranges():
    """What stands in the tables as the least and the most is accepted, and what is beyond is not."""
    for page in (GUIDE / "options.md", ROOT / "README.md"):
        rows = re.findall(r"^\| `(\w+)=N` \|.*?(\d+) to (\d+)", page.read_text(), re.MULTILINE)
        assert [name for name, _, _ in rows] == ["threshold", "shapes", "code"]
    for name, least, most in rows:
        for value, good in ((int(least) - 1, False), (least, True), (most, True), (int(most) + 1, False)):
            done = python("import hotcall", setting=f"{name}={value}")
            assert (done.returncode == 0) is good, (name, value, done.stderr)


def test_the_table_of_refusals_has_all():
    path = GUIDE / "conf.py"
    try:
        specification = importlib.util.spec_from_file_location("guide_conf", path)
        conf = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(conf)
    finally:
        sys.modules.pop("guide_conf", None)
    calls = (ROOT / "python" / "src" / "refusals.rs").read_text()
    code = (ROOT / "asm" / "src" / "refusals.rs").read_text()
    assert len(conf.refused_calls(calls)) == len(re.findall(r'^    [A-Z_]+ "', calls, re.MULTILINE))
    rows = conf.refused_code(code)
    assert len(rows) == code.count(": Refusal =")
    assert {"no-executable-memory", "code-memory-full", "frame-too-large"} < {name for name, _ in rows}
    assert not any("\\" in text or "\n" in text or "  " in text for _, text in rows)


def test_the_figures_of_the_comparison():
    """The table of means is that of the newest records."""
    text = (GUIDE / "comparison.md").read_text()
    table = text[text.index("| | 3.11 |") :].split("\n\n")[0].splitlines()
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if "---" not in line]
    for place, version in enumerate(head[1:], 1):
        with (ROOT / "benches" / "record" / f"peers-{version}.csv").open(newline="") as file:
            records = list(csv.DictReader(file))
        newest = [record for record in records if record["date"] == records[-1]["date"]]
        for row in rows:
            figures = [float(record[row[0]]) for record in newest if record[row[0]]]
            if not figures:
                assert row[place] == ""
                continue
            mean = math.exp(sum(map(math.log, figures)) / len(figures))
            assert float(row[place]) == pytest.approx(mean, rel=0.01), (row[0], version)
