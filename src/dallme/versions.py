"""Version of dallme, and of the packages that may change a result."""

from __future__ import annotations

import platform
from collections.abc import Iterable

__version__ = "0.1.0"


def package_version(package: str) -> str | None:
    """Returns the version of a package; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def installed_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Returns the version of Python and of each package."""
    return {"python": platform.python_version()} | {name: package_version(name) for name in packages}
