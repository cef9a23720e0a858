"""Which steps have ended before each one begins, and which can never begin. Sets of steps are bits of whole numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine import model
from engine.errors import did_you_mean
from engine.expressions import bare
from engine.loader.document import Document, Lost, Path, value_at

ENDS = frozenset({"succeeded", "failed", "skipped", "timed_out", "cancelled"})
RAN = ENDS - {"skipped"}
FAR = 60  # steps back that are looked at to see whether a run_after can hold


class Order:
    """The order of a flow's steps. Reports names that stand twice, strangers and cycles in run_after, dead steps."""

    def __init__(self, flow: model.Flow, document: Document, report: Any) -> None:
        self.document = document
        self.report = report
        self.paths: dict[str, Path] = {}  # step → its path in the document
        self.homes: dict[str, Path] = {}  # step → path of the list it stands in
        self.bits: dict[str, int] = {}
        self.before: dict[str, int] = {}  # step → those that have ended when it begins
        self.within: dict[str, int] = {}  # container → all steps in it
        self.apart: dict[str, int] = {}  # step → those of branches that aren't taken when it runs
        self.around: dict[str, tuple[str, ...]] = {}  # step → the containers around it, outermost first
        self.twice: set[str] = set()
        self.steps = flow.all_steps
        for path, block in model.walk(flow):
            for name in block:
                self._name(path, name)
        self.all = (1 << len(self.paths)) - 1
        self._count(flow.steps, ())
        self._order(("steps",), flow.steps, 0, 0)

    def _name(self, path: Path, name: str) -> None:
        if name in self.paths:
            self.twice.add(name)
            first = self.document.place(self.paths[name], key=True)
            self.report((*path, name), "DuplicateStep", f"step '{name}' stands in line {first.line} already",
                        key=True, hint="step names are unique in the whole document")  # fmt: skip
        else:
            self.paths[name], self.homes[name] = (*path, name), path
        if (*path, name) in self.document.doubled:
            self.twice.add(name)

    def _count(self, block: Mapping[str, model.Step], around: tuple[str, ...]) -> int:
        """All steps in a list."""
        out = 0
        for name, step in block.items():
            self.around.setdefault(name, around)
            self.bits.setdefault(name, 1 << len(self.bits))
            self.within[name] = 0
            for _, inner in step.blocks():
                self.within[name] |= self._count(inner, (*around, name))
            out |= self.bits[name] | self.within[name]
        return out

    # Lists of steps

    def _order(self, path: Path, block: Mapping[str, model.Step], outer: int, apart: int) -> None:
        after = model.predecessors(block)
        astray = self._strangers(path, block)
        for name in astray:  # nobody knows after what
            self.before[name] = self.all
        open_ = {name: {p for p in preds if p in block} for name, preds in after.items() if name not in astray}
        followers: dict[str, list[str]] = {name: [] for name in block}
        for name, preds in open_.items():
            for pred in preds:
                followers[pred].append(name)
        ready = [name for name in block if not open_.get(name) or name in astray]
        done: dict[str, int] = {}
        for name in ready:
            if name not in astray:
                before = outer
                for pred in after[name]:
                    before |= done[pred]
                self.before[name] = before
            done[name] = self.before[name] | self.bits[name] | self.within[name]
            for follower in followers[name]:
                open_[follower].discard(name)
                if not open_[follower]:
                    ready.append(follower)
        self._cycles(path, {n: preds for n, preds in open_.items() if preds and n not in done})
        if not astray and len(done) == len(block):
            self._dead(path, block, after)
        for name, step in block.items():
            branches = [(keys, inner, self._all_of(inner)) for keys, inner in step.blocks()]
            for keys, inner, own in branches:
                others = 0
                for _, _, other in branches:
                    others |= other & ~own
                self._order((*path, name, *keys), inner, self.before[name], apart | others)
            self.apart[name] = apart

    def _all_of(self, block: Mapping[str, model.Step]) -> int:
        out = 0
        for name in block:
            out |= self.bits[name] | self.within[name]
        return out

    def _strangers(self, path: Path, block: Mapping[str, model.Step]) -> set[str]:
        astray = set()
        for name in block:
            if not _names_steps(value_at(self.document.data, (*path, name, "run_after"))):
                astray.add(name)
            for pred, where, key in self._named((*path, name, "run_after")):
                if pred in block and pred != name:
                    continue
                astray.add(name)
                if pred in self.document.dropped:
                    continue
                if pred == name:
                    self.report(where, "RunAfter", "a step can't run after itself", key=key, hint="name another step")
                    continue
                hint, found = did_you_mean(pred, set(block) - {name}), f"'{pred}'"
                if pred in self.paths:
                    inside = self.around[pred]
                    found = f"'{pred}' in '{inside[-1]}'" if inside else f"'{pred}' outside of this list"
                    hint = "run_after names steps of the same list"
                self.report(
                    where, "RunAfter", f"there is no step '{pred}' beside '{name}'", key=key, found=found, hint=hint
                )
        return astray

    def _named(self, path: Path) -> Iterator[tuple[str, Path, bool]]:
        """The steps that a run_after names, each with its place and whether that is a key."""
        given = value_at(self.document.data, path)
        match given:
            case str() if not isinstance(given, Lost):
                yield given, path, False
            case list():
                yield from ((one, (*path, i), False) for i, one in enumerate(given) if isinstance(one, str))
            case dict():
                yield from ((one, (*path, one), True) for one in given)

    def _cycles(self, path: Path, waiting: dict[str, set[str]]) -> None:
        """Reports each cycle once, where it goes back to a later step."""
        for name in waiting:
            self.before[name] = self.all
        number = {name: i for i, name in enumerate(waiting)}
        while waiting:
            trail = [next(iter(waiting))]
            while (step := next((p for p in waiting[trail[-1]] if p in waiting), None)) not in trail:
                if step is None:
                    break
                trail.append(step)
            if step is not None:
                cycle = trail[trail.index(step) :]
                back = [n for n in cycle if number[max(waiting[n] & set(cycle), key=number.__getitem__)] >= number[n]]
                at = min(back or cycle, key=number.__getitem__)
                start = cycle.index(at)
                round_ = [*cycle[start:], *cycle[:start], at]
                self.report((*path, at, "run_after"), "Cycle", f"'{at}' waits for itself: {' → '.join(round_)}",
                            hint="→ is 'waits for': take one of these run_after away")  # fmt: skip
            for name in trail:
                del waiting[name]

    # Steps that never run

    def _dead(
        self, path: Path, block: Mapping[str, model.Step], after: Mapping[str, Mapping[str, frozenset[str]]]
    ) -> None:
        skippable: dict[str, bool] = {}
        told = False
        for name, step in block.items():
            where = (*path, name)
            self._literal(where, name, step)
            ended = [p for p, wanted in after[name].items() if wanted == {"succeeded"} and _ends_the_run(block[p])]
            if ended and not told:
                told = True
                self.report(where, "Unreachable", f"'{name}' never runs: '{ended[0]}' before it ends the run", key=True,
                            severity="warning", hint=f"remove it, or give '{ended[0]}' a `when`")  # fmt: skip
        for name in sorted(block, key=lambda n: self.before[n].bit_count()):
            skippable[name] = any(
                not RAN | ({"skipped"} if skippable[p] else set()) <= wanted for p, wanted in after[name].items()
            )
        dead = 0
        for name, step in block.items():
            wanted = after[name]
            if self.before[name] & dead:
                continue  # it rests on one of which it has been said
            plain = len(wanted) < 2 and all("succeeded" in statuses for statuses in wanted.values())
            if step.run_after is not None and not plain and (why := _contradiction(name, after, skippable)):
                dead |= self.bits[name]
                self.report((*path, name, "run_after"), "Unreachable", f"'{name}' never runs: {why}",
                            severity="warning", hint=self._remedy(wanted, skippable, block))  # fmt: skip

    def _remedy(
        self, wanted: Mapping[str, frozenset[str]], skippable: Mapping[str, bool], block: Mapping[str, model.Step]
    ) -> str:
        never = [p for p, statuses in wanted.items() if statuses == {"skipped"} and not skippable[p]]
        if never and block[never[0]].when is not None:
            return f"a step whose `when` is false counts as succeeded: test steps.{never[0]}.status in a `when`"
        if never:
            return f"only a step that waits for others can be skipped, and '{never[0]}' always begins"
        return "all of run_after has to hold: for one of several, put them in a scope (`steps`) and run after that"

    def _literal(self, where: Path, name: str, step: model.Step) -> None:
        """A condition that is written down as true or false, and what it leaves without use."""
        if not isinstance(step, model.If):
            return
        text = bare(step.if_).strip() if isinstance(step.if_, str) else str(step.if_).lower()
        dead = {"true": "else", "false": "then"}.get(text)
        if dead is not None and (step.else_ if dead == "else" else step.then):
            self.report(
                (*where, "if"),
                "Unreachable",
                f"`{dead}` of '{name}' never runs: the condition is always {text}",
                severity="warning",
                hint="write a condition, or keep only the steps that run",
            )


