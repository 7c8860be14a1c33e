"""The command line: ``python -m hotcall`` runs a program accelerated, or checks that it can."""

from __future__ import annotations

import os
import sys

from hotcall import _api

USAGE = """\
usage: python -m hotcall [OPTION]... SCRIPT [ARGUMENT]...
       python -m hotcall [OPTION]... -m MODULE [ARGUMENT]...
       python -m hotcall [OPTION]... -c CODE [ARGUMENT]...
       python -m hotcall [OPTION]... [- [ARGUMENT]...] < SCRIPT
       python -m hotcall [-o NAME=VALUE]... doctor

Runs a program as python itself would, with its ctypes calls accelerated.
'doctor' checks that hotcall works here; a script of that name is run as './doctor'.

options:
  --report       time the calls, and show at the end what became of them
  --html FILE    the same, as a page in FILE
  --check        hold what hotcall passes against what ctypes passes, in each call,
                 and show the differences at the end; with one, the exit status
                 of a program that succeeds is 70
  -o NAME=VALUE  an option as in the environment variable HOTCALL
  --             the end of the options
  -h, --help     show this text
  --version      show the version of hotcall
"""

DIFFERENT = 70
"""The exit status of a program that succeeded but for a difference that was found."""

_FLAGS = ("--report", "--check", "-h", "--help", "--version")
_WITH_VALUE = ("--html", "-o", "-m", "-c")


class _Usage(Exception):
    """What is wrong with the command line."""


def main(arguments: list[str]) -> None:
    """Do what the command line asks for; it ends the process as the program does."""
    # Modules beside the program are not for us.
    from hotcall import _run

    _run.leave_path()
    try:
        environment = _api._environment()
        if _api._native is not None:
            # What is wrong there is not said when it is imported for the command line.
            _api._native.configure(environment, "HOTCALL")
        options, way, target, rest = _parse(arguments)
        settings = options.settings(environment)
        if _api._native is not None and settings != environment:
            if not _api._native.configure(settings, "-o"):
                reason = "hotcall is in use already, which is too late for options"
                raise _Usage(f"{reason}; set HOTCALL={settings!r}")
        if options.page is not None:
            options.page = _writable(options.page)
    except (_Usage, ValueError) as error:
        sys.stderr.write(f"hotcall: {error}\nsee python -m hotcall --help\n")
        raise SystemExit(2) from None
    if way == "doctor":
        from hotcall import _doctor

        raise SystemExit(_doctor.main())
    _start(options)
    run = {"script": _run.script, "-m": _run.module, "-c": _run.text, "-": _run.standard_input}[way]
    # With -i the interpreter prompts next, and how that ends is the exit status.
    judged = options.check and not sys.flags.inspect
    try:
        run(target, rest)
    except SystemExit as end:
        if not judged:
            raise
        _raise_unless_success(end)
    if judged:
        from hotcall import _checks

        if _checks.differ_in_the_end():
            raise SystemExit(DIFFERENT)


def _raise_unless_success(end: SystemExit) -> None:
    """Raise an exit with the code of ``end``, unless that is a success.

    Like the interpreter, this asks for the code once and looks only at its class and number, since
    a comparison or a second look may run code of the program.
    """
    try:
        code = end.code
    except BaseException:
        # The interpreter shows the exit itself then.
        code = end  # type: ignore[assignment]
    if code is None or (issubclass(type(code), int) and not int.__bool__(code)):  # type: ignore[arg-type]
        return
    raise SystemExit(code) from None


class _Options:
    """What precedes the program on the command line."""

    def __init__(self) -> None:
        self.native: list[str] = []
        self.report = False
        self.page: str | None = None
        self.check = False

    def set(self, name: str, value: str) -> None:
        """Note an option; one that asks for a text is answered at once."""
        if name == "--report":
            self.report = True
        elif name == "--html":
            self.page = value
        elif name == "--check":
            self.check = True
        elif name == "-o":
            self.native.append(value)
        else:
            sys.stdout.write(f"hotcall {_api._version()}\n" if name == "--version" else USAGE)
            raise SystemExit(0)

    def refuse_of_programs(self) -> None:
        """Refuse options that are about a program, where none is run."""
        if self.report or self.check or self.page is not None:
            raise _Usage("doctor runs no program: it takes no option but -o")

    def settings(self, environment: str) -> str:
        """The options of the native module; of two that contradict each other the later holds."""
        timed = self.report or self.page is not None
        given = [environment, "check=1" if self.check else "", *self.native]
        return ",".join(filter(None, [*given, "profile=1" if timed else ""]))


def _parse(arguments: list[str]) -> tuple[_Options, str, str, list[str]]:
    """Give the options, how the program is given, the program, and its arguments."""
    options, left = _Options(), list(arguments)
    while left and left[0].startswith("-") and left[0] != "-":
        word = left.pop(0)
        if word == "--":
            break
        name, value = _split(word)
        if name in _WITH_VALUE:
            if value is None and not left:
                raise _Usage(f"{name} wants an argument")
            value = left.pop(0) if value is None else value
        elif name not in _FLAGS or value is not None:
            raise _Usage(f"unknown option {word}")
        if name in ("-m", "-c"):
            return options, name, value or "", left
        options.set(name, value or "")
    # Behind `--` it is a script.
    if left == ["doctor"] and arguments[-2:-1] != ["--"]:
        options.refuse_of_programs()
        return options, "doctor", "", []
    if left and left[0] != "-":
        return options, "script", left[0], left[1:]
    if sys.stdin is not None and sys.stdin.isatty():
        raise _Usage("no program")
    return options, "-", "".join(left[:1]), left[1:]


def _split(word: str) -> tuple[str, str | None]:
    """Split an option from the value that is attached to it, if there is one."""
    if word.startswith("--"):
        name, sign, value = word.partition("=")
        return name, value if sign else None
    return word[:2], word[2:] or None


def _writable(path: str) -> str:
    """Give the file's place wherever the program may go; what is in it stays for now."""
    try:
        with open(path, "a", encoding="utf-8"):
            return os.path.realpath(path)
    except OSError as error:
        raise _Usage(f"cannot write {path}: {error.strerror}") from None


def _start(options: _Options) -> None:
    """Install hotcall, and have shown at the end what was asked for."""
    _api.install()
    off = _api._native.status()["off"] if _api._native is not None else _api._missing
    if off is not None:
        sys.stderr.write(f"hotcall: off, {off}\n")
    if options.report or options.page is not None:
        from hotcall import _report

        _report.learn_names()
        _report.write_at_exit(to_stderr=options.report, page=options.page)
    if options.check:
        from hotcall import _checks

        _checks.write_at_exit()


if __name__ == "__main__":
    main(sys.argv[1:])
