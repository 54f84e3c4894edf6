"""`dallme inspect` and `dallme.inspect`: what a source holds before it is distilled."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import dallme
from dallme.cli.main import app
from dallme.errors import InputError

CONTENT = """ref;Body;kind
1;Please call me: ann@example.org;Billing
2;Please call me: ann@example.org;billing
3;It does not work at all;Technical
4;It still does not work;Technical
5;;Technical
6;Thanks a lot;Billing
"""


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text(CONTENT, encoding="utf-8")
    return path


def test_everything_is_counted(tickets: Path) -> None:
    found = dallme.inspect(tickets, label_column="kind")
    assert (found.rows, found.usable) == (6, 5)
    assert found.problem == f"{tickets}: 1 of 6 rows cannot be used: line 6 has a blank text"
    assert found.suggestion == "--drop-bad-rows"
    assert [(column.name, column.kind, column.filled, column.distinct) for column in found.columns] == [
        ("ref", "text", 6, 6),
        ("Body", "text", 5, 4),
        ("kind", "text", 6, 3),
    ]
    assert [(column.use, column.reason) for column in found.columns] == [
        ("", ""),
        ("texts", "its usual name"),
        ("labels", "named by you"),
    ]
    assert found.classes == {"Billing": 2, "Technical": 2, "billing": 1}
    assert found.words == {"mean": 5.0, "median": 6.0, "max": 6.0}
    assert (found.repeated, found.ambiguous) == (1, 1)
    assert found.similar_labels == (("Billing", "billing"),)
    assert (found.personal, found.personal_texts, found.searched) == ({"EMAIL_ADDRESS": 2}, 2, 5)
    assert found.seconds is None


def test_the_options_solve_the_problem(tickets: Path) -> None:
    found = dallme.inspect(tickets, label_column="kind", drop_bad_rows=True, normalize_labels=True)
    assert found.problem is None
    assert found.similar_labels == ()
    assert found.classes == {"Billing": 3, "Technical": 2}


def test_columns_are_suggested_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{row},das ist Satz Nummer {row},{row % 2}\n" for row in range(9))
    path.write_text(f"nr,satz,art\n{rows}", encoding="utf-8")
    found = dallme.inspect(path)
    assert found.problem is not None
    assert "expected a text column with a usual name" in found.problem
    assert found.suggestion == "--text-column 'satz' --label-column 'art'"
    assert dallme.inspect(path, text_column="satz", label_column="art").problem is None


def test_labels_that_mean_none_are_counted_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,NA\nb,x\nc,y\n", encoding="utf-8")
    found = dallme.inspect(path)
    assert found.problem is not None
    assert "--missing-labels 'NA'" in found.problem
    assert found.classes == {"NA": 1, "x": 1, "y": 1}


def test_one_class_is_a_problem() -> None:
    found = dallme.inspect(["a", "b"], ["x", "x"])
    assert found.problem == "memory: expected at least two classes, found only 'x'"


def test_the_time_is_measured_on_a_sample(tickets: Path) -> None:
    found = dallme.inspect(tickets, label_column="kind", embedder="hashing")
    assert found.seconds is not None
    assert found.seconds >= 0
    assert found.seconds_are.startswith("to embed with hashing, measured on")
    assert dallme.inspect(tickets, label_column="kind", embedder="no/such").seconds is None


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        dallme.inspect(tmp_path / "a.csv")
    with pytest.raises(InputError, match="expected one character"):
        dallme.inspect(tmp_path / "a.csv", delimiter="--")


def test_the_command_prints_a_page_without_values(tickets: Path) -> None:
    arguments = ["inspect", str(tickets), "--label-column", "kind", "--embedder", "hashing"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f"{tickets}: 6 rows, 5 of them usable"
    assert "Body    text  5       4         texts (its usual name)" in lines
    assert "Technical  2" in lines
    assert "words          mean 5, median 6, longest 6" in lines
    assert "repetitions    1 rows; 1 texts with several labels" in lines
    assert "similar labels 'Billing' = 'billing' (--normalize-labels merges them)" in lines
    assert "personal data  2 e-mail addresses in 2 texts" in lines
    assert any(line.startswith("time           about 0 s (to embed with hashing") for line in lines)
    assert lines[-2:] == [
        f"needs a change: {tickets}: 1 of 6 rows cannot be used: line 6 has a blank text",
        "suggestion: --drop-bad-rows",
    ]
    assert "read with the delimiter ';'" in result.stderr
    assert "ann@" not in result.output
    again = CliRunner().invoke(app, [*arguments, "--drop-bad-rows", "--normalize-labels"])
    assert again.exit_code == 0
    next_command = again.stdout.splitlines()[-1]
    assert next_command.startswith(f"next: dallme distill {tickets} --per-class 2 --output distilled ")
    assert {"--drop-bad-rows", "--normalize-labels"} <= set(next_command.split())
