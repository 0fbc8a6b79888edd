"""The rules that keep the parts apart, read from the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("shared", "ingest", "gateway")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FORBIDDEN = {"shared": {"ingest", "gateway", "tests"}, "ingest": {"gateway", "tests"}, "gateway": {"ingest", "tests"}}
# Values in, values or commands out.
CORE = (
    "shared/channels.py",
    "shared/protocol.py",
    "shared/split.py",
    "shared/backoff.py",
    "shared/names.py",
    "ingest/answered.py",
    "ingest/session.py",
    "ingest/reconcile.py",
    *(
        f"ingest/simulator/{noun}.py"
        for noun in (
            *("auctions", "bands", "bars", "clock", "director", "draws", "hours", "limits", "listing", "market"),
            *("flow", "prices", "saved", "scenario", "scenario_text", "sizes", "stock", "toml_lines", "wire"),
        )
    ),
    "gateway/session.py",
    "gateway/hub.py",
    "gateway/conflate.py",
)
IO_LIBRARIES = {
    *("asyncio", "socket", "ssl", "select", "selectors", "threading", "multiprocessing", "subprocess", "signal"),
    *("time", "os", "io", "pathlib", "tempfile", "urllib", "http"),
    *("websockets", "redis", "aiohttp", "uvloop", "fakeredis"),
}
NAMES_WITHOUT_A_NOUN = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
MOST_LINES = 300


def name(path: Path) -> str:
    """The path as one writes it in the README."""
    return path.relative_to(ROOT).as_posix()


def read_imports(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports of a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(), name(path))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node


def find_modules(path: Path) -> set[str]:
    """The dotted names that a file imports; of a `from` import also each name, since that may be a module."""
    modules: set[str] = set()
    for node in read_imports(path):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif node.module:
            modules.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    return modules


def find_reachable(path: Path) -> dict[str, str]:
    """What a file imports, itself or through our own modules: dotted name -> the file of ours that imports it."""
    found: dict[str, str] = {}
    seen, waiting = {path}, [path]
    while waiting:
        current = waiting.pop()
        for module in find_modules(current):
            found.setdefault(module, name(current))
            own = ROOT.joinpath(*module.split(".")).with_suffix(".py")
            if own.is_file() and own not in seen:
                seen.add(own)
                waiting.append(own)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_dependencies_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert {module.partition(".")[0] for module in find_modules(path)} & FORBIDDEN[package] == set()


@pytest.mark.parametrize("core", CORE)
def test_core_does_no_io(core: str) -> None:
    path = ROOT / core
    assert path.is_file(), "the list of core modules has it, the source does not"
    reachable = find_reachable(path).items()
    assert {(module, by) for module, by in reachable if module.partition(".")[0] in IO_LIBRARIES} == set()
    nodes = list(ast.walk(ast.parse(path.read_text())))
    assert [node.lineno for node in nodes if isinstance(node, ast.AsyncFunctionDef | ast.Await)] == []
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if isinstance(call, ast.Name) and call.id in ("open", "print", "input")] == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name)
def test_imports_are_absolute(path: Path) -> None:
    assert [node.lineno for node in read_imports(path) if isinstance(node, ast.ImportFrom) and node.level] == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert path.stem not in NAMES_WITHOUT_A_NOUN
    assert path.parent.name not in NAMES_WITHOUT_A_NOUN


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_module_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_there_is_something_to_check() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(PACKAGES)
    assert {name(path) for path in SOURCES} >= {f"{package}/__init__.py" for package in PACKAGES}


@pytest.mark.parametrize("package", ["ingest", "gateway"])
def test_each_process_can_be_started_as_a_module(package: str) -> None:
    assert (ROOT / package / "__main__.py").is_file()


@pytest.mark.parametrize("package", [*PACKAGES, "ingest/simulator"])
def test_map_of_the_package_names_each_of_its_files(package: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""
    files = {path.name for path in (ROOT / package).glob("*.py") if not path.name.startswith("__")}
    assert {file for file in files if file not in text} <= {"app.py"}  # where its parts are put together
