"""Runs CPython's own ctypes suite plain and then with hotcall in several settings, and compares.

A run passes if the same tests ran and were skipped as in the plain run, all of them are well, and the counts show that the
calls went where the setting sends them. Usage: suite.py [SETTING...], each as in the variable HOTCALL.

CPython's own runner adds an audit hook, with which ctypes makes all calls from 3.14 on. So unittest runs the suite, and
CPython's runner does it once more, in the first setting.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

SETTINGS = [
    "threshold=1,count=1",
    "count=1",
    "threshold=1,jit=off,count=1",
    "threshold=1,memory=deny,count=1",
]
UNITTEST = ("unittest", "test.test_ctypes")
AUDITED = ("test", "test_ctypes")
SECONDS = 300
TIERS = {"stub_calls": "in stubs", "interpreter_calls": "in the interpreter", "ctypes_calls": "in ctypes"}


@dataclass
class Run:
    """What one run of the suite printed and counted."""

    status: int
    output: str
    ran: int = 0
    skipped: int = 0
    seconds: float = 0.0
    ok: bool = False
    tests: dict[str, str] = field(default_factory=dict)
    processes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)


def parse(status: int, output: str) -> Run:
    """Reads what unittest prints."""
    run = Run(status, output)
    for ran, seconds in re.findall(r"^Ran (\d+) tests? in ([\d.]+)s", output, re.M):
        run.ran += int(ran)
        run.seconds += float(seconds)
    verdicts = re.findall(r"^(OK|FAILED)(?: \((.*)\))?$", output, re.M)
    for _, details in verdicts:
        skipped = re.search(r"skipped=(\d+)", details)
        run.skipped += int(skipped[1]) if skipped else 0
    run.ok = status == 0 and run.ran > 0 and bool(verdicts) and all(word == "OK" for word, _ in verdicts)
    # A test may print between its name and its verdict, so this list only helps to explain a difference.
    for name, verdict in re.findall(r"^(\w+ \([\w.]+\))\n?.*? \.\.\. (ok|FAIL|ERROR|skipped)", output, re.M):
        run.tests[name] = verdict
    return run


def run_suite(setting: str | None, runner: tuple[str, str] = UNITTEST) -> Run:
    """Runs the suite plain, or with hotcall under `setting`."""
    # The suite starts from a clean state, whatever this process was given.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HOTCALL", "PYTHONPATH"))}
    with tempfile.TemporaryDirectory() as folder:
        if setting is not None:
            env["HOTCALL"] = setting
            env["HOTCALL_STATS_DIR"] = folder
            env["PYTHONPATH"] = str(Path(__file__).parent / "sitecustomize")
        command = [sys.executable, "-X", "faulthandler", "-m", *runner, "-v"]
        try:
            done = subprocess.run(
                command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS
            )
            run = parse(done.returncode, done.stdout.decode(errors="replace"))
        except subprocess.TimeoutExpired as late:
            run = Run(-1, (late.stdout or b"").decode(errors="replace") + f"\nno end after {SECONDS} s")
        for path in Path(folder).glob("*.json"):
            stats = json.loads(path.read_text())
            run.processes += 1
            run.refusals.update(stats.get("refusals", {}))
            run.counts.update({name: int(stats.get(name, 0)) for name in TIERS})
    return run


def complaints(run: Run, plain: Run, setting: str, runner: tuple[str, str]) -> list[str]:
    """What is wrong with a run under hotcall, in words; nothing if all is well."""
    words = []
    if not run.ok:
        words.append(f"the suite failed (status {run.status})")
    if (run.ran, run.skipped) != (plain.ran, plain.skipped):
        words.append(f"ran {run.ran}, skipped {run.skipped}; plain ran {plain.ran}, skipped {plain.skipped}")
    if run.processes == 0:
        words.append("hotcall was not loaded: no process reported counts")
    if runner == AUDITED and sys.version_info >= (3, 14):
        if run.counts["stub_calls"] or run.counts["interpreter_calls"]:
            words.append("calls were not made by ctypes, though an audit hook listens to it")
        return words
    options = setting.split(",")
    denied = "jit=off" in options or "memory=deny" in options
    if denied and run.counts["stub_calls"]:
        words.append("calls ran in stubs, which are off")
    if denied and not run.counts["interpreter_calls"]:
        words.append("no call ran in the interpreter")
    if not denied and "threshold=1" in options and not run.counts["stub_calls"]:
        words.append("no call ran in a stub")
    return words


def explain(run: Run, plain: Run) -> None:
    """Prints which tests differ, and the end of what the run printed."""
    for name in sorted(plain.tests.keys() | run.tests.keys()):
        before, after = plain.tests.get(name), run.tests.get(name)
        if before != after:
            print(f"    {name}: plain {before}, now {after}")
    failures = re.findall(r"^={70}\n(?:FAIL|ERROR): .*?(?=^={70}$|^-{70}\nRan )", run.output, re.M | re.S)
    for text in failures[:20]:
        print(text)
    if not failures:
        print("\n".join(run.output.splitlines()[-40:]))


def report(name: str, run: Run) -> None:
    """Prints one line per run, and for hotcall the counts."""
    version = ".".join(map(str, sys.version_info[:2]))
    verdict = f"{'OK' if run.ok else 'FAILED'} (skipped={run.skipped})"
    print(f"suite {version} [{name}]: ran {run.ran} tests in {run.seconds:.1f} s, {verdict}")
    if run.processes:
        places = ", ".join(f"{words} {run.counts[key]}" for key, words in TIERS.items())
        print(f"    calls {places} ({run.processes} processes)")
    for reason, count in run.refusals.most_common():
        print(f"    refused {count:8} {reason}")
    sys.stdout.flush()


def main(settings: list[str]) -> int:
    plain = run_suite(None)
    report("plain", plain)
    if not plain.ok:
        explain(plain, plain)
        print("error: the suite does not pass without hotcall")
        return 1
    failed = 0
    settings = settings or SETTINGS
    for setting, runner in [*((setting, UNITTEST) for setting in settings), (settings[0], AUDITED)]:
        run = run_suite(setting, runner)
        report(setting if runner == UNITTEST else f"{setting}, audited", run)
        words = complaints(run, plain, setting, runner)
        if words:
            failed = 1
            print("error: " + "; ".join(words))
            if not run.ok or run.tests != plain.tests:
                explain(run, plain)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
