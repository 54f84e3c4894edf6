"""Which inverter is meant, and whether it decodes the vectors at hand."""

from __future__ import annotations

from pathlib import Path

from dallme.data import Fingerprint
from dallme.decoders.vec2text.config import FILE, InverterConfig
from dallme.decoders.vec2text.inverter import SHIPPED
from dallme.errors import InputError


def find_inverter(name: str) -> Path:
    """The folder of an inverter: the one named, or the one that comes with the package if the name is blank.

    Raises:
        InputError: If the name is blank and none comes with the package.
    """
    if name:
        return Path(name).expanduser()
    if not (SHIPPED / FILE).is_file():
        raise InputError(
            "expected the folder of an inverter, as in vec2text:FOLDER, found none named and none in this installation; "
            "train one with: dallme train-inverter"
        )
    return SHIPPED


def check_fit(config: InverterConfig, folder: Path, fingerprint: Fingerprint) -> None:
    """Checks that an inverter was trained for the embedder that made some vectors.

    Raises:
        InputError: If it was not; it names what differs and the inverters at hand that fit.
    """
    misfits = config.misfits(fingerprint)
    if not misfits:
        return
    fitting = [f"vec2text:{other}" if other != SHIPPED else "vec2text" for other in fitting_inverters(folder, fingerprint)]
    advice = f"use {' or '.join(fitting)}" if fitting else "train one for this embedder with: dallme train-inverter"
    raise InputError(
        f"expected an inverter for the embedder of these vectors, found {str(folder)!r}, trained for {config.embedder!r}: "
        f"{'; '.join(misfits)}; {advice}; or map the vectors into its space with --align"
    )


def fitting_inverters(folder: Path, fingerprint: Fingerprint) -> list[Path]:
    """Inverters that decode such vectors: the one that comes with the package, and the neighbours of a folder."""
    found = []
    for other in (SHIPPED, *sorted(path.parent for path in folder.parent.glob(f"*/{FILE}"))):
        try:
            fits = not InverterConfig.read(other).misfits(fingerprint)
        except InputError:
            continue
        if fits and other != folder:
            found.append(other)
    return found
