"""The expression compiler: parsing with places of faults, printing to idiomatic Jinja, and print(parse(x)) means x."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_wdl_cases import CONTEXT, ERROR, VALUES

from engine.errors import DataError, FlowrunError
from engine.expressions import Ambient, to_text
from engine.functions import FUNCTIONS
from engine.wdl import context as contexts
from engine.wdl.jinja import BY_NAME, OURS, Printer
from engine.wdl.names import named, snake
from engine.wdl.operators import COMPARED
from engine.wdl.pieces import literal, quoted
from engine.wdl.syntax import Call, Expression, Interpolation, Literal, Member, Template, WdlError, expression, parse

PRINTER = Printer()
EVALUATOR = contexts.Evaluator()
GIVEN = contexts.given(CONTEXT)

# Parsing


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("@concat", 1, "no value"),
        ("@concat('a', b)", 13, "no value"),
        ('@concat("a")', 8, "double quotes"),
        ("@concat('a'", 11, "too early"),
        ("@concat('a'))", 12, "unexpected ')'"),
        ("@concat('a) ", 8, "isn't closed"),
        ("ab @{concat('a')", 3, "without '}'"),
        ("ab @{concat(} x", 12, "too early"),
        ("a @{1} @{12x}", 9, "'12x' is no number"),
        ("@f(@g())", 3, "unexpected '@'"),
        ("@f()?", 4, "a member has to follow"),
        ("@f().", 5, "too early"),
        ("@f()[1", 6, "too early"),
        ("@-", 1, "'-' is no number"),
        ("@f(\n  1 2)", 8, "unexpected '2'"),
        ("@" + "f(" * 70, 1 + 65 * 2, "deeper than"),
        ("@f()" + ".x" * 70, 4 + 64 * 2, "more than 64 members"),
    ],
)
def test_a_fault_has_its_place(text: str, offset: int, words: str) -> None:
    with pytest.raises(WdlError) as caught:
        parse(text)
    assert caught.value.offset == offset
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("@f()", Call("f")),
        ("@f( 'a' , -1,TRUE )", Call("f", (Literal("a"), Literal(-1), Literal(True)))),
        (
            "@f()?['a'].b[0]",
            Call("f", (), (Member(Literal("a"), True), Member(Literal("b"), False), Member(Literal(0), False))),
        ),
        ("@f()?.a-b$c", Call("f", (), (Member(Literal("a-b$c"), True),))),
        ("@f()[g('x')?.y]", Call("f", (), (Member(Call("g", (Literal("x"),), (Member(Literal("y"), True),)), False),))),
        ("@true()", Call("true")),
        ("a @{f()}b@{'x'}", Interpolation(("a ", Call("f"), "b", Literal("x")))),
        ("@{f()}", Interpolation((Call("f"),))),
        ("@@f()", Interpolation(("@f()",))),
        ("a@@{f()}", Interpolation(("a@{f()}",))),
        ("\ufeff@f()", Interpolation(("\ufeff@f()",))),
    ],
)
def test_parse(text: str, tree: Template) -> None:
    assert parse(text) == tree


@given(st.text(alphabet=st.sampled_from(list("@{}()[]?.,' \"abc1-+eE\n\\\u00e9")), max_size=40))
@settings(max_examples=500, deadline=None)
def test_nothing_crashes_the_parser(text: str) -> None:
    try:
        tree = parse(text)
    except WdlError as error:
        assert 0 <= error.offset <= len(text)
        return
    shown = str(tree) if isinstance(tree, Interpolation) else f"@{tree}"
    assert parse(shown) == tree
    try:
        PRINTER.template(tree)
    except WdlError as error:
        assert 0 <= error.offset <= len(text)


# Printing


@pytest.mark.parametrize(
    ("text", "jinja"),
    [
        ("@body('Get_referral')?['customerProfile']?['name']", "{{ steps.get_referral.body.customerProfile.name }}"),
        ("@outputs('Get_referral')?['body/value']", "{{ steps.get_referral.body.value }}"),
        ("@outputs('Call')['statusCode']", "{{ steps.call.outputs.statusCode }}"),
        ("@triggerBody()?['odd key']?[0]", "{{ trigger.inputs['odd key'][0] }}"),
        ("@triggerOutputs()?['headers']?['x-key']", "{{ trigger.outputs.headers['x-key'] }}"),
        ("@actions('Call')?['outputs']?['body']?['x']", "{{ steps.call.body.x }}"),
        ("@items('Each')?['x']", "{{ items.each.x }}"),
        ("@variables('CustomerName')", "{{ variables.customer_name }}"),
        ("@equals(variables('a'), 'x')", "{{ variables.a == 'x' }}"),
        ("@not(equals(variables('a'), 'x'))", "{{ variables.a != 'x' }}"),
        ("@not(contains(variables('a'), 'x'))", "{{ 'x' not in variables.a }}"),
        ("@not(less(variables('a'), 5))", "{{ variables.a >= 5 }}"),
        ("@not(startsWith('a', 'b'))", "{{ not startsWith('a', 'b') }}"),
        ("@and(true, or(false, true), not(true))", "{{ true and (false or true) and not true }}"),
        ("@or(true, and(false, true))", "{{ true or false and true }}"),
        ("@equals(equals(1, 2), equals(3, 4))", "{{ (1 == 2) == (3 == 4) }}"),
        ("@equals(empty(variables('a')), true)", "{{ empty(variables.a) }}"),
        ("@equals(false, contains(variables('a'), 1))", "{{ 1 not in variables.a }}"),
        ("@if(empty(variables('a')), 'x', if(true, 1, 2))", "{{ 'x' if empty(variables.a) else 1 if true else 2 }}"),
        ("@if(if(true, false, true), 1, 2)", "{{ 1 if (false if true else true) else 2 }}"),
        ("@concat('a', if(true, 'b', 'c'))", "{{ 'a' ~ ('b' if true else 'c') }}"),
        ("@concat('a', concat('b', variables('c')))", "{{ 'a' ~ 'b' ~ variables.c }}"),
        ("@add(variables('i'), 1)", "{{ variables.i + 1 }}"),
        ("@add(variables('i'), variables('j'))", "{{ add(variables.i, variables.j) }}"),
        ("@sub(1, sub(2, 3))", "{{ 1 - (2 - 3) }}"),
        ("@sub(sub(1, 2), 3)", "{{ 1 - 2 - 3 }}"),
        ("@mul(add(1, 2), -3)", "{{ (1 + 2) * -3 }}"),
        ("@add(decimal('1'), 2)", "{{ add(decimal('1'), 2) }}"),
        ("@div(variables('i'), 2)", "{{ div(variables.i, 2) }}"),
        ("@createArray(1, 'a')", "{{ [1, 'a'] }}"),
        ("@json('{\"a\": [1, null, true]}')?['a']", "{{ {'a': [1, null, true]}.a }}"),
        ("@coalesce(coalesce(variables('a'), 1), 2)", "{{ coalesce(variables.a, 1, 2) }}"),
        ("@string(concat('a', 1))", "{{ 'a' ~ 1 }}"),
        ("@{concat('a', 1)}", "{{ 'a' ~ 1 }}"),
        ("@{variables('a')}", "{{ string(variables.a) }}"),
        ("x @{variables('a')}", "x {{ variables.a }}"),
        ("{@{variables('a')}}", "{{ '{' }}{{ variables.a }}}"),
        ("{{x}}", "{{ '{{' }}x}}"),
        ("@toLOWER(triggerBODY())", "{{ toLower(trigger.inputs) }}"),
        ("@'it''s \\ \n'", "it's \\ \n"),
        ("@concat('it''s \\ \n', '\"''')", "{{ \"it's \\\\ \\n\" ~ '\"\\'' }}"),
        # Strict access: only where it can make a difference
        ("@body('X')['a']", "{{ prop(steps.x.body, 'a') }}"),
        ("@body('X')['a']['b']['c']", "{{ prop(steps.x.body.a.b, 'c') }}"),
        ("@body('X')['a']?['b']", "{{ prop(steps.x.body, 'a').b }}"),
        ("@body('X')?['a'][0]", "{{ prop(steps.x.body.a, 0) }}"),
        ("@length(body('X')['a'])", "{{ length(steps.x.body.a) }}"),
        ("@greater(body('X')['a'], 1)", "{{ steps.x.body.a > 1 }}"),
        ("@add(body('X')['a'], 1)", "{{ steps.x.body.a + 1 }}"),
        ("@not(body('X')['a'])", "{{ not steps.x.body.a }}"),
        ("@equals(body('X')['a'], 1)", "{{ prop(steps.x.body, 'a') == 1 }}"),
        ("@split(variables('a'), ',')[0]", "{{ split(variables.a, ',')[0] }}"),
        ("@length(split(variables('a'), ',')[-1])", "{{ length(prop(split(variables.a, ','), -1)) }}"),
        # Where nothing else is known, a path with a slash is looked up both ways
        ("@item()?['a/b']", "{{ coalesce(item['a/b'], item.a.b) }}"),
        ("@body('X')?['paths']?['/items/{id}']", "{{ steps.x.body.paths['/items/{id}'] }}"),
    ],
)
def test_print(text: str, jinja: str) -> None:
    assert PRINTER.value(text) == jinja


def test_literals_are_values() -> None:
    assert [PRINTER.value(t) for t in ("@true", "@null", "@5", "@1.5", "@'x'", "x")] == [True, None, 5, 1.5, "x", "x"]


def test_without_strictness_every_member_is_a_dotted_path() -> None:
    lenient = Printer(strict=False)
    assert lenient.value("@body('X')['a']['b']") == "{{ steps.x.body.a.b }}"
    assert lenient.value("@equals(body('X')['a'][0], 1)") == "{{ steps.x.body.a[0] == 1 }}"


def test_few_calls_are_left_where_there_is_an_operator_or_a_path() -> None:
    operators = {*COMPARED, "and", "or", "not", "if", "contains", "concat", "add", "sub", "mul", "createArray", "prop"}
    called = re.compile(r"\b(" + "|".join(operators) + r")\(")
    literals = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
    printed = [str(Printer(GIVEN.names, strict=False).value(text)) for text, wanted in VALUES if wanted is not ERROR]
    expressions = [text for text in printed if "{{" in text]
    plain = [text for text in expressions if not called.search(literals.sub("''", text))]
    assert len(expressions) > 300
    assert len(plain) >= 0.97 * len(expressions)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Get_referral", "get_referral"),
        ("GET_referral_from_Microsoft", "get_referral_from_microsoft"),
        ("Parse_JSON_-_Microsoft_Partner_Center_Referral", "parse_json_microsoft_partner_center_referral"),
        ("AAD-Application (client) ID", "aad_application_client_id"),
        ("CustomerFirstName", "customer_first_name"),
        ("HTTPRequest2", "http_request2"),
        ("List_to-do's_by_folder_(V2)", "list_to_dos_by_folder_v2"),
        ("Größe prüfen", "groe_prufen"),
        ("2nd step", "x_2nd_step"),
        ("日本", "x"),
    ],
)
def test_names(name: str, wanted: str) -> None:
    assert snake(name) == wanted


def test_no_two_names_are_the_same() -> None:
    assert named(["A b", "a-B", "aB", "日"]) == {"A b": "a_b", "a-B": "a_b_2", "aB": "a_b_3", "日": "x"}
    assert named(["a"], taken=["a"]) == {"a": "a_2"}


# Meaning: what is printed gives what the tree says, carried out by hand


def carried_out(tree: Expression, given: contexts.Given) -> Any:
    """The value of a tree by the rules of the language alone. Raises DataError."""
    if isinstance(tree, Literal):
        return tree.value
    name = tree.name.lower()
    match name:
        case "if":
            test = carried_out(tree.arguments[0], given)
            if not isinstance(test, bool):
                raise DataError("no boolean")
            value = carried_out(tree.arguments[1 if test else 2], given)
        case "and" | "or":
            value = name == "and"
            for argument in tree.arguments:
                value = carried_out(argument, given)
                if not isinstance(value, bool):
                    raise DataError("no boolean")
                if value != (name == "and"):
                    break
        case "coalesce":
            value = None
            for argument in tree.arguments:
                if (value := carried_out(argument, given)) is not None:
                    break
        case "variables":
            value = CONTEXT["variables"][carried_out(tree.arguments[0], given)]
        case "triggerbody":
            value = CONTEXT["trigger"]["outputs"]["body"]
        case "body":
            value = CONTEXT["actions"][carried_out(tree.arguments[0], given)].get("outputs", {}).get("body")
        case _:
            values = [carried_out(argument, given) for argument in tree.arguments]
            value = BY_NAME[name].call(*values)
    for member in tree.members:
        value = step(value, carried_out(member.key, given), safe=member.safe)
    return value


def step(value: Any, key: Any, *, safe: bool) -> Any:
    if value is None and safe:
        return None
    if isinstance(value, dict) and isinstance(key, str):
        if key in value or safe:
            return value.get(key)
    elif isinstance(value, list) and type(key) is int and key >= 0 and (key < len(value) or safe):
        return value[key] if key < len(value) else None
    raise DataError("no such member")


KEYS = st.sampled_from(["name", "person", "value", "id", "lines", "sku", "no", "a-b", "odd key"])
TEXTS = st.sampled_from(["", "a", "Abc", "it's", '"', "\\", "{{", "}}", "{", "x y", "1", "ünï\n"]) | st.text(max_size=5)
NUMBERS = st.integers(-50, 50) | st.sampled_from([0.5, -1.25, 3.0, 1e3])
SCALARS = TEXTS | NUMBERS | st.booleans() | st.none()
ANY_REFERENCE = st.sampled_from(
    ["variables('CustomerName')", "variables('items')", "variables('order')", "variables('nothing')", "triggerBody()",
     "body('Get_items')", "body('Skipped_call')", "triggerBody()?['person']", "triggerBody()?['tags']"]
).map(expression)  # fmt: skip
INDEX = st.integers(0, 4).map(Literal)


@st.composite
def members(draw: st.DrawFn, call: Any) -> Expression:
    tree = draw(call)
    keys = draw(st.lists(st.tuples(KEYS.map(Literal) | INDEX, st.booleans()), max_size=3))
    return Call(tree.name, tree.arguments, (*tree.members, *(Member(key, safe) for key, safe in keys)))


def function(name: str, *arguments: Any) -> Any:
    return st.tuples(*arguments).map(lambda found: Call(name, found))


def grown(inner: Any) -> Any:
    """Expressions with these in them."""
    numbers = NUMBERS.map(Literal) | st.sampled_from(["variables('count')", "variables('ratio')", "length('abc')"]).map(
        expression
    )
    wild = inner | numbers
    return st.one_of(
        function("equals", wild, wild),
        function("not", inner),
        function("and", inner, inner),
        function("or", inner, inner, inner),
        function("if", inner, inner, wild),
        function("coalesce", inner, inner),
        function("concat", inner, wild),
        function("greater", wild, wild),
        function("lessOrEquals", wild, wild),
        function("contains", inner, wild),
        function("empty", inner),
        function("length", inner),
        function("first", inner),
        function("string", wild),
        function("toUpper", inner),
        function("split", inner, TEXTS.map(Literal)),
        function("add", numbers, numbers),
        function("sub", numbers, function("add", numbers, numbers)),
        function("mul", function("sub", numbers, numbers), numbers),
        function("add", wild, numbers),
        function("createArray", inner, wild),
        members(function("createArray", inner, wild)),
        members(function("split", inner, TEXTS.map(Literal))),
        members(function("if", inner, ANY_REFERENCE, ANY_REFERENCE)),
    )


TREES = st.recursive(SCALARS.map(Literal) | ANY_REFERENCE | members(ANY_REFERENCE), grown, max_leaves=12)


def differs(tree: Any) -> bool:
    """The differences there are: `?[0]` of what turns out to be a text or an object is an error there, and gives a
    character or null here; and true counts as 1 by `+`, not by add()."""
    if not isinstance(tree, Call):
        return False
    bare = Call(tree.name, tree.arguments)
    for member in tree.members:
        found = outcome(lambda tree=bare: carried_out(tree, GIVEN))
        if isinstance(found[-1], (str, dict)) and isinstance(member.key, Literal) and isinstance(member.key.value, int):
            return True
        bare = Call(bare.name, bare.arguments, (*bare.members, member))
    values = [outcome(lambda tree=argument: carried_out(tree, GIVEN))[-1] for argument in tree.arguments]
    if tree.name in ("add", "sub", "mul") and any(isinstance(v, bool) for v in values):
        return True
    return any(map(differs, [*tree.arguments, *(m.key for m in tree.members)]))


def outcome(call: Any) -> Any:
    try:
        return ("value", call())
    except FlowrunError:
        return ("error", None)


@given(TREES)
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_what_is_printed_means_the_same(tree: Expression) -> None:
    if differs(tree):
        return
    assert expression(str(tree)) == tree
    found = outcome(lambda: EVALUATOR.wdl(f"@{tree}", GIVEN))
    wanted = outcome(lambda: carried_out(tree, GIVEN))
    assert found == wanted, Printer(GIVEN.names).expression(tree).text
    assert repr(found) == repr(wanted)  # true isn't 1


@given(st.lists(st.sampled_from(["a", "{", "}", "{{", "}}", "@", "' ", "\n"]) | TREES, max_size=5))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_texts_mean_the_same(parts: list[Any]) -> None:
    joined: list[Any] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    texts = [p for p in joined[:-1] if isinstance(p, str)]
    if not joined or any(t.startswith("@") or t.endswith("@") for t in texts) or any(map(differs, joined)):
        return  # `a@` before `@{…}` can't be written
    tree = Interpolation(tuple(joined))

    def wanted() -> str:
        values = [p if isinstance(p, str) else to_text(carried_out(p, GIVEN)) for p in joined]
        return "".join(values)

    assert parse(str(tree)) == tree
    assert outcome(lambda: EVALUATOR.wdl(str(tree), GIVEN)) == outcome(wanted)


@given(
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
    )
)
@settings(max_examples=200, deadline=None)
def test_a_value_is_printed_as_it_is(value: Any) -> None:
    found = EVALUATOR.jinja(f"{{{{ {literal(value).text} }}}}", GIVEN)
    assert found == value
    assert repr(found) == repr(value)


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_a_text_is_printed_as_it_is(text: str) -> None:
    assert EVALUATOR.jinja(f"x{{{{ {quoted(text)} }}}}", GIVEN) == "x" + text


def test_every_function_of_the_language_is_known() -> None:
    assert set(BY_NAME) == {name.lower() for name in FUNCTIONS} - OURS


def test_an_impure_function_has_its_clock() -> None:
    assert isinstance(GIVEN.ambient, Ambient)
    assert EVALUATOR.wdl("@utcNow('yyyy-MM-dd HH:mm')", GIVEN) == "2018-03-15 13:00"


def test_deep_expressions_end_quickly() -> None:
    shapes: Mapping[str, tuple[str, str]] = {
        "if": ("if(true,", ",2)"), "concat": ("concat('a',", ")"), "not": ("not(", ")"), "add": ("add(1,", ")"),
        "createArray": ("createArray(", ")"), "coalesce": ("coalesce(", ",1)"), "and": ("and(true,", ")"),
    }  # fmt: skip
    for begin, end in shapes.values():
        core = "true" if begin.startswith(("not", "and")) else "1"
        EVALUATOR.wdl("@" + begin * 60 + core + end * 60, GIVEN)
