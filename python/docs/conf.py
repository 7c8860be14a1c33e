"""How Sphinx builds the guide; `make docs` runs it, with the wheel installed."""

import re
from importlib.metadata import version as version_of
from pathlib import Path

project = "hotcall"
version = release = version_of("hotcall")
author = copyright = "the hotcall authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "alabaster"
html_theme_options = {"description": "A tracing JIT for foreign calls", "page_width": "70em", "fixed_sidebar": True}
html_show_sourcelink = False
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
nitpicky = False


def refused_calls(source: str) -> list[tuple[str, str]]:
    """The refusals of calls, each a row of one macro."""
    return re.findall(r'^    \w+ "([a-z0-9-]+)" "(.*)";$', source, re.M)


def refused_code(source: str) -> list[tuple[str, str]]:
    """The refusals to compile, each a constant whose text may go over lines."""
    rows = re.findall(r'Refusal::new\(\s*"([a-z0-9-]+)",\s*"((?:[^"\\]|\\\n)*)"', source)
    sentences = ((name, re.sub(r"\\\n\s*", "", text)) for name, text in rows)
    return [(name, text[0].upper() + text[1:] + ".") for name, text in sentences]


def write_refusals(app: object) -> None:
    """Makes the tables of refusals out of those that the program has."""
    here = Path(__file__).parent
    root = here.parents[1]
    calls = refused_calls((root / "python" / "src" / "refusals.rs").read_text())
    code = refused_code((root / "asm" / "src" / "refusals.rs").read_text())
    assert len(calls) > 15 and len(code) > 8, "the tables were read"
    heads = ("ctypes makes the call", "no stub is compiled, and the call is interpreted")
    lines = []
    for head, rows in zip(heads, (calls, code), strict=True):
        lines += [f"| name | why {head} |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows), ""]
    (here / "refusals.inc").write_text("\n".join(lines))


def setup(app) -> None:
    """Sphinx calls it first."""
    app.connect("builder-inited", write_refusals)
