"""Counts the code of a source tree: files, lines, functions, parameters and import circles, as JSON.

A line of code is a line with a token that is neither a comment nor part of a docstring.
Run: python benchmarks/code_size.py [TREE] [--signature distiller:Distiller] [--output FILE]
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _common import HERE, make_parser

#: Files with fewer lines of code than this are counted as small.
SMALL = 40

#: Tokens that are no code.
SPACING = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    tokenize.ENCODING,
}  # fmt: skip

#: Nodes that may have a docstring.
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(text: str, tree: ast.Module) -> set[int]:
    """Returns the numbers of the lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SPACING:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            lines -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


def parameter_count(tree: ast.Module, name: str) -> int:
    """Counts the parameters of a function, or of a class: those of its constructor or of a dataclass.

    `self` and `cls` do not count.

    Raises:
        LookupError: If there is no such function or class.
    """
    *outer, last = name.split(".")
    body: list[ast.stmt] = tree.body
    for part in outer:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == part)
    for node in body:
        if isinstance(node, FUNCTIONS) and node.name == last:
            return len(_parameters(node))
        if isinstance(node, ast.ClassDef) and node.name == last:
            made = [each for each in node.body if isinstance(each, FUNCTIONS) and each.name == "__init__"]
            if made:
                return len(_parameters(made[0]))
            fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
            return sum("ClassVar" not in ast.unparse(each.annotation) for each in fields)
    raise LookupError(name)


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    every = function.args
    names = [each.arg for each in (*every.posonlyargs, *every.args, *every.kwonlyargs)]
    names += [each.arg for each in (every.vararg, every.kwarg) if each is not None]
    return [name for name in names if name not in ("self", "cls")]


def imported(tree: ast.AST, known: set[str], package: str, *, typed: bool) -> Iterator[str]:
    """Yields the known modules that a module imports; `typed` includes blocks under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typed:
            yield from imported(ast.Module(node.orelse, []), known, package, typed=typed)
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            submodules = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in known else base for name in submodules]
        yield from (name for name in names if name in known)
        yield from imported(node, known, package, typed=typed)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Returns the sets of modules that import each other, directly or through others (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return sorted(groups)


def import_graph(trees: dict[str, ast.Module], packages: set[str], *, typed: bool) -> dict[str, set[str]]:
    """Returns the modules of the tree that each module imports."""
    graph = {}
    for module, tree in trees.items():
        package = module if module in packages else module.rpartition(".")[0]
        graph[module] = set(imported(tree, set(trees), package, typed=typed)) - {module}
    return graph


def measure(root: Path, signatures: list[str]) -> dict[str, Any]:
    """Counts a source tree.

    Args:
        root: Folder of the package, such as ``src/dallme``.
        signatures: ``MODULE:NAME`` or ``MODULE:CLASS.NAME``, with MODULE relative to the package.
    """
    texts, trees, packages = {}, {}, set()
    for path in sorted(root.rglob("*.py")):
        module = ".".join((root.name, *path.relative_to(root).with_suffix("").parts))
        if path.name == "__init__.py":
            module = module.removesuffix(".__init__")
            packages.add(module)
        texts[module] = path.read_text(encoding="utf-8")
        trees[module] = ast.parse(texts[module], str(path))
    lines = {module: code_lines(texts[module], tree) for module, tree in trees.items()}
    lengths = [
        len(lines[module] & set(range(node.lineno, (node.end_lineno or node.lineno) + 1)))
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS)
    ]
    counts = {module: len(numbers) for module, numbers in lines.items()}
    parameters = {}
    for signature in signatures:
        module, _, name = signature.partition(":")
        parameters[signature] = parameter_count(trees[f"{root.name}.{module}" if module else root.name], name)
    return {
        "tree": root.name,
        "files": len(trees),
        "lines": sum(text.count("\n") for text in texts.values()),
        "code_lines": sum(counts.values()),
        f"files_under_{SMALL}_code_lines": sum(count < SMALL for count in counts.values()),
        "functions": len(lengths),
        "mean_function_code_lines": round(sum(lengths) / len(lengths), 1) if lengths else 0.0,
        "longest_function_code_lines": max(lengths, default=0),
        "longest_file_lines": max((text.count("\n") for text in texts.values()), default=0),
        "root_modules": sorted(path.stem for path in root.glob("*.py") if path.name != "__init__.py"),
        "parameters": parameters,
        "import_circles": circles(import_graph(trees, packages, typed=False)),
        "import_circles_with_types": circles(import_graph(trees, packages, typed=True)),
        "code_lines_by_folder": _by_folder(counts, packages),
    }


def _by_folder(counts: dict[str, int], packages: set[str]) -> dict[str, int]:
    folders: dict[str, int] = {}
    for module, count in counts.items():
        inner = module.split(".")[1:]
        folder = inner[0] if len(inner) > 1 or (inner and module in packages) else "."
        folders[folder] = folders.get(folder, 0) + count
    return dict(sorted(folders.items()))


def main() -> None:
    """Prints the counts, or writes them to a file."""
    parser = make_parser(__doc__)
    parser.add_argument("tree", nargs="?", type=Path, default=HERE.parent / "src" / "dallme")
    parser.add_argument("--signature", action="append", default=[], metavar="MODULE:NAME")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    document = json.dumps(measure(options.tree.resolve(), options.signature), indent=2) + "\n"
    if options.output:
        options.output.write_text(document, encoding="utf-8")
    else:
        print(document, end="")


if __name__ == "__main__":
    main()
