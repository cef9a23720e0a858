"""The pages at which a person confirms a device code."""

from __future__ import annotations

from html import escape

from engine.sandbox import Reply


def sign_in(code: str, users: list[str]) -> Reply:
    """The form: code, user, approve or decline."""
    options = "".join(f"<option>{escape(name)}</option>" for name in users)
    return page(
        f'<form method="post"><p><label>Code <input name="user_code" value="{escape(code)}"></label></p>'
        f'<p><label>Sign in as <select name="username">{options}</select></label></p>'
        '<button name="action" value="approve">Approve</button> '
        '<button name="action" value="decline">Decline</button></form>'
    )


def page(content: str, status: int = 200) -> Reply:
    text = f"<!doctype html><meta charset=utf-8><title>Sign in</title><h1>Sandbox sign-in</h1>{content}"
    return Reply(status, text.encode(), {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"})
