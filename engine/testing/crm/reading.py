"""Rules of get_lead and list_changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine import Connector, DataError
from engine.testing.crm.bench import (
    ABSENT_ID,
    KEY,
    OTHER_KEY,
    CrmBench,
    drain,
    get,
    upsert,
)


class ReadingRules:
    """Finding leads, and being told of changes."""

    def test_get_lead(self, bench: CrmBench, crm: Connector) -> None:
        """By id and by key it is the same lead; where there is none, null; asked for nothing, a DataError."""
        created = upsert(crm).body
        assert get(crm, id=created.id) == get(crm, key=KEY) == replace(created, created=False)
        for nowhere in ({"key": OTHER_KEY}, {"id": ABSENT_ID}, {"id": "no such id"}, {"key": "' or '1'='1"}):
            assert crm.invoke("get_lead", nowhere).body is None
        with pytest.raises(DataError):
            crm.invoke("get_lead", {})
        bench.delete(created.id)
        assert crm.invoke("get_lead", {"key": KEY}).body is None

    def test_get_lead_sees_what_people_did(self, bench: CrmBench, crm: Connector) -> None:
        """A hand-entered lead has no key; edits and the status are there at once."""
        id = bench.insert({"last_name": "Keyless"})
        bench.edit(id, {"city": "Ribe"})
        bench.finish(id, "disqualified")
        found = get(crm, id=id)
        assert (found.key, found.status, found.lead.city) == (None, "disqualified", "Ribe")
        assert found.read_only == ("disqualified" in bench.locks)

    def test_a_first_listing_is_full(self, bench: CrmBench, crm: Connector) -> None:
        """Without a cursor every lead is listed once, in the order of its last change, and marked full=True."""
        ids = [upsert(crm).body.id, bench.insert({"last_name": "Keyless"}), upsert(crm, OTHER_KEY).body.id]
        bench.edit(ids[0], {"city": "Ribe"})
        items, _, full = drain(crm)
        assert full
        assert [c.id for c in items if c.id in ids] == [ids[1], ids[2], ids[0]]
        assert len(items) == bench.count() == len({c.id for c in items})
        told = items[-1]
        assert (told.key, told.deleted, told.status) == (KEY, False, "open")
        assert told.lead == get(crm, id=ids[0]).lead

    def test_changes_are_told_once_in_order(self, bench: CrmBench, crm: Connector) -> None:
        """Since a cursor: what was created, changed or deleted, each once however often, by its last change."""
        a, b, c = (upsert(crm, f"{KEY[:-1]}{n}").body.id for n in range(3))
        _, cursor, _ = drain(crm)
        bench.edit(c, {"city": "Ribe"})
        d = upsert(crm, OTHER_KEY).body.id
        bench.finish(a, "qualified")
        bench.edit(c, {"city": "Aarhus"})
        bench.delete(b)
        items, after, full = drain(bench.connect(), cursor)
        assert not full
        assert [(i.id, i.deleted) for i in items] == [(d, False), (a, False), (c, False), (b, True)]
        assert [i.status for i in items[:3]] == ["open", "qualified", "open"]
        assert items[2].lead is not None
        assert items[2].lead.city == "Aarhus"
        assert items[3].lead is None
        assert drain(crm, after)[0] == []
        assert [i.id for i in drain(crm, cursor)[0]] == [d, a, c, b]  # a cursor may be used again

    def test_nothing_new_is_nothing(self, crm: Connector) -> None:
        """An upsert that sent nothing is no change; the flow isn't told of its own silence."""
        upsert(crm)
        _, cursor, _ = drain(crm)
        upsert(crm)
        items, cursor, full = drain(crm, cursor)
        assert (items, full) == ([], False)
        assert drain(crm, cursor)[0] == []

    def test_pages(self, bench: CrmBench, crm: Connector) -> None:
        """More leads than a page holds come in several pages, none twice, none left out, `more` but at the end."""
        many = bench.page + 3
        first = [bench.insert({"last_name": f"First {n}"}) for n in range(many)]
        items, cursor, full = drain(crm, pages=2)
        assert full
        assert [i.id for i in items if i.id in set(first)] == first
        later = [bench.insert({"last_name": f"Later {n}"}) for n in range(many)]
        items, _, full = drain(crm, cursor, pages=2)
        assert not full
        assert [i.id for i in items] == later

    def test_changes_between_pages_are_told(self, bench: CrmBench, crm: Connector) -> None:
        """What happens to a lead that an earlier page has told of is told again, by the end or at the next call."""
        ids = [bench.insert({"last_name": f"Lead {n}"}) for n in range(2 * bench.page + 3)]
        page = crm.invoke("list_changes", {"cursor": None}).body
        assert page.more
        told = [i.id for i in page.items if i.id in ids]
        bench.edit(told[0], {"city": "Ribe"})
        bench.delete(told[1])
        items, cursor, _ = drain(crm, page.cursor)
        items += drain(crm, cursor)[0]
        assert [i.lead.city for i in items if i.id == told[0] and i.lead] == ["Ribe"]
        assert [i.deleted for i in items if i.id == told[1]] == [True]
        assert set(ids) <= {*told, *(i.id for i in items)}

    @pytest.mark.parametrize(
        "cursor", ["", "nonsense", "0", "https://elsewhere.example/leads?$deltatoken=1", f"{'0' * 32}.1", "🙂"]
    )
    def test_an_unknown_cursor_is_a_full_resync(self, bench: CrmBench, crm: Connector, cursor: str) -> None:
        """A cursor that the CRM doesn't know, or no longer: all leads again with full=True, and no error."""
        id = upsert(crm).body.id
        items, _, full = drain(crm, cursor)
        assert full
        assert id in {i.id for i in items}
        assert len(items) == bench.count()
