"""The source tree stays readable: layers, short files, plain docstrings, and no work at import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from inspect import isabstract
from pathlib import Path

import pytest

import dallme
from dallme import registry

ROOT = Path(dallme.__file__).parent
FILES = {
    ".".join(("dallme", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}

#: Rooms from the ground up. A room imports itself and the rooms of the layers below it.
LAYERS = (
    {"errors", "progress", "text", "versions"},
    {"console", "files", "validation", "overlap", "personal"},
    {"data", "registry", "models", "scale", "services"},
    {"readers", "embedders", "condensers"},
    {"decoders", "classifiers"},
    {"baselines"},
    {"dataset"},
    {"distiller"},
    {"evaluation", "auditing"},
    {"updating"},
    {"api", "experiments", "inspection", "report", "sklearn"},
    {"leaderboard", "review"},
    {"cli"},
)

#: The classes that the parts of a role derive from.
BASES = {
    "embedders": "Embedder",
    "condensers": "Condenser",
    "decoders": "Decoder",
    "classifiers": "Classifier",
    "baselines": "Baseline",
}


def _statements(tree: ast.AST, *, typed: bool = False) -> Iterator[ast.AST]:
    """All nodes; those for type checkers alone only if `typed`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typed:
            continue
        yield node
        yield from _statements(node, typed=typed)


def _imports(module: str, *, typed: bool = False) -> set[str]:
    """The modules of dallme that a module imports, also within functions."""
    found = set()
    for node in _statements(TREES[module], typed=typed):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.split(".")[0] == "dallme"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if (node.module or "").split(".")[0] == "dallme":
                inner = {f"{node.module}.{name.name}" for name in node.names}
                found |= {name if name in FILES else str(node.module) for name in inner}
    return found - {module}


def _room(module: str) -> str:
    return module.split(".")[1]


def _level(room: str) -> int:
    return next(level for level, rooms in enumerate(LAYERS) if room in rooms)


# The package itself holds only the version and the public names, which it imports when they are asked for.
MODULES = [module for module in FILES if module != "dallme"]


def test_every_room_has_a_layer() -> None:
    rooms = [room for layer in LAYERS for room in layer]
    assert len(rooms) == len(set(rooms))
    assert {_room(module) for module in MODULES} == set(rooms)


@pytest.mark.parametrize("module", MODULES)
def test_dependencies_point_one_way(module: str) -> None:
    room = _room(module)
    assert "dallme" not in _imports(module, typed=True), f"{module} takes a name from the package itself"
    wrong = {
        target
        for target in _imports(module)
        if _room(target) != room and _level(_room(target)) >= _level(room)
    }
    assert not wrong, f"{module} is not above {sorted(wrong)}"


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module: _imports(module, typed=True) for module in MODULES}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError with the cycle
    assert sorted(order) == sorted(MODULES)


def test_public_names_are_imported_lazily() -> None:
    assert set(dallme._MODULES) == set(dallme.__all__)
    assert _imports("dallme") == {"dallme.versions"}


def _loaded(code: str, *packages: str) -> set[str]:
    """The packages that a new interpreter has loaded after the code."""
    code = f"{code}\nimport sys; print(*(name for name in {packages!r} if name in sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_the_package_loads_no_library() -> None:
    heavy = (
        "torch",
        "transformers",
        "sentence_transformers",
        "sklearn",
        "faiss",
        "pandas",
        "pyarrow",
        "datasets",
        "numpy",
    )
    assert _loaded("import dallme, dallme.registry", *heavy) == set()
    assert _loaded("import numpy", *heavy) == {"numpy"}  # so that the test can fail


def test_the_command_line_loads_no_library_before_a_verb_runs() -> None:
    assert _loaded("import dallme.cli.main", "numpy", "pyarrow", "torch", "sklearn", "scipy", "yaml") == set()


def test_the_algorithm_loads_neither_models_nor_classifiers() -> None:
    heavy = ("torch", "transformers", "sentence_transformers", "sklearn", "faiss", "datasets")
    assert _loaded("import dallme.distiller", *heavy) == set()


@pytest.mark.parametrize("part", registry.PARTS, ids=lambda part: f"{part.role}-{part.name}")
def test_every_row_of_the_registry_is_a_part_of_its_role(part: registry.Part) -> None:
    base = getattr(import_module(f"dallme.{part.role}.base"), BASES[part.role])
    loaded = part.load()
    assert issubclass(loaded, base)
    assert not isabstract(loaded)
    assert loaded.__doc__


@pytest.mark.parametrize("role", registry.ROLES)
def test_every_part_of_a_role_has_a_row(role: str) -> None:
    base = getattr(import_module(f"dallme.{role}.base"), BASES[role])
    written = set()
    for module in MODULES:
        if _room(module) == role and module not in (f"dallme.{role}", f"dallme.{role}.base"):
            members = vars(import_module(module)).values()
            written |= {
                (module, member.__name__)
                for member in members
                if isinstance(member, type)
                and member.__module__ == module
                and issubclass(member, base)
                and not isabstract(member)
            }
    rows = {(f"dallme.{role}.{part.module}", part.attribute) for part in registry.PARTS if part.role == role}
    assert written == rows


@pytest.mark.parametrize("module", FILES)
def test_files_and_functions_are_short(module: str) -> None:
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) < 500
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - (
                node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
            )
            assert lines < 80, f"{module}.{node.name} has {lines} lines after its docstring"


def _works(node: ast.stmt) -> bool:
    """Whether a statement of a module's top level does more than define names."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)  # a docstring
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return not all(isinstance(target, ast.Name | ast.Tuple) for target in targets)
    if isinstance(node, ast.If | ast.Try):
        return any(_works(inner) for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt))
    return not isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


@pytest.mark.parametrize("module", FILES)
def test_no_module_works_at_import(module: str) -> None:
    working = [ast.unparse(node) for node in TREES[module].body if _works(node)]
    # The command line says which verbs it has.
    verbs = ("app.command(", "app.add_typer(")
    assert [line for line in working if not (module == "dallme.cli.main" and line.startswith(verbs))] == []


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['A'] = 'b'",
        "torch.set_num_threads(1)",
        "if True:\n    warnings.filterwarnings('ignore')",
        "for a in b: pass",
    ],
)
def test_work_at_import_is_noticed(line: str) -> None:
    assert _works(ast.parse(line).body[0])


def _docstrings(tree: ast.AST) -> Iterator[str]:
    """Yields the docstrings of a module, its classes and its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _opens_as_a_clause(docstring: str) -> bool:
    """Returns whether a docstring opens with a pronoun in place of a verb or a noun phrase."""
    return re.match(r"(What|Whoever|Who|That which)\b", docstring) is not None


@pytest.mark.parametrize("module", FILES)
def test_docstrings_open_with_a_verb_or_a_noun(module: str) -> None:
    assert [text for text in _docstrings(TREES[module]) if _opens_as_a_clause(text)] == []


@pytest.mark.parametrize("opening", ["What it", "Whoever", "Who reads", "That which is"])
def test_a_docstring_that_opens_as_a_clause_is_noticed(opening: str) -> None:
    tree = ast.parse(f'class A:\n    def f(self):\n        """{opening} does."""')
    assert [_opens_as_a_clause(text) for text in _docstrings(tree)] == [False, False, True]
    assert not _opens_as_a_clause("Whole numbers.")
