"""Prints the engine's lines of code (no blank lines, comments or docstrings) and fails above the limit."""

import ast
import io
import sys
import tokenize
from pathlib import Path

LIMIT = 2500


def code_lines(source: str) -> int:
    text = source.splitlines()
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        for line in range(token.start[0], token.end[0] + 1)
        if text[line - 1 : line] and text[line - 1].strip()
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            doc = node.body[0]
            lines -= set(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
    return len(lines)


def main() -> int:
    folder = Path(sys.argv[1] if sys.argv[1:] else "engine")
    counts = {path.name: code_lines(path.read_text()) for path in sorted(folder.glob("*.py"))}
    for name, count in counts.items():
        print(f"{count:6} {name}")
    print(f"{sum(counts.values()):6} of {LIMIT}")
    return sum(counts.values()) > LIMIT


if __name__ == "__main__":
    sys.exit(main())
