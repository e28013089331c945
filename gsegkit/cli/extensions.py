"""Commands that plugins bring: each plugin's are added whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable

import typer
from typer.main import get_group

from gsegkit.errors import PluginConflictError
from gsegkit.plugins import Failure, HookCaller, Registry


def add_commands(app: typer.Typer, registry: Registry, taken: Iterable[str]) -> list[Failure]:
    """Add the commands of every plugin to `app`.

    A plugin whose hook fails, whose commands cannot be built, or that uses a name of another command is left out.

    Args:
        app: gsegkit's own.
        registry: whose plugins are asked; keeps the failures too.
        taken: names of commands that no plugin may use.

    Returns:
        One failure for each plugin that was left out.
    """
    owners = dict.fromkeys(taken, "gsegkit")
    failures = []
    for call in registry.callers("gsegkit_commands"):
        own = typer.Typer()
        failure = call(app=own) or _adopt(app, own, call, owners)
        if failure is not None:
            failures.append(failure)
    registry.failures += failures
    return failures


def _adopt(app: typer.Typer, own: typer.Typer, plugin: HookCaller, owners: dict[str, str]) -> Failure | None:
    try:
        own.callback()(lambda: None)  # or a single command would not be a group
        names = list(get_group(own).commands)  # builds them: what cannot be built fails here, and not for everybody
    except (Exception, SystemExit) as error:
        return Failure(plugin.dist, plugin.entry_point, error)
    for name in names:
        if name in owners:
            clash = PluginConflictError(f"the command '{name}' of {plugin.dist} is one of {owners[name]}'s already")
            return Failure(plugin.dist, plugin.entry_point, clash)
    owners.update(dict.fromkeys(names, plugin.dist))
    app.registered_commands += own.registered_commands
    app.registered_groups += own.registered_groups
    return None
