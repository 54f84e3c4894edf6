"""The leaderboard as HTML and Markdown, built from stored rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from dallme.evaluation.compare import SIGNIFICANT
from dallme.evaluation.evaluate import Score
from dallme.evaluation.significance import better, holm
from dallme.experiments.rows import Row
from dallme.experiments.tables import Table
from dallme.leaderboard.ranks import Ranking, draw, rank_methods
from dallme.leaderboard.scoring import FULL, RANDOM, SUBMISSION, VERSION
from dallme.leaderboard.submission import COSTS
from dallme.overlap import CONTAMINATION
from dallme.text import hash_source, to_script, to_unicode


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard.

    Attributes:
        method: Name of the submission or baseline.
        description: Description of the submission; None for a baseline.
        dataset: Name of the data set.
        budget: Texts a class.
        labels: ``hard`` or ``soft``.
        score: Accuracies of one classifier, with that of the full data if it is known.
        random: Score of random texts at equal texts, if it is known.
        random_tokens: Score of random texts at equal tokens, if it is known.
        texts: Measures of the texts; see :func:`~dallme.leaderboard.scoring.measure_texts`.
        tokens_of: Whether the row is that of random texts at the tokens of a submission.
        significant: Whether it is better than random texts, after Holm's correction over the page.
    """

    method: str
    description: Mapping[str, Any] | None
    dataset: str
    budget: int
    labels: str
    score: Score
    random: Score | None
    random_tokens: Score | None
    texts: Mapping[str, float]
    tokens_of: bool = False
    significant: bool = False

    @property
    def copies(self) -> bool:
        """Whether a text is copied from training rows, or not known to be none."""
        span = self.texts.get("longest_span", CONTAMINATION)
        return self.texts.get("copied", 1.0) > 0 or span >= CONTAMINATION


#: Tracks: title to the entries that take part.
TRACKS: dict[str, Callable[[Entry], bool]] = {
    "Hard labels": lambda entry: entry.labels == "hard",
    "Soft labels": lambda entry: entry.labels == "soft",
    "Written by a language model": lambda entry: bool(
        entry.description and entry.description["used"]["model_calls"]
    ),
    "No source text copied": lambda entry: not entry.copies,
}

#: Columns of the table, and whether they hold numbers.
COLUMNS = {
    "method": False,
    "data set": False,
    "texts a class": True,
    "classifier": False,
    "labels": False,
    "sets": True,
    "accuracy": True,
    "±": True,
    "over random, equal texts": True,
    "over random, equal tokens": True,
    "of the full data": True,
    "tokens": True,
    "tokens a text": True,
    "copied": True,
    "longest span": True,
    "in test": True,
    **{f"cost, {unit}": True for unit in COSTS.values()},
    "licence": False,
}


def make_entries(rows: Iterable[Row]) -> list[Entry]:
    """Joins rows to entries, best first; rows of sets that were replaced since are left out."""
    current = [row for row in rows if row.config.get("version") == VERSION]
    described = {row.config["method"]: row.result for row in current if row.config["kind"] == SUBMISSION}
    names = {digest: name for name, each in described.items() for digest in each["sets"].values()}
    texts: dict[tuple[Any, ...], Mapping[str, float]] = {}
    scores: dict[tuple[Any, ...], Score] = {}
    for row in current:
        config = row.config
        if config["kind"] == SUBMISSION or not _is_current(config, described, names):
            continue
        place = (config["method"], config["dataset"], config["budget"], config["tokens_of"])
        if config["kind"] == "texts":
            texts[place] = row.result
        else:
            scores[(*place, config["classifier"], config["labels"])] = _score(row)
    entries = []
    for key, score in scores.items():
        method, dataset, budget, tokens_of, classifier, labels = key
        if method == FULL:
            continue
        full = scores.get((FULL, dataset, 0, "", classifier, "hard"))
        description = described.get(method)
        is_random = method == RANDOM and not tokens_of
        own = description["sets"][f"{dataset}/{budget}"] if description else ""
        entries.append(
            Entry(
                f"{method}, tokens of {names[tokens_of]}" if tokens_of else method,
                description["submission"] if description else None,
                dataset,
                budget,
                labels,
                replace(score, full_accuracy=full.accuracy if full else None),
                None if is_random else scores.get((RANDOM, dataset, budget, "", classifier, "hard")),
                scores.get((RANDOM, dataset, budget, own, classifier, "hard")) if own else None,
                texts.get((method, dataset, budget, tokens_of), {}),
                bool(tokens_of),
            )
        )
    entries.sort(key=lambda each: (each.dataset, each.budget, each.score.classifier, -each.score.accuracy))
    return _tested(entries)


def _is_current(config: Mapping[str, Any], described: Mapping[str, Any], names: Mapping[str, str]) -> bool:
    """Returns whether a row is of sets that a submission has now, or of a baseline that belongs to them."""
    if config["method"] in described:
        sets = described[config["method"]]["sets"]
        return bool(sets.get(f"{config['dataset']}/{config['budget']}") == config["sets"])
    return not config["tokens_of"] or config["tokens_of"] in names


