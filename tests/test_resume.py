"""Resume: what of an earlier process's records stands, and what is done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from scripted import NOON, Played, play, program, stored
from test_decider import cases

from engine.effects import Program, Record, Start
from engine.types import JSON

LATER = NOON.replace(hour=18)


def again(flow: Program, first: Played, calls: Mapping[str, Sequence[JSON]] | None = None, **more: Any) -> Played:
    """A failed run resumed from its journal, some hours later."""
    return play(flow, calls, recorded=stored(first.records), retry_failed=True, now=LATER, **more)


def crashed(flow: Program, first: Played, cut: str, calls: Any = None, **more: Any) -> Played:
    """A run resumed whose process died right after the record `path status` (its last occurrence)."""
    names = [f"{r.path} {r.status}" for r in first.records]
    end = len(names) - names[::-1].index(cut)
    return play(flow, calls, recorded=stored(first.records[:end]), now=LATER, **more)


# A failed run: what did not succeed is done again


def test_what_succeeded_stays_and_what_failed_is_redone() -> None:
    flow = program("steps:\n  a: {call: desk.read}\n  b: {call: desk.read}\n  c: {call: desk.read}\n")
    first = play(flow, {"a": [1], "b": ["data"]})
    second = again(flow, first)
    assert (first.status, second.status) == ("failed", "succeeded")
    assert second.calls == ["b#2", "c#2"]
    assert second.bodies["a"] == 1


def test_what_comes_after_a_redone_step_is_dropped() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  tidy: {run_after: {a: any}, call: desk.read}\n  more: {call: desk.read}\n"
        "  other: {run_after: {}, call: desk.read}\n"
    )
    first = play(flow, {"a": ["data"]})
    assert first.statuses == {"a": "failed", "tidy": "succeeded", "more": "succeeded", "other": "succeeded"}
    first.records.append(Record(path="end", attempt=1, status="failed", kind="call"))
    second = again(flow, first)
    assert second.calls == ["a#2", "tidy#2", "more#2"]


def test_what_reads_from_a_redone_step_is_dropped() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  b: {run_after: {a: any}, call: desk.read}\n"
        "  reads: {call: desk.read, with: {value: '{{ steps.a.status }}'}}\n  last: {call: desk.read}\n"
    )
    first = play(flow, {"a": ["data"], "last": ["data"]})
    second = again(flow, first)
    assert second.inputs["reads"] == {"value": "succeeded"}
    assert second.calls == ["a#2", "b#2", "reads#2", "last#2"]


def test_a_handler_is_not_needed_any_more() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  handler: {run_after: {a: failed}, call: desk.read}\n"
        "  end: {run_after: {handler: any}, call: desk.read}\n"
    )
    first = play(flow, {"a": ["data"], "end": ["data"]})
    second = again(flow, first)
    assert second.calls == ["a#2", "end#2"]
    assert second.statuses == {"a": "succeeded", "handler": "skipped", "end": "succeeded"}


def test_a_failure_handled_inside_a_scope_that_succeeded_stays() -> None:
    flow = program(
        "steps:\n  box:\n    steps:\n      a: {call: desk.read}\n"
        "      saved: {run_after: {a: failed}, call: desk.read}\n"
        "  end: {call: desk.read}\n"
    )
    second = again(flow, play(flow, {"box/a": ["data"], "end": ["data"]}))
    assert second.calls == ["end#2"]


def test_a_loop_keeps_its_good_passes() -> None:
    flow = program(
        "steps:\n  each:\n    foreach: [a, b, c]\n    concurrency: 2\n    steps:\n      do: {call: desk.read}\n"
        "      then: {call: desk.read}\n    result: '{{ steps.do.body }}'\n"
        "  after: {compose: '{{ steps.each.body }}'}\n"
    )
    first = play(flow, {"each[0]/do": ["A"], "each[1]/do": ["data"], "each[2]/do": ["C"], "each[2]/then": ["data"]})
    second = again(flow, first, {"each[1]/do": ["B"]})
    assert sorted(second.calls) == ["each[1]/do#2", "each[1]/then#2", "each[2]/then#2"]
    assert second.bodies["after"] == ["A", "B", "C"]
    assert second.status == "succeeded"


def test_an_until_keeps_its_good_passes() -> None:
    flow = program(
        "steps:\n  poll: {until: steps.ask.body, limit: {count: 3}, steps: {ask: {call: desk.read}}}\n"
        "  end: {call: desk.read}\n"
    )
    first = play(flow, {"poll[0]/ask": [False], "poll[1]/ask": [True], "end": ["data"]})
    second = again(flow, first)
    assert (second.calls, second.status) == (["end#2"], "succeeded")


def test_branches_side_by_side_are_each_their_own() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  a2: {call: desk.read}\n  b: {run_after: {}, call: desk.read}\n"
        "  b2: {call: desk.read}\n  both: {run_after: [a2, b2], call: desk.read}\n"
    )
    second = again(flow, play(flow, {"b2": ["data"]}))
    assert second.calls == ["b2#2", "both#2"]


def test_a_decision_that_rested_on_a_redone_step_is_made_anew() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  choose:\n    run_after: {a: any}\n    if: steps.a.status == 'failed'\n"
        "    then: {sorry: {call: desk.read}}\n    else: {good: {call: desk.read}}\n  end: {call: desk.read}\n"
    )
    first = play(flow, {"a": ["data"], "end": ["data"]})
    assert first.calls == ["a", "choose/sorry", "end"]
    second = again(flow, first)
    assert second.calls == ["a#2", "choose/good", "end#2"]


def test_a_case_that_rested_on_a_redone_step_is_chosen_anew() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  choose:\n    run_after: {a: any}\n    switch: steps.a.status\n"
        "    cases: {failed: {sorry: {call: desk.read}}, succeeded: {good: {call: desk.read}}}\n"
        "  end: {call: desk.read}\n"
    )
    second = again(flow, play(flow, {"a": ["data"], "end": ["data"]}))
    assert second.calls == ["a#2", "choose/good", "end#2"]


def test_a_list_that_rested_on_a_redone_step_is_taken_anew() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  each:\n    run_after: {a: any}\n"
        "    foreach: coalesce(steps.a.body, ['none'])\n"
        "    steps: {do: {call: desk.read, with: {value: '{{ item }}'}}}\n  end: {call: desk.read}\n"
    )
    second = again(flow, play(flow, {"a": ["data"], "end": ["data"]}), {"a": [["x", "y"]]})
    assert [c.inputs for c in second.invoked if c.operation == "read" and c.inputs] == [{"value": "x"}, {"value": "y"}]
    assert second.status == "succeeded"


def test_a_wait_that_rested_on_a_redone_step_waits_anew() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  pause: {run_after: {a: any}, wait: 10m}\n  end: {call: desk.read}\n"
    )
    second = again(flow, play(flow, {"a": ["data"], "end": ["data"]}))
    assert (second.now - LATER).total_seconds() == 600


def test_a_when_that_rested_on_a_redone_step_is_asked_anew() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  box:\n    run_after: {a: any}\n    when: steps.a.status == 'failed'\n"
        "    foreach: [1]\n    steps: {sorry: {call: desk.read}}\n  end: {call: desk.read}\n"
    )
    second = again(flow, play(flow, {"a": ["data"], "end": ["data"]}))
    assert second.statuses["box"] == "skipped"
    assert second.calls == ["a#2", "end#2"]


def test_what_is_inside_a_container_that_comes_after_a_redone_step_is_dropped() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  box:\n    run_after: {a: any}\n    steps:\n"
        "      inner: {call: desk.read}\n      nest: {steps: {deep: {call: desk.read}}}\n  end: {call: desk.read}\n"
    )
    second = again(flow, play(flow, {"a": ["data"], "end": ["data"]}))
    assert second.calls == ["a#2", "box/inner#2", "box/nest/deep#2", "end#2"]


def test_a_dropped_variable_change_counts_once() -> None:
    flow = program(
        "variables: {n: 0, rows: []}\nsteps:\n  a: {call: desk.read}\n  one: {run_after: {a: any}, increment: {n: 1}}\n"
        "  two: {append: {rows: '{{ steps.a.status }}'}}\n  end: {call: desk.read}\n"
        "outputs: {n: '{{ variables.n }}', rows: '{{ variables.rows }}'}\n"
    )
    second = again(flow, play(flow, {"a": ["data"], "end": ["data"]}))
    assert second.decider.outputs == {"n": 1, "rows": ["succeeded"]}


def test_a_write_that_was_cut_off_by_a_terminate_is_not_repeated_blindly() -> None:
    """The run ended while a write was under way: it may have been done, so its probe is asked."""
    flow = program(
        "steps:\n  post: {run_after: {}, call: desk.send}\n  stop: {run_after: {}, terminate: failed}\n"
        "  end: {run_after: {post: any}, call: desk.read}\n"
    )
    first = play(flow, {"post": ["never"]})
    assert first.status == "failed"
    second = again(flow, first, {"probe of post": [7]})
    assert "post#2" not in second.calls and "post" not in second.calls


def test_a_write_that_failed_clearly_is_repeated() -> None:
    flow = program("steps:\n  post: {call: desk.send}\n")
    second = again(flow, play(flow, {"post": ["remote"]}))
    assert (second.calls, second.status) == (["post#2"], "succeeded")


def test_nothing_is_recorded_twice() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  box: {steps: {b: {compose: 1}, c: {when: false, compose: 2}}}\n"
        "  each: {foreach: [1], steps: {d: {compose: 1}}}\n  end: {call: desk.read}\n"
    )
    second = again(flow, play(flow, {"end": ["data"]}))
    assert [(r.path, r.status) for r in second.records] == [("end", "succeeded")]


# A run whose process died: every decision stands


def test_a_failure_stands() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read}\n  handler: {run_after: {a: failed}, call: desk.read}\n  b: {call: desk.read}\n"
    )
    second = crashed(flow, play(flow, {"a": ["data"]}), "handler succeeded", {"a": [1]})
    assert second.calls == ["b"]
    assert second.statuses == {"a": "failed", "handler": "succeeded", "b": "succeeded"}


def test_a_failed_container_stands_and_is_not_recorded_again() -> None:
    flow = program(
        "steps:\n  box: {steps: {a: {call: desk.read}}}\n  after: {run_after: {box: failed}, call: desk.read}\n"
    )
    second = crashed(flow, play(flow, {"box/a": ["data"]}), "box failed")
    assert [(r.path, r.status) for r in second.records] == [("after", "succeeded")]


def test_a_container_that_timed_out_stays_timed_out() -> None:
    flow = program(
        "steps:\n  box: {timeout: 1m, steps: {a: {call: desk.read}, b: {call: desk.read}}}\n"
        "  after: {run_after: {box: timed_out}, call: desk.read}\n"
    )
    second = crashed(flow, play(flow, {"box/a": ["never"]}), "box timed_out")
    assert second.statuses == {"box": "timed_out", "box/a": "cancelled", "box/b": "skipped", "after": "succeeded"}
    assert second.calls == ["after"]


def test_a_branch_is_read_back_although_the_condition_would_now_differ() -> None:
    flow = program(
        "steps:\n  choose:\n    if: utcNow() < '2026-11-24T13'\n    then: {early: {call: desk.read}}\n"
        "    else: {late: {call: desk.read}}\n"
    )
    second = crashed(flow, play(flow), "choose decided")
    assert second.calls == ["choose/early"]


def test_a_case_is_read_back() -> None:
    flow = program(
        "variables: {n: 1}\nsteps:\n  choose:\n    switch: utcNow() < '2026-11-24T13'\n"
        "    cases: {'true': {early: {call: desk.read}}, 'false': {late: {call: desk.read}}}\n"
    )
    assert crashed(flow, play(flow), "choose decided").calls == ["choose/early"]


def test_a_when_is_not_asked_again_once_it_was_decided() -> None:
    flow = program(
        "steps:\n  each:\n    when: utcNow() < '2026-11-24T13'\n    foreach: [1, 2]\n"
        "    steps: {do: {call: desk.read}}\n"
    )
    second = crashed(flow, play(flow), "each[0]/do succeeded")
    assert second.calls == ["each[1]/do"]


def test_the_passes_of_an_until_are_read_back() -> None:
    """That a second pass began is a decision: later the condition would hold after the first."""
    flow = program(
        "steps:\n  poll:\n    until: utcNow() > '2026-11-24T13'\n    limit: {count: 2}\n    on_limit: succeed\n"
        "    steps: {a: {call: desk.read}, b: {call: desk.read}}\n    result: '{{ index }}'\n"
    )
    second = crashed(flow, play(flow), "poll[1]/a succeeded")
    assert second.calls == ["poll[1]/b"]
    assert second.bodies["poll"] == 1


def test_a_wait_ends_when_it_was_to_end() -> None:
    flow = program("steps:\n  pause: {wait: 10h}\n")
    second = crashed(flow, play(flow), "pause decided")
    assert (second.now - NOON).total_seconds() == 36000


def test_other_items_than_the_recorded_ones_are_refused() -> None:
    flow = program(
        "steps:\n  each: {foreach: parameters.rows, steps: {do: {call: desk.read}}}\n"
        "parameters: {rows: {type: array}}\n"
    )
    first = play(flow, start=Start(run="run", parameters={"rows": [1, 2]}))
    second = crashed(flow, first, "each[0]/do succeeded", start=Start(run="run", parameters={"rows": [1, 3]}))
    error = second.last["each"].error
    assert error is not None and error["code"] == "ItemsChanged"


def test_variables_are_folded_in_the_order_of_the_journal() -> None:
    flow = program(
        "variables: {rows: []}\nsteps:\n"
        "  a: {call: desk.read}\n  a2: {append: {rows: a}}\n"
        "  b: {run_after: {}, call: desk.read}\n  b2: {append: {rows: b}}\n"
        "  end: {run_after: [a2, b2], call: desk.read}\noutputs: {rows: '{{ variables.rows }}'}\n"
    )
    calls = {"a": [{"body": 1, "after": "2s"}], "b": [{"body": 1, "after": "1s"}]}
    first = play(flow, calls)
    assert first.decider.outputs == {"rows": ["b", "a"]}
    second = crashed(flow, first, "a2 succeeded")
    assert second.decider.outputs == {"rows": ["b", "a"]}


def test_recorded_variable_changes_come_before_new_ones_however_deep_they_stand() -> None:
    flow = program(
        "variables: {x: 0}\nsteps:\n  tick: {run_after: {}, call: desk.read}\n  new: {set: {x: 2}}\n"
        "  outer: {run_after: {}, steps: {inner: {steps: {deep: {steps: {old: {set: {x: 1}}, slow: {call: desk.read}}}}"
        "}}}\n"
        "outputs: {x: '{{ variables.x }}'}\n"
    )
    calls = {"tick": [{"body": 1, "after": "5s"}], "outer/inner/deep/slow": [{"body": 1, "after": "9s"}]}
    first = play(flow, calls)
    assert first.decider.outputs == {"x": 2}
    second = crashed(flow, first, "tick succeeded")
    assert second.decider.outputs == {"x": 2}


def test_variables_changed_in_a_loop_that_succeeded_stay_changed() -> None:
    flow = program(
        "variables: {n: 0, rows: []}\nsteps:\n  each: {foreach: [1, 2], steps: {add: {append: {rows: '{{ item }}'}}}}\n"
        "  loop: {until: variables.n == 3, steps: {more: {increment: {n: 1}}}}\n  end: {call: desk.read}\n"
        "outputs: {n: '{{ variables.n }}', rows: '{{ variables.rows }}'}\n"
    )
    first = play(flow, {"end": ["data"]})
    assert again(flow, first).decider.outputs == {"n": 3, "rows": [1, 2]}
    assert crashed(flow, first, "loop succeeded").decider.outputs == {"n": 3, "rows": [1, 2]}


def test_the_response_of_a_loop_that_succeeded_stays() -> None:
    flow = program(
        "steps:\n  each: {foreach: [1, 2], steps: {answer: {respond: {body: '{{ item }}'}}}}\n"
        "  end: {call: desk.read}\n"
    )
    assert again(flow, play(flow, {"end": ["data"]})).decider.response == {"body": 2}


def test_the_items_of_a_list_variable_are_those_of_the_time() -> None:
    """Another branch had appended before the loop began, or after: the replay takes the list as it was."""
    for before in (True, False):
        flow = program(
            "variables: {rows: [a]}\nsteps:\n  tick: {call: desk.read}\n"
            "  each: {foreach: variables.rows, steps: {do: {call: desk.read}, more: {call: desk.read}}}\n"
            "  tock: {run_after: {}, call: desk.read}\n  add: {append: {rows: b}}\n"
        )
        calls = {
            "tick": [{"body": 1, "after": "5s"}],
            "tock": [{"body": 1, "after": "1s" if before else "9s"}],
            "each[0]/do": [{"body": 1, "after": "20s"}],
        }
        first = play(flow, calls)
        assert len([c for c in first.calls if c.endswith("do")]) == (2 if before else 1)
        second = crashed(flow, first, "each[0]/do succeeded")
        assert second.status == "succeeded", f"before: {before}: {second.decider.error}"


def test_a_terminate_that_was_recorded_ends_the_run_again() -> None:
    flow = program(
        "steps:\n  slow: {run_after: {}, call: desk.read}\n  a: {run_after: {}, call: desk.read}\n"
        "  stop: {terminate: failed, error: {code: Enough}}\n"
    )
    second = crashed(flow, play(flow, {"slow": ["never"]}), "stop succeeded")
    assert (second.status, second.decider.error and second.decider.error["code"]) == ("failed", "Enough")
    assert second.calls == []
    assert "stop" not in [r.path for r in second.records]


# Writes


def test_a_started_write_is_asked_about_with_its_recorded_inputs() -> None:
    flow = program("steps:\n  post: {call: desk.send, with: {value: '{{ utcNow() }}'}}\n")
    first = play(flow)
    second = crashed(flow, first, "post started", {"probe of post": [{"body": 9}]})
    assert second.calls == ["probe of post"]
    assert second.inputs["post"] == first.inputs["post"]
    assert second.bodies["post"] == 9


def test_a_started_write_that_was_not_done_is_done() -> None:
    flow = program("steps:\n  post: {call: desk.send, with: {value: 1}}\n")
    second = crashed(flow, play(flow), "post started", {"post": ["never", 8]})
    assert second.calls == ["probe of post", "post#2"]
    assert second.bodies["post"] == 8
    assert {c.key for c in second.invoked} == {"run/post"}


def test_a_started_write_without_a_probe_waits_for_a_person() -> None:
    flow = program("steps:\n  post: {call: desk.mail}\n  after: {run_after: {post: any}, call: desk.read}\n")
    second = crashed(flow, play(flow), "post started")
    assert (second.status, second.calls) == ("waiting", [])
    assert second.decider.waiting["post"]["kind"] == "uncertain"


def test_a_person_answers() -> None:
    flow = program("steps:\n  post: {call: desk.mail, with: {value: 1}}\n  after: {call: desk.read}\n")
    first = play(flow, {"post": ["uncertain"]})
    assert first.status == "waiting"
    waits = crashed(flow, first, "post uncertain")
    assert (waits.status, waits.calls, waits.records) == ("waiting", [], [])
    asked = first.records[-1]
    answers = {
        "succeeded": ["after"],
        "retrying": ["post#2", "after"],
    }
    for status, calls in answers.items():
        answer = Record(path="post", attempt=asked.attempt, status=status, kind="call", inputs=asked.inputs)
        assert play(flow, recorded=[*first.records, answer]).calls == calls


def test_a_retry_that_was_pending_is_made() -> None:
    flow = program("steps:\n  a: {call: desk.read}\n  b: {call: desk.send}\n")
    first = play(flow, {"a": ["transient", 1], "b": ["transient", 1]})
    assert crashed(flow, first, "a retrying").calls == ["a#2", "b"]
    assert crashed(flow, first, "b retrying").calls == ["b#2"]


def test_answers_that_came_late_are_nothing() -> None:
    flow = program(
        "steps:\n  a: {call: desk.read, timeout: 10s}\n  b: {run_after: {a: any}, wait: 1m}\n  c: {call: desk.read}\n"
    )
    first = play(flow, {"a": [{"body": 1, "after": "30s"}]})
    second = crashed(flow, first, "a late")
    assert second.statuses["a"] == "timed_out"
    assert second.calls == ["c"]


# Secure values are not in the journal


SECRET = """
steps:
  token: {call: desk.keep, secure: [outputs]}
  use: {call: desk.read, with: {value: "{{ steps.token.body }}"}}
  end: {call: desk.read}
