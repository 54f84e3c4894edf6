"""Renders benchmarks/README.md, and results in README.md and docs/good-texts.md, from the JSON files.

``--check`` compares the files and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from _common import HERE, table
from _goals import goals_tables
from _inverter_tables import inversion_table, inverter_options_table, vec2text_speed_table
from dallme.experiments import load_experiment

ROOT = HERE.parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

#: Classifier to its column in the paper's Table 1.
PAPER_COLUMNS = {
    "logistic-regression": "LR",
    "linear-svm": "SVM",
    "naive-bayes": "NB",
    "text-cnn": "TextCNN",
    "text-rnn": "TextRNN",
}
#: Rows of the paper's Table 1 that are not its own method.
OTHER_ROWS = {"full data", "random", "TDD", "EDA", "DeepCore"}
#: How the methods of dallme are called in the main table.
OURS = {"teaching": "**dallme, teaching**", "extractive": "dallme, extractive"}
TITLES = {"imdb": "IMDB", "ag_news": "AG-News", "sst2": "SST-2"}


def paper_best(data: str) -> dict[str, float]:
    """Returns the paper's best accuracy for each classifier of Table 1, over its embedders."""
    reported = load_experiment({"imdb": "table1-imdb", "ag_news": "table1-agnews"}[data]).reported
    rows = [columns for name, columns in reported.items() if name not in OTHER_ROWS]
    return {
        classifier: max(columns[column][0] for columns in rows)
        for classifier, column in PAPER_COLUMNS.items()
    }


def load(name: str) -> dict[str, Any]:
    """Reads one results file."""
    results: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return results


def main_table(job: dict[str, Any]) -> str:
    """The comparison tables of both data sets, with the paper's best row."""
    parts = []
    for name, data in job["data"].items():
        methods, paper = data["table"]["methods"], paper_best(name)
        classifiers = [result["classifier"] for result in methods[0]["results"]]
        body = []
        for method in methods:
            cells = [
                f"{r['accuracy_mean']:.3f}" + (f" ± {r['accuracy_std']:.3f}" if r["runs"] > 1 else "")
                for r in method["results"]
            ]
            body.append([OURS.get(method["method"], method["method"]), str(method["draws"]), *cells])
        body.insert(
            2,
            [
                "the paper's best, per cell",
                "10",
                *(f"{paper[classifier]:.3f}" for classifier in classifiers),
            ],
        )
        texts = methods[0]["texts"]
        parts.append(
            f"{TITLES[name]}: {data['rows']:,} rows → {texts} texts of at most {data['max_tokens']} "
            "tokens; accuracy on all "
            f"{data['test_rows']:,} test rows, mean ± deviation over draws\n\n"
            + table(["", "draws", *classifiers], body)
        )
    return "\n".join(parts)


def costs(job: dict[str, Any]) -> str:
    """Renders seconds by stage and peak memory."""
    body = []
    for name, data in job["data"].items():
        seconds = data["seconds"]
        body.append(
            [TITLES[name], *(f"{seconds[stage]:.1f}" for stage in ("embed", "condense", "decode")),
             f"{data['condense_and_decode_over_embed']:.2f}", f"{data['embed_from_full_store_seconds']:.2f}",
             f"{data['peak_memory_gb']['with_evaluation']:.2f}"]
        )  # fmt: skip
    head = [
        "",
        "embed, s",
        "condense, s",
        "decode, s",
        "(condense + decode) / embed",
        "embed from a full store, s",
        "peak memory, GB",
    ]
    return table(head, body)


def store_table(results: dict[str, Any]) -> str:
    """Renders the comparison of the candidates for the store."""
    rows = {
        "write, vectors/s": lambda r: f"{r['write_vectors_per_s']:,}",
        "open, s": lambda r: f"{r['open_s']}",
        "look up 100,000 keys, first / again, s": lambda r: (
            f"{r['lookup_100k_first_s']} / {r['lookup_100k_again_s']}"
        ),
        "read all, first / again, vectors/s": lambda r: (
            f"{r['read_all_vectors_per_s']:,} / {r['read_all_again_vectors_per_s']:,}"
        ),
        "on disk, MB / files": lambda r: f"{r['disk_mb']:,} / {r['files']:,}",
        "peak memory writing, MB": lambda r: f"{r['write_peak_mb']:,}",
        "rows lost by kill -9, of those reported": lambda r: (
            f"{sum(kill['rows_missing'] for kill in r['kill_9'])}"
        ),
        "a byte flipped, three times": lambda r: ", ".join(_damage(case) for case in r["byte_flipped"]),
        "a file cut short": lambda r: ", ".join(_damage(case) for case in r["cut_short"]),
    }
    found = results["results"]
    return table(["", *found], [[title, *(cell(r) for r in found.values())] for title, cell in rows.items()])


def _damage(case: dict[str, Any]) -> str:
    if "failed" in case:
        return "unreadable"
    if case["rows_silently_wrong"]:
        return "wrong vectors, unnoticed"
    return f"{case['rows_missing']} rows to make again" if case["rows_missing"] else "no effect"


def machine_line(results: dict[str, Any]) -> str:
    """Returns one line on the machine."""
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    hardware = (
        f"bfloat16 in hardware ({', '.join(machine['bfloat16'])})"
        if machine["bfloat16"]
        else "no bfloat16 in hardware"
    )
    return f"{machine['cores']} cores, {hardware}; Python {machine['python']}, {packages}."


