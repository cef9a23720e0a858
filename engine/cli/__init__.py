"""The command line. `flowrun FLOW` runs a flow; each command's module is imported when it is used."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from difflib import get_close_matches

import click

from engine.errors import FlowrunError

COMMANDS = {
    "init": "init:init",
    "run": "run:run",
    "check": "check:check",
    "plan": "plan:plan",
    "schema": "check:schema",
    "expr": "expr:expr",
    "import": "import_:import_",
    "test": "test:test",
    "graph": "graph:graph",
    "why": "why:why",
    "serve": "serve:serve",
    "runs": "runs:runs",
    "connectors": "connectors:connectors",
    "connections": "connectors:connections",
    "login": "connectors:login",
    "webhook": "webhook:webhook",
    "sandbox": "sandbox:sandbox",
    "completion": "completion:completion",
}


class _Commands(click.Group):
    """Commands by name, loaded when used; anything else that looks like a file is a flow to run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"engine.cli.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        first = args[0]
        if first not in COMMANDS:
            if not first.endswith((".yaml", ".yml")) and not os.path.exists(first) and first != "-":  # noqa: PTH110
                close = get_close_matches(first, COMMANDS, n=1)
                hint = f" Did you mean '{close[0]}'?" if close else " A flow is a file such as flows/my_flow.yaml."
                raise click.UsageError(f"no command or flow '{first}'.{hint}")
            return "run", self.get_command(ctx, "run"), args
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flowrun-engine", prog_name="flowrun")
def cli() -> None:
    """Runs flows: `flowrun flows/referral_to_dynamics.yaml`."""


def main() -> None:
    """The entry point: every error in words, every exit code as documented."""
    from engine.cli.wiring import INTERRUPTED, NO, WRONG, show_error
    from engine.connections.secrets import Mask

    mask = Mask()
    try:
        code = cli.main(prog_name="flowrun", standalone_mode=False, obj=mask)
    except click.ClickException as error:
        error.show()
        code = WRONG
    except FlowrunError as error:
        show_error(error, mask)
        code = WRONG
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = NO
    except Exception:  # noqa: BLE001 - a bug of ours: shown whole, but for the secrets
        click.echo(mask(traceback.format_exc()) + "this is a bug in flowrun", err=True)
        code = NO
    sys.exit(code if isinstance(code, int) else 0)
