"""SQLite files, opened read-only: one table or view is selected, and nothing else is run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

from dallme.errors import InputError
from dallme.readers.formats import PYTHON_VALUE, DataFile
from dallme.readers.rows import Rows

#: Bytes of the longest value, and steps of the virtual machine in all and between two checks.
_MAX_VALUE, _MAX_STEPS, _STEPS = 1 << 26, 2_000_000_000, 1_000_000

#: Actions that a query may take: views run without recursion, and triggers never run.
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)


def read_sqlite(file: DataFile) -> Rows:
    """Reads a table or view of a SQLite file.

    Raises:
        InputError: If it is no SQLite file or too large, or the table is not there or has to be named.
    """
    if file.compression:
        raise InputError(f"{file.name}: expected a SQLite file as it is, found a compressed one; unpack it")
    with _opened(file) as connection:
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY rowid"
            )
            if not name.startswith("sqlite_")
        ]
        table = _choose(file, tables)
        connection.set_authorizer(_authorize)
        cursor = connection.execute(f'SELECT * FROM "{table.replace(chr(34), chr(34) * 2)}"')  # noqa: S608
        names = tuple(column[0] for column in cursor.description)
        columns: list[list[Any]] = [[] for _ in names]
        count = size = 0
        for row in cursor:
            count += 1
            size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
            file.check_size(size + count * len(names) * PYTHON_VALUE)
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    return Rows(file.name, count, names, lambda name: columns[names.index(name)])


@contextmanager
def _opened(file: DataFile) -> Iterator[sqlite3.Connection]:
    try:
        address = f"file:{quote(str(file.path.resolve()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.text_factory = lambda value: value.decode("utf-8", "surrogateescape")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
            connection.execute("PRAGMA trusted_schema = OFF")
            steps = iter(range(0, _MAX_STEPS, _STEPS))
            connection.set_progress_handler(lambda: next(steps, None) is None, _STEPS)
            yield connection
    except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
        if "authorized" in str(error) or str(error) == "interrupted":
            raise InputError(
                f"{file.name}: expected a table, or a view that selects from tables without recursion and in "
                f"{_MAX_STEPS:,} steps, found another: {error}"
            ) from None
        raise InputError(
            f"{file.name}: cannot be read as SQLite (is the file damaged or misnamed?): {error}"
        ) from None


def _authorize(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _choose(file: DataFile, tables: list[str]) -> str:
    """Returns the table that the user names, or the only one."""
    listed = ", ".join(map(repr, tables[:20])) or "none"
    wanted = file.options.table
    if wanted is None and len(tables) == 1:
        return tables[0]
    if wanted is None:
        raise InputError(f"{file.name}: expected one table, found {listed}; choose one with --table")
    if wanted not in tables:
        raise InputError(f"{file.name}: expected the table {wanted!r}, found {listed}")
    return wanted
