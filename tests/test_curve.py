"""Accuracy against budget: one embedding, the knee, the picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dallme import Distiller
from dallme.cli.main import _status
from dallme.data import Budget, LabelledTexts
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError, MissingDependencyError, OutputError
from dallme.evaluation import plots
from dallme.evaluation.compare import compare
from dallme.evaluation.curve import (
    Curve,
    Step,
    curve,
    default_budgets,
    find_knee,
    find_level,
)
from dallme.evaluation.evaluate import Score, make_classifiers
from dallme.evaluation.protocol import DEFAULT
from dallme.evaluation.results import ResultStore

WORDS = {0: ["dull", "poor", "weak", "grim", "sad"], 1: ["fine", "warm", "good", "great", "bright"]}


def reviews(rows: int, start: int = 0) -> LabelledTexts:
    """As many reviews of each class; two of their words depend on the row, and one in five praises with a word of the others."""
    texts, labels = [], []
    for row in range(start, start + rows):
        for label, words in WORDS.items():
            second = WORDS[1 - label if row % 5 == 0 else label][(3 * row + 1) % 5]
            texts.append(f"A {words[row % 5]} film number {row} and {second} in the end.")
            labels.append(label)
    return LabelledTexts(texts, np.array(labels), {0: "bad", 1: "good"}, np.arange(len(texts)))


def per_class(*counts: int) -> list[Budget]:
    return [Budget(per_class=count) for count in counts]


def drawn(accuracies: Sequence[float], full: float = 0.9, classifiers: Sequence[str] = ("nb",)) -> Curve:
    """A curve with 1, 2, 5, 10... texts for each of two classes and the given accuracies of every classifier."""
    counts = (1, 2, 5, 10, 20, 50)[: len(accuracies)]
    steps = tuple(Step(Budget(per_class=count), 2 * count, 2 * count / 1000) for count in counts)
    scores = {
        ("ours", name): tuple(
            Score(name, (value - 0.01, value + 0.01), (value,), 1.0, full) for value in accuracies
        )
        for name in classifiers
    }
    return Curve(
        steps, scores, {name: Score(name, (full,), (full,), 1.0, full) for name in classifiers}, 1000, 100
    )


def test_the_source_is_embedded_once() -> None:
    texts, distiller = reviews(20), Distiller(per_class=1, embedder=HashingEmbedder())
    calls: list[int] = []
    original = HashingEmbedder._embed

    def spy(self: HashingEmbedder, texts: list[str], prompt: str | None) -> np.ndarray:
        calls.append(len(texts))
        return original(self, texts, prompt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HashingEmbedder, "_embed", spy)
        curve(
            distiller,
            texts,
            reviews(5, 20),
            per_class(1, 2, 4),
            ["extractive", "nearest", "herding"],
            make_classifiers(["nb"]),
        )
    assert sum(calls) == len(texts)


def test_each_point_is_what_compare_says() -> None:
    texts, test, methods = reviews(20), reviews(10, 20), ["extractive", "nearest", "random", "herding"]
    judges = make_classifiers(["nb", "lr"])
    found = curve(
        Distiller(per_class=7, embedder="hashing", seed=3),
        texts,
        test,
        per_class(4, 1),
        methods,
        judges,
        runs=2,
    )
    assert [step.texts for step in found.steps] == [2, 8]
    assert found.methods == methods
    for place, count in enumerate((1, 4)):
        distiller = Distiller(per_class=count, embedder="hashing", seed=3)
        table = compare(
            distiller, distiller.run(texts), test, [*methods, "full"], judges, protocol=DEFAULT.with_sets(2)
        )
        for row in table.methods[:-1]:
            for expected in row.scores:
                score = found.scores[row.method, expected.classifier][place]
                assert score.accuracies == expected.accuracies
                assert score.full_accuracy == expected.full_accuracy


def test_ready_vectors_need_no_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = reviews(10)
    vectors = HashingEmbedder().embed(texts.texts)
    monkeypatch.setattr(HashingEmbedder, "_embed", None)
    distiller = Distiller(per_class=1, embedder="hashing")
    found = curve(
        distiller,
        texts,
        reviews(5, 10),
        [Budget(ratio=0.2)],
        ["nearest"],
        make_classifiers(["nb"]),
        vectors=vectors,
    )
    assert found.steps == (Step(Budget(ratio=0.2), 4, 0.2),)
    with pytest.raises(InputError, match="expected vectors with 20 rows, one per text, found 3"):
        curve(
            distiller, texts, texts, per_class(1), ["nearest"], make_classifiers(["nb"]), vectors=vectors[:3]
        )


def test_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, texts, test = ResultStore(tmp_path), reviews(10), reviews(5, 10)
    judges, distiller = make_classifiers(["nb"]), Distiller(per_class=1, embedder="hashing")
    first = curve(distiller, texts, test, per_class(1, 2), ["nearest"], judges, results=results)
    monkeypatch.setattr(type(judges["naive-bayes"]), "_fit", None)
    assert (
        curve(distiller, texts, test, per_class(1, 2), ["nearest"], judges, results=results).as_dict()
        == first.as_dict()
    )


@pytest.mark.parametrize(
    ("budgets", "methods", "message"),
    [
        (
            per_class(1, 21),
            ["random"],
            "expected at most 20 texts per class, found 21: class 'bad' has only 20 different texts",
        ),
        ([], ["random"], "expected at least one budget, found none"),
        (per_class(1), ["full"], "expected a method besides 'full' and a classifier, found none"),
        (per_class(1), ["best"], "unknown method 'best'; known: random, random-sentences, full"),
    ],
)
def test_what_is_wrong_is_said_before_the_embedding(
    budgets: list[Budget], methods: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HashingEmbedder, "_embed", None)
    with pytest.raises(InputError, match=message):
        curve(
            Distiller(per_class=1, embedder="hashing"),
            reviews(20),
            reviews(5),
            budgets,
            methods,
            make_classifiers(["nb"]),
        )


def test_budgets_of_one_size_are_measured_once() -> None:
    texts, distiller = reviews(10), Distiller(per_class=1, embedder="hashing")
    budgets = [Budget(ratio=ratio) for ratio in (0.3, 0.01, 0.02)]
    found = curve(distiller, texts, texts, budgets, ["nearest"], make_classifiers(["nb"]))
    assert [step.texts for step in found.steps] == [2, 6]
    assert found.notes == (
        "20 of 20 test rows have a text that is in the source as well",
        "2% of the rows come to 2 texts, as 1% of the rows do; they are measured once",
    )


def test_the_series_fits_the_data() -> None:
    assert default_budgets(reviews(30)) == per_class(1, 2, 5, 10)
    assert default_budgets(reviews(500)) == per_class(1, 2, 5, 10, 20, 50, 100)
    assert default_budgets(reviews(9))[0] == Budget(ratio=0.001)


def test_the_knee_of_curves_made_by_hand() -> None:
    sizes = [1, 10, 100, 1000]
    assert find_knee(sizes, [0.5, 0.8, 0.81, 0.82]) == 1
    assert find_knee(sizes, [0.5, 0.55, 0.8, 0.82]) == 2  # heights above the chord: 0, -.18, .27, 0
    assert find_knee(sizes, [0.5, 0.8, 0.7, 0.82]) == 1  # a dip is no gain
    assert find_knee(sizes, [0.5, 0.6, 0.7, 0.8]) is None  # a straight line
    assert find_knee(sizes, [0.5, 0.51, 0.55, 0.8]) is None  # it grows ever faster
    assert find_knee(sizes, [0.8, 0.7, 0.8, 0.75]) == 0  # nothing is gained
    assert find_knee(sizes, [0.5, 0.5, 0.8, 0.82]) == 2  # the first step gains nothing, the next one does
    assert find_knee([1, 10], [0.5, 0.8]) is None
    # In plain numbers the first gain is on the chord and the second above it; in logarithms the first is the highest.
    assert find_knee([1, 10, 55, 100], [0.0, 0.5, 0.8, 0.8]) == 2
    assert find_knee([1, 10, 55, 100], [0.0, 0.7, 0.8, 0.8]) == 1


def test_the_size_that_reaches_a_level() -> None:
    assert find_level([10, 20, 40], [0.5, 0.7, 0.8], 0.75) == (2, pytest.approx(30))
    assert find_level([10, 20, 40], [0.5, 0.7, 0.8], 0.7) == (1, pytest.approx(20))
    assert find_level([10, 20, 40], [0.5, 0.7, 0.8], 0.4) == (0, None)
    assert find_level([10, 20, 40], [0.5, 0.7, 0.8], 0.9) == (None, None)
    assert find_level([10, 20, 40], [0.7, 0.5, 0.8], 0.6) == (0, None)  # the first, though the next is below


def test_findings_in_words() -> None:
    grows = drawn([0.45, 0.6, 0.7, 0.792, 0.8, 0.81])
    found = grows.knee("ours")
    assert found.words == "ours: knee at 10 texts per class: 0.792 (88.0% of full data)"
    assert found.as_dict()["per_class"] == 10
    assert found.recovered == pytest.approx(0.88)
    found = grows.smallest_recovering("ours", 0.8)  # 0.72, a bit more than a fifth of the way from 10 to 20
    assert (
        found.words
        == "ours: 80% of the full data's accuracy at 10 texts per class: 0.792 (88.0% of full data); "
        + ("on a line between the measured, at 12 texts in all")
    )
    assert found.interpolated_texts == pytest.approx(10 + 10 * 0.02 / 0.092)
    assert grows.smallest_recovering("ours", 0.5).words == (
        "ours: 50% of the full data's accuracy at 1 text per class: 0.450 (50.0% of full data)"
    )
    found = grows.smallest_recovering("ours", 0.95)
    assert (
        found.words
        == "ours: 95% of the full data's accuracy is not reached; the most is at 50 texts per class: 0.810 (90.0% of full data)"
    )
    assert found.step is None
    assert drawn([0.5, 0.6]).knee("ours").words == "ours: no knee, which takes at least 3 budgets, found 2"
    assert drawn([0.5, 0.51, 0.53, 0.8]).knee("ours").words == (
        "ours: no knee: up to 10 texts per class the gain does not slow down"
    )
    with pytest.raises(InputError, match=r"expected the share to recover in \(0, 1\], found 90"):
        grows.smallest_recovering("ours", 90)


def test_classifiers_are_averaged() -> None:
    two = drawn([0.5, 0.7, 0.8], full=0.8, classifiers=("nb", "lr"))
    uneven = Curve(
        two.steps, {**two.scores, ("ours", "lr"): two.scores["ours", "lr"][::-1]}, two.full, 1000, 100
    )
    assert uneven.average("ours").tolist() == pytest.approx([0.65, 0.7, 0.65])
    assert uneven.full_accuracy == pytest.approx(0.8)
    assert uneven.smallest_recovering("ours", 0.85).step == two.steps[1]


@pytest.mark.parametrize(("name", "start"), [("c.png", b"\x89PNG"), ("c.SVG", b"<?xml"), ("c.pdf", b"%PDF")])
def test_the_picture(name: str, start: bytes, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    plots.plot_curve(drawn([0.45, 0.6, 0.7, 0.79, 0.8], classifiers=("nb", "lr", "svm", "cnn")), path)
    first = path.read_bytes()
    assert first.startswith(start)
    assert len(first) > 10_000
    plots.plot_curve(drawn([0.45, 0.6, 0.7, 0.79, 0.8], classifiers=("nb", "lr", "svm", "cnn")), path)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_what_the_picture_shows() -> None:
    pytest.importorskip("matplotlib")
    figure = plots.draw(drawn([0.45, 0.6, 0.7, 0.792, 0.8, 0.81], classifiers=("nb", "lr")))
    assert [panel.get_title() for panel in figure.axes] == ["nb", "lr"]
    panel = figure.axes[0]
    line, full = panel.get_lines()
    assert line.get_xdata().tolist() == pytest.approx([0.002, 0.004, 0.01, 0.02, 0.04, 0.1])
    assert line.get_ydata().tolist() == pytest.approx([0.45, 0.6, 0.7, 0.792, 0.8, 0.81])
    assert list(full.get_ydata()) == pytest.approx([0.9, 0.9])
    band, ring = panel.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.45 - 0.02 / 2**0.5, 0.81 + 0.02 / 2**0.5))
    assert ring.get_offsets().tolist() == [pytest.approx([0.02, 0.792])]
    assert panel.get_xscale() == "log"
    assert panel.get_xticklabels()[3].get_text() == "2%\n20"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours", "full data", "knee"]


def test_labels_do_not_run_into_each_other() -> None:
    pytest.importorskip("matplotlib")
    steps = tuple(Step(Budget(total=count), count, count / 1000) for count in (10, 100, 110, 1000))
    score = Score("nb", (0.5,), (0.5,), 1.0)
    panel = plots.draw(Curve(steps, {("ours", "nb"): (score,) * 4}, {"nb": score}, 1000, 10)).axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == [
        "1%\n10",
        "10%\n100",
        "",
        "100%\n1,000",
    ]
    file_lock = plots.draw(Curve(steps[:1], {("ours", "nb"): (score,)}, {"nb": score}, 1000, 10)).axes[0]
    assert [label.get_text() for label in file_lock.get_xticklabels()] == ["1%\n10"]


def test_a_picture_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match=r"expected a picture that ends in \.png, \.svg, \.pdf, found 'c\.jpg'"
    ):
        plots.check_plot(tmp_path / "c.jpg")
    with pytest.raises(OutputError, match="expected a folder for the picture, found none at"):
        plots.check_plot(tmp_path / "nowhere" / "c.png")
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError, match=r"needs the package 'matplotlib'.* pip install 'dallme\[plot\]'"
    ):
        plots.check_plot(tmp_path / "c.png")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs ``dallme curve`` on files of reviews; gives its exit status, standard output and standard error."""
    for name, texts in (("reviews.jsonl", reviews(30)), ("test.jsonl", reviews(20, 30))):
        rows = zip(texts.texts, texts.labels.tolist(), strict=True)
        (tmp_path / name).write_text(
            "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))

    def run(*arguments: object) -> tuple[int, str, str]:
        given = [
            "dallme",
            "curve",
            "reviews.jsonl",
            "--test",
            "test.jsonl",
            "--embedder",
            "hashing",
            *map(str, arguments),
        ]
        monkeypatch.setattr(sys, "argv", given)
        status = _status()
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_json_is_the_same_bytes(run, tmp_path: Path) -> None:
    options = (
        "--budgets",
        "5,1,2",
        "--methods",
        "extractive,random",
        "--classifiers",
        "nb,lr",
        "--target-recovered",
        0.9,
    )
    status, out, _ = run(*options, "--json", "--output", "curve.json")
    assert status == 0
    assert (tmp_path / "curve.json").read_text() == out == run(*options, "--json")[1]
    document = json.loads(out)
    points = [
        (row["method"], row["classifier"], row["per_class"], row["texts"], row["runs"])
        for row in document["points"]
    ]
    assert points[:4] == [
        ("extractive", "naive-bayes", 1, 2, 1),
        ("extractive", "naive-bayes", 2, 4, 1),
        ("extractive", "naive-bayes", 5, 10, 1),
        ("extractive", "logistic-regression", 1, 2, 1),
    ]
    assert points[-1] == ("random", "logistic-regression", 5, 10, 10)
    assert document["points"][2]["ratio"] == pytest.approx(1 / 6)
    assert {row["classifier"]: row["recovered"] for row in document["full"]} == {
        "naive-bayes": 1,
        "logistic-regression": 1,
    }
    assert [row["method"] for row in document["knees"]] == ["extractive", "random"]
    assert [row["method"] for row in document["targets"]] == ["extractive", "random"]
    assert (document["train_rows"], document["test_rows"], document["target_recovered"]) == (60, 40, 0.9)
    assert "seconds" not in out


def test_the_command_draws_and_tells(run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    status, out, _ = run(
        "--ratios", ".05,.1,.3", "--methods", "nearest", "--classifiers", "nb", "--plot", "c.png"
    )
    assert status == 0
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    lines = out.splitlines()
    assert lines[0].startswith("accuracy on 40 test rows")
    assert [line.split("  ")[0] for line in lines[2:6]] == [
        "5% of the rows",
        "10% of the rows",
        "30% of the rows",
        "full data",
    ]
    assert lines[7].startswith("nearest: ")
    assert "knee" in lines[7]
    assert lines[8].startswith("embedding ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--budgets", "1,40"),
            "expected at most 30 texts per class, found 40: class '0' has only 30 different texts",
        ),
        (("--budgets", "1,x"), "expected --budgets as whole numbers separated by commas, found '1,x'"),
        (("--ratios", "2"), "expected ratio in (0, 1], found 2.0"),
        (("--budgets", "0"), "expected --per-class to be a whole number of at least 1, found 0"),
        (("--budgets", "1", "--ratios", ".1"), "expected --budgets or --ratios, found both; leave one out"),
        (("--plot", "c.jpg"), "expected a picture that ends in .png, .svg, .pdf, found 'c.jpg'"),
        (
            ("--output", "nowhere/c.json"),
            "expected a file to write to in a folder that is there, found no folder at 'nowhere'",
        ),
        (("--target-recovered", 90), "expected the share to recover in (0, 1], found 90.0"),
    ],
)
def test_mistakes_are_said_in_a_line_and_cost_nothing(
    run, arguments: tuple, message: str, tmp_path: Path
) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "store").exists()