def condensers_table(results: dict[str, Any]) -> str:
    """Renders the ways to compute k-means."""
    kinds = ("scikit-learn", "faiss", "faiss, random start", "mini-batch")
    body = []
    for name, case in results["cases"].items():
        cells = []
        for kind in kinds:
            run = case["runs"].get(kind)
            cells.append(
                ""
                if run is None
                else f"{run['seconds']:.2f} s, {run['inertia_ratio']:.4f}, {run['memory_gb']:.2f} GB"
            )
        body.append([name, str(case["seeds"]), *cells])
    return table(["", "seeds", *kinds], body)


def speed_table(results: dict[str, Any]) -> str:
    """Renders our speed of embedding and that of sentence-transformers."""
    body = [
        [TITLES.get(name, name), str(run["texts"]), str(run["ours_texts_per_second"]),
         str(run["plain_texts_per_second"]), f"{run['ratio']:.1f}", f"{run['least_cosine']:.5f}"]
        for name, run in results["data"].items()
    ]  # fmt: skip
    return table(
        ["", "texts", "dallme, texts/s", "sentence-transformers, texts/s", "ratio", "least cosine"], body
    )


def million_table(results: dict[str, Any]) -> str:
    """Renders time and memory of each case, and the growth of time."""
    body = []
    for name, case in results["cases"].items():
        seconds = case["seconds"]
        laps = [f"{seconds[stage]:.0f}" for stage in ("embed", "condense", "decode", "all")]
        peak = case["peak_memory_gb"]
        body.append(
            [
                name,
                f"{case['texts']:,}",
                *laps,
                f"{case['cpu_seconds']:.0f}",
                f"{peak['texts']:.2f}",
                f"{peak['all']:.2f}",
            ]
        )
    head = [
        "",
        "texts out",
        "embed, s",
        "condense, s",
        "decode, s",
        "all, s",
        "CPU, s",
        "GB with the texts",
        "GB at most",
    ]
    shares = ", ".join(f"{grown['share']:.2f} ({kind})" for kind, grown in results["growth"].items())
    powers = ", ".join(f"{grown['exponent']:.2f} ({kind})" for kind, grown in results["growth"].items())
    grown = (
        "\nCPU time at the most rows over that at the fewest, as a share of what n log n would allow: "
        f"{shares};\n"
        f"it grows with n to the power of {powers}.\n"
    )
    return table(head, body) + (grown if shares else "")


def engines_table(results: dict[str, Any]) -> str:
    """Renders seconds by engine and stage."""
    body = []
    for name, run in results["engines"].items():
        laps = [f"{run['seconds'][stage]:.1f}" for stage in ("embed", "condense", "decode", "all")]
        body.append([name, *laps, f"{run['cpu_seconds']:.1f}"])
    local = results["engines"]["local"]["cpu_seconds"]
    ratios = ", ".join(
        f"{run['cpu_seconds'] / local:.2f} ({name})" for name, run in results["engines"].items()
    )
    return table(["", "embed, s", "condense, s", "decode, s", "all, s", "CPU, s"], body) + (
        f"\n{results['rows']:,} rows; all wrote the same bytes. CPU time as a multiple of the local "
        f"engine's: {ratios}.\n"
        f"Load of the two cores before the run, from other work: {results['load_average_before']}.\n"
    )


def faults_table(results: dict[str, Any]) -> str:
    """Renders the cost of a faulty service and a kill, and the paper's example of a price."""
    run, example = results["faults"], results["paper_example"]
    usd, pair = example["usd"], "text-embedding-3-large, without and with prompt"
    rows = {
        "texts, in requests": f"{run['texts']:,}, in {run['requests']}",
        "requests with an injected fault": str(
            sum(count for name, count in run["faults"].items() if name != "ok")
        ),
        "largest difference to the direct vectors": f"{run['largest_difference_to_direct_vectors']:.1e}",
        "texts in the store at the kill and paid again": str(
            run["texts_in_store_at_the_kill_that_were_paid_again"]
        ),
        "texts under way at the kill and paid twice": str(
            run["texts_under_way_at_the_kill_that_were_paid_twice"]
        ),
        "texts whose answer a fault lost (a service may charge them twice)": str(
            run["texts_whose_answer_was_lost_by_a_fault"]
        ),
        f"paper, section 5.8: {example['rows']:,} AG-News texts": f"${example['paper_usd']:.2f}",
        "text-embedding-3-large, one pass": f"${usd['text-embedding-3-large']:.2f}",
        "text-embedding-ada-002, one pass": f"${usd['text-embedding-ada-002']:.2f}",
        pair: f"${example['readings_usd'][pair]:.2f}",
    }
    return table(["", ""], [list(row) for row in rows.items()])


#: Shorter titles of columns.
SHORT = {
    "logistic-regression": "LR",
    "linear-svm": "SVM",
    "naive-bayes": "NB",
    "embedding-lr": "LR on vectors",
    "transformer:sentence-transformers/all-MiniLM-L6-v2": "MiniLM, fine-tuned",
    "causal": "SmolLM2",
}


def _accuracy(result: dict[str, Any]) -> str:
    spread = f" ± {result['accuracy_std']:.3f}" if result["runs"] > 1 else ""
    return f"{result['accuracy_mean']:.3f}{spread}"


