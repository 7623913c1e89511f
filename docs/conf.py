"""Configuration of the documentation."""

import inpca

project = "inpca"
author = "The inpca developers"
copyright = "2026, The inpca developers"
version = release = inpca.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas without a network
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True
exclude_patterns = ["_build"]
# Docstrings give a parameter's meaning where Sphinx expects its type, and look up its words.
suppress_warnings = ["ref.python"]

html_theme = "pydata_sphinx_theme"
html_title = f"inpca {version}"
html_theme_options = {"show_prev_next": True, "navigation_with_keys": False}
html_show_sourcelink = False
html_sidebars = {"**": []}  # few pages: the bar above names them all


def escape_bars(app, what, name, obj, options, lines):
    """|λ| in a docstring is a magnitude, not a substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app):
    """Register what changes docstrings before they are parsed."""
    app.connect("autodoc-process-docstring", escape_bars, priority=900)
