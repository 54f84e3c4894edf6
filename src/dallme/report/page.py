"""The report page: one HTML file that needs no network and runs only its own scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallme.dataset.card import comparison_cells, star_note
from dallme.errors import InputError, MissingDependencyError
from dallme.report.cards import Card, make_cards
from dallme.report.charts import PALETTE, bars, comparison_panels, landscape, library
from dallme.report.map import map_data
from dallme.report.summary import audit_rows, headline, recovered_share
from dallme.text import hash_source, to_json, to_script, to_unicode

if TYPE_CHECKING:
    from dallme.auditing.inputs import AuditInput
    from dallme.dataset import DistilledDataset
    from dallme.dataset.manifest import Manifest
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
    """Renders the page; the same input gives the same bytes on the same machine.

    Texts, names and the manifest are escaped by the template, and scripts write them as text. The page's
    Content-Security-Policy allows its own scripts only, and no network.

    Args:
        distilled: The set.
        evidence: The set with its source, for the map and the nearest source texts.
        audit: The document of an audit, as ``audit.json`` holds it.
        points: Maximum number of source rows on the map.
        editable: Whether a server adds its own script and style: sets ``<body data-editable>``, and the
            policy allows scripts, styles and connections of that server.
        progress: Progress display.

    Returns:
        The HTML.

    Raises:
        InputError: If the audit is of another number of texts, or `points` is below 1.
        MissingDependencyError: If there are charts to draw and the packages for them are not installed.
    """
    if audit is not None and len(audit["texts"]) != len(distilled):
        raise InputError(
            f"expected an audit of these {len(distilled)} texts, found one of {len(audit['texts'])}; "
            "run dallme audit again"
        )
    if evidence or distilled.manifest.comparison:
        _check_packages()
    classes = dict(distilled.label_names) | (dict(evidence.source.label_names) if evidence else {})
    shown = map_data(evidence, list(classes), points, progress=progress) if evidence else None
    cards = make_cards(distilled, classes, evidence, audit, masked=not editable)
    data = _data(distilled, classes, shown)
    scripts = [_read("report.js")] + ([library()] if shown or "comparison" in data else [])
    page = _template().render(
        policy=_policy(scripts, editable=editable),
        style=_read("report.css"),
        # The page's own script needs the library, so it comes last.
        scripts=scripts[::-1],
        data={name: to_json(value) for name, value in data.items()},
        classes=[_class(index, name, cards) for index, name in enumerate(classes.values())],
        cards=cards,
        headline=headline(distilled),
        kept=recovered_share(distilled.manifest),
        comparison=_comparison(distilled.manifest),
        shown=shown,
        audit=audit_rows(audit) if audit else None,
        failures=audit["failures"] if audit else [],
        notes=audit["notes"] if audit else [],
        manifest=json.dumps(distilled.manifest.as_dict(), indent=2, ensure_ascii=False, default=str),
        editable=editable,
    )
    return to_unicode(page)


def _check_packages() -> None:
    """Checks that the packages of the extra ``report`` are installed, before any work is done."""
    for package in ("altair", "vl_convert"):
        if find_spec(package) is None:
            raise MissingDependencyError("the report", package, "report")


def _data(
    distilled: DistilledDataset, classes: Mapping[int, str], shown: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Collects the data of the page's script, by name."""
    data: dict[str, Any] = {"classes": [{"id": label, "name": name} for label, name in classes.items()]}
    if comparison := distilled.manifest.comparison:
        panels = comparison_panels(comparison, distilled.manifest.option("decoder"))
        data["comparison"] = {"spec": bars(len(comparison["methods"])), "panels": panels}
    if shown:
        data["map"] = {"spec": landscape(len(classes)), **shown}
    return data


def _comparison(manifest: Manifest) -> dict[str, Any] | None:
    """Formats the comparison table for the template."""
    comparison = manifest.comparison
    if not comparison:
        return None
    head, body = comparison_cells(comparison)
    return {
        "head": head,
        "body": [{"cells": cells, "ours": cells[0] == manifest.option("decoder")} for cells in body],
        "classifiers": [result["classifier"] for result in comparison["methods"][0]["results"]],
        "star": star_note(comparison),
        "test_rows": comparison.get("test_rows"),
        "notes": comparison.get("notes", []),
    }


def _class(index: int, name: str, cards: list[Card]) -> dict[str, Any]:
    """Describes a class for the legend and the filter."""
    return {
        "name": name,
        "colour": PALETTE[index % len(PALETTE)],
        "texts": sum(card.label == index for card in cards),
    }


def _policy(scripts: list[str], *, editable: bool) -> str:
    """Writes the Content-Security-Policy: own scripts and styles, and those of the server if editable."""
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
    """Loads the template, which escapes every value that it does not mark as safe."""
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
    """Escapes a text and its carriage returns, which a browser would turn into line feeds."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("\r", "&#13;"))  # noqa: S704 - it is escaped
