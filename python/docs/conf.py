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


def write_refusals(app: object) -> None:
    """Makes the table of refusals out of the one that the program has."""
    here = Path(__file__).parent
    rows = re.findall(r'^    \w+ "([a-z-]+)" "(.*)";$', (here.parent / "src" / "refusals.rs").read_text(), re.M)
    assert len(rows) > 15, "the table was read"
    lines = ["| name | what it means |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows)]
    (here / "refusals.inc").write_text("\n".join(lines) + "\n")


def setup(app) -> None:
    """Sphinx calls it first."""
    app.connect("builder-inited", write_refusals)
