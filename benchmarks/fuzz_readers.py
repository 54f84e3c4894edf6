"""Fuzzes the readers: only `InputError` is allowed, no hang, and every row is accounted for.

Atheris (libFuzzer for Python) mutates the seeds below and keeps inputs that reach new lines of
`dallme.readers`. An input is one byte for the kind of file, one for the options, and the content, which is
compressed if the kind is. Three of four mutations of a text file insert, move or remove a meaningful piece,
so that many files are readable. For each file that is read, rows in = rows used + rows reported is checked
against an independent count.

    python benchmarks/fuzz_readers.py --seconds 600

Needs `pip install atheris`. Inputs that break a reader go to ``--found``. Those in ``tests/fuzz`` broke one
earlier, and a test reads them again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from _common import HERE, make_parser, pick, write

#: The kinds of files, by the first byte of an input.
KINDS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".csv.gz", ".jsonl.zst")
KEPT = HERE.parent / "tests" / "fuzz"
#: Pieces of text files with a meaning.
PIECES = (
    '"', '""', ",", "\t", "\n", "\r\n", "\r", "\n\n", "text,label", "a,0\n", "b,1\n", '"a\nb",1\n', "{", "}",
    "[", "]", ":", "null", "NaN", "1e999", "-0", "0.5", "99999999999999999999", "true", '"text"', '"label"',
    '{"text": "a", "label": 1}\n',
    "\\ud800", "\\u0000", "\ufeff", "\0", "\x1b", "\u2028", "\u202e", "\u0301", "\u200d", "很好",
    "مرحبا", "😀", " ", "#",
)  # fmt: skip
#: Time limit of one small file in seconds.
PATIENCE = 10


def one_input(data: bytes, folder: Path) -> str:
    """Reads one input as a file and checks the result.

    Returns:
        ``read`` or ``refused``.

    Raises:
        AssertionError: If rows are neither used nor reported. Any other error but an `InputError` is a defect
            as well.
    """
    from dallme.errors import InputError
    from dallme.readers import read

    kind = KINDS[data[0] % len(KINDS)] if data else ".csv"
    options = data[1] if len(data) > 1 else 0
    path = folder / f"input{kind}"
    path.write_bytes(packed(data[2:], path))
    try:
        found = read(path, drop_bad_rows=bool(options & 1), labelled=not options & 2)
    except InputError as error:
        message = str(error)
        assert message.strip(), "an error without a word"
        assert "\n" not in message, "an error of several lines"
        return "refused"
    reported = sum(
        int(note.split()[2].replace(",", "")) for note in found.notes if note.startswith("left out")
    )
    rows = count_rows(path, kind, *detected(found.notes, kind))
    assert rows == len(found) + reported, f"{rows} rows in, {len(found)} used, {reported} reported"
    return "read"


def packed(content: bytes, path: Path) -> bytes:
    """The content as its file holds it."""
    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    return pa.compress(content, codec=compression, asbytes=True) if compression else content


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Puts, takes away or moves a piece of a text file, which stays valid UTF-8."""
    text = data[2:].decode("utf-8", "replace")
    at, until = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
    change = rng.randrange(4)
    if change == 0:
        text = text[:at] + rng.choice(PIECES) + text[at:]
    elif change == 1:
        text = text[:at] + rng.choice(PIECES) + text[min(until, at + 3) :]
    elif change == 2:
        text = text[:at] + text[min(until, at + 8) :]
    else:
        text = text[:until] + text[at:]
    return bytes([data[0], rng.randrange(4)]) + text.encode()


def detected(notes: tuple[str, ...], kind: str) -> tuple[str, str]:
    """The encoding and the delimiter that a file was read with, by the notes."""
    said = " ".join(notes)
    encoding = re.search(r" read as ([\w-]+) \(by ", said)
    delimiter = re.search(r"the delimiter '(.|\\t)'; ", said)
    usual = "\t" if kind == ".tsv" else ","
    return encoding[1] if encoding else "utf-8-sig", delimiter[1].replace("\\t", "\t") if delimiter else usual


def count_rows(path: Path, kind: str, encoding: str = "utf-8-sig", delimiter: str = ",") -> int:
    """Counts the rows of a file that was read, by other means than the readers'."""
    if kind == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    if kind == ".arrow":
        content = path.read_bytes()
        opener = pa.ipc.open_file if content.startswith(b"ARROW1") else pa.ipc.open_stream
        return int(opener(content).read_all().num_rows)
    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    with pa.input_stream(str(path), compression=compression) as stream:
        text = stream.read().decode(encoding)
    if kind.startswith((".csv", ".tsv")):
        csv.field_size_limit(2**31 - 1)
        return sum(1 for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row) - 1
    if text.lstrip().startswith("["):
        return len(json.loads(text))
    return sum(1 for line in text.split("\n") if line.strip())


