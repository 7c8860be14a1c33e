"""The command line: ``python -m hotcall`` runs a program accelerated, or checks that it can."""

from __future__ import annotations

import os
import sys

from hotcall import _api

USAGE = """\
usage: python -m hotcall [OPTION]... SCRIPT [ARGUMENT]...
       python -m hotcall [OPTION]... -m MODULE [ARGUMENT]...
       python -m hotcall [OPTION]... -c CODE [ARGUMENT]...
       python -m hotcall doctor

Runs a program as python itself would, with its ctypes calls accelerated.
'doctor' checks that hotcall works here.

options:
  --report       time the calls, and show at the end what became of them
  --html FILE    the same, as a page in FILE
  --check        hold what hotcall passes against what ctypes passes, in each call,
                 and show the differences at the end; with one, the exit status
                 of a program that succeeds is 70
  -o NAME=VALUE  an option as in the environment variable HOTCALL
  -h, --help     show this text
"""

DIFFERENT = 70
"""The exit status of a program that succeeded but for a difference that was found."""


class _Usage(Exception):
    """What is wrong with the command line."""


def main(arguments: list[str]) -> None:
    """Do what the command line asks for; it ends the process as the program does."""
    if arguments == ["doctor"]:
        from hotcall import _doctor

        raise SystemExit(_doctor.main())
    try:
        options, way, target, rest = _parse(arguments)
        given = [os.environ.get("HOTCALL", ""), *options.native]
        if _api._native is not None:
            _api._native.configure(",".join(filter(None, given)))
    except (_Usage, ValueError) as error:
        sys.stderr.write(f"hotcall: {error}\n{USAGE}")
        raise SystemExit(2) from None
    _run(options, way, target, rest)


class _Options:
    """What precedes the program on the command line."""

    def __init__(self) -> None:
        self.native: list[str] = []
        self.report = False
        self.page: str | None = None
        self.check = False


def _parse(arguments: list[str]) -> tuple[_Options, str, str, list[str]]:
    """Give the options, how the program is given, the program, and its arguments."""
    options, left = _Options(), list(arguments)

    def value(name: str) -> str:
        if not left:
            raise _Usage(f"{name} wants an argument")
        return left.pop(0)

    while left:
        word = left.pop(0)
        if word in ("-m", "-c"):
            return options, word, value(word), left
        if word in ("-h", "--help"):
            sys.stdout.write(USAGE)
            raise SystemExit(0)
        if word == "--report":
            options.report = True
        elif word == "--html":
            options.page = value(word)
        elif word == "--check":
            options.check = True
        elif word == "-o":
            options.native.append(value(word))
        elif word.startswith("-"):
            raise _Usage(f"unknown option {word}")
        else:
            return options, "script", word, left
        if options.report or options.page is not None:
            options.native.append("profile=1")
        if word == "--check":
            options.native.insert(0, "check=1")
    raise _Usage("no program")


def _run(options: _Options, way: str, target: str, rest: list[str]) -> None:
    from hotcall import _checks, _report, _run

    _api.install()
    off = _api.status().off
    if off is not None:
        sys.stderr.write(f"hotcall: off, {off}\n")
    if options.report or options.page is not None:
        _report.learn_names()
        _report.write_at_exit(to_stderr=options.report, page=options.page)
    if options.check:
        _checks.write_at_exit()
    run = {"script": _run.script, "-m": _run.module, "-c": _run.text}[way]
    try:
        run(target, rest)
    except SystemExit as end:
        if not options.check or end.code not in (None, 0) or not _checks.checks().differences:
            raise
    if options.check and _checks.checks().differences:
        raise SystemExit(DIFFERENT)


if __name__ == "__main__":
    main(sys.argv[1:])
