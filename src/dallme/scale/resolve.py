"""From what a user writes or hands over to an engine."""

from __future__ import annotations

from importlib.util import find_spec

from dallme.errors import InputError, MissingDependencyError, UnknownNameError
from dallme.scale.base import Engine, LocalEngine

#: The engines by name.
ENGINES = ("local", "ray")


def make_engine(engine: str | Engine, address: str | None = None) -> Engine:
    """An engine from its name, or the object itself if it is one; nothing is started.

    Args:
        engine: One of :data:`ENGINES`, or an engine.
        address: Of a Ray cluster, see :class:`~dallme.scale.ray_engine.RayEngine`.

    Raises:
        UnknownNameError: If there is none of that name.
        InputError: If it is no engine, or an address is given to one that has none.
        MissingDependencyError: If it needs a package that is not installed.
    """
    if not isinstance(engine, str):
        if not isinstance(engine, Engine):
            raise InputError(
                f"expected an engine: one of {', '.join(ENGINES)} or an object with map, found {engine!r}"
            )
        return engine
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    if engine == "local":
        if address is not None:
            raise InputError(
                f"expected an address with the engine ray only, found {address!r} with the engine local"
            )
        return LocalEngine()
    if find_spec("ray") is None:
        raise MissingDependencyError("engine 'ray'", "ray", "ray")
    from dallme.scale.ray_engine import RayEngine

    return RayEngine(address)
