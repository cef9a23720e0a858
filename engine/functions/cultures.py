"""What differs between languages and regions when numbers and times become text, and when text is read as such.

Names are those of Unicode CLDR, patterns those of Windows, which Microsoft's services print by. Other locales are
refused by name. The tables are read when the first locale beside en-US is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

from engine.functions.declare import invalid
from engine.types import JSON


@dataclass(frozen=True, eq=False)
class Culture:
    """Names and patterns of one locale. In a pattern of money or percentages n is the number."""

    words: ClassVar[str] = "the name of a locale such as en-US"

    name: str
    point: str
    comma: str  # between groups of digits
    money: tuple[str, str]  # positive, negative
    percent: str
    days: tuple[str, ...]  # from Sunday
    short_days: tuple[str, ...]
    months: tuple[str, ...]
    short_months: tuple[str, ...]
    months_of_days: tuple[str, ...]  # as they are written beside a day: 15 марта, but март 2018
    halves: tuple[str, str]  # AM, PM
    short_date: str
    long_date: str
    time: str
    month_day: str
    month: str = "MMMM yyyy"
    groups: tuple[int, ...] = (3,)  # digits in a group, from the point on; the last repeats
    money_places: int = 2

    @cached_property
    def dates(self) -> Mapping[str, str]:
        """The standard date formats as custom ones, by letter."""
        time = self.time.replace("mm", f"mm{self.time_mark}ss")
        long = f"{self.long_date} {time}"
        return {
            **{"d": self.short_date, "D": self.long_date, "t": self.time, "T": time, "F": long, "U": long},
            **{"g": f"{self.short_date} {self.time}", "G": f"{self.short_date} {time}"},
            **{"f": f"{self.long_date} {self.time}", "m": self.month_day, "M": self.month_day},
            **{"y": self.month, "Y": self.month},
        }

    @property
    def date_mark(self) -> str:
        """What `/` stands for in a format of a time."""
        found = re.search(r"[dMy]([^dMy']+)[dMy]", self.short_date)
        return found[1] if found else "/"

    @property
    def time_mark(self) -> str:
        """What `:` stands for in a format of a time."""
        return "." if ".mm" in self.time else ":"

    @cached_property
    def order(self) -> str:
        """Day, month and year in the order of the short date: dmy, mdy or ymd."""
        return "".join(dict.fromkeys(re.sub(r"'[^']*'|[^dmy]", "", self.short_date.lower())))

    @cached_property
    def fillers(self) -> tuple[str, ...]:
        """Words that stand in the long date, such as the Spanish 'de'."""
        return tuple(dict.fromkeys(w for quoted in re.findall(r"'([^']+)'", self.long_date) if (w := quoted.strip())))

    def month_of(self, name: str) -> int:
        """1 to 12, 0 if no month is called so, in full or short."""
        return _place(name, self.months, self.months_of_days, self.short_months)

    def weekday_of(self, name: str) -> int:
        """1 for Sunday to 7, 0 if no day is called so, in full or short."""
        return _place(name, self.days, self.short_days)

    @classmethod
    def read(cls, value: JSON) -> Culture | None:
        """By its name, in any letter case. Raises DataError for a locale that isn't here."""
        if not isinstance(value, str):
            return None
        name = value.lower().replace("_", "-")
        found = EN_US if name in ("en-us", "en") else INVARIANT if not name else _cultures().get(name)
        if found is None:
            known = sorted({"en-US", *(culture.name for culture in _cultures().values())})
            raise invalid(f"the locale '{value[:40]}' is not available", f"known: {', '.join(known)}")
        return found


def _place(name: str, *lists: tuple[str, ...]) -> int:
    wanted = name.casefold().rstrip(".")
    for names in lists:
        for i, each in enumerate(names, 1):
            if each.casefold().rstrip(".") == wanted:
                return i
    return 0


def _three(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name[:3] for name in names)


