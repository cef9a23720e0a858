"""Locales: numbers and times as each writes them, and as each reads them."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_functions import run

from engine.errors import DataError
from engine.functions.cultures import EN_US, INVARIANT, _cultures
from engine.types import JSON

CULTURES = [EN_US, INVARIANT, *dict.fromkeys(_cultures().values())]
NAMES = [culture.name for culture in CULTURES]
T = "'2018-03-05T13:07:09Z'"

# 1234567.891 and -0.5 as numbers, money and percentage, then the time in the standard formats d, D, t, T, M and Y.
WRITES = """\
en-GB | 1,234,567.89 | -£0.50 | -50.0% | 05/03/2018 | 05 March 2018 | 13:07 | 5 March | March 2018
en-AU | 1,234,567.89 | -$0.50 | -50.0% | 5/03/2018 | Monday, 5 March 2018 | 1:07 PM | 5 March | March 2018
en-CA | 1,234,567.89 | -$0.50 | -50.0% | 2018-03-05 | March 5, 2018 | 1:07 PM | March 5 | March 2018
en-IN | 12,34,567.89 | -₹0.50 | -50.0% | 05-03-2018 | 05 March 2018 | 13:07 | 5 March | March 2018
de-DE | 1.234.567,89 | -0,50 € | -50,0 % | 05.03.2018 | Montag, 5. März 2018 | 13:07 | 5. März | März 2018
de-CH | 1’234’567.89 | CHF-0.50 | -50.0% | 05.03.2018 | Montag, 5. März 2018 | 13:07 | 5. März | März 2018
fr-FR | 1 234 567,89 | -0,50 € | -50,0 % | 05/03/2018 | lundi 5 mars 2018 | 13:07 | 5 mars | mars 2018
fr-CA | 1 234 567,89 | (0,50 $) | -50,0 % | 2018-03-05 | 5 mars 2018 | 13:07 | 5 mars | mars 2018
es-ES | 1.234.567,89 | -0,50 € | -50,0 % | 05/03/2018 | lunes, 5 de marzo de 2018 | 13:07 | 5 de marzo | marzo de 2018
es-MX | 1,234,567.89 | -$0.50 | -50.0% | 05/03/2018 | lunes, 5 de marzo de 2018 | 01:07 p. m. | 5 de marzo | marzo de 2018
it-IT | 1.234.567,89 | -0,50 € | -50,0% | 05/03/2018 | lunedì 5 marzo 2018 | 13:07 | 5 marzo | marzo 2018
nl-NL | 1.234.567,89 | € -0,50 | -50,0% | 5-3-2018 | maandag 5 maart 2018 | 13:07 | 5 maart | maart 2018
pt-BR | 1.234.567,89 | -R$ 0,50 | -50,0% | 05/03/2018 | segunda-feira, 5 de março de 2018 | 13:07 | 5 de março | março de 2018
da-DK | 1.234.567,89 | -0,50 kr. | -50,0 % | 05-03-2018 | 5. marts 2018 | 13:07 | 5. marts | marts 2018
sv-SE | 1 234 567,89 | -0,50 kr | -50,0 % | 2018-03-05 | den 5 mars 2018 | 13:07 | 5 mars | mars 2018
nb-NO | 1 234 567,89 | -kr 0,50 | -50,0 % | 05.03.2018 | mandag 5. mars 2018 | 13:07 | 5. mars | mars 2018
fi-FI | 1 234 567,89 | -0,50 € | -50,0 % | 5.3.2018 | maanantai 5. maaliskuuta 2018 | 13.07 | 5. maaliskuuta | maaliskuu 2018
is-IS | 1.234.567,89 | 0 kr | -50,0% | 5.3.2018 | mánudagur, 5. mars 2018 | 13:07 | 5. mars | mars 2018
pl-PL | 1 234 567,89 | -0,50 zł | -50,0% | 05.03.2018 | poniedziałek, 5 marca 2018 | 13:07 | 5 marca | marzec 2018
cs-CZ | 1 234 567,89 | -0,50 Kč | -50,0 % | 05.03.2018 | pondělí 5. března 2018 | 13:07 | 5. března | březen 2018
hu-HU | 1 234 567,89 | -0,50 Ft | -50,0% | 2018. 03. 05. | 2018. március 5., hétfő | 13:07 | március 5. | 2018. március
tr-TR | 1.234.567,89 | -₺0,50 | -%50,0 | 5.03.2018 | 5 Mart 2018 Pazartesi | 13:07 | 5 Mart | Mart 2018
el-GR | 1.234.567,89 | -0,50 € | -50,0% | 5/3/2018 | Δευτέρα, 5 Μαρτίου 2018 | 1:07 μ.μ. | 5 Μαρτίου | Μάρτιος 2018
ru-RU | 1 234 567,89 | -0,50 ₽ | -50,0% | 05.03.2018 | 5 марта 2018 г. | 13:07 | 5 марта | март 2018 г.
ja-JP | 1,234,567.89 | ¥0 | -50.0% | 2018/03/05 | 2018年3月5日 | 13:07 | 3月5日 | 2018年3月
zh-CN | 1,234,567.89 | ¥-0.50 | -50.0% | 2018/3/5 | 2018年3月5日 | 13:07 | 3月5日 | 2018年3月
ko-KR | 1,234,567.89 | ₩0 | -50.0% | 2018-03-05 | 2018년 3월 5일 월요일 | 오후 1:07 | 3월 5일 | 2018년 3월
"""  # noqa: E501


@pytest.mark.parametrize("row", WRITES.splitlines())
def test_writes(row: str) -> None:
    name, number, *others = row.split(" | ")
    numbers = ["formatNumber(1234567.891, 'N', l)", "formatNumber(-0.5, 'C', l)", "formatNumber(-0.5, 'P1', l)"]
    times = [f"formatDateTime({T}, '{letter}', l)" for letter in "dDtMY"]
    found = [run(source, {"l": name}) for source in (*numbers, *times)]
    assert found == [number.replace(" ", "\xa0"), *others]


READS: list[tuple[str, str, JSON]] = [
    ("de-DE", "5.3.2018", "2018-03-05T00:00:00"),
    ("de-DE", "05.03.18", "2018-03-05T00:00:00"),
    ("de-DE", "5/3/2018 13:07", "2018-03-05T13:07:00"),
    ("de-DE", "5. März 2018", "2018-03-05T00:00:00"),
    ("de-DE", "5 märz 2018", "2018-03-05T00:00:00"),
    ("de-DE", "Mo, 5. Mär 2018", None),
    ("de-DE", "Mo, 5. März 2018 13:07:09", "2018-03-05T13:07:09"),
    ("de-DE", "Di, 5. März 2018", None),
    ("de-DE", "2018-03-05T13:07:09Z", "2018-03-05T13:07:09Z"),
    ("de-DE", "März 2018", "2018-03-01T00:00:00"),
    ("de-DE", "5 March 2018", None),
    ("de-DE", "3/25/2018", None),
    ("en-GB", "5/3/2018 1:07 PM", "2018-03-05T13:07:00"),
    ("en-GB", "Monday 5 March 2018", "2018-03-05T00:00:00"),
    ("en-GB", "March 5, 2018", "2018-03-05T00:00:00"),
    ("en-CA", "2018-03-05 1:07 pm", "2018-03-05T13:07:00"),
    ("en-CA", "18-03-05", "2018-03-05T00:00:00"),
    ("en-CA", "3/5/2018", "2018-03-05T00:00:00"),
    ("fr-CA", "5/3/2018", "2018-03-05T00:00:00"),
    ("fr-FR", "lundi 5 mars 2018 13:07", "2018-03-05T13:07:00"),
    ("fr-FR", "5 févr. 2018", "2018-02-05T00:00:00"),
    ("fr-FR", "5 fevrier 2018", None),
    ("es-ES", "lunes, 5 de marzo de 2018", "2018-03-05T00:00:00"),
    ("es-ES", "5 de mar de 2018", "2018-03-05T00:00:00"),
    ("es-ES", "5/3/2018 1:07 p. m.", "2018-03-05T13:07:00"),
    ("es-ES", "5/3/2018 1:07 p.\u202fm.", "2018-03-05T13:07:00"),
    ("pt-BR", "segunda-feira, 5 de março de 2018", "2018-03-05T00:00:00"),
    ("nl-NL", "ma 5 mrt 2018", "2018-03-05T00:00:00"),
    ("sv-SE", "den 5 mars 2018", "2018-03-05T00:00:00"),
    ("sv-SE", "5/3/2018 1:07 em", "2018-03-05T13:07:00"),
    ("fi-FI", "5.3.2018 13.07.09", "2018-03-05T13:07:09"),
    ("hu-HU", "2018. 03. 05.", "2018-03-05T00:00:00"),
    ("hu-HU", "2018. március 5.", "2018-03-05T00:00:00"),
    ("sk-SK", "5. 3. 2018", "2018-03-05T00:00:00"),
    ("pl-PL", "5 marca 2018", "2018-03-05T00:00:00"),
    ("pl-PL", "marzec 2018", "2018-03-01T00:00:00"),
    ("ru-RU", "5 марта 2018 г.", "2018-03-05T00:00:00"),
    ("ja-JP", "2018年3月5日", "2018-03-05T00:00:00"),
    ("ja-JP", "2018年3月5日 午後 1:07", "2018-03-05T13:07:00"),
    ("ja-JP", "2018年3月5日月曜日", "2018-03-05T00:00:00"),
    ("zh-TW", "2018/3/5 下午 01:07", "2018-03-05T13:07:00"),
    ("ko-KR", "2018년 3월 5일 월요일 오후 1:07:09", "2018-03-05T13:07:09"),
    ("ko-KR", "2018년 3월 5일 화요일", None),
]


@pytest.mark.parametrize(("name", "text", "wanted"), READS, ids=[f"{name} {text}" for name, text, _ in READS])
def test_reads(name: str, text: str, wanted: str | None) -> None:
    scope = {"t": text, "l": name}
    if wanted is None:
        with pytest.raises(DataError, match=r"parseDateTime\(\): "):
            run("parseDateTime(t, l)", scope)
        return
    read = run("parseDateTime(t, l)", scope)
    assert read.replace(".0000000", "") == wanted


NUMBERS: list[tuple[str, JSON]] = [
    ("float('1.234,5', 'de-DE')", 1234.5),
    ("float('1,5', 'de-DE')", 1.5),
    ("float('1,5')", 15.0),
    ("float('1.5', 'de-DE')", 15.0),
    ("float('-1.234,5-', 'de-DE')", None),
    ("float('1.234,5-', 'de-DE')", -1234.5),
    ("float('1 234,5', 'fr-FR')", 1234.5),
    ("float('1\\u00a0234,5', 'fr-FR')", 1234.5),
    ("float('1\\u202f234,5', 'fr-FR')", 1234.5),
    ("float('1 234.5')", None),
    ("float('1’234.5', 'de-CH')", 1234.5),
    ("float('12,34,567.5', 'en-IN')", 1234567.5),
    ("float('1,5e3', 'nl')", 1500.0),
    ("isFloat('1,5', 'DE_de')", True),
    ("isFloat('1;5', 'de')", False),
    ("isFloat('10,000.00', '')", True),
    ("formatNumber(1234.5, '#,##0.00', 'de')", "1.234,50"),
    ("formatNumber(1234.5, '0.0%', 'de')", "123450,0%"),
    ("formatNumber(-1234567.5, '#,##0', 'en-IN')", "-12,34,568"),
    ("formatNumber(1234.5, '0.0E+0', 'fr')", "1,2E+3"),
    ("formatNumber(1e20, 'N0', 'en-IN')", "10,00,00,00,00,00,00,00,00,000"),
    ("formatNumber(999.5, 'N0', 'de')", "1.000"),
    ("formatNumber(5, 'C', 'EN-gb')", "£5.00"),
    ("formatNumber(5, 'C', 'ja')", "¥5"),
    ("formatNumber(5, 'C3', 'ja')", "¥5.000"),
    ("formatTimeSpan('1.02:03:04.5', 'G', 'fr-FR')", "1:02:03:04,5000000"),
]


@pytest.mark.parametrize(("source", "wanted"), NUMBERS, ids=[source for source, _ in NUMBERS])
def test_numbers(source: str, wanted: JSON) -> None:
    if wanted is None:
        with pytest.raises(DataError, match="is no number"):
            run(source)
        return
    assert json.dumps(run(source)) == json.dumps(wanted)


@pytest.mark.parametrize("culture", CULTURES, ids=NAMES)
def test_tables_are_whole(culture: JSON) -> None:
    assert (len(culture.days), len(culture.short_days)) == (7, 7)
    assert (len(culture.months), len(culture.short_months), len(culture.months_of_days)) == (12, 12, 12)
    assert sorted(culture.order) == ["d", "m", "y"]
    assert all(pattern.count("n") == 1 for pattern in (*culture.money, culture.percent))
    assert {culture.month_of(name) for name in culture.months + culture.months_of_days} == set(range(1, 13))
    assert [culture.month_of(name) for name in culture.short_months] == list(range(1, 13))
    assert [culture.weekday_of(name) for name in culture.days] == list(range(1, 8))
    assert [culture.weekday_of(name) for name in culture.short_days] == list(range(1, 8))
    assert re.fullmatch(r"[a-z]{2}-[A-Z]{2}|", culture.name)


@given(st.sampled_from(NAMES), st.datetimes().filter(lambda t: 1950 <= t.year <= 2049))
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read(name: str, time: object) -> None:
    scope = {"t": str(time)[:19], "l": name}
    for letter in "dDfFgG":
        text = run(f"formatDateTime(t, '{letter}', l)", scope)
        clock = {"d": "0:00:00", "D": "0:00:00", "f": "HH:mm:00", "g": "HH:mm:00"}.get(letter, "HH:mm:ss")
        wanted = run("formatDateTime(t, f)", {**scope, "f": f"yyyy-MM-ddT{clock.zfill(8)}"})
        assert run("parseDateTime(x, l)", {**scope, "x": text})[:19] == wanted, text
        assert run(f"parseDateTime(x, l, '{letter}')", {**scope, "x": text})[:19] == wanted, text


@given(st.sampled_from(NAMES), st.floats(-1e14, 1e14), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_numbers_come_back(name: str, number: float, places: int) -> None:
    scope = {"x": number, "l": name, "f": f"N{places}", "e": f"F{places}"}
    assert run("float(formatNumber(x, f, l), l)", scope) == float(run("formatNumber(x, e, '')", scope))
    assert run("float(formatNumber(x, 'R', l), l)", scope) == number
