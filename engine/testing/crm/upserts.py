"""Rules of upsert_lead: one lead for a key, and who owns which field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine import JSON, NEUTRAL_FIELDS, Connector, DataError, LeadStatus
from engine.testing.crm.bench import (
    ABSENT_ID,
    FULL,
    KEY,
    LEAD,
    OTHER_KEY,
    CrmBench,
    assert_holds,
    assert_sends_nothing,
    does_not_apply,
    get,
    upsert,
)


class UpsertRules:
    """Creating, repeating, changing, clearing, adopting."""

    def test_the_protocol_is_declared(self, crm: Connector) -> None:
        """The three operations have the protocol's inputs, and say what repeating them does."""
        operations = type(crm).operations()
        assert {name: operations[name].effect for name in ("upsert_lead", "get_lead", "list_changes")} == {
            "upsert_lead": "idempotent",
            "get_lead": "read",
            "list_changes": "read",
        }
        assert list(operations["upsert_lead"].inputs) == ["key", "lead", "on_create", "known_id", "clear"]
        assert list(operations["get_lead"].inputs) == ["id", "key"]
        assert list(operations["list_changes"].inputs) == ["cursor"]

    # Creating and repeating

    def test_the_first_upsert_creates(self, bench: CrmBench, crm: Connector) -> None:
        """A key that the CRM doesn't know gives one new, open lead that holds what was said."""
        before = bench.count()
        result = upsert(crm)
        assert (result.changed, result.body.created, result.body.key) == (True, True, KEY)
        assert (result.body.status, result.body.read_only) == ("open", False)
        assert result.body.id in result.summary or result.body.id[:8] in result.summary
        assert_holds(result.body.lead, LEAD)
        assert bench.count() == before + 1

    def test_every_neutral_field_arrives(self, bench: CrmBench, crm: Connector) -> None:
        """Each field of the neutral lead that the CRM has a place for is kept, and comparing it finds no difference."""
        lead = {name: value for name, value in FULL.items() if name not in bench.lacks}
        assert set(FULL) == set(NEUTRAL_FIELDS)
        assert_holds(upsert(crm, lead=lead).body.lead, lead)
        assert_sends_nothing(bench, lambda: upsert(crm, lead=lead))

    def test_native_fields_arrive(self, bench: CrmBench, crm: Connector) -> None:
        """Fields of the CRM under their own names are kept equal like the neutral ones."""
        lead = {**LEAD, "native": dict(bench.native)}
        result = upsert(crm, lead=lead)
        assert {name: result.body.lead.native.get(name) for name in bench.native} == bench.native
        assert_sends_nothing(bench, lambda: upsert(crm, lead=lead))

    def test_a_repeat_makes_no_second_lead_and_sends_nothing(self, bench: CrmBench, crm: Connector) -> None:
        """The same upsert again finds everything as wanted: no lead, no write, changed=False, from any process."""
        first = upsert(crm, on_create={"job_title": "Buyer"})
        count = bench.count()
        for again in (crm, bench.connect()):
            result = assert_sends_nothing(bench, lambda: upsert(again, on_create={"job_title": "Buyer"}))  # noqa: B023
            assert result.body == replace(first.body, created=False)
        assert bench.count() == count

    def test_two_keys_are_two_leads(self, bench: CrmBench, crm: Connector) -> None:
        """Leads are told apart by key alone, however equal they are."""
        before = bench.count()
        assert upsert(crm).body.id != upsert(crm, OTHER_KEY).body.id
        assert bench.count() == before + 2

    def test_the_result_is_what_get_lead_says(self, crm: Connector) -> None:
        """The result of an upsert is the lead as it now is in the CRM, whether created, updated or left alone."""
        for lead in (LEAD, {**LEAD, "phone": "+45 1", "city": " Ribe "}, LEAD):
            result = upsert(crm, lead=lead)
            assert get(crm, key=KEY) == replace(result.body, created=False)

    # Who owns a field

    def test_only_what_differs_is_updated(self, bench: CrmBench, crm: Connector) -> None:
        """A changed field is written in one request, named in the summary; fields that aren't mentioned keep."""
        id = upsert(crm).body.id
        bench.edit(id, {"job_title": "Chief Buyer"})
        writes = bench.writes()
        result = upsert(crm, lead={**LEAD, "phone": "+45 99 99 99 99"})
        assert (result.changed, result.body.created, result.body.id) == (True, False, id)
        assert bench.writes() == writes + 1
        assert "phone" in result.summary
        assert "company" not in result.summary
        assert_holds(result.body.lead, {**LEAD, "phone": "+45 99 99 99 99", "job_title": "Chief Buyer"})

    def test_lead_is_kept_equal(self, bench: CrmBench, crm: Connector) -> None:
        """What `lead` says is put back where a person has changed it."""
        id = upsert(crm).body.id
        bench.edit(id, {"company": "Renamed by hand"})
        assert upsert(crm).changed
        assert_holds(get(crm, id=id).lead, LEAD)

    def test_on_create_belongs_to_the_crm(self, bench: CrmBench, crm: Connector) -> None:
        """`on_create` is written once: what people change or empty afterwards survives every later upsert."""
        first = {"job_title": "Buyer", "city": "Aarhus"}
        created = upsert(crm, on_create=first)
        assert_holds(created.body.lead, {**LEAD, **first})
        bench.edit(created.body.id, {"job_title": "Chief Buyer", "city": None})
        assert_sends_nothing(bench, lambda: upsert(crm, on_create=first))
        changed = upsert(crm, lead={**LEAD, "phone": "+45 1"}, on_create=first)
        assert_holds(changed.body.lead, {"phone": "+45 1", "job_title": "Chief Buyer", "city": None})

    def test_lead_wins_over_on_create(self, crm: Connector) -> None:
        """A field in both is the one of `lead`."""
        assert upsert(crm, on_create={"company": "Other"}).body.lead.company == LEAD["company"]

    def test_null_leaves_alone(self, bench: CrmBench, crm: Connector) -> None:
        """A null or absent field is no wish: nothing is emptied by it."""
        upsert(crm)
        nothing: dict[str, JSON] = dict.fromkeys(LEAD)
        for lead in (nothing, {}):
            assert_holds(assert_sends_nothing(bench, lambda: upsert(crm, lead=lead)).body.lead, LEAD)  # noqa: B023

    def test_clear_empties(self, bench: CrmBench, crm: Connector) -> None:
        """`clear` empties what it names, once, and nothing else."""
        upsert(crm)
        rest = {name: value for name, value in LEAD.items() if name != "phone"}
        result = upsert(crm, lead=rest, clear=["phone"])
        assert result.changed
        assert "phone" in result.summary
        assert_holds(result.body.lead, {**rest, "phone": None})
        assert_sends_nothing(bench, lambda: upsert(crm, lead=rest, clear=["phone"]))

    def test_clear_names_real_fields(self, bench: CrmBench, crm: Connector) -> None:
        """A name in `clear` that is no field is refused, before anything is written."""
        writes = bench.writes()
        with pytest.raises(DataError) as caught:
            upsert(crm, clear=["phnoe"])
        assert "phnoe" in caught.value.message
        assert bench.writes() == writes

    # Whose lead it is

    def test_a_keyless_lead_is_adopted(self, bench: CrmBench, crm: Connector) -> None:
        """A lead without a key whose id is `known_id` gets the key; it isn't created, so `on_create` isn't written."""
        id = bench.insert({"last_name": "Aziz", "job_title": "Entered by hand"})
        count = bench.count()
        result = upsert(crm, known_id=id, on_create={"job_title": "Buyer"})
        assert (result.body.id, result.body.key, result.body.created, result.changed) == (id, KEY, False, True)
        assert_holds(result.body.lead, {**LEAD, "job_title": "Entered by hand"})
        assert bench.count() == count
        assert_sends_nothing(bench, lambda: upsert(crm))

    def test_adopting_writes_even_where_all_fields_are_equal(self, bench: CrmBench, crm: Connector) -> None:
        """The key itself is a change: an adopted lead is found by its key from then on."""
        id = bench.insert(LEAD)
        assert upsert(crm, known_id=id).changed
        assert get(crm, key=KEY).id == id

    def test_a_lead_with_another_key_is_left_alone(self, bench: CrmBench, crm: Connector) -> None:
        """`known_id` never takes a lead away from another record: a new one is made."""
        theirs = upsert(crm, OTHER_KEY, lead={"last_name": "Theirs"}).body
        count = bench.count()
        ours = upsert(crm, known_id=theirs.id)
        assert (ours.body.created, ours.body.key) == (True, KEY)
        assert get(crm, id=theirs.id) == replace(theirs, created=False)
        assert bench.count() == count + 1

    def test_the_key_goes_before_known_id(self, bench: CrmBench, crm: Connector) -> None:
        """Where a lead has the key already, one that `known_id` names stays as it is."""
        ours = upsert(crm).body.id
        keyless = bench.insert({"last_name": "Keyless"})
        assert assert_sends_nothing(bench, lambda: upsert(crm, known_id=keyless)).body.id == ours
        assert get(crm, id=keyless).key is None

    @pytest.mark.parametrize("known_id", [ABSENT_ID, "", "CRM-42", "../leads", "' or 1=1 --", "🙂", None])
    def test_a_known_id_that_leads_nowhere(self, bench: CrmBench, crm: Connector, known_id: str | None) -> None:
        """Whatever the record holds as its CRM id, where no lead has it, it means nothing."""
        before = bench.count()
        assert upsert(crm, known_id=known_id).body.created
        assert not upsert(crm, known_id=known_id).changed
        assert bench.count() == before + 1

    @pytest.mark.parametrize("status", ["qualified", "disqualified"])
    def test_a_read_only_lead_is_a_normal_result(self, bench: CrmBench, crm: Connector, status: LeadStatus) -> None:
        """A lead that the CRM has closed is left alone and said so; no error, no second lead."""
        if status not in bench.locks:
            does_not_apply(f"a {status} lead takes changes in this CRM")
        created = upsert(crm).body
        bench.finish(created.id, status)
        count = bench.count()
        wanted = {**LEAD, "phone": "+45 1"}
        result = assert_sends_nothing(bench, lambda: upsert(crm, lead=wanted, clear=["city"]))
        assert (result.body.id, result.body.key, result.body.status) == (created.id, KEY, status)
        assert result.body.read_only
        assert_holds(result.body.lead, LEAD)
        assert status in result.summary or "read-only" in result.summary
        assert bench.count() == count

    def test_a_read_only_lead_is_not_adopted_nor_doubled(self, bench: CrmBench, crm: Connector) -> None:
        """A keyless lead that is closed can't get the key; it is the record's lead all the same."""
        id = bench.insert(LEAD)
        bench.finish(id, bench.locks[0])
        count = bench.count()
        result = assert_sends_nothing(bench, lambda: upsert(crm, known_id=id))
        assert (result.body.id, result.body.read_only) == (id, True)
        assert bench.count() == count
