"""One self-contained HTML page: styles and scripts inlined, data as JSON, written in pieces and whole or not at all.

The page carries a policy that allows no request of any kind and no script or style but its own (by their hashes), so
that a name that slips through as markup could still do nothing.
"""

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from refusion_jax.errors import InputError

SUFFIXES = (".html", ".htm")


def embed_json(value: Any) -> str:
    """JSON that can stand inside <script>: plain ASCII without <, > and &. Numbers must be finite."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def escape(text: object) -> str:
    """A text as HTML shows it, quotes included. Bytes of a file name that are no UTF-8 become a question mark."""
    return html.escape(str(text).encode("utf-8", "replace").decode("utf-8"))


def data_script(identifier: str, value: Any) -> str:
    """A block of data that a script reads by its identifier; it is not parsed before it is asked for."""
    return f'<script type="application/json" id="{identifier}">{embed_json(value)}</script>\n'


def term_list(rows: Iterable[tuple[str, object]]) -> str:
    """The entries of a <dl>: what is said of the whole page."""
    return "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in rows)


def asset(name: str) -> str:
    """A file of assets/. Read as text, so that its line ends are those a browser hashes."""
    return resources.files("refusion_jax.report").joinpath("assets", name).read_text(encoding="utf-8")


def fill(template: str, values: dict[str, str]) -> str:
    """The template with every {{name}} replaced, in one pass: what is put in is not searched again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def page_parts(kind: str, values: dict[str, str]) -> tuple[str, str, str]:
    """The page around its data, which the script reads, and around its entries, which follow the script.

    kind: fusion or run, which names the files KIND.html, KIND.css and KIND.js. values: ready HTML for the {{name}} of
    KIND.html, and of page.html: the page's `title`, its `facts` (a term_list), and `start`, the identifier of the
    element where the content begins.
    """
    style = asset("base.css") + asset(f"{kind}.css")
    scripts = {"shared": asset("base.js"), "script": asset(f"{kind}.js")}
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {' '.join(map(_hash, scripts.values()))}; base-uri 'none'; form-action 'none'"
    )
    body = fill(asset(f"{kind}.html"), values)
    whole = {**values, "policy": policy, "kind": kind, "style": style, "body": body, **scripts}
    before, rest = asset("page.html").split("{{data}}")
    script, end = rest.split("{{entries}}")
    return fill(before, whole), fill(script, whole), end


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def checked_path(path: str | os.PathLike) -> Path:
    """The page's path; InputError when it is no .html name or names something that is no file."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a report is a web page; give it a name ending in .html")
    # os.path, unlike Path, answers False where it cannot look; the writing then fails and says why.
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"cannot write {path}: it is not a file; choose another name for the report")
    return path


def unwritable(path: Path, error: OSError) -> InputError:
    """The one line for a page that cannot be written."""
    return InputError(f"cannot write {path}: {error.strerror or error}; free space or choose another place")
