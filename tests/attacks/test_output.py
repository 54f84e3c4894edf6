"""Attacks through what is printed and where it is written: terminals, secrets, closed outputs, places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dallme.cli import main
from dallme.cli import output as printing
from dallme.cli.main import _status

PROGRAM = (sys.executable, "-c", "from dallme.cli.main import run; run()")

#: Clears the screen, sets the title, moves back over what was printed, and reverses text.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\rfine\x9b1m\u202eevil"


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of two classes; the working directory is theirs, and the store is beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    rows = [
        {"text": f"a {word} film {row} → {HOSTILE}", "label": word}
        for row in range(8)
        for word in ("fine", "dull")
    ]
    path = tmp_path / "reviews.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def distil(*more: str, output: str = "out") -> tuple[str, ...]:
    return (
        "distill",
        "reviews.jsonl",
        "--per-class",
        "1",
        "--embedder",
        "hashing",
        "--output",
        output,
        *more,
    )


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["dallme", *arguments])
    return _status()


def controls(text: str) -> set[str]:
    """The characters of a text that a terminal would obey."""
    return {
        sign
        for sign in text
        if sign not in "\n\t" and (not sign.isprintable() and sign not in "\u2028\u2029")
    }


# Terminals


@pytest.mark.parametrize(
    "command",
    [
        ("embed", "reviews.jsonl", "--explain"),
        ("push", "out", "me/x", "--dry-run"),
        ("export", "no\x1b[2Jne", "--format", "csv"),
    ],
)
@pytest.mark.parametrize("json_", [(), ("--json",)])
def test_no_text_moves_the_cursor(
    reviews: Path,
    command: tuple[str, ...],
    json_: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *distil("--no-report", "--decoder", "nearest")) == 0
    capsys.readouterr()
    run(monkeypatch, *command, *json_, *(("--embedder", "hashing") if command[0] == "embed" else ()))
    captured = capsys.readouterr()
    assert captured.out + captured.err
    assert controls(captured.out + captured.err) == set()
    if json_ and command[0] == "embed":  # escaped, and still the same text
        assert HOSTILE in json.loads(captured.out)["examples"][0]["string"]


def test_controls_are_shown_as_escapes() -> None:
    assert printing.printable("a\x1b[2J\tb\nc\r\x9b\u202e") == "a\\x1b[2J\tb\nc\\r\\x9b\\u202e"


# Secrets


def test_secrets_of_the_environment_are_never_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted9876543210")
    monkeypatch.setenv("MY_PASSWORD", "correct-horse")
    monkeypatch.setenv("KEY", "a")  # too short to be one; nothing else would be left
    printing.show("token hf_planted9876543210 at https://user:pa:ss@mirror.example/x?a=1 https://h/p")
    printing.print_json({"a": "correct-horse", "b": "postgres://me:pw@h/db"})
    printing.print_table(["x"], [["hf_planted9876543210"]])
    printing.show_note("correct-horse")
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "token *** at https://***@mirror.example/x?a=1 https://h/p"
    assert json.loads("\n".join(captured.out.splitlines()[1:5])) == {"a": "***", "b": "postgres://***@h/db"}
    assert captured.err == "note: ***\n"
    for secret in ("planted", "correct-horse", "pa:ss", ":pw@"):
        assert secret not in captured.out + captured.err


def test_a_bug_prints_no_secret(tmp_path: Path) -> None:
    code = (
        "from dallme.cli import main\n"
        "def fail(): raise RuntimeError('sk-planted-0123456789 \\x1b[2J')\n"
        "main._status = fail; main.run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OPENAI_API_KEY": "sk-planted-0123456789"},
    )
    assert done.returncode == 1
    assert "RuntimeError: *** \\x1b[2J" in done.stderr
    assert "this is a bug" in done.stderr
    assert "planted-0123" not in done.stderr


# Closed and narrow outputs


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_any_encoding_takes_every_print(reviews: Path, encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    lines = [distil("--no-report", output="out"), distil("--no-report", "--json", output="out-json")]
    code = (
        "import sys; from dallme.cli.main import run\n"
        f"for line in {lines!r}:\n"
        "    sys.argv = ['dallme', *line]\n"
        "    try: run()\n"
        "    except SystemExit as ended: assert ended.code == 0, line\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode(encoding)
    assert "→" in json.loads(printed[printed.index("{\n") :])["texts"][0]["text"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("redirection", "status"),
    [("| head -1", 0), (">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 2)],
)
def test_a_closed_output_is_no_crash(redirection: str, status: int, tmp_path: Path) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    program = f"{sys.executable} -c 'from dallme.cli.main import run; run()'"
    for verb in ("list", "list --json", "distill --help"):
        script = f"{program} {verb} {redirection}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr


def test_a_set_is_written_though_nobody_reads_the_output(reviews: Path, tmp_path: Path) -> None:
    program = f"{sys.executable} -c 'from dallme.cli.main import run; run()'"
    script = f"{program} {' '.join(distil('--no-report', '--json'))} 2>&- | true"
    subprocess.run(["bash", "-c", script], check=True)
    assert (tmp_path / "out" / "train.parquet").is_file()


# Places

APART = "expected an --output apart from what is read"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("distill", "data/rows.jsonl", "--output", "data", "--overwrite"), APART),
        (("distill", "data", "--output", "data/out"), APART),
        (("distill", "reviews.jsonl", "--test", "data/rows.jsonl", "--output", "link", "--overwrite"), APART),
        (("distill", "reviews.jsonl", "--output", "x" * 240), "at most 223 bytes in --output, found 240"),
        (("distill", "reviews.jsonl", "--output", "x" * 300), "at most 223 bytes in --output, found 300"),
        (("embed", "data/rows.jsonl", "--output", "data/rows.npy"), None),
        (("embed", "vectors.parquet", "--output", "vectors.parquet", "--overwrite"), APART),
        (("embed", "data", "--output", "data/rows.parquet"), APART),
        (("curve", "reviews.jsonl", "--test", "reviews.jsonl", "--output", "reviews.jsonl"), APART),
    ],
)
def test_no_output_replaces_what_is_read(
    reviews: Path,
    arguments: tuple[str, ...],
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("data").mkdir()
    Path("link").symlink_to("data")
    Path("data/rows.jsonl").write_bytes(reviews.read_bytes())
    Path("vectors.parquet").write_bytes(b"mine")
    budget = ("--per-class", "1") if arguments[0] == "distill" else ()
    status = run(monkeypatch, *arguments, *budget, "--embedder", "hashing")
    assert status == (0 if message is None else 2)
    assert (message or "") in capsys.readouterr().err
    assert Path("data/rows.jsonl").read_bytes() == reviews.read_bytes()
    assert Path("vectors.parquet").read_bytes() == b"mine"


def test_a_read_only_home_costs_nothing_but_the_store(reviews: Path, tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DALLME_STORE", "XDG_CACHE_HOME")
    }
    Path("rows.jsonl").write_text(
        "".join(
            json.dumps({"id": f"r{row}", **json.loads(line)}) + "\n"
            for row, line in enumerate(reviews.open())
        )
    )
    command = [
        "distill",
        "rows.jsonl",
        "--id-column",
        "id",
        "--per-class",
        "1",
        "--embedder",
        "hashing",
        "--output",
        "out",
    ]
    done = subprocess.run(
        [*PROGRAM, *command, "--test", "rows.jsonl", "--classifiers", "nb,elr"],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"HOME": os.devnull, "USER": "nobody-here"},
    )
    assert done.returncode == 0, done.stderr
    assert "note: vectors are not kept: " in done.stderr
    assert {path.name for path in Path("out").iterdir()} == {
        ".dallme-files.json",
        "README.md",
        "manifest.json",
        "report.html",
        "train.parquet",
    }


def test_a_failing_page_is_a_note(
    reviews: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("dallme.report.page.render", fail)
    assert run(monkeypatch, *distil()) == 0
    captured = capsys.readouterr()
    assert "note: no report.html: RuntimeError: cannot cache function: no locator available" in captured.err
    assert sorted(path.name for path in Path("out").iterdir()) == [
        ".dallme-files.json",
        "README.md",
        "manifest.json",
        "train.parquet",
    ]


def test_a_failing_comparison_leaves_the_texts(
    reviews: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("dallme.evaluation.compare.compare", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        run(monkeypatch, *distil("--test", "reviews.jsonl"))
    assert "note: the texts are in out; they could not be compared" in capsys.readouterr().err
    assert Path("out/train.parquet").is_file()


@pytest.mark.parametrize(
    "parts",
    [
        ("--embedder", "openai:text-embedding-3-small"),
        ("--embedder", "hashing", "--decoder", "llm:gpt-4.1-mini"),
    ],
)
def test_a_missing_key_is_said_before_anything_is_read(
    reviews: Path, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openai")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("dallme.readers.read", lambda *_, **__: pytest.fail("the source was read"))
    assert run(monkeypatch, "distill", "reviews.jsonl", "--per-class", "1", "--output", "out", *parts) == 2
    assert "expected a key in the environment variable OPENAI_API_KEY, found none" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["user/a..b", "user/a--b", "user/x.git", "user/abc-", f"user/{'x' * 97}", "-user/x"]
)
def test_ids_that_the_hub_refuses_fail_a_dry_run(
    reviews: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *distil("--no-report")) == 0
    assert run(monkeypatch, "push", "out", "--dry-run", "--", name) == 2
    assert "error: expected " in capsys.readouterr().err


def test_an_interrupt_before_the_command_begins_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "make_streams_safe", interrupt)
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("interrupted; ")
