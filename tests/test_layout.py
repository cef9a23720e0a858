"""Who may import whom, and what the pure modules may not touch: read from the sources, never by importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGINE = sorted((ROOT / "engine").rglob("*.py"))
CORE = sorted((ROOT / "engine").glob("*.py"))
CONNECTORS = sorted((ROOT / "connectors").rglob("*.py"))
# Sub-packages that hold no part of the core; only they and each other may import them. The loader is core.
OUTER = {p.name for p in (ROOT / "engine").iterdir() if p.is_dir() and (p / "__init__.py").exists()} - {"loader"}
PURE = [
    ROOT / "engine" / f"{name}.py" for name in ("model", "expressions", "decider", "effects", "propagation", "state")
]
PURE = [p for p in PURE if p.exists()] + sorted((ROOT / "engine" / "loader").glob("*.py"))
IO = {
    "asyncio", "concurrent", "http", "io", "logging", "multiprocessing", "os", "pathlib", "queue", "requests",
    "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading",
    "time", "urllib", "urllib3", "click", "rich",
}  # fmt: skip


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name(path))


def running(node: ast.AST) -> Iterator[ast.AST]:
    """What runs: all of it but the blocks under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from running(other)
        else:
            yield from running(child)


def imports(path: Path) -> set[str]:
    """The modules that a file imports; of `from x import y` both x and x.y, since y may be a module."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    out: set[str] = set()
    for node in running(tree(path)):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
                if node.level
                else node.module or ""
            )
            out |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return out


def modules(path: Path, of: str) -> set[str]:
    """Of what a file imports, the modules of a package that exist as files."""
    found = {m for m in imports(path) if m == of or m.startswith(f"{of}.")}
    return {m for m in found if (p := ROOT.joinpath(*m.split("."))).is_dir() or p.with_suffix(".py").exists()}


@pytest.mark.parametrize("path", ENGINE, ids=name)
def test_the_engine_knows_no_connector(path: Path) -> None:
    assert not modules(path, "connectors")


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_imports_no_sub_package(path: Path) -> None:
    if path.name == "__init__.py":
        return  # it shows connectors what they may use
    outer = {m for m in modules(path, "engine") if m.count(".") and m.split(".")[1] in OUTER}
    assert not outer


@pytest.mark.parametrize("path", CONNECTORS, ids=name)
def test_a_connector_imports_the_public_surface_alone(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[1]
    used = modules(path, "engine")
    emulators = {p.stem for p in path.parent.glob("*.py") if "engine.sandbox" in modules(p, "engine")}
    allowed = {"engine", "engine.sandbox"} if path.stem in emulators else {"engine"}
    assert used <= allowed
    strangers = {m for m in modules(path, "connectors") if m.count(".") and m.split(".")[1] != folder}
    assert not strangers


def test_a_connector_needs_no_emulator() -> None:
    """The way from connector.py over its own folder's modules never reaches the kit for emulators."""
    for start in (ROOT / "connectors").glob("*/connector.py"):
        seen, pending = set(), [start]
        while pending:
            path = pending.pop()
            if path in seen:
                continue
            seen.add(path)
            assert "engine.sandbox" not in modules(path, "engine"), f"{name(start)} reaches {name(path)}"
            own = modules(path, f"connectors.{start.parent.name}")
            pending += [p for m in own if (p := ROOT.joinpath(*m.split(".")).with_suffix(".py")).exists()]


@pytest.mark.parametrize("path", PURE, ids=name)
def test_what_is_pure_does_no_io(path: Path) -> None:
    assert not {m.split(".")[0] for m in imports(path)} & IO
    reached = {m.split(".")[1] for m in modules(path, "engine") if m.count(".")}
    assert not reached & {"local", "connections", *OUTER}
    calls = [ast.unparse(n.func) for n in running(tree(path)) if isinstance(n, ast.Call)]
    reading = [c for c in calls if c.split(".")[-1] in ("now", "utcnow", "today") or c in ("open", "input", "print")]
    assert not reading, "time is handed in, files are read by others"
    chance = [
        c for c in calls if c.startswith(("random.", "uuid.")) and not c.startswith(("random.Random", "uuid.UUID"))
    ]
    assert not chance, "chance is derived from a seed"
    seeded = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "random.Random"]
    assert all(n.args for n in seeded)


def test_the_pure_modules_load_no_io_of_ours() -> None:
    """What they import at run time, whole: none of the modules that do I/O comes along."""
    import subprocess
    import sys

    code = (
        "import sys, types\nengine = sys.modules['engine'] = types.ModuleType('engine')\nengine.__path__ = ['engine']\n"
        "import engine.decider, engine.loader\n"
        "print(' '.join(m for m in sys.modules if m.split('.')[0] in "
        "('engine', 'requests', 'msal', 'sqlite3', 'click', 'rich', 'cryptography')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "engine.decider" in loaded
    assert not loaded & {
        "requests",
        "msal",
        "sqlite3",
        "click",
        "rich",
        "cryptography",
        "engine.session",
        "engine.local.journal",
    }


@pytest.mark.parametrize("path", [*ENGINE, *CONNECTORS], ids=name)
def test_nobody_reads_the_environment_but_the_command_line(path: Path) -> None:
    used = {ast.unparse(n) for n in ast.walk(tree(path)) if isinstance(n, ast.Attribute)}
    assert not used & {"os.environ", "os.getenv"} or path.parts[-2] in ("cli", "server")
