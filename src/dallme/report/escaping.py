"""What keeps a text a text where it stands in a page: in JSON, in a script, and in the bytes of the file."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

#: What could end the script that holds it, open a comment there, or break a line of JavaScript.
_UNSAFE = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


def to_json(value: Any) -> str:
    """JSON that may stand in a ``<script type="application/json">``: nothing in it is markup."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).translate(_UNSAFE)


def to_script(code: str) -> str:
    """A script of ours or of a library as it may stand in a ``<script>``, and as the browser will read it."""
    code = code.replace("\r\n", "\n").replace("\r", "\n")
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def hash_source(script: str) -> str:
    """The SHA-256 of a script as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def to_unicode(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which no file can hold."""
    try:
        text.encode()  # many times faster than to look at each character
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
