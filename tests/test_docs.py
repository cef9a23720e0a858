"""README and docs/ are true: what they show is run and compared (pages.py says how), and nothing is left out."""

from __future__ import annotations

import re
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pages import Block, Reader, blocks, pattern, plain

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]

sys.path.insert(0, str(ROOT / "docs"))
import reference  # noqa: E402 - docs/ is no package


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    shutil.copytree(ROOT / "flows", tmp_path / "flows", ignore=shutil.ignore_patterns(".flowrun", "*.db*"))
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.leave()


def faults(page: Path, reader: Reader) -> list[str]:
    """Everything on a page that isn't true."""
    out = []
    for block in blocks(page):
        try:
            reader.follow(block)
        except Exception as error:  # noqa: BLE001 - all of them, each with its line
            out.append(f"{page.name}:{block.line}: {type(error).__name__}: {error}")
    return out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_is_so(page: Path, reader: Reader) -> None:
    assert not (found := faults(page, reader)), "\n\n".join(found)


def test_readers_demo(reader: Reader) -> None:
    """The output in README is what the demo says, the first time and the second."""
    shown = next(block for block in blocks(ROOT / "README.md") if block.text.startswith("referral_to_dynamics ·"))
    demo = re.search(r"^\t\$\(BIN\)/flowrun (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert demo
    assert pattern(shown.text).fullmatch(plain(reader.flowrun(*demo[1].split()).out))
    assert "nothing changed" in reader.flowrun(*demo[1].split()).out


def test_the_page_is_read_closely(reader: Reader) -> None:
    """A command that fails, an output that differs, a value that isn't given: each is found."""
    for block in blocks(ROOT / "docs" / "flows.md")[:1]:
        reader.follow(block)
    reader.follow(Block(1, "yaml", "one: {compose: 1}  # → 1\n", ""))
    wrong = [
        Block(1, "console", "$ flowrun check flows/nothing.yaml\n", ""),
        Block(1, "console", "$ flowrun check flows/examples.yaml\nflows/examples.yaml: 3 steps, fine\n", ""),
        Block(1, "console", "$ flowrun check flows/examples.yaml    # exit code 1\n", ""),
        Block(1, "yaml", "one: {compose: 1}  # → 2\n", ""),
        Block(1, "yaml", "one: {composes: 1}\n", ""),
        Block(1, "yaml", "environments: {production: {connections: {sqlite: {pat: x}}}}\n", ""),
        Block(1, "python", "print('nowhere')\n", ""),
    ]
    for block in wrong:
        with pytest.raises(Exception):  # noqa: B017 - of several kinds, all reported by faults()
            reader.follow(block)


# The connector that docs/connectors.md writes


@pytest.fixture
def tasks(reader: Reader) -> Reader:
    """The page's files, saved."""
    for block in blocks(ROOT / "docs" / "connectors.md"):
        if block.file is not None:
            file = reader.folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
    return reader


def test_the_example_connector_asks_what_became_of_a_write(tasks: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to its write is lost, its probe finds the task, and the run goes on with one task."""
    from engine.sandbox import Faults, serve

    monkeypatch.syspath_prepend(str(tasks.folder / "flows/plugins"))
    from tasks.emulator import TasksEmulator

    emulator = TasksEmulator()
    server = serve({"tasks.example": Faults(emulator, once=[("POST", "/v1/tasks", "lost")])})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        connections = tasks.folder / "flows/connections.yaml"
        text = connections.read_text(encoding="utf-8").replace("8940", str(server.server_port))
        connections.write_text(text, encoding="utf-8")
        said = tasks.flowrun("flows/new_task.yaml", "--env", "lab", "--json")
    finally:
        server.shutdown()
        server.server_close()
    assert said.code == 0, said.all
    assert said.steps["create_task"]["summary"] == "it was created"
    assert [task["done"] for _, task in emulator.store.all("task")] == [True]


def test_the_example_connector_is_installed_with_its_emulator(tasks: Reader) -> None:
    """Its entry points, as the page's pyproject.toml has them, bring both into the sandbox."""
    import tomllib

    plugins = tasks.folder / "flows/plugins"
    (toml,) = [block.text for block in blocks(ROOT / "docs" / "connectors.md") if block.language == "toml"]
    project = tomllib.loads(toml)["project"]
    installed = plugins / f"{project['name'].replace('-', '_')}-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1\n")
    groups = project["entry-points"].items()
    lines = [line for group, found in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in found.items()))]
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (tasks.folder / "flows/connections.yaml").unlink()
    said = tasks.shell(["flowrun", "flows/new_task.yaml", "--json"], {"PYTHONPATH": str(plugins)})
    assert said.code == 0, said.all
    assert said.steps["create_task"]["summary"] == "created task T1"


# Links, completeness, freshness


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    astray = []
    for link in found:
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            astray.append(link)
    assert not astray


def written() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_every_command_and_option_is_written_about() -> None:
    text, missing = written(), []
    for path, command in reference.commands():
        if path.removesuffix(" run") not in text:
            missing.append(path)
        options = [o for p in command.params if isinstance(p, click.Option) for o in p.opts]
        missing += [f"{path} {option}" for option in options if f"{option}" not in text]
    assert not missing


def test_every_connector_and_operation_is_written_about() -> None:
    text = written()
    names = [f"{name}.{op}" for name, kind in reference.connectors().items() for op in kind.operations()]
    assert len(names) > 20
    assert not [name for name in names if f"`{name}`" not in text]


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_what_is_made_from_the_code_is_fresh(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == reference.renewed(text), "renew it: .venv/bin/python docs/reference.py"


def test_every_generated_part_is_used() -> None:
    assert set(re.findall(r"<!-- generated: (.+?) -->", written())) == set(reference.PARTS)
