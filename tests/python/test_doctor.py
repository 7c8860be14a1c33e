"""The doctor of the command line: what it finds, and what it takes."""

import re

import hotcall
import pytest
from commandkit import run


def test_the_doctor(tmp_path):
    done = run("-m", "hotcall", "doctor", cwd=tmp_path)
    assert done.returncode in (0, 3) and hotcall.__name__ in done.stdout
    assert ("executable memory:" in done.stdout) == (done.returncode == 0)
    done = run("-m", "hotcall", "doctor", cwd=tmp_path, setting="memory=deny")
    assert done.returncode == 3 and "NO STUBS" in done.stdout and "allow executable memory" in done.stdout
    done = run("-m", "hotcall", "doctor", cwd=tmp_path, setting="jit=off")
    assert done.returncode == 3 and "take out jit=off" in done.stdout and "allow" not in done.stdout


@pytest.mark.skipif(hotcall.status().lending_off is not None, reason="the GIL is not lent here")
def test_the_doctor_tells_who_has_the_gil(tmp_path):
    expected = {
        "gil=lend": "lent", "gil=release": "released", "gil=hold": "held",
        "monitor=deny": "released, not lent: the system gives no thread for it",
    }  # fmt: skip
    for setting, who in expected.items():
        done = run("-m", "hotcall", "-o", setting, "doctor", cwd=tmp_path)
        assert done.returncode in (0, 3) and re.search(f"^GIL during calls: +{who}$", done.stdout, re.M), done


def test_the_doctor_takes_options_of_hotcall_alone(tmp_path):
    (tmp_path / "doctor").write_text("import sys\nprint('a script', *sys.argv[1:])\n")
    for options in [("-o", "jit=off"), ("-ojit=off",), ("-o", "jit=on", "-o", "jit=off")]:
        done = run("-m", "hotcall", *options, "doctor", cwd=tmp_path)
        assert done.returncode == 3 and "take out jit=off" in done.stdout, done
    for options in [("--report",), ("--check", "-o", "jit=off"), ("--html", "page.html")]:
        done = run("-m", "hotcall", *options, "doctor", cwd=tmp_path)
        assert done.returncode == 2 and "doctor runs no program: it takes no option but -o\n" in done.stderr, done
    for script in [("./doctor",), ("--", "doctor"), ("doctor", "argument"), ("--report", "./doctor")]:
        done = run("-m", "hotcall", *script, cwd=tmp_path)
        assert done.returncode == 0 and done.stdout.startswith("a script"), done


def test_the_doctor_where_hotcall_is_off(tmp_path):
    code = "import hotcall._api as api\napi._native = None\napi._missing = 'it is missing'\n"
    code += "from hotcall import _doctor\nraise SystemExit(_doctor.main())"
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 2 and "it is missing" in done.stdout
