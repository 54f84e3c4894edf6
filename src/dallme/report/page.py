"""The page that shows a distilled set: one HTML file that needs no network and runs nothing but its own scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.dataset.tables import comparison_cells, star_note
from dallme.errors import InputError
from dallme.report.cards import Card, make_cards
from dallme.report.charts import PALETTE, bars, comparison_panels, landscape, library
from dallme.report.escaping import hash_source, to_json, to_script, to_unicode
from dallme.report.map import map_data
from dallme.report.summary import audit_rows, headline, kept

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.dataset import DistilledDataset
    from dallme.progress import Progress

TEMPLATES = Path(__file__).parent / "templates"


def render(
    distilled: DistilledDataset,
    *,
    evidence: AuditInput | None = None,
    audit: Mapping[str, Any] | None = None,
    points: int = 25_000,
    editable: bool = False,
    progress: Progress | None = None,
) -> str:
    """Renders the page; the same input gives the same page, byte for byte, on the same machine.

    Whatever a text, a name or the manifest holds is shown and never run: it is escaped where it stands, scripts write it as
    text, and the page's Content-Security-Policy allows no script but its own and no network.

    Args:
        distilled: The set.
        evidence: The set beside its source; without it the page has neither a map nor the nearest real texts.
        audit: The document of an audit, as ``audit.json`` holds it.
        points: Source rows that the map shows at most.
        editable: Marks the page for a server that adds its own script and style: ``<body data-editable>``, and a policy that
            allows scripts, styles and connections of the server that the page is from.
        progress: Where to show progress.

    Returns:
        The HTML.

    Raises:
        InputError: If the audit is of another number of texts, or `points` is below 1.
    """
    if audit is not None and len(audit["texts"]) != len(distilled):
        raise InputError(
            f"expected an audit of these {len(distilled)} texts, found one of {len(audit['texts'])}; run dallme audit again"
        )
    classes = dict(distilled.label_names) | (dict(evidence.source.label_names) if evidence else {})
    shown = map_data(evidence, list(classes), points, progress=progress) if evidence else None
    cards = make_cards(distilled, classes, evidence, audit)
    data = _data(distilled, classes, shown)
    scripts = [_read("report.js")] + ([library()] if shown or "comparison" in data else [])
    page = _template().render(
        policy=_policy(scripts, editable=editable),
        style=_read("report.css"),
        # The page's own script comes last, when the library is there.
        scripts=scripts[::-1],
        data={name: to_json(value) for name, value in data.items()},
        classes=[_class(place, name, cards) for place, name in enumerate(classes.values())],
        cards=cards,
        headline=headline(distilled),
        kept=kept(distilled.manifest),
        comparison=_comparison(distilled.manifest),
        shown=shown,
        audit=audit_rows(audit) if audit else None,
        failures=audit["failures"] if audit else [],
        notes=audit["notes"] if audit else [],
        manifest=json.dumps(distilled.manifest, indent=2, ensure_ascii=False, default=str),
        editable=editable,
    )
    return to_unicode(page)


def _data(
    distilled: DistilledDataset, classes: Mapping[int, str], shown: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the page's script reads, by name."""
    data: dict[str, Any] = {"classes": [{"id": label, "name": name} for label, name in classes.items()]}
    if comparison := distilled.manifest.get("comparison"):
        panels = comparison_panels(comparison, _decoder(distilled.manifest))
        data["comparison"] = {"spec": bars(len(comparison["methods"])), "panels": panels}
    if shown:
        data["map"] = {"spec": landscape(len(classes)), **shown}
    return data


def _comparison(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The honest table as the template shows it."""
    comparison = manifest.get("comparison")
    if not comparison:
        return None
    head, body = comparison_cells(comparison)
    return {
        "head": head,
        "body": [{"cells": cells, "ours": cells[0] == _decoder(manifest)} for cells in body],
        "classifiers": head[2:],
        "star": star_note(comparison),
        "test_rows": comparison.get("test_rows"),
        "notes": comparison.get("notes", []),
    }


def _decoder(manifest: Mapping[str, Any]) -> str | None:
    name: str | None = manifest.get("configuration", {}).get("decoder")
    return name


def _class(place: int, name: str, cards: list[Card]) -> dict[str, Any]:
    """A class as the legend and the filter show it."""
    return {
        "name": name,
        "colour": PALETTE[place % len(PALETTE)],
        "texts": sum(card.label == place for card in cards),
    }


def _policy(scripts: list[str], *, editable: bool) -> str:
    """What the browser may load: nothing but the page's own scripts and styles, and for a server to edit with, the server's."""
    hashes = " ".join(hash_source(script) for script in scripts)
    server = " 'self'" if editable else ""
    parts = [
        "default-src 'none'",
        f"script-src {hashes}{server}",
        f"style-src 'unsafe-inline'{server}",
        "img-src data:",
        f"connect-src {server.strip() or chr(39) + 'none' + chr(39)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(parts)


def _read(name: str) -> str:
    return to_script((TEMPLATES / name).read_text(encoding="utf-8"))


def _template() -> Any:
    """The page's template; all that it shows is escaped, but for what is marked as safe there."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["exact"] = _exact
    return environment.get_template("report.html.j2")


def _exact(text: str) -> Any:
    """Escapes a text so that it is read back as it is: a browser turns a bare carriage return into a new line."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("\r", "&#13;"))  # noqa: S704 - it is escaped
