"""Sharing on the Hub: the uploaded files, the card, and the files that are never sent."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import DatasetCard, DatasetCardData, close_session
from markdown_it import MarkdownIt

from dallme.cli.main import _status
from dallme.dataset import DistilledDataset, Lineage, hub
from dallme.dataset.card import Terms, check_audit, hub_id, parse_audit, render
from dallme.errors import DallmeError, InputError
from dallme.personal import PersonalDataError
from hub_server import HubServer, Repository

TOKEN = "hf_plantedKeyThatMustStayAtHome"
SECRET = "A row of the source that nobody may see"
FILES = ["README.md", "manifest.json", "train.parquet"]


@pytest.fixture
def distilled() -> DistilledDataset:
    lineage = (
        Lineage("extractive", (1, 2), (1,), ("A fine film.",), (1,), 0.5),
        Lineage("extractive", (3,), (3,), (), (), None),
    )
    return DistilledDataset(
        texts=("A fine film. Très bien.", "Dull & long."),
        labels=np.array([1, 0]),
        label_names={0: "negative", 1: "positive"},
        weights=np.array([2.0, 1.0]),
        lineage=lineage,
        manifest={
            "dallme": "0.1.0",
            "data": {"source": "reviews.csv", "rows": 3, "sha256": "ab" * 32},
            "configuration": {"decoder": "extractive", "seed": 0},
        },
    )


def audit(span: str = "fine film", *, personal: bool = True) -> dict[str, Any]:
    """The document of an audit of the two texts, with a name that Presidio found in the first."""
    rest = {
        "copied_5grams": 0.25,
        "members": 1,
        "label_confidence": 0.5,
        "label_agrees": True,
        "predicted": "positive",
    }
    first = {
        "copied_span": {"words": 2, "row": 1, "text": span},
        "personal": [{"kind": "PERSON", "text": "Très"}] if personal else [],
    } | rest
    second = {"copied_span": {"words": 0, "row": None, "text": ""}, "personal": []} | rest
    return {
        "texts": [first, second],
        "summary": {
            "longest_copied_span": 2,
            "copied_5grams": 0.25,
            "min_cluster": 1,
            "small_clusters": [1],
            "contamination": {"rows": 1500, "exact": [0], "longest_span": 14, "shared_13grams": [0, 1]},
            "near_duplicates": [],
            "label_disagreements": [1],
            "agreement": 0.5,
            "personal": {"scanner": "presidio-analyzer 2.2.366", "found": int(personal)},
            "readability": {
                "type_token_ratio": 0.875,
                "distinct_1": 0.9,
                "distinct_2": 1.0,
                "complete_sentences": 1.0,
                "perplexity": 41.26,
            },
        },
        "thresholds": {"max_copied_span": None, "min_cluster": 2},
        "failures": ["expected 2 rows <b>behind</b> each text"],
        "notes": [],
    }


def of_hub(distilled: DistilledDataset, source: str = "owner/reviews:plain@train") -> DistilledDataset:
    return replace(distilled, manifest=distilled.manifest | {"data": {"source": source, "rows": 3}})


@pytest.fixture(autouse=True)
def planted_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plants a token and sets an empty cache, no pause between retries and the plain upload protocol."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(token=TOKEN) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def dallme(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; gives its exit status, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dallme", *map(str, arguments)])
        status = _status()
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def folder(distilled: DistilledDataset, tmp_path: Path) -> Path:
    """A folder with an audit and a report that quotes the source."""
    return distilled.save(
        tmp_path / "out", audit=audit(personal=False), beside={"report.html": SECRET.encode()}
    )


# Requests


def test_what_was_pushed_is_what_is_loaded(
    distilled: DistilledDataset, server: HubServer, tmp_path: Path
) -> None:
    address = distilled.push_to_hub("me/reviews", token=TOKEN)
    assert address == f"{server.url}/datasets/me/reviews"
    arrived = server.repositories["me/reviews"]
    assert arrived.private
    assert arrived.commits == ["Add the distilled dataset"]
    assert sorted(arrived.branches["main"]) == FILES
    (tmp_path / "there").mkdir()
    for name, content in arrived.branches["main"].items():
        (tmp_path / "there" / name).write_bytes(content)
    found = DistilledDataset.load(tmp_path / "there")
    assert found.to_arrow().equals(distilled.to_arrow(), check_metadata=True)
    assert found.manifest == distilled.manifest
    assert server.steps == ["create", "info", "info", "validate", "preupload", "batch", "upload", "commit"]


def test_the_token_goes_to_the_hub_alone(distilled: DistilledDataset, server: HubServer) -> None:
    distilled.push_to_hub("me/reviews")
    assert server.authorizations.pop("upload") == {None}  # a store of another company
    assert set.union(*server.authorizations.values()) == {f"Bearer {TOKEN}"}


def test_only_four_files_leave_the_folder(folder: Path, server: HubServer, dallme: Any) -> None:
    (folder / "vectors.npy").write_text(SECRET)
    status, out, err = dallme("push", folder, "me/reviews", "--public", "--commit-message", "First")
    assert (status, err) == (
        0,
        "note: no licence was found (the source is no dataset of the Hub); that of the source applies "
        "to the texts: name it with "
        "--license\n",
    )
    arrived = server.repositories["me/reviews"]
    assert not arrived.private
    assert arrived.commits == ["First"]
    files = arrived.branches["main"]
    assert sorted(files) == sorted([*FILES, "audit.json"])
    assert files["audit.json"] == (folder / "audit.json").read_bytes()
    assert files["train.parquet"] == (folder / "train.parquet").read_bytes()
    assert out.splitlines()[-1] == f"4 files in {server.url}/datasets/me/reviews"
    assert SECRET.encode() not in b"".join(files.values())


def test_an_audit_of_what_stood_there_is_removed(distilled: DistilledDataset, server: HubServer) -> None:
    distilled.push_to_hub("me/reviews", audit=audit(personal=False))
    assert "audit.json" in server.repositories["me/reviews"].branches["main"]
    distilled.push_to_hub("me/reviews")
    assert sorted(server.repositories["me/reviews"].branches["main"]) == FILES


def test_a_branch_is_made(folder: Path, server: HubServer, dallme: Any) -> None:
    for _ in range(2):
        status, out, _ = dallme("push", folder, "me/reviews", "--revision", "draft", "--json")
        assert status == 0
    branches = server.repositories["me/reviews"].branches
    assert (sorted(branches), branches["main"], len(branches["draft"])) == (["draft", "main"], {}, 4)
    document = json.loads(out)
    assert document["address"] == f"{server.url}/datasets/me/reviews"
    assert document["files"] == {name: len(content) for name, content in branches["draft"].items()}
    assert (document["private"], "card" in document) == (True, False)


def test_a_dry_run_sends_nothing(folder: Path, server: HubServer, dallme: Any) -> None:
    status, out, _ = dallme(
        "push", folder, "me/reviews", "--license", "cc-by-4.0", "--language", "en, fr", "--dry-run"
    )
    assert status == 0
    assert server.steps == []
    assert [line.split()[0] for line in out.splitlines()[:4]] == [
        "train.parquet",
        "README.md",
        "manifest.json",
        "audit.json",
    ]
    assert "license: cc-by-4.0\n" in out
    assert 'load_dataset("me/reviews", split="train")' in out
    printed = json.loads(dallme("push", folder, "me/reviews", "--dry-run", "--json")[1])
    assert printed["address"] is None
    assert printed["card"].startswith("---\npretty_name: Distilled reviews.csv\n")


# Refusals


def test_personal_data_is_pushed_only_if_that_is_allowed(
    distilled: DistilledDataset, server: HubServer, tmp_path: Path, dallme: Any
) -> None:
    with pytest.raises(PersonalDataError, match="found 1 places in the audit; distil again with redact=True"):
        distilled.push_to_hub("me/reviews", audit=audit())
    written = replace(distilled, texts=("A fine film. Write to jane@example.org.", distilled.texts[1]))
    with pytest.raises(PersonalDataError, match=r"found 1 e-mail address \(text 0\)") as caught:
        written.push_to_hub("me/reviews")
    assert "jane" not in str(caught.value)
    folder = written.save(tmp_path / "out")
    assert "j\\*\\*\\*" in (folder / "README.md").read_text(encoding="utf-8")
    status, _, err = dallme("push", folder, "me/reviews")
    assert status == 2
    assert "distil again with --redact, edit the texts with dallme review, or --allow-personal" in err
    assert server.steps == []
    assert dallme("push", folder, "me/reviews", "--allow-personal")[0] == 0
    card = server.repositories["me/reviews"].branches["main"]["README.md"].decode()
    assert "jane" not in card


def test_a_public_repository_needs_a_word(distilled: DistilledDataset, server: HubServer) -> None:
    server.repositories["me/reviews"] = Repository(private=False)
    with pytest.raises(InputError) as caught:
        distilled.push_to_hub("me/reviews")
    assert str(caught.value) == (
        "expected a private repository, found that 'me/reviews' is public already; say --public "
        "(private=False), or choose "
        "another name"
    )
    assert server.repositories["me/reviews"].commits == []
    distilled.push_to_hub("me/reviews", private=False)
    assert len(server.repositories["me/reviews"].commits) == 1


@pytest.mark.parametrize(
    "name", ["reviews", "me/reviews/more", "/reviews", "me/", "me /reviews", 'me/"]"', ""]
)
def test_an_id_without_a_namespace_is_an_error(
    distilled: DistilledDataset, server: HubServer, name: str
) -> None:
    with pytest.raises(InputError) as caught:
        distilled.push_to_hub(name)
    assert str(caught.value) == (
        f"expected the id of a dataset as user/name or organisation/name, of letters, digits, '-', "
        f"'_' and '.', found {name!r}"
    )
    assert server.steps == []


def test_a_refused_token_is_an_error_of_one_line(folder: Path, server: HubServer, dallme: Any) -> None:
    server.token = "hf_another"
    status, out, err = dallme("push", folder, "me/reviews", "--license", "mit")
    assert (status, out) == (2, "")
    assert err == (
        "error: expected to upload to 'me/reviews' on the Hub, could not: 401 Invalid credentials in "
        "Authorization header; "
        "the Hub does not know the token: log in with `hf auth login`, or set HF_TOKEN; a commit is "
        "made whole or not at all\n"
    )
    assert server.repositories == {}


def test_a_namespace_of_others_is_an_error(distilled: DistilledDataset, server: HubServer) -> None:
    with pytest.raises(
        DallmeError,
        match="403 You don't have the rights .* under the namespace 'them'; the token may not write there",
    ):
        distilled.push_to_hub("them/reviews")
    assert server.repositories == {}


@pytest.mark.parametrize(
    ("step", "fault", "advice"),
    [
        (
            "create",
            "drop",
            "Server disconnected without sending a response.; check the name, the network and `hf "
            "auth login`; ",
        ),
        (
            "upload",
            "drop",
            "Error while uploading 'train.parquet' to the Hub.; check the name, the network and `hf "
            "auth login`; ",
        ),
        ("upload", 503, "503 refused on purpose; check the name, the network and `hf auth login`; "),
        (
            "commit",
            "drop",
            "Server disconnected without sending a response.; check the name, the network and `hf "
            "auth login`; ",
        ),
        (
            "commit",
            404,
            "404 refused on purpose; there is no such repository, user or branch, or the token may "
            "not see it: ",
        ),
        ("preupload", 429, "429 refused on purpose; too many requests: wait and try again; "),
        ("batch", 401, "401 refused on purpose; the Hub does not know the token: "),
    ],
)
def test_a_hub_that_dies_on_the_way_holds_nothing_of_it(
    distilled: DistilledDataset, server: HubServer, step: str, fault: int | str, advice: str
) -> None:
    server.faults[step] = fault
    with pytest.raises(DallmeError) as caught:
        distilled.push_to_hub("me/reviews")
    assert str(caught.value).startswith(f"expected to upload to 'me/reviews' on the Hub, could not: {advice}")
    assert "\n" not in str(caught.value)
    assert step in server.steps
    assert all(repository.branches == {"main": {}} for repository in server.repositories.values())
    server.faults.clear()
    distilled.push_to_hub("me/reviews")
    assert sorted(server.repositories["me/reviews"].branches["main"]) == FILES


@pytest.mark.parametrize("step", ["create", "commit"])
def test_an_upload_has_a_total_time(
    distilled: DistilledDataset, server: HubServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr("dallme.dataset.hub.UPLOAD_SECONDS", 2.0)
    server.faults[step] = "drip"
    with pytest.raises(DallmeError, match="on the Hub within 2 seconds, found no end of its answers"):
        distilled.push_to_hub("me/reviews")


def test_the_card_of_a_source_has_a_total_time(
    distilled: DistilledDataset, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dallme.dataset.card.CARD_SECONDS", 0.5)
    server.cards["owner/reviews"] = "---\nlicense: mit\n---\n" * 100
    server.faults["card"] = "drip"
    upload = hub.prepare(of_hub(distilled), "me/reviews")
    assert "the card of 'owner/reviews' could not be read: no answer within 0.5 seconds" in upload.notes[0]


def test_without_a_network_there_is_one_line(
    distilled: DistilledDataset, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        DallmeError,
        match="could not: .*Connection refused.*; check the name, the network and `hf auth login`; a",
    ):
        distilled.push_to_hub("me/reviews")
    close_session()  # the mode is read when a session starts
    try:
        with monkeypatch.context() as patch:
            patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
            with pytest.raises(DallmeError, match="could not: .*offline mode"):
                distilled.push_to_hub("me/reviews")
    finally:
        close_session()


@pytest.mark.parametrize("step", ["create", "commit"])
def test_a_planted_key_is_nowhere(
    folder: Path, server: HubServer, dallme: Any, caplog: pytest.LogCaptureFixture, step: str, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    outputs = [dallme("push", folder, "me/reviews")]
    server.faults[step] = "echo"
    outputs.append(dallme("push", folder, "me/reviews"))
    assert [status for status, _, _ in outputs] == [0, 2]
    assert "Bearer ***" in outputs[1][2]
    printed = [text for _, *texts in outputs for text in texts]
    stored = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    sent = list(server.repositories["me/reviews"].branches["main"].values())
    assert len(stored) > 4
    assert TOKEN not in "".join([*printed, caplog.text])
    assert TOKEN.encode() not in b"".join([*stored, *sent])


# The audit


def test_the_card_tells_of_the_audit(distilled: DistilledDataset) -> None:
    text = render(distilled, audit=audit())
    assert (
        "## Audit\n\n| | |\n| --- | --- |\n"
        "| longest run of words copied from one source row | 2 |\n"
        "| runs of five words that occur in the source | 25% |\n"
        "| source rows behind the text with the fewest | 1 |\n"
        "| texts that occur in the test set | 1; 2 share 13 words with one (of 1,500 test rows) |\n"
        "| pairs of near duplicates | 0 |\n"
        "| labels that a classifier of the full data disputes | 1 of 2 |\n"
        "| personal data | 1 places (presidio-analyzer 2.2.366) |\n"
        "| different words among all words | 88% |\n"
        "| complete sentences | 100% |\n"
        "| perplexity | 41.3 |\n\n"
        "- **Failed**: expected 2 rows \\<b\\>behind\\</b\\> each text\n"
    ) in text
    bare = audit()
    bare["summary"] |= {"contamination": None, "agreement": None, "personal": {"scanner": None, "found": 0}}
    bare["summary"]["readability"]["perplexity"] = None
    bare["failures"] = []
    text = render(distilled, audit=bare)
    assert "| texts that occur in the test set | not checked |\n" in text
    assert "| personal data | not scanned |\n" in text
    assert "classifier of the full data disputes | not checked |\n" in text
    assert "perplexity" not in text
    assert "Failed" not in text
    assert "## Audit" not in render(distilled)


def test_a_saved_set_may_have_an_audit(distilled: DistilledDataset, tmp_path: Path) -> None:
    out = distilled.save(tmp_path / "out", audit=audit())
    assert json.loads((out / "audit.json").read_text(encoding="utf-8")) == audit()
    assert "## Audit" in (out / "README.md").read_text(encoding="utf-8")


def test_an_audit_quotes_nothing_but_the_texts(distilled: DistilledDataset) -> None:
    check_audit(audit("FINE, film"), distilled)
    for span in (SECRET, "fine films", "film fine", "Dull"):
        with pytest.raises(InputError) as caught:
            check_audit(audit(span), distilled)
        assert str(caught.value) == (
            "expected audit.json to quote nothing but the distilled texts, found words in text 0 that "
            "it does not hold; "
            "run dallme audit again"
        )
    with pytest.raises(
        InputError, match="expected an audit of these 2 texts, found one of 1 texts; run dallme audit again"
    ):
        check_audit({"texts": [{}]}, distilled)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"summary": 3, "texts": []}', b"\xff"])
def test_an_audit_that_cannot_be_read_is_an_error(content: bytes) -> None:
    with pytest.raises(
        InputError,
        match="expected the document of an audit in audit.json, found that .*; run dal",
    ):
        parse_audit(content)


@pytest.mark.parametrize("key", ["members", "small_clusters", "thresholds"])
def test_an_audit_that_lacks_what_is_shown_is_an_error(key: str) -> None:
    document = audit()
    for place in (document, document["summary"], document["texts"][1]):
        place.pop(key, None)
    with pytest.raises(InputError, match=f"found that audit.json.* has no '{key}'; run dallme audit again"):
        parse_audit(json.dumps(document).encode())
    assert parse_audit(json.dumps(audit()).encode()) == audit()


def test_a_method_cannot_break_the_table_of_the_card(distilled: DistilledDataset) -> None:
    result = {"classifier": "l|r", "accuracy_mean": 0.5, "accuracy_std": 0.0, "runs": 1, "recovered": None}
    table = {"methods": [{"method": "<b>|.csv", "texts": 2, "results": [result]}]}
    shown = render(distilled.with_comparison(table)).split("held-out real texts.\n\n")[1]
    assert shown.startswith(
        "| method | texts | l\\|r |\n| --- | --- | --- |\n| \\<b\\>\\|.csv | 2 | 0.500 |\n\n"
    )


# Licence, language, source


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("fancyzhx/ag_news@train", "fancyzhx/ag_news"),
        ("glue:sst2@train[:10%]", "glue"),
        ("reviews.csv", None),
        ("data/reviews.csv", None),
        ("reviews@2024.csv", None),
        ("me@home/reviews.csv", None),
        ("memory", None),
        ("", None),
    ],
)
def test_only_an_id_of_the_hub_is_a_source_dataset(
    distilled: DistilledDataset, source: str, found: str | None
) -> None:
    assert hub_id({"data": {"source": source}}) == found
    card = DatasetCard(render(of_hub(distilled, source)))
    assert card.data.get("source_datasets") == ([found] if found else None)


def test_the_terms_of_the_source_are_carried_over(distilled: DistilledDataset, server: HubServer) -> None:
    server.cards["owner/reviews"] = (
        "---\nlicense: CC-BY-SA-4.0\nlanguage: [en, deu, nonsense]\nmore: [1]\n---\n# Reviews\n"
    )
    upload = hub.prepare(of_hub(distilled), "me/reviews")
    assert upload.notes == ()
    card = DatasetCard(upload.files["README.md"].decode())
    assert card.data.to_dict() == {
        "pretty_name": "Distilled owner/reviews:plain@train",
        "language": ["en", "deu"],
        "license": "cc-by-sa-4.0",
        "task_categories": ["text-classification"],
        "size_categories": ["n<1K"],
        "source_datasets": ["owner/reviews"],
        "tags": ["dataset-distillation", "dallme"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
    }
    assert DatasetCardData(**card.data.to_dict()).to_yaml() == card.data.to_yaml()
    assert (
        "## Licence\n\n**cc-by-sa-4.0** (the card of the source says so). These texts are made of "
        "texts of owner/reviews:" in (card.text)
    )
    own = hub.prepare(of_hub(distilled), "me/reviews", license="MIT", languages=["fr"])
    assert DatasetCard(own.files["README.md"].decode()).data.license == "mit"
    assert "**mit** (as stated by the uploader)" in own.files["README.md"].decode()
    assert set(server.steps) == {"card"}


def test_a_licence_of_its_own_name_is_carried_over(distilled: DistilledDataset, server: HubServer) -> None:
    server.cards["owner/reviews"] = (
        "---\nlicense: other\nlicense_name: <b>ours</b>\nlicense_link: https://x.org/l\n---\n"
    )
    text = hub.prepare(of_hub(distilled), "me/reviews").files["README.md"].decode()
    data = DatasetCard(text).data.to_dict()
    assert (data["license"], data["license_name"], data["license_link"]) == (
        "other",
        "<b>ours</b>",
        "https://x.org/l",
    )
    assert "**other (\\<b\\>ours\\</b\\>)**" in text


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (None, "the card of 'owner/reviews' could not be read: RemoteEntryNotFoundError"),
        ("# No metadata\n", "the card of 'owner/reviews' names none"),
        ("---\nlicense: unknown\n---\n", "the card of 'owner/reviews' names none"),
        ("---\nlicense: {a: b}\n---\n", "the card of 'owner/reviews' names none"),
        ("---\nlicense: '<script>'\n---\n", "the card of 'owner/reviews' could not be read: InputError"),
        ("---\nlicense: [\n---\n", "the card of 'owner/reviews' could not be read: "),
    ],
)
def test_a_licence_that_is_not_found_is_a_warning(
    distilled: DistilledDataset, server: HubServer, card: str | None, reason: str
) -> None:
    if card is not None:
        server.cards["owner/reviews"] = card
    upload = hub.prepare(of_hub(distilled), "me/reviews")
    assert len(upload.notes) == 1
    if card is not None:
        assert upload.notes[0].startswith(f"no licence was found ({reason}")
    assert upload.notes[0].endswith("; that of the source applies to the texts: name it with --license")
    text = upload.files["README.md"].decode()
    assert "license" not in DatasetCard(text).data.to_dict()
    assert (
        "> **Warning.** The licence of the source was not found. These texts are made of texts of "
        "owner/reviews:plain@train" in text
    )


def test_terms_that_make_no_sense_are_errors() -> None:
    with pytest.raises(
        InputError, match="expected a licence as the Hub names it, .*, found 'my licence'; see https://"
    ):
        Terms(("my licence",))
    with pytest.raises(
        InputError, match="expected a language as an ISO 639 code, such as en or deu, found 'English'"
    ):
        Terms(languages=("English",))


# How to use it


def test_what_the_card_says_can_be_run(
    distilled: DistilledDataset,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(folder.parent / "datasets"))
    tokens = MarkdownIt().parse(render(distilled, place=str(folder)).split("---\n", 2)[2])
    code = "".join(token.content for token in tokens if token.type == "fence" and token.info == "python")
    exec(compile(code, "card", "exec"), {})
    out = capsys.readouterr().out
    assert out.splitlines()[0] in ("positive", "negative")
    assert out.endswith("Class: negative\n\nText: A text of your own.\nClass:\n")