def seeds() -> list[bytes]:
    """Small files of each kind, with what readers stumble over."""
    rows = [
        ("good film", "1"),
        ("dull, long", "0"),
        ('a "quote"', "1"),
        ("très 很好 مرحبا \u200d", "0"),
        ("", "1"),
        ("x\0y", "0"),
    ]
    table = pa.table({"text": [text for text, _ in rows], "label": [int(label) for _, label in rows]})
    nested = pa.table({"text": [["a"], ["b"], None], "label": [{"x": 1}, {"x": 2}, None]})
    encoded = pa.table(
        {"text": pa.array(["a", "b", "a"]).dictionary_encode(), "label": pa.array(["p", "q", None])}
    )
    contents: dict[str, list[bytes]] = {kind: [] for kind in KINDS}
    for delimiter, kind in ((",", ".csv"), ("\t", ".tsv")):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter).writerows([("text", "label"), *rows])
        contents[kind] = [
            text.getvalue().encode(),
            f"text{delimiter}label\na\n".encode(),
            b"\xef\xbb\xbf" + text.getvalue().encode(),
        ]
    lines = [{"text": text, "label": label} for text, label in rows] + [
        {"text": 7, "label": None},
        {"label": [1]},
        {"text": "\ud800"},
    ]
    plain = "\n".join(map(json.dumps, lines[: len(rows)]))
    contents[".jsonl"] = [
        plain.encode(),
        "\n".join(map(json.dumps, lines)).encode(),
        b'{"text": "a", "label": 1e999}\n{"text": "b", "label": NaN}',
    ]
    contents[".json"] = [json.dumps(lines[: len(rows)]).encode(), json.dumps(lines).encode(), b"[{}]"]
    for found in (table, nested, encoded):
        for kind, saver in ((".parquet", pq.write_table), (".arrow", _write_arrow)):
            buffer = io.BytesIO()
            saver(found, buffer)
            contents[kind].append(buffer.getvalue())
    for kind, plain in ((".csv.gz", ".csv"), (".jsonl.zst", ".jsonl")):
        contents[kind] = contents[plain]
    return [
        bytes([KINDS.index(kind), option]) + content
        for kind, made in contents.items()
        for content in made
        for option in range(4)
    ]


def _write_arrow(table: pa.Table, sink: Any) -> None:
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def child(found: Path, arguments: list[str]) -> None:
    """Fuzzes in this process; what breaks a reader is kept once a place, and the search goes on."""
    import atheris

    with atheris.instrument_imports(include=["dallme.readers", "dallme.validation"]):
        import_module("dallme.readers")
    tally = {"read": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as place:

        def test(data: bytes) -> None:
            try:
                tally[one_input(data, Path(place))] += 1
            except Exception as error:
                frames = [
                    frame for frame in traceback.extract_tb(error.__traceback__) if "dallme" in frame.filename
                ]
                file = frames[-1].filename.rpartition("dallme/")[2]
                where = f"{type(error).__name__} {file}:{frames[-1].lineno}"
                name = hashlib.sha256(where.encode()).hexdigest()[:12]
                if not (found / name).exists():
                    (found / name).write_bytes(data)
                    (found / f"{name}.txt").write_text(
                        f"{where}\n{''.join(traceback.format_exception(error))}"
                    )
            if sum(tally.values()) % 256 == 0:
                (found / "tally.json").write_text(json.dumps(tally))

        def custom_mutator(data: bytes, max_size: int, seed: int) -> bytes:
            rng = random.Random(seed)
            is_text = len(data) > 1 and KINDS[data[0] % len(KINDS)] not in (".parquet", ".arrow")
            made = mutate(data, rng) if is_text and rng.random() < 0.75 else atheris.Mutate(data, max_size)
            return made[:max_size]

        atheris.Setup([sys.argv[0], *arguments], test, custom_mutator=custom_mutator)
        atheris.Fuzz()


def fuzz(seconds: int, found: Path) -> dict[str, Any]:
    """Fuzzes for so many seconds, in processes that may die, and counts."""
    found.mkdir(parents=True, exist_ok=True)
    totals = {"executions": 0, "read": 0, "refused": 0, "deaths": 0}
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
        end = time.monotonic() + seconds
        while (left := int(end - time.monotonic())) > 0:
            command = [
                sys.executable,
                __file__,
                "--child",
                "--found",
                str(found),
                "--",
                str(corpus),
                f"-max_total_time={left}",
            ]
            limits = [
                f"-timeout={PATIENCE}",
                "-rss_limit_mb=3000",
                "-max_len=8192",
                "-len_control=0",
                "-print_final_stats=1",
            ]
            done = subprocess.run(
                [*command, *limits, f"-artifact_prefix={found}/", "-verbosity=1"],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            executed = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr) or re.findall(
                r"^#(\d+)\s", done.stderr, re.M
            )
            totals["executions"] += int(executed[-1]) if executed else 0
            tally = json.loads((found / "tally.json").read_text()) if (found / "tally.json").exists() else {}
            (found / "tally.json").unlink(missing_ok=True)
            totals = {name: value + tally.get(name, 0) for name, value in totals.items()}
            if done.returncode != 0:
                totals["deaths"] += 1
                (found / f"death-{totals['deaths']}.txt").write_text(done.stderr[-4000:])
        totals["corpus"] = len(list(corpus.iterdir()))
    return totals


def main() -> None:
    """Fuzzes, reads the inputs of earlier defects again, and writes the counts."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=pick(600, 3))
    parser.add_argument("--found", type=Path, default=None)
    parser.add_argument("--child", action="store_true")
    parser.add_argument("rest", nargs="*")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.found, arguments.rest)
        return
    with tempfile.TemporaryDirectory() as place:
        found = arguments.found or Path(place)
        started = time.monotonic()
        totals = fuzz(arguments.seconds, found)
        elapsed = time.monotonic() - started
        broken = sorted(path.read_text().splitlines()[0] for path in found.glob("*.txt"))
        once = sorted(KEPT.glob("*.bin"))
        for path in once:
            one_input(path.read_bytes(), Path(place))
    write(
        "fuzz_readers",
        {
            "seconds": round(elapsed),
            "kinds": list(KINDS),
            **totals,
            "found": broken,
            "found_once_and_mended": [p.stem for p in once],
        },
    )


if __name__ == "__main__":
    main()
