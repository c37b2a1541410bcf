"""Our templates inside the operator's: one Jinja environment in which `page.html` always has a block `main`.

BinderHub 0.1.0's `page.html` has that block. Later versions have an empty
``<div id="root"></div>`` instead, which a script fills; that script would start a launch
of its own. Operators have copies of both, changed to their taste.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, FileSystemLoader, PrefixLoader
from jinja2.ext import Extension

TEMPLATES = Path(__file__).parent / "templates"

_BLOCK_MAIN = re.compile(r"\{%[-+]?\s*block\s+main\b")
_EXTENDS = re.compile(r"\{%[-+]?\s*extends\b")
_ROOT = re.compile(
    r"(?P<open><div\b[^>]*\bid\s*=\s*([\"']?)root\2(?=[\s/>])[^>]*>)"
    r"(?P<inside>(?:(?!</?div\b).)*)"
    r"(?P<close></div\s*>)",
    re.IGNORECASE | re.DOTALL,
)
_BUNDLE = re.compile(r"<script\b[^>]*\bdist/bundle\.js\b[^>]*>\s*</script\s*>", re.IGNORECASE)
_END_OF_BODY = re.compile(r"</body\s*>", re.IGNORECASE)

# what the script drew around its content: the banner and the logo
_HEADER = '{% include "binderhub_ext/header.html" %}'


def with_block_main(source: str) -> str:
    """Return the source of a page that can be extended by its block `main`.

    Parameters
    ----------
    source : str
        A template's source. It is returned unchanged when it has the block already, or
        when it extends another template (which is asked in its turn).

    Source: BinderHub's templates/page.html (main) and static/js/App.jsx, which draws the
    banner and the logo above the content of every page.
    """
    if _BLOCK_MAIN.search(source) or _EXTENDS.search(source):
        return source
    root = _ROOT.search(source)
    if root is not None:
        inside = f"{_HEADER}{{% block main %}}{root['inside']}{{% endblock main %}}"
        source = source[: root.start()] + root["open"] + inside + root["close"] + source[root.end() :]
    else:
        # the page of someone who renamed the element: before its end there is a place, too
        bodies = list(_END_OF_BODY.finditer(source))
        if not bodies:
            return source
        end = bodies[-1].start()
        source = f"{source[:end]}{_HEADER}{{% block main %}}{{% endblock main %}}\n{source[end:]}"
    return _BUNDLE.sub("", source)


class BlockMain(Extension):
    """Gives every page the block `main` while it is compiled."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Called by Jinja with each template's source."""
        if name is None or name.startswith("binderhub_ext/"):
            return source
        return with_block_main(source)


def overlay(environment: Any) -> Any:
    """Return an environment like the operator's that also has our templates.

    The operator's own come first: a file `binderhub_ext/launch.html` in their
    `template_path` replaces ours, and may extend it as `templates/binderhub_ext/launch.html`
    (BinderHub's convention for its own templates).
    """
    ours = FileSystemLoader([TEMPLATES])
    loader = ChoiceLoader([environment.loader, ours, PrefixLoader({"templates": ours})])
    return environment.overlay(loader=loader, extensions=[BlockMain])
