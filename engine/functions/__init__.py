from engine.expressions import Function, to_text

FUNCTIONS = {
    f.name: f
    for f in [
        Function("concat", lambda *a: "".join(map(to_text, a)), 1),
        Function("first", lambda a: a[0] if a else None, 1, 1),
    ]
}
