"""The path of a newcomer: a file with personal data becomes a set that holds none, and can be shared."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dallme import DistilledDataset
from dallme.cli.main import app

PRIVATE = (
    "jane.doe@example.org",
    "j.smith@firm.example",
    "+49 30 1234567",
    "(212) 555-0187",
    "DE89 3704 0044 0532 0130 00",
    "4111 1111 1111 1111",
    "AKIAIOSFODNN7EXAMPLE",
)


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty tickets of two classes in the working directory, each with one private value."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    things = {"billing": ("invoice", "refund", "charge"), "delivery": ("parcel", "courier", "address")}
    with Path("tickets.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(60):
            name = list(things)[row % 2]
            thing, value = things[name][row % 3], PRIVATE[row % len(PRIVATE)]
            writer.writerow(
                [f"My {thing} number {row} is wrong. Please answer to {value} about the {thing}.", name]
            )
    return Path("tickets.csv")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _distill(*more: object, per_class: int = 3) -> Result:
    return _run(
        "distill", "tickets.csv", "--per-class", per_class, "--embedder", "hashing", "--output", "few", *more
    )


def test_nothing_private_is_in_what_is_shared(tickets: Path) -> None:
    distilled = _distill("--redact", per_class=8)
    assert distilled.exit_code == 0, distilled.output
    assert "note: replaced in the source: " in distilled.stderr
    assert "next: dallme audit few --source tickets.csv" in distilled.stdout
    assert "open report.html in it" in distilled.stdout
    outputs = [distilled]
    for command in (
        ("report", "few", "--source", "tickets.csv"),
        ("audit", "few", "--max-personal", 0),
        ("report", "few"),
        ("export", "few", "--format", "jsonl", "--output", "few/few.jsonl"),
        ("export", "few", "--format", "few-shot", "--output", "few/prompt.txt"),
        ("push", "few", "user/tickets", "--dry-run"),
    ):
        outputs.append(_run(*command))
        assert outputs[-1].exit_code == 0, outputs[-1].output
    files = {str(path): path.read_bytes() for path in Path("few").rglob("*") if path.is_file()}
    files |= {f"store {path}": path.read_bytes() for path in Path("store").rglob("*") if path.is_file()}
    files["printed"] = "".join(result.output for result in outputs).encode()
    files["texts"] = json.dumps(DistilledDataset.load("few").to_arrow().to_pylist()).encode()
    assert len(files) > 9
    leaks = [
        (name, value) for name, content in files.items() for value in PRIVATE if value.encode() in content
    ]
    assert leaks == []
    assert re.search(rb"<(EMAIL|PHONE|IBAN|CARD|SECRET)_[1-9]>", files["texts"])
    assert "distilled from the source" not in outputs[2].output


def test_a_messy_file_from_inspection_to_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    lines = ["Nr;text;label"]
    for row in range(90):
        praise = row % 2 == 0
        label = (("Lob", "lob ", "LOB") if praise else ("Beschwerde", "beschwerde", "BESCHWERDE"))[row % 3]
        text = "schönes Gerät, läuft prima" if praise else "Gehäuse beschädigt, Service unmöglich"
        lines.append(f"{row};{text}, Nummer {row}. Antwort bitte an kunde{row}@example.org.;{label}")
    Path("tickets.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    seen = _run("inspect", "tickets.csv", "--embedder", "none")
    assert "90 e-mail addresses in 90 texts" in seen.stdout
    assert "(--normalize-labels merges them)" in seen.stdout
    assert "Windows-1252" in seen.stderr
    few = ("few", "--source", "tickets.csv", "--normalize-labels")
    distilled = _distill("--redact", "--normalize-labels")
    report = _run("report", *few)
    prompt = _run("export", "few", "--format", "few-shot", "--output", "few/prompt.txt")
    outputs = [seen, distilled, report, prompt, _run("push", "few", "user/tickets", "--dry-run")]
    assert [result.exit_code for result in outputs] == [0] * 5, outputs[-1].output
    texts = DistilledDataset.load("few")
    assert len(texts.label_names) == 2
    assert any("schönes Gerät" in text for text in texts.texts)
    written = {path: path.read_bytes() for path in Path("few").rglob("*") if path.is_file()}
    assert len(written) > 4
    assert [path for path, content in written.items() if b"@example.org" in content] == []
    assert "@example.org" not in "".join(result.output for result in outputs)


def test_without_redaction_nothing_goes_out_unasked(tickets: Path) -> None:
    distilled = _distill()
    assert distilled.exit_code == 0, distilled.output
    assert "note: the texts may hold personal data: " in distilled.stderr
    assert "--redact replaces such data in the source" in distilled.stderr
    card = Path("few/README.md").read_text(encoding="utf-8")
    page = Path("few/report.html").read_text(encoding="utf-8")
    printed = distilled.output
    audit = _run("audit", "few", "--max-personal", 1)
    assert audit.exit_code == 1
    assert "personal data in text 0: " in audit.stdout
    assert "failed: expected at most 1 places with personal data, found " in audit.stdout
    document = Path("few/audit.json").read_text(encoding="utf-8")
    after = _run("report", "few", "--source", "tickets.csv")
    assert after.exit_code == 0
    page += Path("few/report.html").read_text(encoding="utf-8")
    for name, text in {
        "card": card,
        "page": page,
        "printed": printed,
        "audit": document + audit.output,
    }.items():
        assert [value for value in PRIVATE if value in text] == [], name
    commands = (
        ("export", "few", "--format", "jsonl", "--output", "few.jsonl"),
        ("push", "few", "user/tickets", "--dry-run"),
    )
    for command in commands:
        refused = _run(*command)
        assert refused.exit_code != 0
        assert str(refused.exception).startswith("expected texts without personal data, found ")
    assert not Path("few.jsonl").exists()
    for command in commands:
        assert _run(*command, "--allow-personal").exit_code == 0
    assert [value for value in PRIVATE if value in Path("few.jsonl").read_text(encoding="utf-8")]


def test_the_limit_fails_before_anything_is_written(tickets: Path) -> None:
    failed = _distill("--max-personal", 0)
    assert failed.exit_code != 0
    assert str(failed.exception).startswith("expected texts without personal data, found ")
    assert not Path("few").exists()
    assert _distill("--max-personal", 0, "--redact").exit_code == 0


def test_the_source_is_found_only_below_the_folders_at_hand(
    tickets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _distill("--redact", "--no-report").exit_code == 0
    found = _run("audit", "few")
    assert found.exit_code == 0, found.output
    assert "note: the source is tickets.csv, as the manifest names it" in found.stderr
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert _run("audit", "../few").exit_code == 0  # beside the set
    manifest = json.loads(Path("../few/manifest.json").read_text(encoding="utf-8"))
    for name in ("/etc/passwd", "../tickets.csv", "missing.csv", "org/data@train"):
        manifest["data"]["source"] = name
        shutil.copytree("../few", "set", dirs_exist_ok=True)
        Path("set/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        refused = _run("audit", "set")
        assert refused.exit_code != 0
        assert "name it with --source" in str(refused.exception), name


def test_the_end_shows_ten_texts_and_how_many_more(tickets: Path) -> None:
    shown = _distill("--redact").stdout.splitlines()
    assert shown[0].split() == ["label", "text"]
    assert len([line for line in shown if line.startswith(("billing ", "delivery "))]) == 6
    long = _run(
        "distill", "tickets.csv", "--per-class", 8, "--embedder", "hashing", "--output", "more", "--redact"
    )
    lines = [line for line in long.stdout.splitlines() if line.startswith(("billing ", "delivery "))]
    assert len(lines) == 10
    assert {line.split()[0] for line in lines} == {"billing", "delivery"}
    assert "… and 6 more" in long.stdout
    assert all(len(line) <= 210 for line in lines)
    assert any(" / " in line for line in lines)


def test_a_prompt_of_collages_is_a_note(tickets: Path) -> None:
    assert _distill("--redact", "--no-report").exit_code == 0
    noted = _run("export", "few", "--format", "few-shot", "--output", "prompt.txt")
    assert "texts are collages of sentences from several rows" in noted.stderr
    assert "collages" not in _run("export", "few", "--format", "csv", "--output", "few.csv").output
    assert _distill("--redact", "--no-report", "--for", "prompt", "--overwrite").exit_code == 0
    rows = _run("export", "few", "--format", "few-shot", "--output", "prompt.txt", "--overwrite")
    assert rows.exit_code == 0, rows.output
    assert "collages" not in rows.output
