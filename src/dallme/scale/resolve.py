"""Resolution of a name or a user's object to an engine."""

from __future__ import annotations

from importlib.util import find_spec

from dallme.errors import InputError, MissingDependencyError, UnknownNameError
from dallme.scale.base import Engine, LocalEngine

#: Names of the engines.
ENGINES = ("local", "ray")


def make_engine(engine: str | Engine, address: str | None = None) -> Engine:
    """Turns a name into an engine; an engine is returned as it is. Nothing is started.

    Args:
        engine: One of :data:`ENGINES`, or an engine.
        address: Address of a Ray cluster; see :class:`~dallme.scale.ray_engine.RayEngine`.

    Raises:
        UnknownNameError: If no engine has that name.
        InputError: If it is not an engine, or an address is given to the local engine.
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