"""


def test_a_secure_step_is_not_run_again_for_nothing() -> None:
    flow = program(SECRET)
    second = again(flow, play(flow, {"token": ["s3cret"], "end": ["data"]}))
    assert second.calls == ["end#2"]


def test_a_secure_step_runs_again_for_a_step_that_has_yet_to_run() -> None:
    flow = program(SECRET)
    second = crashed(flow, play(flow, {"token": ["s3cret"]}), "token succeeded", {"token": ["fresh"]})
    assert second.inputs["use"] == {"value": "fresh"}


def test_a_secure_step_runs_again_for_a_step_that_failed() -> None:
    flow = program(SECRET)
    second = again(flow, play(flow, {"token": ["s3cret"], "use": ["data"]}), {"token": ["fresh"]})
    assert second.inputs["use"] == {"value": "fresh"}


def test_a_secure_step_runs_again_for_a_step_that_was_to_be_retried() -> None:
    flow = program(SECRET)
    first = play(flow, {"token": ["s3cret"], "use": ["transient", "ok"]})
    second = crashed(flow, first, "use retrying", {"token": ["fresh"]})
    assert second.inputs["use"] == {"value": "fresh"}


def test_a_secure_step_runs_again_for_the_outputs() -> None:
    flow = program(SECRET + "outputs: {token: '{{ steps.token.body }}'}\n")
    second = again(flow, play(flow, {"token": ["s3cret"], "end": ["data"]}), {"token": ["fresh"]})
    assert second.decider.outputs == {"token": "fresh"}


def test_a_secure_step_runs_again_for_the_rest_of_a_loop() -> None:
    flow = program(
        "steps:\n  token: {call: desk.keep, secure: [outputs]}\n  each:\n    foreach: [1, 2]\n"
        "    steps: {use: {call: desk.read, with: {value: '{{ steps.token.body }}'}}}\n"
    )
    first = play(flow, {"token": ["s3cret"], "each[1]/use": ["data"]})
    second = again(flow, first, {"token": ["fresh"]})
    assert second.inputs == {"token": {}, "each[1]/use": {"value": "fresh"}}


def test_a_value_made_of_a_secure_one_is_made_again() -> None:
    flow = program(
        "steps:\n  token: {call: desk.keep, secure: [outputs]}\n  header: {compose: 'Bearer {{ steps.token.body }}'}\n"
        "  pause: {call: desk.read}\n  use: {call: desk.read, with: {value: '{{ steps.header.body }}'}}\n"
    )
    first = play(flow, {"token": ["s3cret"], "pause": ["data"]})
    second = again(flow, first, {"token": ["fresh"]})
    assert second.inputs["use"] == {"value": "Bearer fresh"}


def test_a_variable_made_of_a_secret_parameter_is_made_again() -> None:
    flow = program(
        "parameters: {key: {type: string, secret: true}}\nvariables: {header: null, rows: []}\nsteps:\n"
        "  set: {set: {header: 'Key {{ parameters.key }}'}}\n  add: {append: {rows: '{{ parameters.key }}'}}\n"
        "  pause: {call: desk.read}\n"
        "  use: {call: desk.read, with: {value: '{{ variables.header }} {{ variables.rows[0] }}'}}\n"
    )
    start = Start(run="run", parameters={"key": "s3cret"})
    second = again(flow, play(flow, {"pause": ["data"]}, start=start), start=start)
    assert second.inputs["use"] == {"value": "Key s3cret s3cret"}


def test_a_started_write_with_secure_inputs_is_asked_with_the_inputs_made_again() -> None:
    flow = program(
        "parameters: {key: {type: string, secret: true}}\nsteps:\n"
        "  post: {call: desk.send, with: {value: '{{ parameters.key }}'}}\n"
    )
    start = Start(run="run", parameters={"key": "s3cret"})
    second = crashed(flow, play(flow, start=start), "post started", {"probe of post": [1]}, start=start)
    assert second.inputs["post"] == {"value": "s3cret"}


# Every rule, cut anywhere

# What a restart may change: the times from which a time-out or a longest duration counts.
TIMED = {"late_answer", "retry_within_time_out", "run_after_time_out", "step_time_out_of_a_loop", "uncertain_time_out",
         "wait_with_time_out", "until_limits"}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "text", "case"), [c for c in cases() if not str(c.id).startswith(("scope_time_out", *TIMED))]
)
def test_a_case_that_is_cut_anywhere_ends_the_same(file: str, text: str, case: dict[str, Any]) -> None:
    flow = program(text, file)
    start = Start(run="run", trigger=case.get("trigger", {}), parameters=case.get("parameters", {}))
    whole = play(flow, case.get("calls", {}), start=start)
    for cut in range(len(whole.records)):
        rest = play(flow, case.get("calls", {}), start=start, recorded=whole.records[:cut])
        if rest.status == "waiting" and whole.records[cut - 1].status == "started":
            continue  # a write that nobody can ask about: a person has to say
        assert ending(rest) == ending(whole), f"cut after {[f'{r.path} {r.status}' for r in whole.records[:cut]]}"


def ending(played: Played) -> Any:
    decider = played.decider
    error = decider.error and {k: v for k, v in decider.error.items() if k != "message"}
    ended_early = {"cancelled": "skipped"}  # what a dead process had begun, and no record tells of, never began
    statuses = {path: ended_early.get(status, status) for path, status in played.statuses.items()}
    return played.status, decider.outputs, error, decider.response, sorted(decider.waiting), statuses


def test_what_a_flow_is_given_in_secret_stays_secret_in_it() -> None:
    flow = program(
        "parameters: {word: {secret: true}}\nsteps:\n"
        "  hello: {run: greet, with: {name: '{{ parameters.word }}'}}\n  open: {run: greet, with: {name: Ada}}\n"
    )
    start = Start(run="run", parameters={"word": "geheimnis"})
    kept = stored(play(flow, start=start).records)
    assert [r.path for r in kept if "geheimnis" in repr(r)] == []
    assert {r.path: r.output for r in kept}["open/note"] == {"said": " Ada"}


def test_what_goes_into_a_secure_step_without_a_call_comes_out_of_it() -> None:
    flow = program(
        "variables: {v: null}\nsteps:\n  a: {secure: [inputs], compose: geheimnis}\n"
        "  b: {secure: [inputs], set: {v: geheimnis}}\n  c: {compose: '{{ variables.v }}'}\n"
    )
    assert "geheimnis" not in repr(stored(play(flow).records))
