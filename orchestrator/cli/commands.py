"""The commands of `ew`, and where each of them is."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NamedTuple

import typer

from orchestrator.cli.parsing.grammar import App


class CommandEntry(NamedTuple):
    """The function, or the `app`, of a command's name in the module of that name (with `_` for
    `-`) in a folder. The summary is the first line of its docstring."""

    folder: str
    summary: str


#: In the order in which `./ew --help` lists them.
COMMANDS: Final = {
    "quickstart": CommandEntry("install", "From nothing to a streamed answer: set up, start, ask."),
    "setup": CommandEntry("install", "Make the environment that an engine runs in."),
    "start": CommandEntry("operate", "Start models, and what they need."),
    "stop": CommandEntry("operate", "Stop everything, or one model."),
    "restart": CommandEntry(
        "operate", "Restart models or the gateway, with the settings of the file."
    ),
    "reload": CommandEntry("operate", "Take the configuration file over, and lose nothing."),
    "status": CommandEntry("operate", "Show what runs."),
    "logs": CommandEntry("operate", "Show what the processes wrote, by time."),
    "models": CommandEntry(
        "configure", "List models; pull, show and remove what is downloaded of them."
    ),
    "chat": CommandEntry("use", "Talk with a model."),
    "bench": CommandEntry("use", "Measure how many answers at once a model gives, and how fast."),
    "compare": CommandEntry(
        "use", "Ask two models the same, and show how alike and how fast their answers are."
    ),
    "batch": CommandEntry("use", "Run files of requests; list, show, wait for and cancel batches."),
    "jobs": CommandEntry("use", "List, show and cancel jobs that go on without a client."),
    "dead": CommandEntry("use", "List, show, replay and drop requests that broke their workers."),
    "trace": CommandEntry(
        "use", "Tell a job's life in order: attempts, workers, hosts, and why each ended."
    ),
    "usage": CommandEntry(
        "use", "Show what API keys have used: requests, tokens, and time of the engines."
    ),
    "keys": CommandEntry("configure", "Add, list, revoke and rotate API keys."),
    "config": CommandEntry(
        "configure", "Check the configuration, explain its keys, or print its schema."
    ),
    "convert-trt": CommandEntry("install", "Build a TensorRT-LLM plan of a checkpoint."),
    "load": CommandEntry("operate", "Load a model now, instead of at its first request."),
    "unload": CommandEntry("operate", "Unload a model, until it is asked for again."),
    "pin": CommandEntry(
        "operate", "Never unload a model to make room for another, nor because it is idle."
    ),
    "estimate": CommandEntry(
        "configure", "Show what models need of the GPUs, and where they would go."
    ),
    "env": CommandEntry("install", "List and remove engine environments."),
    "backup": CommandEntry("operate", "Write what cannot be made again into one file."),
    "restore": CommandEntry("operate", "Put what a backup has in its place."),
    "service": CommandEntry("operate", "Run everything as a systemd service."),
    "doctor": CommandEntry("install", "Look for what is wrong on this host."),
    "test": CommandEntry("install", "Run the test suite."),
}


def load_command(name: str) -> Any:
    """Import one command. Its module has a function of that name, or an `app` of several."""
    identifier = name.replace("-", "_")
    module = import_module(f"orchestrator.cli.{COMMANDS[name].folder}.{identifier}")
    app = getattr(module, "app", None)
    if app is None:
        app = plain_app()
        app.command(name)(getattr(module, identifier))
    command = typer.main.get_command(app)
    command.name = name
    return command


def plain_app(**options: Any) -> App:
    """Return a command, or a group of several, in words of our own."""
    return App(**options)