def _score(row: Row) -> Score:
    result = row.result
    accuracies, macro_f1s = tuple(result["accuracies"]), tuple(result["macro_f1s"])
    seeds = tuple(result["seeds"])
    return Score(
        row.config["classifier"], accuracies, macro_f1s, row.seconds, seeds=seeds, sets=result["sets"]
    )


def _tested(entries: Sequence[Entry]) -> list[Entry]:
    """Marks the submissions that are significantly better than random texts."""
    p_values = {
        index: p_value
        for index, each in enumerate(entries)
        if each.description and each.random and (p_value := better(each.score, each.random)) is not None
    }
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [
        replace(each, significant=corrected.get(index, 1.0) < SIGNIFICANT)
        for index, each in enumerate(entries)
    ]


def cells(entry: Entry) -> list[tuple[str, float | None]]:
    """Returns the cells of an entry, in the order of :data:`COLUMNS`: text, and the number to sort by."""
    score, texts, description = entry.score, entry.texts, entry.description or {}
    cost = description.get("cost", {})
    tokens, count = texts.get("tokens"), texts.get("texts")
    deviation = score.accuracy_std if len(score.accuracies) > 1 else None
    return [
        (entry.method, None),
        (entry.dataset, None),
        (str(entry.budget), entry.budget),
        (score.classifier, None),
        (entry.labels, None),
        (str(score.sets), score.sets),
        (f"{score.accuracy:.3f}{' *' if entry.significant else ''}", score.accuracy),
        _number(deviation, "{:.3f}"),
        _number(_gain(score, entry.random), "{:+.3f}"),
        _number(_gain(score, entry.random_tokens), "{:+.3f}"),
        _number(score.recovered, "{:.1%}"),
        _number(tokens, "{:,.0f}"),
        _number(None if tokens is None or not count else tokens / count, "{:.1f}"),
        _number(texts.get("copied"), "{:.0%}"),
        _number(texts.get("longest_span"), "{:,.0f}"),
        _number(texts.get("in_test"), "{:.0%}"),
        *(_number(cost.get(name), "{:,g}") for name in COSTS),
        (description.get("licence", ""), None),
    ]


def _gain(score: Score, other: Score | None) -> float | None:
    return None if other is None else score.accuracy - other.accuracy


def _number(value: float | None, form: str) -> tuple[str, float | None]:
    return ("", None) if value is None else (form.format(value), value)


#: Sentences below the title of the page.
NOTES = (
    "Each classifier is trained on each set and tested on all test rows; accuracy is the mean over the sets, "
    "± its standard deviation.",
    "An asterisk: better than random texts at equal texts a class (t-test over sets, p < 0.05 after Holm's "
    "correction).",
    f"copied: sentences that one training row holds word for word. in test: texts that share {CONTAMINATION} "
    "words in a row with a test row.",
)


def _tracks(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Entry], Ranking | None]]:
    """Yields the tracks that have entries, each with its ranking."""
    for title, takes_part in TRACKS.items():
        if not (chosen := [each for each in entries if takes_part(each)]):
            continue
        accuracies: dict[str, dict[tuple[str, int, str], float]] = {}
        for each in chosen:
            if not each.tokens_of and (title == "Soft labels" or each.labels == "hard"):
                place = (each.dataset, each.budget, each.score.classifier)
                accuracies.setdefault(each.method, {})[place] = each.score.accuracy
        yield title, chosen, rank_methods(accuracies) if accuracies else None


def render_markdown(rows: Iterable[Row]) -> str:
    """Returns the leaderboard as Markdown."""
    lines = ["# Leaderboard", "", *(f"{note}\n" for note in NOTES)]
    for title, entries, ranking in _tracks(make_entries(rows)):
        body = tuple(tuple(text for text, _ in cells(each)) for each in entries)
        lines += [f"## {title}", "", Table(tuple(COLUMNS), body).markdown()]
        if ranking:
            ranks = tuple((name, f"{rank:.2f}") for name, rank in ranking.ranks.items())
            lines.append(Table(("method", "average rank"), ranks, (ranking.sentence(),)).markdown())
    return to_unicode("\n".join(lines))


def render_html(rows: Iterable[Row]) -> str:
    """Returns the leaderboard as one HTML file, which loads nothing and runs only its own script.

    Every value is escaped; the Content-Security-Policy allows that script alone.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("dallme.leaderboard")
    script = to_script((folder / "leaderboard.js").read_text(encoding="utf-8"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((folder / "leaderboard.html.j2").read_text(encoding="utf-8"))
    tracks = [
        {
            "title": title,
            "rows": [
                {"cells": cells(each), "description": each.description, "baseline": each.description is None}
                for each in entries
            ],
            "ranking": ranking,
            "plot": Markup(draw(ranking)) if ranking else "",  # noqa: S704 - its names are escaped
        }
        for title, entries, ranking in _tracks(make_entries(rows))
    ]
    page = template.render(
        tracks=tracks,
        columns=COLUMNS,
        notes=NOTES,
        script=Markup(script),  # noqa: S704 - a file of this package
        policy=f"default-src 'none'; script-src {hash_source(script)}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'",
    )
    return to_unicode(page)