_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
# fmt: off
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)
# fmt: on
_ENGLISH = (_DAYS, _three(_DAYS), _MONTHS, _three(_MONTHS), _MONTHS, ("AM", "PM"))
EN_US = Culture(
    *("en-US", ".", ",", ("$n", "($n)"), "n%", *_ENGLISH),
    *("M/d/yyyy", "dddd, MMMM d, yyyy", "h:mm tt", "MMMM d"),
)
INVARIANT = Culture(
    *("", ".", ",", ("¤n", "(¤n)"), "n %", *_ENGLISH),
    *("MM/dd/yyyy", "dddd, dd MMMM yyyy", "HH:mm", "MMMM dd", "yyyy MMMM"),
)

# One language: its days, short days, months, short months, AM and PM (~ is a space in them), and the months beside a
# day where they differ.
_NAMES = """\
de: Sonntag Montag Dienstag Mittwoch Donnerstag Freitag Samstag | So Mo Di Mi Do Fr Sa
 | Januar Februar März April Mai Juni Juli August September Oktober November Dezember
 | Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez. | AM PM
fr: dimanche lundi mardi mercredi jeudi vendredi samedi | dim. lun. mar. mer. jeu. ven. sam.
 | janvier février mars avril mai juin juillet août septembre octobre novembre décembre
 | janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc. | AM PM
es: domingo lunes martes miércoles jueves viernes sábado | dom lun mar mié jue vie sáb
 | enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre
 | ene feb mar abr may jun jul ago sept oct nov dic | a.~m. p.~m.
it: domenica lunedì martedì mercoledì giovedì venerdì sabato | dom lun mar mer gio ven sab
 | gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre
 | gen feb mar apr mag giu lug ago set ott nov dic | AM PM
nl: zondag maandag dinsdag woensdag donderdag vrijdag zaterdag | zo ma di wo do vr za
 | januari februari maart april mei juni juli augustus september oktober november december
 | jan feb mrt apr mei jun jul aug sep okt nov dec | a.m. p.m.
pt: domingo segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado
 | dom. seg. ter. qua. qui. sex. sáb.
 | janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro
 | jan. fev. mar. abr. mai. jun. jul. ago. set. out. nov. dez. | AM PM
da: søndag mandag tirsdag onsdag torsdag fredag lørdag | søn. man. tirs. ons. tors. fre. lør.
 | januar februar marts april maj juni juli august september oktober november december
 | jan. feb. mar. apr. maj jun. jul. aug. sep. okt. nov. dec. | AM PM
sv: söndag måndag tisdag onsdag torsdag fredag lördag | sön mån tis ons tors fre lör
 | januari februari mars april maj juni juli augusti september oktober november december
 | jan. feb. mars apr. maj juni juli aug. sep. okt. nov. dec. | fm em
nb: søndag mandag tirsdag onsdag torsdag fredag lørdag | søn. man. tir. ons. tor. fre. lør.
 | januar februar mars april mai juni juli august september oktober november desember
 | jan. feb. mars apr. mai juni juli aug. sep. okt. nov. des. | a.m. p.m.
fi: sunnuntai maanantai tiistai keskiviikko torstai perjantai lauantai | su ma ti ke to pe la
 | tammikuu helmikuu maaliskuu huhtikuu toukokuu kesäkuu heinäkuu elokuu syyskuu lokakuu marraskuu joulukuu
 | tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu | ap. ip.
 | tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta lokakuuta
 marraskuuta joulukuuta
is: sunnudagur mánudagur þriðjudagur miðvikudagur fimmtudagur föstudagur laugardagur
 | sun. mán. þri. mið. fim. fös. lau.
 | janúar febrúar mars apríl maí júní júlí ágúst september október nóvember desember
 | jan. feb. mars apr. maí jún. júl. ágú. sep. okt. nóv. des. | f.h. e.h.
pl: niedziela poniedziałek wtorek środa czwartek piątek sobota | niedz. pon. wt. śr. czw. pt. sob.
 | styczeń luty marzec kwiecień maj czerwiec lipiec sierpień wrzesień październik listopad grudzień
 | sty lut mar kwi maj cze lip sie wrz paź lis gru | AM PM
 | stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia
cs: neděle pondělí úterý středa čtvrtek pátek sobota | ne po út st čt pá so
 | leden únor březen duben květen červen červenec srpen září říjen listopad prosinec
 | led úno bře dub kvě čvn čvc srp zář říj lis pro | dop. odp.
 | ledna února března dubna května června července srpna září října listopadu prosince
sk: nedeľa pondelok utorok streda štvrtok piatok sobota | ne po ut st št pi so
 | január február marec apríl máj jún júl august september október november december
 | jan feb mar apr máj jún júl aug sep okt nov dec | AM PM
 | januára februára marca apríla mája júna júla augusta septembra októbra novembra decembra
hu: vasárnap hétfő kedd szerda csütörtök péntek szombat | V H K Sze Cs P Szo
 | január február március április május június július augusztus szeptember október november december
 | jan. febr. márc. ápr. máj. jún. júl. aug. szept. okt. nov. dec. | de. du.
ro: duminică luni marți miercuri joi vineri sâmbătă | dum. lun. mar. mie. joi vin. sâm.
 | ianuarie februarie martie aprilie mai iunie iulie august septembrie octombrie noiembrie decembrie
 | ian. feb. mar. apr. mai iun. iul. aug. sept. oct. nov. dec. | a.m. p.m.
tr: Pazar Pazartesi Salı Çarşamba Perşembe Cuma Cumartesi | Paz Pzt Sal Çar Per Cum Cmt
 | Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık
 | Oca Şub Mar Nis May Haz Tem Ağu Eyl Eki Kas Ara | ÖÖ ÖS
el: Κυριακή Δευτέρα Τρίτη Τετάρτη Πέμπτη Παρασκευή Σάββατο | Κυρ Δευ Τρί Τετ Πέμ Παρ Σάβ
 | Ιανουάριος Φεβρουάριος Μάρτιος Απρίλιος Μάιος Ιούνιος Ιούλιος Αύγουστος Σεπτέμβριος Οκτώβριος Νοέμβριος Δεκέμβριος
 | Ιαν Φεβ Μαρ Απρ Μαΐ Ιουν Ιουλ Αυγ Σεπ Οκτ Νοε Δεκ | π.μ. μ.μ.
 | Ιανουαρίου Φεβρουαρίου Μαρτίου Απριλίου Μαΐου Ιουνίου Ιουλίου Αυγούστου Σεπτεμβρίου Οκτωβρίου Νοεμβρίου Δεκεμβρίου
ru: воскресенье понедельник вторник среда четверг пятница суббота | вс пн вт ср чт пт сб
 | январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь
 | янв. февр. мар. апр. май июн. июл. авг. сент. окт. нояб. дек. | AM PM
 | января февраля марта апреля мая июня июля августа сентября октября ноября декабря
uk: неділя понеділок вівторок середа четвер пʼятниця субота | нд пн вт ср чт пт сб
 | січень лютий березень квітень травень червень липень серпень вересень жовтень листопад грудень
 | січ. лют. бер. квіт. трав. черв. лип. серп. вер. жовт. лист. груд. | дп пп
 | січня лютого березня квітня травня червня липня серпня вересня жовтня листопада грудня
ja: 日曜日 月曜日 火曜日 水曜日 木曜日 金曜日 土曜日 | 日 月 火 水 木 金 土
 | 1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月 | 1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月 | 午前 午後
zh: 星期日 星期一 星期二 星期三 星期四 星期五 星期六 | 周日 周一 周二 周三 周四 周五 周六
 | 一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月
 | 1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月 | 上午 下午
ko: 일요일 월요일 화요일 수요일 목요일 금요일 토요일 | 일 월 화 수 목 금 토
 | 1월 2월 3월 4월 5월 6월 7월 8월 9월 10월 11월 12월 | 1월 2월 3월 4월 5월 6월 7월 8월 9월 10월 11월 12월 | 오전 오후
"""
# One locale: its name, decimal point and separator of groups (~ is a no-break space), money and negative money,
# percentage, short and long date, time, and month with day and year with month where they differ from the usual.
_LOCALES = """\
en-GB | .,  | £n  | -£n | n%  | dd/MM/yyyy  | dd MMMM yyyy | HH:mm
en-AU | .,  | $n  | -$n | n%  | d/MM/yyyy   | dddd, d MMMM yyyy | h:mm tt
en-CA | .,  | $n  | -$n | n%  | yyyy-MM-dd  | MMMM d, yyyy | h:mm tt | MMMM d
en-IE | .,  | €n  | -€n | n%  | dd/MM/yyyy  | dddd d MMMM yyyy | HH:mm
en-IN | .,  | ₹n  | -₹n | n%  | dd-MM-yyyy  | dd MMMM yyyy | HH:mm
en-NZ | .,  | $n  | -$n | n%  | d/MM/yyyy   | dddd, d MMMM yyyy | h:mm tt
en-SG | .,  | $n  | -$n | n%  | d/M/yyyy    | dddd, d MMMM yyyy | h:mm tt
en-ZA | ,~  | Rn  | -Rn | n%  | yyyy/MM/dd  | dddd, dd MMMM yyyy | HH:mm
de-DE | ,.  | n € | -n € | n % | dd.MM.yyyy | dddd, d. MMMM yyyy | HH:mm | d. MMMM
de-AT | ,.  | € n | -€ n | n % | dd.MM.yyyy | dddd, d. MMMM yyyy | HH:mm | d. MMMM
de-CH | .’  | CHF n | CHF-n | n% | dd.MM.yyyy | dddd, d. MMMM yyyy | HH:mm | d. MMMM
fr-FR | ,~  | n € | -n € | n % | dd/MM/yyyy | dddd d MMMM yyyy | HH:mm
fr-BE | ,~  | n € | -n € | n % | dd-MM-yy   | dddd d MMMM yyyy | HH:mm
fr-CA | ,~  | n $ | (n $) | n % | yyyy-MM-dd | d MMMM yyyy | HH:mm
fr-CH | ,~  | n CHF | -n CHF | n% | dd.MM.yyyy | dddd, d MMMM yyyy | HH:mm
es-ES | ,.  | n € | -n € | n % | dd/MM/yyyy | dddd, d 'de' MMMM 'de' yyyy | H:mm | d 'de' MMMM | MMMM 'de' yyyy
es-AR | ,.  | $ n | -$ n | n % | d/M/yyyy   | dddd, d 'de' MMMM 'de' yyyy | HH:mm | d 'de' MMMM | MMMM 'de' yyyy
es-CL | ,.  | $n  | -$n | n % | dd-MM-yyyy | dddd, d 'de' MMMM 'de' yyyy | H:mm | d 'de' MMMM | MMMM 'de' yyyy
es-CO | ,.  | $ n | -$ n | n % | d/MM/yyyy | dddd, d 'de' MMMM 'de' yyyy | h:mm tt | d 'de' MMMM | MMMM 'de' yyyy
es-MX | .,  | $n  | -$n | n% | dd/MM/yyyy | dddd, d 'de' MMMM 'de' yyyy | hh:mm tt | d 'de' MMMM | MMMM 'de' yyyy
it-IT | ,.  | n € | -n € | n% | dd/MM/yyyy | dddd d MMMM yyyy | HH:mm
nl-NL | ,.  | € n | € -n | n% | d-M-yyyy   | dddd d MMMM yyyy | HH:mm
nl-BE | ,.  | € n | € -n | n% | d/MM/yyyy  | dddd d MMMM yyyy | HH:mm
pt-BR | ,.  | R$ n | -R$ n | n% | dd/MM/yyyy | dddd, d 'de' MMMM 'de' yyyy | HH:mm | d 'de' MMMM | MMMM 'de' yyyy
pt-PT | ,~  | n € | -n € | n% | dd/MM/yyyy | dddd, d 'de' MMMM 'de' yyyy | HH:mm | d 'de' MMMM | MMMM 'de' yyyy
da-DK | ,.  | n kr. | -n kr. | n % | dd-MM-yyyy | d. MMMM yyyy | HH:mm | d. MMMM
sv-SE | ,~  | n kr | -n kr | n % | yyyy-MM-dd | 'den 'd MMMM yyyy | HH:mm
nb-NO | ,~  | kr n | -kr n | n % | dd.MM.yyyy | dddd d. MMMM yyyy | HH:mm | d. MMMM
fi-FI | ,~  | n € | -n € | n % | d.M.yyyy   | dddd d. MMMM yyyy | H.mm | d. MMMM
is-IS | ,.  | n kr | -n kr | n% | d.M.yyyy  | dddd, d. MMMM yyyy | HH:mm | d. MMMM
pl-PL | ,~  | n zł | -n zł | n% | dd.MM.yyyy | dddd, d MMMM yyyy | HH:mm
cs-CZ | ,~  | n Kč | -n Kč | n % | dd.MM.yyyy | dddd d. MMMM yyyy | H:mm | d. MMMM
sk-SK | ,~  | n € | -n € | n % | d. M. yyyy | dddd d. MMMM yyyy | H:mm | d. MMMM
hu-HU | ,~  | n Ft | -n Ft | n% | yyyy. MM. dd. | yyyy. MMMM d., dddd | H:mm | MMMM d. | yyyy. MMMM
ro-RO | ,.  | n RON | -n RON | n % | dd.MM.yyyy | dddd, d MMMM yyyy | HH:mm
tr-TR | ,.  | ₺n  | -₺n | %n | d.MM.yyyy  | d MMMM yyyy dddd | HH:mm
el-GR | ,.  | n € | -n € | n% | d/M/yyyy  | dddd, d MMMM yyyy | h:mm tt
ru-RU | ,~  | n ₽ | -n ₽ | n% | dd.MM.yyyy | d MMMM yyyy 'г.' | HH:mm | d MMMM | MMMM yyyy 'г.'
uk-UA | ,~  | n ₴ | -n ₴ | n% | dd.MM.yyyy | d MMMM yyyy 'р.' | HH:mm | d MMMM | MMMM yyyy 'р.'
ja-JP | .,  | ¥n  | -¥n | n% | yyyy/MM/dd | yyyy'年'M'月'd'日' | H:mm | M'月'd'日' | yyyy'年'M'月'
zh-CN | .,  | ¥n  | ¥-n | n% | yyyy/M/d   | yyyy'年'M'月'd'日' | H:mm | M'月'd'日' | yyyy'年'M'月'
zh-TW | .,  | NT$n | -NT$n | n% | yyyy/M/d | yyyy'年'M'月'd'日' | tt hh:mm | M'月'd'日' | yyyy'年'M'月'
ko-KR | .,  | ₩n  | -₩n | n% | yyyy-MM-dd | yyyy'년' M'월' d'일' dddd | tt h:mm | M'월' d'일' | yyyy'년' M'월'
"""
_USUAL = ("d MMMM", "MMMM yyyy")
_NO_CENTS = frozenset({"ja-JP", "ko-KR", "is-IS", "es-CL"})
_GROUPS: Mapping[str, tuple[int, ...]] = {"en-IN": (3, 2)}


