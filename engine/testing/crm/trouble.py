"""Rules for a bad day: lost answers, throttling, other writers, odd values."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine import JSON, Call, Connector, DataError, FlowrunError, LeadResult, TransientError, UncertainError
from engine.testing.crm.bench import (
    KEY,
    LEAD,
    ODD_KEYS,
    ODD_TEXTS,
    OTHER_KEY,
    CrmBench,
    assert_holds,
    assert_sends_nothing,
    does_not_apply,
    get,
    on_behalf_of,
    upsert,
)


class TroubleRules:
    """What must hold when something goes wrong, or looks strange."""

    # Trouble on the way

    def test_a_lost_answer_then_a_repeat_is_one_lead(self, bench: CrmBench, crm: Connector) -> None:
        """The CRM created the lead and the answer was lost: an error says so, and repeating finds it."""
        before = bench.count()
        bench.lose_answer()
        with pytest.raises((TransientError, UncertainError)) as caught:
            upsert(crm)
        assert caught.value.answer_lost or isinstance(caught.value, UncertainError)
        assert bench.count() == before + 1
        assert not upsert(bench.connect()).body.created
        assert bench.count() == before + 1

    def test_a_lost_answer_to_an_update(self, bench: CrmBench, crm: Connector) -> None:
        """The update was carried out and its answer lost: repeating finds nothing left to do."""
        upsert(crm)
        bench.lose_answer()
        with pytest.raises((TransientError, UncertainError)):
            upsert(crm, lead={**LEAD, "phone": "+45 1"})
        assert_sends_nothing(bench, lambda: upsert(crm, lead={**LEAD, "phone": "+45 1"}))

    def test_a_stopped_writer_then_a_repeat_is_one_lead(self, bench: CrmBench, crm: Connector) -> None:
        """A process that ended after the write, before it noted the result, is repeated by another one: one lead."""
        before = bench.count()
        upsert(crm)
        assert not upsert(bench.connect()).changed
        assert bench.count() == before + 1

    def test_throttling_surfaces(self, bench: CrmBench, crm: Connector) -> None:
        """Too many requests is a TransientError that says how long to wait; waiting and repeating is the engine's."""
        upsert(crm)
        seconds = bench.throttle()
        with pytest.raises(TransientError) as caught:
            upsert(crm, lead={**LEAD, "phone": "+45 1"})
        assert caught.value.retry_after == seconds
        assert not caught.value.answer_lost
        assert upsert(crm, lead={**LEAD, "phone": "+45 1"}).changed

    def test_an_expired_token_is_renewed(self, bench: CrmBench, crm: Connector) -> None:
        """A token that is refused before its time is renewed without a word, and the request made once more."""
        upsert(crm)
        bench.expire_token()
        assert upsert(crm, lead={**LEAD, "phone": "+45 1"}).changed
        bench.expire_token()
        assert get(crm, key=KEY).lead.phone == "+45 1"

    @pytest.mark.parametrize("known", [False, True])
    def test_writers_at_once_make_one_lead(self, bench: CrmBench, known: bool) -> None:
        """Four writers start together, none of which knows of the others: one lead, one of them created it."""
        before = bench.count()
        known_id = bench.insert({"last_name": "Keyless"}) if known else None
        crms = [bench.connect() for _ in range(4)]
        barrier = threading.Barrier(len(crms))

        def write(number: int) -> LeadResult:
            barrier.wait(10)
            result: LeadResult = upsert(crms[number], lead={**LEAD, "phone": f"+45 {number}"}, known_id=known_id).body
            return result

        with ThreadPoolExecutor(len(crms)) as pool:
            results = list(pool.map(write, range(len(crms))))
        assert bench.count() == before + 1
        assert {r.id for r in results} == ({known_id} if known_id else {get(crms[0], key=KEY).id})
        assert sum(r.created for r in results) == (0 if known else 1)
        assert get(crms[0], key=KEY).lead.phone in {f"+45 {n}" for n in range(len(crms))}

    def test_a_step_that_is_not_wanted_writes_nothing(self, bench: CrmBench, crm: Connector) -> None:
        """A step that was cancelled, or handed to another worker, leaves the CRM as it is."""
        writes = bench.writes()
        with on_behalf_of(Call(wanted=lambda: False)), pytest.raises(FlowrunError):
            upsert(crm)
        assert bench.writes() == writes

    def test_a_step_whose_time_is_up_writes_nothing(self, bench: CrmBench, crm: Connector) -> None:
        """Past the step's deadline nothing is begun."""
        writes = bench.writes()
        with on_behalf_of(Call(deadline=float("-inf"))), pytest.raises(TransientError):
            upsert(crm)
        assert bench.writes() == writes

    # Odd values

    @pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
    def test_odd_texts_arrive_unharmed(self, bench: CrmBench, crm: Connector, text: str) -> None:
        """Text is data: quotes, markup, templates, emoji, right-to-left and combining marks are kept as they are."""
        lead = {"company": text, "last_name": text, "description": f"{text}\n\n{text}"}
        assert_holds(upsert(crm, lead=lead).body.lead, lead)
        assert_holds(get(crm, key=KEY).lead, lead)
        assert_sends_nothing(bench, lambda: upsert(crm, lead=lead))

    @pytest.mark.parametrize("text", ["nul \0 end", "half \ud83d end", "vertical \x0b end"], ids=["nul", "half", "vt"])
    def test_characters_that_cannot_be_kept(self, bench: CrmBench, crm: Connector, text: str) -> None:
        """What no text column may hold is left out in a way that compares equal, or refused by name; never a crash."""
        lead = {**LEAD, "description": text}
        try:
            kept = upsert(crm, lead=lead).body.lead.description or ""
        except DataError as error:
            assert "description" in error.message
            return
        assert kept.startswith(text.split(maxsplit=1)[0])
        assert kept.endswith("end")
        assert_sends_nothing(bench, lambda: upsert(crm, lead=lead))

    @pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
    def test_odd_keys_arrive_unharmed_or_are_refused(self, bench: CrmBench, crm: Connector, key: str) -> None:
        """A key means itself to the letter, or is refused by a DataError that says why; nothing in between."""
        before = bench.count()
        neighbour = upsert(crm, OTHER_KEY).body.id
        try:
            created = upsert(crm, key).body
        except DataError as error:
            assert "key" in error.message
            assert bench.count() == before + 1
            return
        assert (created.created, created.key) == (True, key)
        assert get(crm, key=key).id == created.id != neighbour
        assert_sends_nothing(bench, lambda: upsert(crm, key))
        assert bench.count() == before + 2

    @pytest.mark.parametrize("key", ["", "  ", "\t"], ids=["empty", "spaces", "tab"])
    def test_a_blank_key_is_refused(self, bench: CrmBench, crm: Connector, key: str) -> None:
        """Without a key there is nothing to find the lead by: refused before anything is written."""
        writes = bench.writes()
        with pytest.raises(DataError) as caught:
            upsert(crm, key)
        assert "key" in caught.value.message
        assert bench.writes() == writes

    @pytest.mark.parametrize(
        "letter", ["x", "ü", "🙂", "e\u0301", "x "], ids=["ascii", "bmp", "astral", "mark", "space"]
    )
    def test_values_that_are_too_long(self, bench: CrmBench, crm: Connector, letter: str) -> None:
        """An over-long value is cut always at the same place, and the summary names the field."""
        lead = {**LEAD, "company": letter * 3000}
        result = upsert(crm, lead=lead)
        kept = (result.body.lead.company or "").rstrip("…")
        assert kept
        assert (letter * 3000).startswith(kept)
        if len(kept) < len((letter * 3000).rstrip()):
            assert "company" in result.summary
        assert_sends_nothing(bench, lambda: upsert(crm, lead=lead))

    def test_long_notes(self, bench: CrmBench, crm: Connector) -> None:
        """Notes of 100 KB arrive whole, in a CRM that holds as much; else they are cut, and the summary says so."""
        notes = "".join(f"{n:>8} {{{{ 7*7 }}}} 'é' 🙂\n" for n in range(4000))[:100_000].strip()
        lead = {**LEAD, "description": notes}
        result = upsert(crm, lead=lead)
        kept = (result.body.lead.description or "").rstrip("…")
        assert notes.startswith(kept)
        assert len(kept) >= min(len(notes), bench.notes - 10)
        if len(kept) < len(notes):
            assert "description" in result.summary
        assert_sends_nothing(bench, lambda: upsert(crm, lead=lead))

    @pytest.mark.parametrize(
        ("field", "first", "again"),
        [
            ("company", "  Fabrikam \n", "Fabrikam"),
            ("amount", "1234.50", 1234.5),
            ("amount", 1234.56789, 1234.56789),
            ("amount", 0, 0.0),
            ("close_date", "2027-01-31T23:30:00Z", "2027-01-31"),
            ("close_date", "2027-01-31T00:00:00.0000000+00:00", "2027-01-31"),
        ],
    )
    def test_values_are_compared_as_the_crm_keeps_them(
        self, bench: CrmBench, crm: Connector, field: str, first: JSON, again: JSON
    ) -> None:
        """Blanks around a text, the form of a number or a date are no difference."""
        if field in bench.lacks:
            does_not_apply(f"this CRM has no {field}")
        result = upsert(crm, lead={**LEAD, field: first})
        assert getattr(result.body.lead, field) is not None
        for value in (first, again):
            assert_sends_nothing(bench, lambda: upsert(crm, lead={**LEAD, field: value}))  # noqa: B023
