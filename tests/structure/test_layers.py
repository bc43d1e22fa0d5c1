"""Includes and imports point downwards and make no circle.

The layers of docs/architecture.md stand here, lowest first; what stands in one line may not use each other unless it is
one folder or module. Tests may use anything, and nothing that is no test uses them. Imports inside functions count,
those under TYPE_CHECKING do not run and do not count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
CPP_LAYERS = (
    ("core",),
    ("cuda", "kernels"),
    ("ops",),
    ("runtime",),
    ("abi",),
    ("torch", "aoti", "tools", "python/src"),
)
PYTHON_LAYERS = (
    ("_version", "element_types", "errors", "progress", "threads"),
    ("_core", "atomic", "installation", "video"),
    ("evaluation", "lowering", "ops", "plugins"),
    ("models", "nn"),
    ("package",),
    ("pipeline", "torch_engine"),
    ("runtime",),
    ("training",),
    ("command_line",),
    ("cli", "testing"),
)
# Plugins use what is public: no name with a leading underscore, and not the command line.
PRIVATE = ("cli",)

WRITTEN_BY_CMAKE = ("ops/families.hpp",)

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
TEST_SOURCE = re.compile(r"(_test\.cpp|_testing\.hpp|_bench\.cpp)$|/abi/every_slot\.hpp$")

Graph = Mapping[str, set[str]]


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected parts of more than one node, by Tarjan's algorithm."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def ranks(layers: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {name: rank for rank, names in enumerate(layers) for name in names}


def upward(a: str, b: str, layers: tuple[tuple[str, ...], ...]) -> bool:
    """Whether a may not use b: b stands higher, or beside it."""
    rank = ranks(layers)
    return a != b and rank[a] <= rank[b]


# ---- C++ ----


def sources() -> list[Path]:
    """Every C++ file of ours that is no test."""
    folders = [ROOT / "cpp", ROOT / "python" / "src", *sorted(ROOT.glob("plugins/*/native"))]
    ours = (".cpp", ".cu", ".hpp", ".h")
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in ours]
    return [path for path in files if not TEST_SOURCE.search(path.as_posix())]


def included(path: Path) -> Iterator[Path]:
    """Our own files that `path` includes."""
    for name in INCLUDE.findall(path.read_text("utf-8")):
        places = [path.parent, ROOT / "cpp", ROOT / "cpp" / "include"]
        target = next((place / name for place in places if (place / name).is_file()), None)
        if target is None:
            assert name in WRITTEN_BY_CMAKE, f"{path.relative_to(ROOT)} includes {name}, which is none of our files"
        else:
            yield target.resolve()


def cpp_layer(path: Path) -> str | None:
    """Of a file in cpp/ or python/src; None for public headers and plugins, which have rules of their own."""
    parts = path.relative_to(ROOT).parts
    if parts[:2] == ("cpp", "include") or parts[0] == "plugins":
        return None
    return "python/src" if parts[0] == "python" else parts[1]


def unit(path: Path) -> str:
    """A source and its header are one; a kernel (.isa.cpp, .cu) is one of its own, and so is a public header."""
    name = path.relative_to(ROOT).as_posix()
    return name if name.startswith("cpp/include/") else re.sub(r"\.(cpp|hpp)$", "", name)


def test_every_folder_of_cpp_has_a_layer() -> None:
    assert {layer for path in sources() if (layer := cpp_layer(path))} == set(ranks(CPP_LAYERS))


def test_includes_point_downwards() -> None:
    wrong = []
    for path in sources():
        layer = cpp_layer(path)
        for target in included(path):
            other = cpp_layer(target)
            public = target.is_relative_to(ROOT / "cpp" / "include")
            if layer is None:  # a public header or a plugin: public headers, and a plugin's own files
                own = path.relative_to(ROOT).parts[:2] == target.relative_to(ROOT).parts[:2]
                allowed = public or own
            else:
                allowed = public or (other is not None and not upward(layer, other, CPP_LAYERS))
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)} includes {target.relative_to(ROOT)}")
    assert wrong == []


def test_includes_make_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in sources():
        graph.setdefault(unit(path), set()).update(unit(target) for target in included(path))
    assert circles(graph) == []


# ---- Python ----


def modules(folder: Path, root: Path) -> dict[str, Path]:
    """Names of the modules in `folder` -> their files."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if "template" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """Modules, and names of modules, that the file imports when it runs or is called."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.orelse:
                yield from visit(statement)
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(path.read_text("utf-8")))


def python_graph() -> dict[str, set[str]]:
    """Modules of mambasdk -> modules of it that they import; the package itself, which imports late, left out."""
    ours = modules(ROOT / "python" / "mambasdk", ROOT / "python")

    def module(target: str) -> str:  # a name in a module is that module's
        known = target in ours or target == "mambasdk._core" or "." not in target
        return target if known else module(target.rpartition(".")[0])

    return {
        name: {target for target in map(module, imported(path)) if target.startswith("mambasdk.")} - {name}
        for name, path in ours.items()
        if name not in ("mambasdk", "mambasdk.__main__")
    }


def part(module: str) -> str:
    """The part of mambasdk that a module belongs to: its folder, or itself."""
    return module.split(".")[1]


def test_every_part_of_mambasdk_has_a_layer() -> None:
    assert {part(name) for name in python_graph()} <= set(ranks(PYTHON_LAYERS))


def test_imports_point_downwards() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, targets in python_graph().items()
        for target in sorted(targets)
        if upward(part(name), part(target), PYTHON_LAYERS)
    ]
    assert wrong == []


def test_imports_make_no_circle() -> None:
    assert circles(python_graph()) == []


def test_plugins_import_what_is_public() -> None:
    wrong = []
    for folder in sorted(ROOT.glob("plugins/*/mambasdk_*")):
        for path in modules(folder, folder.parent).values():
            for target in imported(path):
                parts = target.split(".")
                if parts[0] != "mambasdk":
                    continue
                if any(name.startswith("_") for name in parts[1:]) or (parts[1:2] and parts[1] in PRIVATE):
                    wrong.append(f"{path.relative_to(ROOT)} imports {target}")
    assert wrong == []


def plugin_dependencies() -> Graph:
    """Each plugin's package and the other plugins' that its pyproject.toml declares."""
    made: Graph = {}
    for folder in sorted(ROOT.glob("plugins/*/mambasdk_*")):
        declared = re.search(
            r"^dependencies = \[(.*?)\]", (folder.parent / "pyproject.toml").read_text("utf-8"), re.M | re.S
        )
        assert declared is not None
        made[folder.name] = {name.replace("-", "_") for name in re.findall(r"mambasdk-[a-z]+", declared[1])}
    return made


def test_plugins_import_only_plugins_that_they_depend_on() -> None:
    wrong = []
    for name, dependencies in plugin_dependencies().items():
        [folder] = ROOT.glob(f"plugins/*/{name}")
        for path in modules(folder, folder.parent).values():
            for target in imported(path):
                if target.startswith("mambasdk_") and target.split(".")[0] not in {name, *dependencies}:
                    wrong.append(f"{path.relative_to(ROOT)} imports {target}")
    assert wrong == []


def test_plugins_depend_on_each_other_in_no_circle() -> None:
    assert circles(plugin_dependencies()) == []


# ---- the documentation ----


def test_architecture_shows_the_layers() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for layers in (CPP_LAYERS, PYTHON_LAYERS):
        line = " < ".join(", ".join(f"`{name}`" for name in names) for names in layers)
        assert line in " ".join(text.split()), line
