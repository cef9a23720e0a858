"""`flowrun completion`: shell completion."""

from __future__ import annotations

import click

from engine.cli.wiring import YES


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Prints the completion script of SHELL: `eval "$(flowrun completion bash)"` in its start-up file."""
    from click.shell_completion import get_completion_class

    from engine.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "flowrun", "_FLOWRUN_COMPLETE").source())
    return YES
