"""Guesses the command that a user meant by a word that is none."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import Final

#: Words of other tools (ollama, docker, systemctl, git, pip), each with the commands that do it
#: here; of these, the first that the group at hand has is meant.
_MEANT: Final = {
    "ask": ("chat",),
    "build": ("setup",),
    "check": ("doctor",),
    "cleanup": ("env remove",),
    "compile": ("convert-trt",),
    "convert": ("convert-trt",),
    "create": ("add", "quickstart"),
    "delete": ("remove", "revoke", "rm", "stop"),
    "diagnose": ("doctor",),
    "diff": ("config diff",),
    "down": ("stop",),
    "download": ("pull", "models pull", "setup"),
    "exit": ("stop",),
    "generate": ("add", "chat"),
    "help": ("--help",),
    "info": ("show", "status"),
    "init": ("quickstart",),
    "inspect": ("show", "status"),
    "install": ("setup",),
    "kill": ("stop",),
    "launch": ("start",),
    "list": ("models",),
    "login": ("keys add",),
    "log": ("logs",),
    "ls": ("list", "models"),
    "memory": ("estimate",),
    "new": ("add",),
    "nvidia-smi": ("status",),
    "prompt": ("chat",),
    "ps": ("status",),
    "pull": ("models pull", "quickstart"),
    "quit": ("stop",),
    "reload": ("restart", "start"),
    "remove": ("rm", "revoke", "models rm", "env remove"),
    "rm": ("remove", "revoke", "models rm", "env remove"),
    "run": ("chat",),
    "serve": ("start",),
    "show": ("list", "schema", "status"),
    "shutdown": ("stop",),
    "tail": ("logs",),
    "talk": ("chat",),
    "token": ("keys",),
    "top": ("status",),
    "uninstall": ("env remove",),
    "up": ("start",),
    "update": ("setup",),
    "upgrade": ("setup",),
    "validate": ("check", "config check"),
    "version": ("--version",),
}
_CLOSE: Final = 0.6


def guess_command(typed: str, commands: Collection[str], exists: Callable[[str], bool]) -> str:
    """Return the command that was meant; empty if nothing comes near. `exists` tells of a name of
    several words whether there is such a command.

    A beginning counts most (`stat` is `status`, not `start`), then what other tools call it, then
    likeness.
    """
    word = typed.strip().lower()
    if not word:
        return ""
    begun = sorted(name for name in commands if name.startswith(word))
    if begun:
        return begun[0]
    for meant in _MEANT.get(word, ()):
        if meant in commands or exists(meant):
            return meant
    near = difflib.get_close_matches(word, commands, n=1, cutoff=_CLOSE)
    return near[0] if near else ""
