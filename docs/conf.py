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

html_theme = "pydata_sphinx_theme"
html_title = f"inpca {version}"
html_theme_options = {"show_prev_next": True, "navigation_with_keys": False}
html_show_sourcelink = False