def _names_steps(given: Any) -> bool:
    """Whether a run_after is of a form that can be read."""
    if isinstance(given, list):
        return all(isinstance(one, str) for one in given)
    return given is None or (isinstance(given, str | dict) and not isinstance(given, Lost))


def _ends_the_run(step: model.Step) -> bool:
    return isinstance(step, model.Terminate) and step.when in (None, True)


def _contradiction(name: str, after: Mapping[str, Mapping[str, frozenset[str]]], skippable: Mapping[str, bool]) -> str:
    """Why the steps that `name` waits for can't end as it wants, in words; empty if they may.

    The statuses that each one may have are narrowed by what has led to them, until nothing changes.
    """
    may: dict[str, frozenset[str]] = {}
    changed: list[str] = []

    def narrow(step: str, statuses: frozenset[str]) -> bool:
        if step not in may and len(may) >= FAR:
            return True
        now = may.get(step, RAN | {"skipped"} if skippable[step] else RAN)
        if (left := now & statuses) != may.get(step):
            may[step] = left
            changed.append(step)
        return bool(left)

    for pred, statuses in after[name].items():
        if not statuses:
            return f"no status of '{pred}' is named"
        if not narrow(pred, statuses):
            return f"'{pred}' never ends as {' or '.join(sorted(statuses))}"
    while changed:
        step = changed.pop()
        fine = True
        if "skipped" not in may[step]:
            for pred, statuses in after[step].items():
                fine = narrow(pred, statuses) and fine
        elif may[step] == {"skipped"} and len(after[step]) == 1:
            ((pred, statuses),) = after[step].items()
            fine = narrow(pred, ENDS - statuses)
        for other in list(may):
            if step in after[other] and not may[step] & after[other][step]:
                fine = narrow(other, frozenset({"skipped"})) and fine
        if not fine:
            return "the steps that it waits for can't all end so: " + ", ".join(
                f"{p} {' or '.join(sorted(s))}" for p, s in after[name].items()
            )
    return ""
