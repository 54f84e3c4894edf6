"""Escaping of texts in JSON, in scripts, and in the bytes of a page; the template escapes HTML."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

#: Characters that could end a script, open a comment in it, or break a line of JavaScript.
_UNSAFE = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


def to_json(value: Any) -> str:
    """Encodes a value for ``<script type="application/json">``: nothing in it is markup."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).translate(_UNSAFE)


def to_script(code: str) -> str:
    """Escapes trusted JavaScript for a ``<script>``, with the line ends that the browser hashes."""
    code = code.replace("\r\n", "\n").replace("\r", "\n")
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def hash_source(script: str) -> str:
    """Returns the SHA-256 of a script as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def to_unicode(text: str) -> str:
    """Replaces each lone surrogate, which UTF-8 cannot encode, by U+FFFD."""
    try:
        text.encode()  # many times faster than a look at each character
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
