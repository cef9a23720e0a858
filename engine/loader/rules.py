"""What each code of a finding means, in a sentence. docs/findings/ has a page for each."""

from __future__ import annotations

from collections.abc import Mapping

RULES: Mapping[str, str] = {
    # The file and its YAML
    "Encoding": "The file is not UTF-8 text.",
    "TooLarge": "The document is larger than a document may be.",
    "TooDeep": "The document is nested deeper than a document may be.",
    "Empty": "The document is empty.",
    "YamlSyntax": "The text is no YAML.",
    "Alias": "A YAML alias has no anchor, or an anchor stands twice.",
    "Tag": "The document has a YAML tag; flows know none.",
    "Merge": "`<<` merges something that is no mapping.",
    "Key": "A key is no text.",
    "DuplicateKey": "A key stands twice in one mapping.",
    "UnquotedTemplate": "An expression stands without quotes.",
    # What may stand where
    "UnknownKey": "A key is not one of those that may stand here.",
    "MissingKey": "A key that has to be here is missing.",
    "NoKind": "A step or trigger has no key that says what it does.",
    "WrongType": "A value is of another type than what is wanted here.",
    "WrongValue": "A value is of the right type, but not one that can stand here.",
    "NotAllowed": "A word is not one of those that may stand here.",
    "Name": "A name has letters that names can't have, or means something else already.",
    "Schema": "A JSON Schema in the document is not valid.",
    "Time": "A text is no point in time.",
    "Cron": "A time table is not valid.",
    "Zone": "A time zone doesn't exist.",
    "NoFile": "A file that the flow names isn't there.",
    "NoLane": "`collapse` stands without `lane`, so it does nothing.",
    # Names
    "DuplicateStep": "Two steps have the same name.",
    "UnknownConnection": "A connection is not declared, or the environment has none of that name.",
    "Connector": "The connector behind a connection can't be loaded.",
    "UnknownOperation": "The connector has no operation of that name.",
    "UnknownEvent": "The service sends no event of that name.",
    "UnknownFlow": "There is no flow of that name beside this one.",
    "UnknownStep": "There is no step of that name.",
    "UnknownVariable": "There is no variable of that name.",
    "UnknownParameter": "There is no parameter of that name.",
    "UnknownName": "An expression begins with a name that means nothing there.",
    "UnknownMember": "A value has no member of that name.",
    "UnknownFunction": "There is no function, filter or test of that name.",
    # Order
    "RunAfter": "`run_after` names a step that isn't in the same list.",
    "Cycle": "Steps wait for each other.",
    "NotBefore": "An expression reads what isn't there yet.",
    "IntoLoop": "An expression outside of a loop reads a step inside it.",
    "Unreachable": "A step can never run.",
    "Recursion": "A flow would run itself.",
    "Race": "Steps that run at the same time change and use the same variable.",
    # Expressions
    "Expression": "An expression is not well formed.",
    "Arguments": "A function is called with too many or too few arguments.",
    "NoCondition": "A condition gives something that is neither true nor false.",
    "NoList": "A loop or a selection goes through something that is no list.",
    "NeverEqual": "A value is compared with a text that it never is.",
    "NotEvaluated": "A text looks like an expression, but isn't evaluated.",
    # Secrets
    "SecureWrite": "A call that must not be repeated blindly is kept out of the journal.",
}
