"""Figures and pages of experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dallme import experiments as loading
from dallme.errors import InputError, OutputError, UnknownNameError
from dallme.experiments import Experiment, figures, parse_experiment
from dallme.experiments.figures import draw_scatter
from dallme.experiments.page import results_page, write_results
from dallme.experiments.rows import RowFile
from dallme.experiments.tables import make_table
from rendering_cases import CLASSIFIERS, RATIOS, TIMES, classifier_rows, ratio_rows, times_rows


@pytest.fixture
def classifiers() -> Experiment:
    return parse_experiment(CLASSIFIERS, "table1-imdb")


@pytest.fixture
def ratios() -> Experiment:
    return parse_experiment(RATIOS, "figure4")


# Figures


@pytest.mark.parametrize(
    ("text", "rows"), [(CLASSIFIERS, classifier_rows), (RATIOS, ratio_rows), (TIMES, times_rows)]
)
def test_the_same_rows_give_the_same_picture(text: str, rows: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    experiment = parse_experiment(text, "t")
    for ending, start in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        for name in ("one", "two"):
            figures.draw_figure(
                experiment, experiment.profile("offline"), rows(experiment), tmp_path / (name + ending)
            )
        first = (tmp_path / f"one{ending}").read_bytes()
        assert first == (tmp_path / f"two{ending}").read_bytes()
        assert first.startswith(start)
    assert len(list(tmp_path.iterdir())) == 4


def test_lines(ratios: Experiment) -> None:
    pytest.importorskip("matplotlib")
    panel = figures.draw_lines(ratios, ratios.profile("offline"), ratio_rows(ratios, missing=0.01)).axes[0]
    nearest, random, full = panel.get_lines()
    assert [line.get_label() for line in (nearest, random, full)] == ["nearest", "random", "full"]
    assert nearest.get_xdata().tolist() == [0.001, 0.1]  # one run of the middle point is missing
    assert nearest.get_ydata().tolist() == pytest.approx([0.61, 0.76])
    assert random.get_ydata().tolist() == pytest.approx([0.51, 0.66])
    assert list(full.get_ydata()) == pytest.approx([0.85, 0.85])
    heights = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.58, 0.79))
    assert panel.get_xscale() == "log"
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0.1%", "1%", "10%"]
    assert panel.get_ylabel() == "accuracy, mean over 2 classifiers"


def test_bars(classifiers: Experiment) -> None:
    pytest.importorskip("matplotlib")
    figure = figures.draw_bars(classifiers, classifiers.profile("offline"), classifier_rows(classifiers))
    panel = figure.axes[0]
    bars = [container for container in panel.containers if hasattr(container, "patches")]
    assert {bar.get_label(): [patch.get_height() for patch in bar.patches] for bar in bars} == {
        "full": [0.88],
        "random": [0.5856, 0.61],
        "nearest": [0.72, 0.74],
        "matrices": [0.7],
    }
    assert [label.get_text() for label in panel.get_xticklabels()] == [
        "lr",
        "transformer\n(all-MiniLM-L6-v2)",
        "text-cnn",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "the paper",
        "full",
        "random",
        "nearest",
        "matrices",
    ]
    ticks = [each for each in panel.collections if each.get_label() == "the paper"]
    assert [segment[0][1] for segment in ticks[1].get_segments()] == [0.583, 0.609]


def test_a_scatter() -> None:
    pytest.importorskip("matplotlib")
    experiment = parse_experiment(TIMES, "table4")
    figure = draw_scatter(experiment, experiment.profile("offline"), times_rows(experiment))
    imdb, ag = figure.axes
    assert (imdb.get_title(), ag.get_title()) == ("imdb", "ag")
    assert [text.get_text() for text in ag.texts] == ["full", "lora (0.8%)"]
    assert [text.xy for text in ag.texts] == [(1391.0, 0.95), (9.04, 0.91)]
    assert [text.get_text() for text in imdb.texts] == ["full"]
    assert (imdb.get_xscale(), ag.get_xscale()) == ("linear", "log")


def test_figures_that_cannot_be(classifiers: Experiment, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        figures.draw_figure(classifiers, classifiers.profile("offline"), [], tmp_path / "f.png")
    assert (
        str(caught.value)
        == "experiment 'table1-imdb': expected a figure and results to draw, found none; run it first"
    )
    experiment = parse_experiment(RATIOS.replace('x = "ratio"', 'x = "seconds"'), "figure4")
    with pytest.raises(
        UnknownNameError, match="unknown axis x of the lines of 'figure4' 'seconds'; known: data, "
    ):
        figures.draw_figure(
            experiment, experiment.profile("offline"), ratio_rows(experiment), tmp_path / "f.png"
        )
    experiment = parse_experiment(TIMES.replace('["seconds", "accuracy"]', '["seconds"]'), "table4")
    with pytest.raises(InputError, match="expected another measure than 'seconds' to draw, found none"):
        draw_scatter(experiment, experiment.profile("offline"), times_rows(experiment))


# Pages


def test_written_files(classifiers: Experiment, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = classifier_rows(classifiers)
    for name in ("one", "two"):
        write_results(classifiers, "offline", rows, tmp_path / name)
    written = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert sorted(written) == ["figure.png", "figure.svg", "page.md", "table.html", "table.md"]
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    table = make_table(classifiers, classifiers.profile("offline"), rows)
    assert (written["table.md"].decode(), written["table.html"].decode()) == (table.markdown(), table.html())
    before, found, after = written["page.md"].decode().partition(table.markdown())
    assert found
    assert before == (
        "# Every classifier\n\nTable 1, section 5.1. Profile `offline`, which differs from the paper:\n\n"
        "- MiniLM stands in for BERT.\n- No T5.\n\n"
    )
    assert (
        after
        == """
