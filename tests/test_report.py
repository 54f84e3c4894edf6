"""The report: its content, its escaping, and equal bytes for equal input."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dallme.cli.main import _status
from dallme.dataset import DistilledDataset, Lineage
from dallme.dataset.manifest import Manifest
from dallme.errors import InputError, MissingDependencyError
from dallme.report import map as points
from dallme.report import map as projection
from dallme.report.cards import Badge, make_cards
from dallme.report.charts import LICENCES, comparison_panels
from dallme.report.map import cut, cut_all, map_data
from dallme.report.page import render
from dallme.report.summary import audit_rows, headline, recovered_share
from dallme.text import hash_source, to_json, to_script, to_unicode
from report_sets import HOSTILE, audit_of, comparison, hostile_set, small_set


@pytest.fixture(autouse=True)
def _no_umap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """UMAP takes seconds to import; one test asks for it."""
    if "real_umap" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "umap", None)


@pytest.fixture
def real_umap() -> Any:
    return pytest.importorskip("umap", reason="the extra `map` is not installed")


class Page(HTMLParser):
    """The elements of a page, with their attributes and the text in them."""

    VOID = ("meta", "input", "br", "img", "link")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in self.VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag, f"</{tag}> ends another element"

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.elements[place][2].append(data)

    def find(self, tag: str, **attributes: str) -> Iterator[tuple[dict[str, str | None], str]]:
        for name, attrs, text in self.elements:
            if name == tag and all(attrs.get(key.rstrip("_")) == value for key, value in attributes.items()):
                yield attrs, "".join(text)

    def data(self, name: str) -> Any:
        (found,) = self.find("script", id=f"data-{name}")
        return json.loads(found[1])


# --- escaping
# ---------------------------------------------------------------------------------------------------------


def test_json_in_a_page_holds_no_markup_and_is_read_back() -> None:
    found = to_json({"text": HOSTILE, "number": 1})
    assert not re.search("[<>&\u2028\u2029]", found)
    assert json.loads(found) == {"text": HOSTILE, "number": 1}
    assert to_json(["a<b"]) == '["a\\u003cb"]'


def test_scripts_are_escaped_and_hashed_as_browsers_read_them() -> None:
    assert to_script('a = "</script><!--";\r\nb()\r') == 'a = "<\\/script><\\!--";\nb()\n'
    assert hash_source("") == "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"


def test_lone_surrogates_become_a_sign_that_a_file_can_hold() -> None:
    assert to_unicode("a\ud800b\udfff 😀") == "a\ufffdb\ufffd 😀"
    assert to_unicode("good") == "good"


# --- the map
# ----------------------------------------------------------------------------------------------------------


def test_principal_components_keep_the_shape_of_a_plane() -> None:
    corners = np.array([[0, 0, 0], [4, 0, 0], [0, 2, 0], [4, 2, 0]], dtype=np.float32)
    found = projection.project(corners, np.array([[2, 1, 0]], dtype=np.float32))
    assert found.method == "PCA"
    assert found.note is None  # with four rows UMAP would not help
    assert sorted(map(tuple, found.rows.round(4).tolist())) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert found.own.round(4).tolist() == [[0.5, 0.5]]


def test_a_single_row_lies_in_the_middle() -> None:
    found = projection.project(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32))
    assert found.rows.tolist() == [[0.5, 0.5]]


def test_without_umap_a_large_map_says_what_to_install() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    assert "pip install 'dallme[map]'" in str(projection.project(vectors, vectors[:2]).note)


def test_unfitted_rows_lie_between_their_nearest_anchors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projection, "ANCHORS", 2)
    fitted = np.array([[0, 0], [3, 0], [100, 0], [103, 0]], dtype=np.float32)
    made = {}

    def make(**options: Any) -> Any:
        made.update(options)
        return SimpleNamespace(fit_transform=lambda rows: rows * 10.0)

    everything = np.concatenate([fitted, np.array([[1, 0], [101.5, 0]], dtype=np.float32)])
    places = projection._by_umap(SimpleNamespace(UMAP=make), np.arange(4), everything)
    assert places[:4].tolist() == (fitted * 10.0).tolist()
    assert places[4].tolist() == pytest.approx(
        [10, 0]
    )  # twice as near to the first as to the second: 0 * 2/3 + 30 * 1/3
    assert places[5].tolist() == pytest.approx([1015, 0])
    assert made["precomputed_knn"][0].tolist()[0] == [0, 1, 2, 3]
    assert made["random_state"] == 0


@pytest.mark.slow
def test_umap_sets_groups_apart_and_texts_among_their_own(real_umap: Any) -> None:
    random = np.random.default_rng(0)
    groups = [random.normal(loc=centre, scale=0.05, size=(120, 6)) for centre in (0, 1)]
    vectors = np.concatenate(groups).astype(np.float32)
    found = projection.project(vectors, vectors[[3, 160]])
    assert found.method == "UMAP"
    one, two = found.rows[:120], found.rows[120:]
    for own, other in ((one, two), (two, one)):
        to_own, to_other = (np.linalg.norm(own - group.mean(axis=0), axis=1) for group in (own, other))
        assert (to_own < to_other).all()
    assert found.own == pytest.approx(found.rows[[3, 160]], abs=1e-3)


def test_texts_are_cut_on_one_line() -> None:
    assert cut("a\n b\tc", 5) == "a b c"
    assert cut("abcdef", 5) == "abcd…"
    assert cut(" " * 30 + "a", 5) == "…"  # there is more, but far away


def test_all_texts_are_cut_alike_to_fit_the_budget() -> None:
    texts = ["x" * 500] * 100
    assert cut_all(texts, budget=1_000_000) == ["x" * 159 + "…"] * 100
    found = cut_all(texts, budget=5_000)
    assert len(set(found)) == 1
    assert 30 < len(found[0]) < 50
    assert len(to_json(found).encode()) <= 5_000
    assert len(to_json(cut_all(["<" * 500] * 100, budget=50_000))) <= 50_000  # an escape takes six bytes


def test_the_map_has_position_class_cluster_and_text_per_row() -> None:
    distilled, evidence = small_set()
    found = map_data(evidence, [5, 9])
    assert found is not None
    rows = found["row"]
    assert sorted(rows) == list(range(8))
    assert [found["class"][rows.index(row)] for row in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [found["cluster"][rows.index(row)] for row in range(8)] == [0, 0, 1, -1, 2, 2, 2, 2]
    assert [found["text"][rows.index(row)] for row in range(8)] == list(evidence.source.texts)
    assert len(found["own"]["x"]) == len(distilled) == 3
    assert {min(found["x"]), max(found["x"])} == {0, 9_999}
    assert found["total"] == 8
    fewer = map_data(evidence, [5, 9], points=3)
    assert fewer is not None
    assert {len(fewer[column]) for column in ("x", "y", "class", "cluster", "row", "text")} == {3}
    assert fewer["total"] == 8


@pytest.mark.parametrize(("room", "longest"), [(140, 11), (120, 8)])
def test_ids_and_texts_share_the_room(monkeypatch: pytest.MonkeyPatch, room: int, longest: int) -> None:
    monkeypatch.setattr(points, "TEXT_BYTES", room)
    found = map_data(small_set()[1], [5, 9])
    assert found is not None
    assert max(map(len, found["text"])) == longest


def test_no_vectors_no_map_and_no_points_no_sense() -> None:
    _, evidence = small_set()
    assert map_data(replace(evidence, vectors=None), [5, 9]) is None
    with pytest.raises(InputError, match="expected points to be a whole number of at least 1, found 0"):
        map_data(evidence, [5, 9], points=0)


# --- the cards
# --------------------------------------------------------------------------------------------------------


def test_a_card_shows_what_is_known() -> None:
    distilled, evidence = small_set()
    first, second, third = make_cards(distilled, {5: "bad", 9: "good"}, evidence, None)
    assert (first.index, first.text, first.label) == (0, "A dull film. It was slow.", 0)
    assert first.facts["stands for"] == "2 rows (25.0%)"
    assert first.facts["tokens"] == "8"  # words and signs: that is how `hashing` counts
    assert first.facts["cosine to prototype"] == "0.988"
    assert re.fullmatch(r"\d+%", first.facts["probe’s confidence"])
    assert first.sentences == (("A dull film.", 0), ("It was slow.", 1))
    assert first.nearest == ((0, "dull film 0"), (1, "dull film 1"))
    assert first.badges == ()
    assert second.badges == (Badge("probe disagrees with the label"),)
    assert second.facts["stands for"] == "1.5 rows (18.8%)"
    assert "cosine to prototype" not in second.facts
    assert second.sentences == (("Bad, bad.", None),)
    assert third.label == 1


def test_the_probe_says_which_class_it_takes_a_text_for() -> None:
    distilled, evidence = small_set()
    assert evidence.own is not None
    wrong = replace(evidence, own=evidence.own[[2, 1, 0]])
    assert (
        make_cards(distilled, {5: "bad", 9: "good"}, wrong, None)[0]
        .facts["probe’s confidence"]
        .endswith("% (it says good)")
    )


def test_without_the_source_a_card_has_words_and_no_real_texts() -> None:
    distilled, _ = small_set()
    first = make_cards(distilled, distilled.label_names, None, None)[0]
    assert first.nearest == ()
    assert first.facts == {
        "stands for": "2 rows (25.0%)",
        "words and signs": "8",
        "cosine to prototype": "0.988",
    }


def test_the_sentences_of_a_collage_stand_apart() -> None:
    distilled, _ = small_set()
    first, second, _ = make_cards(distilled, distilled.label_names, None, None)
    assert first.parts == ("A dull film. ", "It was slow.")
    assert second.parts == ("Bad, bad.",)
    page = render(distilled)
    assert '<span class="part">A dull film. </span><span class="part">It was slow.</span>' in page
    edited = replace(distilled, texts=("A dull film. It was quick.", *distilled.texts[1:]))
    assert make_cards(edited, edited.label_names, None, None)[0].parts == ("A dull film. It was quick.",)


def test_the_page_masks_personal_data_unless_it_edits_the_texts() -> None:
    distilled, evidence = small_set()
    private = "A dull film. Ask jane@example.org."
    lineage = replace(distilled.lineage[0], sentences=("A dull film.", "Ask jane@example.org."))
    distilled = replace(
        distilled,
        texts=(private, *distilled.texts[1:]),
        lineage=(lineage, *distilled.lineage[1:]),
    )
    source = replace(evidence.source, texts=[private, *evidence.source.texts[1:]])
    evidence = replace(evidence, distilled=distilled, source=source)
    page = render(distilled, evidence=evidence)
    assert "jane" not in page
    assert page.count("Ask j***.") >= 4  # the text, its sentences, the nearest rows, the map
    assert "jane@example.org" in render(distilled, editable=True)


def test_badges_of_the_audit() -> None:
    distilled, _ = small_set()
    first, second, third = make_cards(distilled, distilled.label_names, None, audit_of(distilled))
    assert first.badges == (
        Badge("3 words copied", warns=False),
        Badge("personal data: 1"),
        Badge("is in the test set"),
    )
    assert second.badges == (
        Badge("30 words copied"),
        Badge("small cluster: 2 rows"),
        Badge("label disagreement"),
        Badge("near duplicate"),
    )
    assert third.badges == (Badge("near duplicate"), Badge("shares 13 words with the test set"))
    assert first.findings == (
        "Longest span shared with a source row: 3 words (row 7): “A dull film”",
        "Of its runs of five words, 50% occur in the source.",
        "Its cluster has 40 rows.",
        "A probe of the full data gives its label 90%; it says bad.",
        "Personal data, perhaps: PERSON “d***”",
    )
    assert third.findings[0] == "Longest span shared with a source row: 0 words"


# --- sentences, tables and charts
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_a_page_with_charts_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dallme.report.page.find_spec", lambda name: None if name == package else name)
    distilled, _ = small_set(with_comparison=True)
    with pytest.raises(MissingDependencyError) as caught:
        render(distilled)
    assert str(caught.value) == (
        f"the report needs the package '{package}', which is not installed; run: pip install 'dallme[report]'"
    )


def test_what_was_done_in_one_line() -> None:
    distilled, _ = small_set()
    assert headline(distilled) == {
        "from": "25,000 rows",
        "to": "3 texts",
        "source": "reviews.csv",
        "line": "2 classes · hashing → k-centroid → extractive · at most 64 tokens each · seed 7",
    }
    assert headline(replace(distilled, manifest={}))["from"] == "a larger dataset"


def test_what_is_kept_is_that_of_the_set_itself() -> None:
    manifest = Manifest(configuration={"decoder": "extractive"}, comparison=comparison())
    assert (
        recovered_share(manifest)
        == "Classifiers trained on them reach 88% to 94% of the accuracy that the full data give."
    )
    assert recovered_share(manifest | {"configuration": {"decoder": "another"}}) is None
    assert recovered_share(Manifest()) is None


def test_panels_of_the_chart() -> None:
    first, second = comparison_panels(comparison(), "extractive")
    assert first["classifier"] == "lr"
    assert first["bars"][0] == {
        "method": "random",
        "mean": 0.6,
        "shown": "0.600",
        "ours": False,
        "low": 0.55,
        "high": 0.65,
    }
    assert [bar["ours"] for bar in first["bars"]] == [False, True, False]
    assert [bar["method"] for bar in second["bars"]] == [
        "random",
        "extractive",
    ]  # `full` is not for this classifier


def test_summary_of_the_audit() -> None:
    distilled, _ = small_set()
    audit = audit_of(distilled)
    assert dict(audit_rows(audit)) == {
        "Longest span copied from a source row": "30 words (limit: at most 20)",
        "Runs of five words that occur in the source": "50%",
        "Smallest cluster behind a text": "2 rows",
        "Texts with a small cluster": "1: text 1",
        "Texts whose source rows are nearly alike": "none",
        "Texts that occur in the test set (1,000 rows)": "1: text 0",
        "Texts that share 13 words with it": "2: text 0, text 2; longest span 15 words",
        "Near duplicates within the set": "1: texts 1 and 2 (0.970)",
        "Texts whose label the probe gives": "67%",
        "Labels that a probe of the full data doubts": "1: text 1",
        "Personal data, perhaps": "1 found",
        "Different words among all words": "60%",
        "Distinct words, pairs of words": "0.60, 0.95",
        "Complete sentences": "100%",
        "Perplexity under a small language model": "88",
    }
    audit["summary"] |= {"contamination": None, "agreement": None, "personal": {"scanner": None, "found": 0}}
    audit["summary"]["readability"]["perplexity"] = None
    rows = dict(audit_rows(audit))
    assert rows["Overlap with the test set"] == "not looked for"
    assert rows["Personal data, perhaps"] == "not looked for"
    assert len(rows) == 12
    audit["summary"] |= {"tight_clusters": [0, 2], "planted_words": [{"word": "cf"}]}
    rows = dict(audit_rows(audit))
    assert rows["Texts whose source rows are nearly alike"] == "2: text 0, text 2"
    assert rows["Words of the source that may be planted"] == "1"


# --- the page
# ---------------------------------------------------------------------------------------------------------


def test_the_page_is_complete_and_deterministic() -> None:
    distilled, evidence = small_set(with_comparison=True)
    html = render(distilled, evidence=evidence, audit=audit_of(distilled))
    assert html == render(distilled, evidence=evidence, audit=audit_of(distilled))
    page = Page(html)
    assert [text for _, text in page.find("h2")] == [
        "Accuracy", "Map", "Audit", "Texts", "Run",
    ]  # fmt: skip
    cards = list(page.find("article"))
    assert [(card["id"], card["data-index"], card["data-label"]) for card, _ in cards] == [
        ("text-0", "0", "bad"), ("text-1", "1", "bad"), ("text-2", "2", "good"),
    ]  # fmt: skip
    assert [text for _, text in page.find("p", class_="text")] == list(distilled.texts)
    assert len(list(page.find("div", class_="actions"))) == 3
    assert page.data("classes") == [{"id": 5, "name": "bad"}, {"id": 9, "name": "good"}]
    assert sorted(page.data("map")["row"]) == list(range(8))
    assert [panel["classifier"] for panel in page.data("comparison")["panels"]] == ["lr", "nb"]
    assert [text for _, text in page.find("figcaption")][:2] == ["lr", "nb"]
    assert json.loads(next(text for _, text in page.find("pre"))) == distilled.manifest.as_dict()


def test_charts_are_named_by_their_classifiers_beside_a_column_of_tokens() -> None:
    distilled, evidence = small_set(with_comparison=True)
    table = dict(distilled.manifest["comparison"])
    table["methods"] = [method | {"tokens": 100} for method in table["methods"]]
    page = Page(render(distilled.with_comparison(table), evidence=evidence))
    assert [text for _, text in page.find("figcaption")] == ["lr", "nb"]


def test_nothing_is_loaded_from_elsewhere() -> None:
    distilled, evidence = small_set(with_comparison=True)
    page = Page(render(distilled, evidence=evidence))
    for _, attributes, _ in page.elements:
        assert not attributes.keys() & {"src", "srcset", "action", "onclick", "onload", "onerror"}
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(
        str(attributes["content"]) for attributes, _ in page.find("meta") if "http-equiv" in attributes
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "connect-src 'none'" in policy
    scripts = [text for attributes, text in page.find("script") if "type" not in attributes]
    assert len(scripts) == 2
    assert all(hash_source(script) in policy for script in scripts)


def test_the_licences_of_the_library_stand_above_it() -> None:
    distilled, evidence = small_set()
    scripts = [
        text
        for attributes, text in Page(render(distilled, evidence=evidence)).find("script")
        if "type" not in attributes
    ]
    head, _, code = scripts[0].partition("*/\n")
    assert head.startswith("/*!\nThe charts of this page are drawn by Vega, Vega-Lite and Vega-Embed")
    assert "vega-lite, vega-embed: Copyright (c) 2015, University of Washington Interactive Data Lab" in head
    assert head.count("SUCH DAMAGE") == 2  # the BSD licences to their ends
    assert "Copyright" not in code  # else the bundle would bring its own notices
    assert not re.search(r"\*/|</script|<!--", LICENCES.read_text(encoding="utf-8"))


def test_a_page_without_charts_has_no_library_in_it() -> None:
    distilled, _ = small_set()
    html = render(distilled)
    assert len(html) < 60_000
    page = Page(html)
    assert [text for _, text in page.find("h2")] == ["Texts", "Run"]
    assert len([1 for attributes, _ in page.find("script") if "type" not in attributes]) == 1


def test_a_page_to_edit_differs_by_its_mark_and_its_policy() -> None:
    distilled, _ = small_set()
    plain, editable = render(distilled), render(distilled, editable=True)
    assert "<body data-editable>" in editable
    policies = [re.search('content="(default-src[^"]*)"', html) for html in (plain, editable)]
    assert policies[0]
    assert policies[1]
    assert "connect-src &#39;self&#39;" in policies[1][1]
    assert editable.replace(" data-editable>", ">").replace(policies[1][1], policies[0][1]) == plain


def test_a_hostile_set_is_text_everywhere() -> None:
    distilled, evidence = hostile_set()
    html = render(distilled, evidence=evidence, audit=audit_of(distilled, HOSTILE))
    page = Page(html)
    expected = [to_unicode(text) for text in distilled.texts]
    assert [text for _, text in page.find("p", class_="text")] == expected
    assert [attributes["data-label"] for attributes, _ in page.find("article")] == [
        to_unicode(HOSTILE[0])
    ] + [to_unicode(HOSTILE[1])] * (len(HOSTILE) - 1)
    scripts = [attributes for attributes, _ in page.find("script")]
    assert [attributes.get("id") for attributes in scripts] == [
        "data-classes",
        "data-comparison",
        "data-map",
        None,
        None,
    ]
    assert not list(page.find("img"))
    assert not list(page.find("b"))
    assert html.encode()  # lone surrogates are gone
    assert "first line&#13;\nsecond" in html  # a browser would read a bare CR as a new line


def test_an_audit_of_other_texts_is_refused() -> None:
    distilled, _ = small_set()
    audit = audit_of(distilled)
    audit["texts"].pop()
    with pytest.raises(
        InputError, match="expected an audit of these 3 texts, found one of 2; run dallme audit again"
    ):
        render(distilled, audit=audit)


def test_a_set_that_tells_nothing_of_itself_has_a_page() -> None:
    bare = DistilledDataset(("a",), np.array([0]), {0: "x"}, np.array([1.0]), (Lineage("by hand"),))
    page = Page(render(bare))
    assert next(text for _, text in page.find("h1")) == "a larger dataset → 1 text"


# --- the command
# ------------------------------------------------------------------------------------------------------


@pytest.fixture
def dallme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command in this process; returns status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    rows = [
        f"A {word} film number {row}.,{label}"
        for row in range(30)
        for word, label in (("fine", "good"), ("dull", "bad"))
    ]
    Path("reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    Path("other.csv").write_text("\n".join(["text,label", *rows[1:]]) + "\n")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dallme", *map(str, arguments)])
        capsys.readouterr()
        status = _status()
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    assert run("distill", "reviews.csv", "--per-class", 2, "--output", "few", "--embedder", "hashing")[0] == 0
    Path("few/report.html").unlink(missing_ok=True)
    return run


def test_the_command_writes_the_page_beside_the_set(dallme: Any) -> None:
    status, out, err = dallme("report", "few", "--source", "reviews.csv", "--points", 40)
    assert status == 0, err
    page = Path("few/report.html").read_bytes()
    assert out == f"4 texts in few/report.html ({len(page) / 1e6:.1f} MB)\n"
    found = Page(page.decode()).data("map")
    assert len(found["x"]) == 40
    assert found["total"] == 60
    assert dallme("report", "few", "--source", "reviews.csv", "--points", 40)[0] == 0
    assert Path("few/report.html").read_bytes() == page


def test_the_command_without_a_source_says_what_is_missing(dallme: Any) -> None:
    distilled = DistilledDataset.load("few")
    audit = audit_of(distilled)
    audit["texts"][0]["personal"] = []
    Path("few/audit.json").write_text(json.dumps(audit))
    status, out, err = dallme("report", "few", "--output", "page.html", "--json")
    assert status == 0, err
    note = "no map and no nearest real texts without the data it was distilled from; name them with --source"
    assert err == f"note: {note}\n"
    assert json.loads(out) == {
        "output": "page.html",
        "bytes": Path("page.html").stat().st_size,
        "texts": 4,
        "notes": [note],
    }
    assert "Audit" in [text for _, text in Page(Path("page.html").read_text()).find("h2")]
    assert not Path("few/report.html").exists()


def test_a_set_of_ready_vectors_has_no_map(dallme: Any) -> None:
    manifest = json.loads(Path("few/manifest.json").read_text())
    manifest["configuration"]["embedder"] = None
    Path("few/manifest.json").write_text(json.dumps(manifest))
    status, _, err = dallme("report", "few", "--source", "reviews.csv")
    assert status == 0, err
    assert err.endswith(
        "note: no map, as the set was made of ready vectors; name an embedder with --embedder\n"
    )
    summaries = [text for _, text in Page(Path("few/report.html").read_text()).find("summary")]
    assert summaries.count("Nearest real texts (3)") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("nowhere",),
            "expected a folder with train.parquet and manifest.json, as dallme writes them, found none "
            "at 'nowhere'",
        ),
        (
            ("few", "--output", "few/train.parquet"),
            "expected a file name that ends in .html, found 'train.parquet'",
        ),
        (("few", "--output", "no/such.html"), "found no folder at 'no'; choose another --output"),
        (
            ("few", "--output", f"{'x' * 250}.html"),
            "expected names of at most 223 bytes in --output, found 255; choose a shorter name",
        ),
        (("few", "--points", 0), "expected --points to be a whole number of at least 1, found 0"),
        (
            ("few", "--source", "other.csv"),
            "expected the source that the texts were distilled from, 'reviews.csv' of 60 rows",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(dallme: Any, arguments: tuple[object, ...], message: str) -> None:
    status, out, err = dallme("report", *arguments)
    assert status == 2
    assert out == ""
    error = err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not Path("few/report.html").exists()


def test_a_broken_audit_is_an_error(dallme: Any) -> None:
    Path("few/audit.json").write_text("{")
    status, _, err = dallme("report", "few")
    assert status == 2
    assert "expected the document of an audit in audit.json" in err