@lru_cache(maxsize=1)
def _cultures() -> Mapping[str, Culture]:
    """By name in lower case, and by language alone for the first of each language."""
    names = {}
    for line in _NAMES.replace("\n ", " ").splitlines():
        language, _, text = line.partition(":")
        parts = [tuple(word.replace("~", " ") for word in part.split()) for part in text.split("|")]
        days, short_days, months, short_months, (am, pm) = parts[:5]
        names[language] = (days, short_days, months, short_months, parts[5] if parts[5:] else months, (am, pm))
    out: dict[str, Culture] = {}
    for line in _LOCALES.splitlines():
        name, marks, money, negative, percent, *patterns = (part.strip() for part in line.split("|"))
        short_date, long_date, time, month_day, month = *patterns, *_USUAL[len(patterns) - 3 :]
        days, short_days, months, short_months, months_of_days, halves = names.get(name[:2], _ENGLISH)
        culture = Culture(
            name, marks[0], marks[1].replace("~", "\xa0"), (money, negative), percent,
            days, short_days, months, short_months, months_of_days, halves,
            short_date, long_date, time, month_day, month, _GROUPS.get(name, (3,)), 0 if name in _NO_CENTS else 2,
        )  # fmt: skip
        out[name.lower()] = culture
        out.setdefault(name[:2], culture)
    return out
