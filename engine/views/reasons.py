"""Why a step ran or was skipped: where it stands, what it waited for, its condition; and how often it was tried."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import get_args

from engine import model as m
from engine.effects import Record
from engine.views.keys import Keys
from engine.views.origin import Origin
from engine.views.outcome import moment, sentence
from engine.views.standpoint import LAST, Level, Standpoint, parts

AFTERWARDS = {
    "started": "sent; no answer is recorded",
    "retrying": "it may work later, so it was tried again",
    "uncertain": "its answer was lost: a person had to say what became of it",
    "late": "came when nobody waited for it any longer",
}
OPEN = {"retrying": "retrying", "uncertain": "waiting"}


class Reasons(Keys):
    """Explains the steps of one run."""

    def step(self, path: str) -> Origin:
        """What became of a step, why it came to it or not, and its tries."""
        level = self.recorded.level(path)
        home, _ = level.homes[parts(path)[-1][0]]
        status, how = self._became(path)
        origin = Origin(path, status=status, how=how, place=level.document.place(home, key=True))
        return self._once(origin, ("step", path), lambda: self._reasons(level, path))

    def _came_to(self, path: str) -> bool:
        return bool(self.recorded.of(path)) or self.recorded.within(path) is not None

    def _became(self, path: str) -> tuple[str, str]:
        """Its status, as far as there is one, and its words."""
        end = self.recorded.end(path)
        if end is not None:
            return end[1].status, sentence(end[1])
        if not self._came_to(path):
            return "", "it did not run"
        last = self.recorded.of(path)[-1:]
        return OPEN.get(last[0][1].status if last else "", "running"), "it has not ended"

    def _reasons(self, level: Level, path: str) -> Iterator[Origin]:
        yield from self._around(level, path)
        if not self._came_to(path):
            return
        end = self.recorded.end(path)
        summary = end[1].summary if end is not None else ""
        if summary == "Cancelled":
            yield from self._ended_by(level, path)
        yield from self._waited(level, path)
        name = parts(path)[-1][0]
        if level.step(name).when is not None and summary not in ("RunAfter", "Cancelled"):
            yield self.key(path, ("when",))
        if end is not None and end[1].error is not None and (cause := str(end[1].error.get("step", path))) != path:
            yield Origin(f"failed in {cause}", how=f"ask for {cause}")
        yield from self._tries(level, path)

    # Where it stands

    def _around(self, level: Level, path: str) -> Iterator[Origin]:
        """The containers around it: the branch or pass that it is in, up to one that was skipped itself."""
        at = level.prefix
        inside = parts(path[len(level.prefix) :])
        for (name, index), (child, _) in pairwise(inside):
            container, step = at + name, level.step(name)
            end = self.recorded.end(container)
            if (end is not None and end[1].status == "skipped") or not self._came_to(container):
                yield self.step(container)
                return
            at += f"{name}/" if index is None else f"{name}[{index}]/"
            if index is not None:
                item = step.as_ if isinstance(step, m.Foreach) else "index"
                yield Origin(f"in pass {index} of {container}", self.recorded.local(Standpoint(level, at), item))
            elif isinstance(step, m.If | m.Switch):
                yield self._branch(level, container, child)

    def _branch(self, level: Level, container: str, child: str) -> Origin:
        """The list of a container that a step stands in, and what the container decided by."""
        name = parts(container)[-1][0]
        home, own = level.homes[name][0], level.homes[child][0]
        keys = [str(key) for key in own[len(home) : -1]]
        stands = f"case {keys[1]}" if len(keys) > 1 else keys[0]
        step = level.step(name)
        return Origin(f"in {stands} of {container}", sources=(self.key(container, (step.kind,)),))

    # What it waited for

    def _waited(self, level: Level, path: str) -> Iterator[Origin]:
        """Each step that it runs after: the status found, those wanted, and why it is another one."""
        name = parts(path)[-1][0]
        end = self.recorded.end(path)
        prefix = path.removesuffix(name)
        for before, wanted in self._after(level, name).items():
            found = self.recorded.end(prefix + before, end[0] if end else LAST)
            status = found[1].status if found else ""
            forgiven = found is not None and found[1].summary == "ConditionFalse"
            fits = ("succeeded" if forgiven else status) in wanted
            order = "any status" if len(wanted) == len(get_args(m.Status)) else " or ".join(sorted(wanted))
            how = f"as wanted ({order})" if fits else f"wanted: {order}"
            how = f"its `when` is false, which counts as succeeded; {how}" if forgiven else how
            sources = () if fits or found is None else (self.step(prefix + before),)
            yield Origin(f"runs after {before}", None, status, how, sources=sources)

    def _after(self, level: Level, name: str) -> dict[str, frozenset[str]]:
        for _, block in m.walk(level.program.flow):
            if name in block:
                return m.predecessors(block)[name]
        return {}

    def _ended_by(self, level: Level, path: str) -> Iterator[Origin]:
        """What ended everything around it: a container whose time was up, or a `terminate`."""
        at = level.prefix
        for name, index in parts(path[len(level.prefix) :])[:-1]:
            end = self.recorded.end(at + name)
            if end is not None and end[1].status == "timed_out":
                yield Origin(f"ended with {at}{name}", None, end[1].status, sentence(end[1]))
                return
            at += f"{name}/" if index is None else f"{name}[{index}]/"
        by = self.recorded.last_of(level, m.Terminate.kind, LAST)
        if by is not None:
            yield Origin(f"ended by {by}", how="it ends the run")

    # Its tries

    def _tries(self, level: Level, path: str) -> Iterator[Origin]:
        """Each try of a call, and why there was another."""
        found = [(n, r) for n, r in self.recorded.of(path) if r.status not in ("decided", "skipped")]
        found = [(n, r) for n, r in found if r.status != "started" or r is found[-1][1]]
        if len(found) < 2 and not isinstance(level.step(parts(path)[-1][0]), m.Call | m.Start):
            return
        before = -1
        for order, record in found:
            anew = before >= 0 and any(before < resume < order for resume in self.recorded.resumes)
            yield self._try(record, anew=anew)
            before = order

    def _try(self, record: Record, *, anew: bool) -> Origin:
        words = ["the run was resumed"] if anew else []
        words += [sentence(record), AFTERWARDS.get(record.status, ""), moment(record.ended)]
        return Origin(f"try {record.attempt}", None, record.status, "; ".join(filter(None, words)))
