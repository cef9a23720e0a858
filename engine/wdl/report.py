"""What `flowrun import` says: the package's content, what each connection is, and what became of each action."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.loader.document import Document
from engine.wdl.convert import Conversion
from engine.wdl.outcome import Bound, Entry
from engine.wdl.package import Package
from engine.wdl.writer import LISTS


@dataclass(frozen=True)
class Written:
    """A flow that was written: where, whether the file was there before, and its document."""

    conversion: Conversion
    document: Document
    updated: bool

    def line(self, entry: Entry) -> int:
        """The line of a step, trigger or variable in the file, 0 for what left none."""
        places = lines_of(self.document)
        where = "triggers" if entry.what == "trigger" else "variables" if entry.form == "variables" else "steps"
        return places.get((where, entry.own), 0)

    @property
    def by_hand(self) -> int:
        """How many things somebody has to do."""
        unbound = sum(not b.known for b in self.conversion.bound.values())
        return sum(e.status == "by hand" for e in self.conversion.entries) + unbound


def lines_of(document: Document) -> dict[tuple[str, str], int]:
    """(`steps` or `triggers`, name) → line."""
    out: dict[tuple[str, str], int] = {}
    for path in document.keys:
        if len(path) == 2 and path[0] in ("triggers", "variables"):
            out[str(path[0]), str(path[1])] = document.place(path, key=True).line
        elif len(path) > 1 and (path[-2] in LISTS or (len(path) > 2 and path[-3] == "cases")):
            out.setdefault(("steps", str(path[-1])), document.place(path, key=True).line)
    return out


def lines(package: Package, written: list[Written]) -> Iterator[dict[str, Any]]:
    """The report as objects: package, then for each flow its connections, actions, defects and remarks."""
    yield {"type": "package", "file": package.file, "shape": package.shape, "title": package.title,
           "details": list(package.details), "faults": list(package.faults)}  # fmt: skip
    for flow in written:
        conversion = flow.conversion
        counts = {s: sum(e.status == s for e in conversion.entries) for s in ("converted", "changed", "by hand")}
        yield {"type": "flow", "title": conversion.source.title, "flow": conversion.name, "file": flow.document.file,
               "updated": flow.updated, **counts}  # fmt: skip
        for bound in conversion.bound.values():
            yield {"type": "connection", "key": bound.key, "api": bound.api, "alias": bound.alias, "entry": bound.entry,
                   "known": bound.known, "settings": bound.settings, "hosts": bound.hosts}  # fmt: skip
        for name, parameter in conversion.declarations.written_parameters().items():
            default = parameter.get("default")
            if isinstance(default, str) and default.startswith("${env:"):
                yield {
                    "type": "parameter",
                    "name": name,
                    "variable": default[6:-1],
                    "secret": parameter.get("secret", False),
                }
        for entry in conversion.entries:
            source = conversion.source.text
            yield {"type": entry.what, "name": entry.name, "status": entry.status, "step": entry.own,
                   "form": entry.form, "file": flow.document.file, "line": flow.line(entry), "said": list(entry.said),
                   "source": f"{source.file}:{source.line_of(entry.name)}"}  # fmt: skip
        for defect in conversion.defects:
            yield {
                "type": "defect",
                "name": defect.code,
                "action": defect.action,
                "problem": defect.problem,
                "mended": defect.mended,
            }
        for remark in dict.fromkeys(conversion.remarks):
            yield {"type": "remark", "text": conversion.secrets.masked(remark)}


def text(package: Package, written: list[Written]) -> Iterator[str]:
    """The report as people read it."""
    yield f"{package.file}: {package.shape} “{package.title}”"
    if package.details:
        yield f"  {' · '.join(package.details)}"
    for fault in package.faults:
        yield f"  NotJson: it is no strict JSON, and was read all the same: {fault}"
    for flow in written:
        yield from _flow(flow)


def _flow(flow: Written) -> Iterator[str]:
    conversion, file = flow.conversion, flow.document.file
    yield ""
    yield f"“{conversion.source.title}” → {file} ({'updated' if flow.updated else 'new'})"
    if conversion.bound:
        yield "  connections"
        width = max(len(b.key) for b in conversion.bound.values())
        for bound in conversion.bound.values():
            yield f"    {bound.key:<{width}} → {_connection(bound)}"
            yield from (f"    {'':<{width}}   set {remark}" for remark in bound.settings)
            if bound.hosts:
                yield f"    {'':<{width}}   hosts: [{', '.join(bound.hosts)}]"
    variables = [line for line in lines(Package("", "", "", ()), [flow]) if line["type"] == "parameter"]
    if variables:
        yield "  parameters from the environment"
        yield f"    {', '.join(v['variable'] + (' (secret)' if v['secret'] else '') for v in variables)}"
    counts = [f"{sum(e.status == s for e in conversion.entries)} {s}" for s in ("converted", "changed", "by hand")]
    yield f"  triggers and actions: {', '.join(counts)}"
    for entry in sorted(conversion.entries, key=flow.line):
        place = f"{file}:{line}" if (line := flow.line(entry)) else file
        yield f"    {entry.status:<9}  {place}  {entry.name} → {entry.form}"
        yield from (f"{'':15}{said}" for said in entry.said)
    if conversion.defects:
        yield "  defects of the flow as it was"
        for defect in conversion.defects:
            yield f"    {defect.code}  {defect.action}: {defect.problem}"
            mended = f"mended: {defect.mended}" if defect.mended else "kept: what is right is for you to say"
            yield f"{'':15}{mended}"
    if conversion.remarks:
        yield "  to know"
        yield from (f"    {conversion.secrets.masked(remark)}" for remark in dict.fromkeys(conversion.remarks))


def _connection(bound: Bound) -> str:
    if bound.known:
        return bound.entry if bound.alias == bound.entry else f"{bound.entry} (as {bound.alias})"
    return f"{bound.entry}: to be bound, by an entry of connections.yaml or --connect {bound.alias}=ENTRY"
