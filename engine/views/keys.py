"""What a step's keys held in a run: `with`, `when`, `foreach` and all others, as recorded, else worked out again."""

from __future__ import annotations

from typing import Any

from engine import model as m
from engine.expressions import to_text
from engine.loader.document import Path
from engine.loader.fit import at
from engine.loader.references import holding
from engine.state import CHANGES
from engine.views.origin import Origin
from engine.views.recorded import hides
from engine.views.standpoint import SECURE, Told, parts
from engine.views.target import dotted
from engine.views.values import Values

NEVER = Told(unknown="the step did not run")


class Keys(Values):
    """Traces what stands under the keys of a run's steps."""

    def key(self, path: str, keys: Path, rest: Path = ()) -> Origin:
        """Where the value under a key came from. `rest` are members of it that the document doesn't spell out."""
        level, name = self.recorded.level(path), parts(path)[-1][0]
        home, _ = level.homes[name]
        told = self.value(path, keys).at(*rest)
        expression = _is_expression(level.step(name), keys)
        here = None if told == NEVER else self.recorded.place(path)
        if isinstance(level.step(name), m.LOOPS) and keys[0] in ("until", "result") and here is not None:
            here = self.recorded.place_of_pass(path, self.recorded.passes(path) - 1)
        what = dotted(path, (*keys, *rest))
        return self.written(level, (*home, *keys), what, told, here, expression=expression, rest=rest)

    def value(self, path: str, keys: Path) -> Told:
        """The value under a key, or under one inside of it."""
        level, name = self.recorded.level(path), parts(path)[-1][0]
        step, key, rest = level.step(name), str(keys[0]), keys[1:]
        end = self.recorded.end(path)
        if end is not None and end[1].status == "skipped":
            return Told(False) if key == "when" and end[1].summary == "ConditionFalse" else NEVER
        if end is None and not self.recorded.of(path) and self.recorded.within(path) is None:
            return NEVER
        if key == "when":
            return Told(True)
        if "inputs" in level.program.secure.get(name, ()):
            return SECURE
        inputs = self.recorded.inputs(path)
        if key == "with" and not inputs.unknown:
            return inputs.at("with", *rest) if isinstance(step, m.Start) else inputs.at(*rest)
        if end is not None and isinstance(step, CHANGES) and key == step.kind and end[1].status == "succeeded":
            return SECURE if hides(end[1]) else Told(end[1].output).at(*rest)
        result = self.recorded.result(path)
        if (
            isinstance(step, m.Compose | m.Parse | m.Respond)
            and key == step.kind
            and result["status"].value == "succeeded"
        ):
            return result["body"].at(*rest)
        if isinstance(step, m.LOOPS) and key == "result":
            return result["body"].at(*rest)
        return self._decided(path, step, key) or self._again(path, keys)

    def _decided(self, path: str, step: m.Step, key: str) -> Told | None:
        """What a container, or a wait, has decided by its key."""
        decided = self.recorded.decided(path)
        if decided is None or key != step.kind:
            return None
        if hides(decided[1]):
            return SECURE
        output = decided[1].output
        match step:
            case m.If():
                return Told(output["branch"] == "then")
            case m.Switch():
                return Told(output["case"])
            case m.Wait() if not isinstance(step.wait, m.Moment):
                return Told(to_text(step.wait)) if "{{" not in to_text(step.wait) else None
        return None

    def _again(self, path: str, keys: Path) -> Told:
        """Evaluated again where and when the step did it."""
        place = self.recorded.place(path)
        name = parts(path)[-1][0]
        home, _ = place.level.homes[name]
        step = place.level.step(name)
        if isinstance(step, m.Until) and keys[0] == "until":
            place = self.recorded.place_of_pass(path, self.recorded.passes(path) - 1)
        raw = at(place.level.document.data, (*home, *keys))
        return self.recorded.worked_out(place, raw, expression=_is_expression(step, keys))


def _is_expression(step: m.Step, keys: Path) -> bool:
    """Whether the text under a key is an expression, braced or not."""
    kind: Any = type(step)
    return len(keys) == 1 and holding(kind).get(str(keys[0])) == "expression"