![Every classifier](figure.svg)

**Not run:** 1 of 7 runs: full (transformer (all-MiniLM-L6-v2)).

To run it:

```console
$ dallme reproduce table1-imdb --profile offline
```

## Where ours falls short

- **nearest**, transformer (all-MiniLM-L6-v2): 0.740 ± 0.016, the paper 0.769 ± 0.016: 0.029 less. \
MiniLM is smaller.

Mean over the columns that both have (lr, transformer (all-MiniLM-L6-v2)): our best decoder, nearest, 0.730; \
the paper's best row, Ours, 0.710: ours is **above** it.

**The paper:** Distilled texts are better than others.

**Ours:** no claim is checked here.
"""
    )


def test_without_results_there_is_no_figure(ratios: Experiment, tmp_path: Path) -> None:
    write_results(ratios, "offline", [], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.md", "table.html", "table.md"]
    page = (tmp_path / "page.md").read_text()
    assert "Profile `offline`, which is as in the paper.\n" in page
    assert "**Not run:** 14 of 14 runs: nearest (0.1%, 1%, 10%); random (0.1%, 1%, 10%); full." in page
    assert "figure.svg" not in page


def test_a_folder_that_cannot_be_written_to(ratios: Experiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutputError, match="cannot write results to .*/file: File exists; make room or choose another folder"
    ):
        write_results(ratios, "offline", [], tmp_path / "file")


def test_one_page_about_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "table1-imdb": CLASSIFIERS,
        "figure4": RATIOS,
        "table4": TIMES,
        "dpc-imdb": RATIOS.replace("Accuracy", "Later"),
        "none": RATIOS,
    }
    texts["paper-only"] = RATIOS.replace("profiles.offline", "profiles.paper")
    makers = {
        "table1-imdb": classifier_rows,
        "figure4": ratio_rows,
        "table4": times_rows,
        "dpc-imdb": ratio_rows,
    }
    monkeypatch.setattr(loading, "_folder", lambda: tmp_path)
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text)
        if name in makers:
            for row in makers[name](parse_experiment(text, name)):
                RowFile(tmp_path / "results" / name / "rows.jsonl").append(row)
    (tmp_path / "results" / "paper-only").mkdir()
    (tmp_path / "results" / "paper-only" / "rows.jsonl").write_bytes(
        (tmp_path / "results" / "figure4" / "rows.jsonl").read_bytes()
    )
    page = results_page(tmp_path / "results", "offline", "../results/")
    assert page == results_page(tmp_path / "results", "offline", "../results/")
    assert page.startswith(
        "# Results\n\n"
        "Results of `dallme reproduce` with the profile `offline`, each with the paper's number in "
        "brackets. The page is built from the stored rows alone.\n\n"
        "## Contents\n\n"
        "- [Every classifier](#table1-imdb): Table 1, section 5.1\n"
        "- [Seconds and accuracy](#table4): Table 4, section 5.7\n"
        "- [Accuracy against the ratio](#figure4): Figure 4, section 5.2\n"
        "- [Later against the ratio](#dpc-imdb): Figure 4, section 5.2\n"
        "- [Where ours falls short](#where-ours-falls-short)\n\n"
        '<a id="table1-imdb"></a>\n\n## Every classifier\n\n'
        "Table 1, section 5.1. Profile `offline`, which differs"
    )
    assert [line for line in page.splitlines() if line.startswith("!")] == [
        "![Every classifier](../results/table1-imdb/figure.svg)",
        "![Seconds and accuracy](../results/table4/figure.svg)",
        "![Accuracy against the ratio](../results/figure4/figure.svg)",
        "![Later against the ratio](../results/dpc-imdb/figure.svg)",
    ]
    for name, maker in makers.items():
        experiment = parse_experiment(texts[name], name)
        assert make_table(experiment, experiment.profile("offline"), maker(experiment)).markdown() in page
    assert page.partition("## Where ours falls short\n")[2].startswith(
        "\nScores that are below the paper's by more than 0.01.\n\n### Every classifier\n\n- **nearest**, "
    )
    assert page.endswith("0.710: ours is **above** it.\n")