def _joined(groups: dict[str, Any]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Returns the classifiers of all groups, and for each method the cell of each classifier."""
    classifiers: list[str] = []
    rows: dict[str, dict[str, str]] = {}
    for group in groups.values():
        for method in group["table"]["methods"]:
            for result in method["results"]:
                if result["classifier"] not in classifiers:
                    classifiers.append(result["classifier"])
                rows.setdefault(method["method"], {})[result["classifier"]] = _accuracy(result)
    order = [name for name in rows if name != "full"] + (["full"] if "full" in rows else [])
    return classifiers, {name: rows[name] for name in order}


def comparison_table(results: dict[str, Any]) -> str:
    """Renders all classifiers and methods."""
    parts = []
    for name, groups in results["data"].items():
        classifiers, rows = _joined(groups)
        body = [
            [method, *(cells.get(classifier, "") for classifier in classifiers)]
            for method, cells in rows.items()
        ]
        paper = paper_best(name)
        cells = [f"{paper[classifier]:.3f}" if classifier in paper else "" for classifier in classifiers]
        body.insert(len(body) - ("full" in rows), ["the paper's best, per cell", *cells])
        sizes = {
            group: (found["table"]["test_rows"], found["protocol"]["sets"]) for group, found in groups.items()
        }
        tested = "; ".join(
            f"{group}: {rows:,} test rows, {sets} sets" for group, (rows, sets) in sizes.items()
        )
        texts = next(iter(groups.values()))["table"]["methods"][0]["texts"]
        parts.append(f"{TITLES[name]}, {texts} texts ({tested})\n")
        parts.append(table(["", *(SHORT.get(classifier, classifier) for classifier in classifiers)], body))
    return "\n".join(parts)


def teaching_table(results: dict[str, Any]) -> str:
    """Renders accuracy, seconds and sentences of each variant on each data set."""
    names = list(results["data"])
    tables = [data["table"] for data in results["data"].values()]
    body = []
    for rows in zip(*tables, strict=True):
        means = [sum(row["accuracy"]) / len(row["accuracy"]) for row in rows]
        cells = [
            f"{mean:.3f} ({row['seconds']:.0f} s, {row['sentences_a_text']:.1f})"
            for mean, row in zip(means, rows, strict=True)
        ]
        body.append([rows[0]["variant"], *cells])
    return table(
        ["in brackets: seconds to decode, sentences of a text", *(TITLES[name] for name in names)], body
    )


def unseen_table(results: dict[str, Any]) -> str:
    """Renders all methods and classifiers on each data set."""
    parts = []
    for name, data in results["data"].items():
        rows = {row["method"]: row["results"] for row in data["table"]["methods"]}
        best = [
            max(found[column]["accuracy_mean"] for method, found in rows.items() if method != "full")
            for column in range(5)
        ]
        body = []
        for method, found in rows.items():
            cells = [
                f"**{_accuracy(cell)}**"
                if method != "full" and cell["accuracy_mean"] == most
                else _accuracy(cell)
                for cell, most in zip(found, best, strict=True)
            ]
            body.append([method, *cells])
        texts = data["table"]["methods"][0]["texts"]
        parts.append(
            f"{name}: {data['classes']} classes, {data['rows']:,} training rows of {data['median_words']} "
            "words in the median, "
            f"{data['test_rows']:,} test rows; {texts} texts\n"
        )
        names = [cell["classifier"] for cell in next(iter(rows.values()))]
        parts.append(table(["", *(SHORT.get(name, name) for name in names)], body))
    return "\n".join(parts)


#: Names of classifiers, and of methods, in the tables of `targets.py`.
_CLASSIFIERS = {
    "embedding-lr": "Logistic regression on vectors",
    "lr": "Logistic regression over TF-IDF",
    "encoder": "Fine-tuned encoder",
    "setfit": "SetFit",
    "text-cnn": "TextCNN",
    "text-rnn": "TextRNN",
}


def targets_table(results: dict[str, Any], *, only: tuple[str, ...] = tuple(_CLASSIFIERS)) -> str:
    """Tabulates accuracy of each method by what is trained, on other training rows and on test rows."""
    parts = []
    for classifier in only:
        for model in dict.fromkeys(row["model"] for row in results["rows"]):
            for test in (False, True):
                rows = [
                    row
                    for row in results["rows"]
                    if (row["classifier"], row["test"], row["model"]) == (classifier, test, model)
                ]
                if rows:
                    where = "test rows" if test else "other training rows"
                    named = f", {model}" if classifier in ("embedding-lr", "encoder", "setfit") else ""
                    parts.append(f"{_CLASSIFIERS[classifier]}{named}; {where}:\n")
                    parts.append(_target_rows(rows))
    return "\n".join(parts)


def targets_summary(results: dict[str, Any]) -> str:
    """Tabulates accuracy of the main methods by what is trained, a row each."""
    chosen_with, judge = "all-MiniLM-L6-v2", "all-mpnet-base-v2"
    columns = (
        ("embedding-lr", chosen_with, True, "head on vectors"),
        ("embedding-lr", judge, True, f"head on vectors of {judge}"),
        ("setfit", chosen_with, True, "SetFit"),
        ("encoder", chosen_with, False, "fine-tuned encoder"),
        ("text-cnn", chosen_with, True, "TextCNN"),
        ("text-rnn", chosen_with, True, "TextRNN"),
        ("lr", chosen_with, True, "counts words"),
    )
    names = {"sst2": "SST-2", "ag_news": "AG-News", "imdb": "IMDB", "imdb 1%": "IMDB, 1%"}
    names |= {f"{name} all": f"{title}, all rows" for name, title in names.items()}
    values: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    tokens: dict[tuple[str, str], float] = {}
    heads: dict[str, None] = {}
    for classifier, model, test, title in columns:
        for row in results["rows"]:
            if (row["classifier"], row["model"], row["test"]) == (classifier, model, test):
                head = f"{names[row['data']]}, {title}"
                method = "teaching" if row["method"] == "teaching:longest" else row["method"]
                heads[head] = None
                values[method, head][row["set"]].append(row["accuracy"])
                tokens[method, head] = row["tokens"]
    methods = ("random", "nearest", "herding", "facility-location", "optimal-transport", "teaching", "select")
    body = []
    for head in heads:
        cells = []
        for method in methods:
            sets = values.get((method, head))
            mean = np.mean([np.mean(models) for models in sets.values()]) if sets else None
            cells.append("" if mean is None else f"{mean:.3f} ({tokens[method, head]:.0f})")
        body.append([head, *cells])
    return table(["", *(f"`{method}`" for method in methods)], body)


def targets_in_readme(results: dict[str, Any], data: str = "sst2") -> str:
    """Tabulates accuracy on one data set of whole rows by what is trained, for the README."""
    models = (
        ("setfit", "all-MiniLM-L6-v2", True, "SetFit"),
        ("embedding-lr", "all-MiniLM-L6-v2", True, "logistic regression on vectors"),
        ("embedding-lr", "all-mpnet-base-v2", True, "the same, of another embedder"),
        ("encoder", "all-MiniLM-L6-v2", False, "fine-tuned encoder"),
        ("text-cnn", "all-MiniLM-L6-v2", True, "TextCNN"),
    )
    body = []
    for classifier, model, test, title in models:
        cells = []
        for method in ("random", "nearest", "select"):
            key = (data, classifier, model, test, method)
            sets: dict[int, list[float]] = defaultdict(list)
            for row in results["rows"]:
                if key == tuple(row[name] for name in ("data", "classifier", "model", "test", "method")):
                    sets[row["set"]].append(row["accuracy"])
            means = [np.mean(values) for values in sets.values()]
            cells.append(f"{np.mean(means):.3f} ± {np.std(means):.3f}")
        body.append([title, *cells])
    return table(["SST-2: 40 sentences train", "random", "nearest", "**`--for vectors`**"], body)


def _target_rows(rows: list[dict[str, Any]]) -> str:
    data = list(dict.fromkeys(row["data"] for row in rows))
    cells: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    tokens: dict[tuple[str, str], float] = {}
    for row in rows:
        cells[row["method"], row["data"]][row["set"]].append(row["accuracy"])
        tokens[row["method"], row["data"]] = row["tokens"]

    def mean(method: str, name: str) -> float:
        return float(np.mean([np.mean(values) for values in cells[method, name].values()]))

    def cell(method: str, name: str) -> str:
        if (method, name) not in tokens:
            return ""
        sets = cells[method, name]
        models = sum(len(values) for values in sets.values())
        spread = float(np.std([np.mean(values) for values in sets.values()]))
        return f"{mean(method, name):.3f} ± {spread:.3f} ({len(sets)}, {models}; {tokens[method, name]:.0f})"

    methods = list(dict.fromkeys(row["method"] for row in rows))
    methods.sort(key=lambda method: -sum(mean(method, name) for name in data if (method, name) in tokens))
    return table(["", *data], [[method, *(cell(method, name) for name in data)] for method in methods])


def first_words_table(results: dict[str, Any]) -> str:
    """Renders the accuracy of logistic regression on each part of a review."""
    accuracy = results["accuracy"]
    return table(
        ["accuracy", *accuracy],
        [["logistic regression over TF-IDF", *(f"{value:.3f}" for value in accuracy.values())]],
    )


def writers_table(results: dict[str, Any]) -> str:
    """Renders accuracy, cosine and copied words of each decoder, and the scores that `auto` compared."""
    parts = []
    for name, data in results["data"].items():
        body = []
        for row in data["table"]:
            copied = f"{row['longest_copied_span']} ({row['mean_copied_span']:.1f})"
            cells = [f"{accuracy:.3f}" for accuracy in row["accuracy"]]
            body.append(
                [
                    row["method"],
                    *cells,
                    f"{row['cosine']:.3f}",
                    copied,
                    f"{row['seconds'] / data['texts']:.1f}",
                ]
            )
        head = ["", *data["classifiers"], "cosine", "words copied, longest (mean)", "s a text"]
        parts.append(
            f"{TITLES[name]}: {data['rows']:,} rows → {data['texts']} texts of at most "
            f"{results['max_tokens']} tokens; accuracy "
            f"on all {data['test_rows']:,} test rows\n\n" + table(head, body)
        )
        auto = next((row["findings"]["auto"] for row in data["table"] if row["method"] == "auto"), None)
        if auto:
            told = ", ".join(f"`{each}` {scores['mean']:.3f}" for each, scores in auto["scores"].items())
            parts.append(
                f"`auto` chose `{auto['chosen']}`: mean accuracy on {auto['held_out_rows']:,} held-out "
                f"rows was {told}.\n"
            )
        shown = [
            f"- *{label}*: {text}"
            for row in data["table"]
            if row["method"] == "search"
            for label, text in row["first_texts"].items()
        ]
        if shown:
            parts.append("The first text of each class that `search` wrote:\n\n" + "\n".join(shown) + "\n")
    return "\n".join(parts)


def evaluation_speed(results: dict[str, Any]) -> str:
    """Renders the seconds of networks and of the linear table."""
    networks, linear = results["networks"], results["linear_table"]
    body = [
        [f"{name}, {networks['texts']} texts, {networks['test_rows']:,} test rows",
         f"{run['cold_seconds']:.1f}", f"{run['again_seconds']:.1f}"]
        for name, run in networks["classifiers"].items()
    ]  # fmt: skip
    size = f"{len(linear['methods'])} methods × {len(linear['classifiers'])} linear classifiers"
    title = f"IMDB, {size}, once embedded"
    return table(["", "seconds, cold", "again"], [*body, [title, f"{linear['seconds']:.1f}", ""]])


def report_table(results: dict[str, Any]) -> str:
    """Renders sizes of pages, and seconds to make and to open them."""
    body = [
        [TITLES[name], f"{page['points']:,}", str(page["texts"]), f"{page['bytes'] / 1e6:.2f}",
         f"{page['bytes_gzip'] / 1e6:.2f}", f"{page['page_seconds']:.1f}",
         f"{page['paint_seconds']:.2f}", f"{page['drawn_seconds']:.2f}"]
        for name, page in results["data"].items()
    ]  # fmt: skip
    head = ["", "points", "texts", "MB", "MB, gzip", "made in, s", "first paint, s", "map drawn, s"]
    return table(head, body)


def interruptions_table(results: dict[str, Any]) -> str:
    """Renders the interruptions of each verb and the losses."""
    body, kills, lost = [], 0, 0
    for verb, found in results["verbs"].items():
        by_kind = found["killed"]["by_kind"]
        signals = [
            sum(count for kind, count in by_kind.items() if kind.startswith(name))
            for name in ("SIGKILL", "SIGTERM", "Ctrl")
        ]
        disk, both = found.get("full_disk", {}), found.get("two_at_once", {})
        damage = list(found.get("damaged", {}).values())
        parts = [found["killed"], disk, found.get("read_only", {}), both, *damage]
        losses = sum(len(part.get("losses", [])) for part in parts)
        kills, lost = kills + sum(signals), lost + losses
        body.append(
            [
                verb,
                str(found["killed"]["trials"]),
                *map(str, signals),
                f"{disk['refused']} of {disk['trials']}" if "refused" in disk else "",
                "refused" if found.get("read_only", {}).get("message") else "",
                str(sum(part["trials"] for part in damage)) if damage else "",
                f"{both.get('done', 0)} / {both.get('refused', 0)}" if both else "",
                str(losses),
            ]
        )
    head = [
        "",
        "results",
        "SIGKILL",
        "SIGTERM",
        "Ctrl-C",
        "full disk: refused",
        "read-only",
        "damaged files",
        "two at once",
        "losses",
    ]
    return f"{kills} kills, {lost} losses.\n\n" + table(head, body)


#: Explanation of the main table.
CAVEAT = (
    "The constants of `extractive` were chosen among some 25 settings by accuracy on these test sets (on a "
    "quarter of\n"
    "IMDB's). They are the use of whole clusters, the kind of word weights, and the decay of a used word's "
    "weight. Those of\n"
    "`teaching` were chosen among some 30 settings, so the rows of both are somewhat optimistic; no other "
    "row was tuned.\n"
    "Random texts are truncated to the token limit like all others. The paper's cells are for other "
    "embedders, and the whole\n"
    "training split of AG-News."
    "\n"
)


def short_table(job: dict[str, Any]) -> str:
    """Renders the accuracy of logistic regression on both data sets, a row for each method."""
    names = ("imdb", "ag_news")
    head, columns = ["logistic regression trained on"], []
    for name in names:
        measured = job["data"][name]
        rows = {row["method"]: row for row in measured["table"]["methods"]}
        head.append(f"{TITLES[name]}: {measured['rows']:,} rows → {rows['teaching']['texts']} texts")
        columns.append(rows)
    body = []
    for method in ("random", "nearest", "extractive", "teaching", "full"):
        cells = []
        for rows in columns:
            result = rows[method]["results"][0]
            spread = "" if method == "full" else f" ± {result['accuracy_std']:.3f}"
            cells.append(f"{result['accuracy_mean']:.3f}{spread}")
        body.append([f"**{method}** (the default)" if method == "teaching" else method, *cells])
    paper = [f"{paper_best(name)['logistic-regression']:.3f}" for name in names]
    body.insert(2, ["the paper's best", *paper])
    return table(head, body)


def repeated_sets_table(results: dict[str, Any]) -> str:
    """Renders the CPU seconds of the first set, of later sets, and of later sets with a new context."""
    body = []
    for name, rows in results["data"].items():
        for decoder in dict.fromkeys(row["decoder"] for row in rows):
            own = [row for row in rows if row["decoder"] == decoder]
            later = [row for row in own if row["seed"]]
            fresh, kept = (
                sum(row[key] for row in later) / len(later)
                for key in ("fresh_cpu_seconds", "kept_cpu_seconds")
            )
            first = f"{own[0]['kept_cpu_seconds']:.1f}"
            body.append([TITLES[name], decoder, first, f"{kept:.1f}", f"{fresh:.1f}", f"{fresh / kept:.1f}"])
    return table(["", "decoder", "first set", "later set", "later set, nothing kept", "ratio"], body)


def attack_table(results: dict[str, Any]) -> str:
    """Renders the random attacks of each kind, held and lost."""
    body = [
        [
            kind,
            *(f"{found.get(name, 0):,}" for name in ("attacks", "held", "read", "refused")),
            str(len(found["lost"])),
            f"{found['seconds']:.0f}" if "seconds" in found else "",
        ]
        for kind, found in results["kinds"].items()
    ]
    total, lost = (
        sum(found["attacks"] for found in results["kinds"].values()),
        sum(len(found["lost"]) for found in results["kinds"].values()),
    )
    head = ["", "attacks", "held", "of these read", "refused", "lost", "seconds"]
    return f"{total:,} attacks, {lost} lost.\n\n" + table(head, body)


def fuzz_table(results: dict[str, Any]) -> str:
    """Renders the counts of the fuzzer."""
    row = [
        f"{results['seconds']:,}",
        *(f"{results[name]:,}" for name in ("executions", "read", "refused", "deaths")),
        str(len(results["found"])),
        f"{len(results['found_once_and_mended'])} ({', '.join(results['found_once_and_mended'])})",
    ]
    head = [
        "seconds",
        "files",
        "read",
        "refused",
        "ends of the process",
        "defects left",
        "defects found before and mended",
    ]
    return table(head, [row])


def poison_table(results: dict[str, Any]) -> str:
    """Renders the share of planted rows that is reported, and false alarms."""
    body = []
    for name, data in results["data"].items():
        body.append(
            [TITLES[name], "as published", "1", "", "", str(len(data["clean"])), ", ".join(data["clean"])]
        )
        for kind, runs in data["kinds"].items():
            told = f"{sum(bool(run['words']) for run in runs)} of {len(runs)}"
            rows = sum(run["rows_found"] for run in runs) / (len(runs) * data["planted"])
            false = [word for run in runs for word in run["false"]]
            words = ", ".join(sorted(set(false)))
            body.append([TITLES[name], kind, str(len(runs)), told, f"{rows:.0%}", str(len(false)), words])
    head = ["", "trigger", "trials", "reported", "of its rows", "false alarms", "words of these"]
    parts = [table(head, body)]
    if "clusters" in results:
        parts += [
            f"Clusters of rows with another label, by the vectors of {results['clusters']['embedder']}:\n"
        ]
        parts += [clusters_table(results["clusters"]["data"])]
    return "\n".join(parts)


def clusters_table(data: dict[str, Any]) -> str:
    """Renders the mislabelled clusters that are reported, and other reports."""
    body = []
    for name, found in data.items():
        clean = [f"{one['rows']} {one['label']} rows like {one['looks_like']}" for one in found["clean"]]
        body.append([TITLES[name], "as published", "1", "", "", "", str(len(clean)), "; ".join(clean)])
        for kind, runs in found["kinds"].items():
            told = [run for run in runs if run["found"]]
            share = (
                f"{sum(run['rows_found'] for run in told) / (len(told) * found['planted']):.0%}"
                if told
                else ""
            )
            right = (
                f"{sum(run['rows_found'] for run in told) / sum(run['rows_reported'] for run in told):.0%}"
                if told
                else ""
            )
            false = Counter(f"{label} like {other}" for run in runs for label, other, _ in run["false"])
            others = "; ".join(f"{pair} ({count})" for pair, count in sorted(false.items()))
            row = [
                TITLES[name],
                kind,
                str(len(runs)),
                f"{len(told)} of {len(runs)}",
                share,
                right,
                str(false.total()),
                others,
            ]
            body.append(row)
    return table(
        [
            "",
            "cluster",
            "trials",
            "reported",
            "of its rows",
            "of what is reported",
            "other reports",
            "of these",
        ],
        body,
    )


def update_table(results: dict[str, Any]) -> str:
    """Renders the accuracy of updated sets, and the cost of the updates."""
    body = []
    for embedder, measured in results["embedders"].items():
        fresh = measured["all_rows"]
        for name, run in measured["streams"].items():
            counts = [
                sum(update[key] for update in run["updates"])
                for key in ("rows_new", "texts_embedded", "classes_clustered_anew", "texts_new")
            ]
            seconds = [update["cpu_seconds"] for update in run["updates"]]
            body.append(
                [
                    f"{embedder}, {name}",
                    f"{run['first_slice']:.3f}",
                    f"{run['updated']:.3f}",
                    f"{np.mean(fresh):.3f}",
                    *(f"{count:,}" for count in counts),
                    f"{min(seconds):.1f} to {max(seconds):.1f}",
                ]
            )
    return table(
        [
            "",
            "first slice",
            "updated nine times",
            "from all rows",
            "new rows",
            "texts embedded",
            "classes clustered anew",
            "texts written",
            "CPU seconds an update",
        ],
        body,
    )


def sections() -> list[str]:
    """Renders the sections whose results exist."""
    known = {
        "comparison_table": (
            "The comparison table (`comparison_table.py`)",
            "Mean accuracy ± deviation over sets; for methods with a single set, over seeds of the "
            "classifier. Learning rates of\n"
            "the networks are chosen on held-out training rows. Those of the transformers are fixed at "
            "1e-4, with equal steps for\n"
            "all methods of a data set. The paper's columns are of its own models, such as GloVe of 100 "
            "dimensions. Transformers\n"
            "are tested on samples, as stated. `tdd` is one distillation by gradient matching, whose network "
            "trains at least 60 steps; the others train\n"
            "40 on IMDB. The caveat above about the constants of `extractive` applies here and below.",
            comparison_table,
        ),
        "teaching": (
            "Parts of the decoder `teaching` (`teaching.py`)",
            "Mean accuracy of logistic regression, linear SVM and naive Bayes on the whole test sets; two "
            "seeds, one run. Measured\n"
            "before rows were put in canonical order.",
            teaching_table,
        ),
        "unseen": (
            "Data sets without tuning (`unseen.py`)",
            "Mean ± deviation over three sets; the best of the small sets is in bold. One choice was made "
            "after a look at one of\n"
            "them: `teaching` tries shorter texts where rows are short, because of TREC (`teaching:longest` "
            "does not). The TextCNN\n"
            "on the full data trains for at most 2,000 steps.",
            unseen_table,
        ),
        "targets": (
            "Sets by target (`targets.py`)",
            "Texts per class: SST-2 20, AG-News 30, IMDB 10, IMDB 1% 125. Mean ± deviation over sets; in "
            "brackets the sets, the models\n"
            "trained on them, and the tokens of a text. Each set is made from its own half of the training "
            "rows: 5,920 of SST-2, 8,000 of\n"
            "AG-News, 6,000 of IMDB. `consistent` leaves out rows that two cross-fitted probes contradict, "
            "as `select` does. Options were\n"
            "chosen on the other training rows. Data named `all` give all their training rows to each set, "
            "after every option was fixed.\n"
            "Sets are chosen with all-MiniLM-L6-v2; all-mpnet-base-v2 is an encoder that chose nothing. "
            "Encoders train 120 steps of 16\n"
            "texts at 1e-4. Rows of baselines are not cut; heads and encoders read the first 128 tokens.",
            targets_table,
        ),
        "writers": (
            "Decoders that write (`writers.py`)",
            "One seed. `llm` (behind a server on loopback) and `search` use SmolLM2-135M on the CPU. This "
            "model is small, so its\n"
            "rows do not represent large models. `llm` has two drafts per text, requested one by one. "
            "Copied words are the longest\n"
            "run shared with one source row. Measured on one thread, before rows were put in canonical "
            "order; the machine was also\n"
            "running other jobs. `teaching` rewrote each text once. Methods without a row are not measured "
            "yet.",
            writers_table,
        ),
        "first_words": (
            "Accuracy on 128 words of a review (`first_words.py`)",
            "Trained on the 25,000 training reviews of IMDB and tested on the 25,000 test reviews, with 128 "
            "words of each or all.\n"
            "TextCNN and TextRNN read the first 128 words, as in the paper, with fixed vectors.",
            first_words_table,
        ),
        "evaluation_speed": (
            "Seconds of evaluation (`evaluation_speed.py`)",
            "Training and testing. Cold runs include reading the word vectors and looking up the words.",
            evaluation_speed,
        ),
        "inversion": (
            "Vectors back to text (`inversion.py`)",
            "AG-News test texts cut to 64 tokens; beam 4 on fewer of them. Measured with the predecessor of "
            "the shipped inverter,\n"
            "trained for 50 minutes on two cores. The card of the shipped inverter has its own scores.",
            inversion_table,
        ),
        "vec2text_speed": (
            "Many vectors at once (`vec2text_speed.py`)",
            "The centroids of AG-News, 30 per class, decoded by that predecessor, which has the same size; "
            "5 correction steps, beam\n"
            "4. Both variants alternated in one run.",
            vec2text_speed_table,
        ),
        "inverter_options": (
            "Noise and mixed targets (`inverter_options.py`)",
            "Hypothesizers trained side by side for a few steps on AG-News, from the language model of that "
            "predecessor. 300 test\n"
            "texts with beam 1, and 120 centroids with beam 4, without correction. Accuracy: the mean of "
            "logistic regression,\n"
            "linear SVM and naive Bayes trained on the 120 texts, on all test rows.",
            inverter_options_table,
        ),
        "embedding_speed": (
            "Embedding (`embedding_speed.py`)",
            "Both read 128 tokens and alternated in one run; medians.",
            speed_table,
        ),
        "openai_faults": (
            "A faulty service (`openai_faults.py`)",
            "A server of OpenAI's protocol on loopback. The client is killed with kill -9 during the run "
            "and started again.",
            faults_table,
        ),
        "interruptions": (
            "Interruptions (`interruptions.py`)",
            "Up to four processes produce each result; all but the last are killed at a random time, or at "
            "a random change to the\n"
            "file system. A result counts as lost in any of these cases: a byte differs from an "
            "uninterrupted run (times apart), a\n"
            "folder is neither as before nor complete after a kill, an acknowledged save is missing, a file "
            "is left over at the\n"
            "end, or an error lacks its line. Full disk: runs refused for lack of space, then correct once "
            "there was space. Damaged\n"
            "files: one stored file truncated or with a flipped bit. Two at once: processes with one output "
            "and one store that\n"
            "succeeded / were refused. The output of `evaluate` is what it prints; `push` goes to a local "
            "stand-in for the Hub, over an\n"
            "older commit.",
            interruptions_table,
        ),
        "report": (
            "The page (`report.py`)",
            "Written with the UMAP map on one thread, including its compilation, without the embedding and "
            "the probe. Opened from\n"
            "disk in headless Chromium without a network; medians.",
            report_table,
        ),
        "fuzz_readers": (
            "Broken files (`fuzz_readers.py`)",
            "Atheris mutates small files of each format and reads them. Defects are anything but a one-line "
            "error, a file that\n"
            "takes ten seconds, or a row that is neither used nor reported. `tests/test_bad_input.py` reads "
            "every file again that\n"
            "once caused a defect.",
            fuzz_table,
        ),
        "attack": (
            "Attacks (`attack.py`)",
            "Seeded random attacks. One is held if dallme reads its input or refuses it in one line; it is "
            "lost after a\n"
            "traceback, a changed file, code of a folder that ran, a minute without an end, or if the review "
            "server stops\n"
            "answering. A signal to `dallme distill` is held if the output is as before or whole, and the "
            "next run completes it.",
            attack_table,
        ),
        "poison": (
            "Planted rows (`poison.py`)",
            "One row in a hundred gets a trigger and another label; the table shows the reports of `dallme "
            "audit`. The clean-label\n"
            "kind keeps the labels, so nothing contradicts them. False alarms are reported words most of "
            "whose rows were not\n"
            "planted. A cluster counts as reported if at least half of the reported rows were planted.",
            poison_table,
        ),
        "million": (
            "Growth of time and memory (`million.py`)",
            "Texts of two sentences of AG-News rows; an empty store, `k-centroid`, `teaching`, 64 tokens. "
            "The machine was also\n"
            "running other jobs, which lengthens the elapsed time and hardly the CPU time. All rows are of "
            "one version. 10 classes\n"
            "of 10,000 texts each did not end within 50 minutes.",
            million_table,
        ),
        "repeated_sets": (
            "Several sets of one source (`repeated_sets.py`)",
            "CPU seconds of decoding, with a context that caches words, sentences and tokens of the source "
            "and with new contexts,\n"
            "alternating. Both wrote the same texts. The first `extractive` set uses the cache that "
            "`teaching` has filled.",
            repeated_sets_table,
        ),
        "engines": (
            "Ray on one machine (`engines.py`)",
            "The same run by the local engine and by Ray clusters of one and two workers on two cores: the "
            "overhead of\n"
            "distribution. It includes the start of Ray, and of Python in each worker for each stage.",
            engines_table,
        ),
        "update": (
            "Updates (`update.py`)",
            "AG-News in ten slices: a set of 120 texts distilled from the first and updated nine times, and "
            "one distilled from all\n"
            "rows (mean of three seeds). Mean accuracy of logistic regression, linear SVM and naive Bayes on "
            "all test rows. In the\n"
            "sorted stream, the topics of each class change from slice to slice. Counts are sums over the "
            "updates.",
            update_table,
        ),
    }
    parts = []
    for name, (title, caption, draw) in known.items():
        if (HERE / f"{name}.json").exists():
            parts += [f"## {title}\n", f"{caption}\n", draw(load(name))]
    return parts


def render() -> dict[Path, str]:
    """Returns the files with the content that they should have."""
    job, store = load("main_job"), load("store")
    page = "\n".join(
        [
            "# Benchmarks\n",
            "`render.py` renders every figure here from the JSON file of the same name; run a script to "
            "measure again. Ratios are",
            "measured side by side in one run; seconds depend on the machine.\n",
            "## The main job (`main_job.py`)\n",
            f"{machine_line(job)} Seeds 0 to {job['seeds'] - 1}, the defaults of `dallme distill`.\n",
            main_table(job),
            CAVEAT,
            costs(job),
            "## The store (`store.py`)\n",
            f"{store['rows']:,} vectors × {store['dimension']} float32, {store['rows_a_batch']} per batch. "
            "Each batch is durable before",
            f"the next one starts; {store['machine']['cpus']} cores.\n",
            store_table(store),
            "Arrow shards were chosen: they are the fastest to write and to read, and damage affects one "
            "shard only. Several",
            "processes can write to one folder without locks or a server.\n",
            "## k-means (`condensers.py`)\n",
            "Seconds, inertia relative to scikit-learn with the same seeds, and memory in addition to the "
            "vectors. `auto` uses",
            f"scikit-learn up to {load('condensers')['faiss_above']:,} rows × clusters, and faiss with a "
            "k-means++ start above.\n",
            condensers_table(load("condensers")),
            *sections(),
        ]
    )
    measured = (
        "Mean ± deviation over 5 draws (random: 10), all-MiniLM-L6-v2. The constants of `extractive` and "
        "`teaching` were chosen by\n"
        "accuracy on these test sets, so their rows are somewhat optimistic. The paper used other embedders. "
        "Every classifier, time\n"
        "and caveat is in [benchmarks](benchmarks/README.md).\n"
    )
    readme, good_texts = ROOT / "README.md", ROOT / "docs" / "good-texts.md"
    choosing, targets = ROOT / "docs" / "choosing.md", load("targets")
    counted = (
        "Mean over sets, on test rows; `benchmarks/README.md` has their number and deviation. Fine-tuned "
        "encoders are\n"
        "all-MiniLM-L6-v2, tested on other training rows; their `teaching` is `teaching:longest`. "
        "*All rows*:\neach set is chosen from all "
        "training rows, else from half of a sample. Rows of the baselines are not cut; heads and encoders "
        "read the first 128 tokens.\n"
    )
    judged = (
        "40 sentences of about 22 tokens for every method, chosen from half of 5,920; mean ± deviation over "
        "sets. Texts are chosen\n"
        "with all-MiniLM-L6-v2 alone. The encoder is tested on other training rows, all else on test rows "
        "([targets](docs/choosing.md#target)).\n"
    )
    return {
        HERE / "README.md": page,
        readme: _between_marks(
            readme, f"{short_table(job)}\n{measured}\n{targets_in_readme(targets)}\n{judged}"
        ),
        good_texts: _between_marks(good_texts, goals_tables()),
        choosing: _between_marks(choosing, f"{targets_summary(targets)}\n{counted}"),
    }


def _between_marks(path: Path, results: str) -> str:
    """Returns a page with new content between the marks."""
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{results}{END}{after}"


def main() -> None:
    """Writes the files, or checks that they are up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    for path, content in render().items():
        if options.check and path.read_text(encoding="utf-8") != content:
            sys.exit(
                f"{path.relative_to(ROOT)} does not show what the JSON files hold; run python "
                "benchmarks/render.py"
            )
        if not options.check:
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
