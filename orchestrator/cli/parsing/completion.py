"""Completion in bash, zsh and fish.

A shell runs the command line that it completes with `_EW_COMPLETE` set, its last word unfinished,
and gets back the words that fit: one a line, each with a tab and what it is. Nothing else is done,
and nothing said: a shell would print it into the line that is typed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from typer._click.shell_completion import ShellComplete

from contract.paths import logs_dir
from contract.process.process_table import read_entry
from orchestrator.config.key_file import KeyFile
from orchestrator.config.model_names import configured_models
from orchestrator.environments.declaration import load_engines
from orchestrator.environments.environment import list_environments
from orchestrator.errors import UserError

VARIABLE: Final = "_EW_COMPLETE"

_BASH: Final = r"""
_ew_completion() {
    local typed="${COMP_LINE:0:COMP_POINT}" words last kept value
    read -ra words <<< "$typed"
    [[ $typed == *[[:space:]] ]] && words+=("")
    last="${words[${#words[@]} - 1]}"
    # bash takes words apart at `:` and `=`, and replaces what comes behind.
    kept="${last%"${last##*[:=]}"}"
    COMPREPLY=()
    while IFS=$'\t' read -r value _; do
        COMPREPLY+=("${value#"$kept"}")
    done < <(_EW_COMPLETE=1 "${1/#\~/$HOME}" "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _ew_completion ew
"""
_ZSH: Final = r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_ew_completion() {
    local value text
    local -a found
    while IFS=$'\t' read -r value text; do
        found+=("${value//:/\\:}${text:+:$text}")
    done < <(_EW_COMPLETE=1 ${(Q)~words[1]} "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    if (( $#found )); then _describe ew found; else _files; fi
}
compdef _ew_completion ew
"""
_FISH: Final = r"""
function __ew_completion
    set -l words (commandline -opc)
    set -l command (string replace -r '^~' $HOME -- $words[1])
    env _EW_COMPLETE=1 $command $words[2..-1] (commandline -ct | string collect -a) 2>/dev/null
    or __fish_complete_path (commandline -ct)
end
complete --command ew --no-files --arguments '(__ew_completion)'
"""
_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


class _Words(ShellComplete):
    """Typer's knowledge of what may come next."""

    name = "words"
    source_template = ""

    def source_vars(self) -> dict[str, Any]:
        return {}

    def get_completion_args(self) -> tuple[list[str], str]:
        return [], ""

    def format_completion(self, item: Any) -> str:
        return f"{item.value}\t{item.help or ''}"


def complete(command: Any, arguments: list[str]) -> int:
    """Print what fits. 1 if nothing does: the shell may then offer files."""
    words = _Words(command, {}, command.name or "ew", VARIABLE)
    *args, incomplete = arguments or [""]
    found = words.get_completions(args, incomplete)
    sys.stdout.writelines(f"{words.format_completion(each)}\n" for each in found)
    return 0 if found else 1


def values_of(command: str, parameter: str) -> list[str]:
    """Return what a command's parameter may be, as far as it is known."""
    find = _VALUES.get(f"{command} {parameter}") or _VALUES.get(parameter)
    return list(find()) if find else []


def show() -> None:
    """Print the script for the shell that we were called from. Raises `UserError`."""
    sys.stdout.write(_SCRIPTS[_shell()].lstrip())


def install() -> str:
    """Make that shell load the script when it starts. Returns what to do next.

    Raises `UserError`, `OSError`.
    """
    shell = _shell()
    if shell == "fish":
        # fish finds it by its name.
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        script = config / "fish/completions/ew.fish"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
        script = data / f"ew/completion.{shell}"
        _append_once(_start_file(shell), f"source '{script}'")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_SCRIPTS[shell].lstrip(), encoding="utf-8")
    return f"{shell} completes ew from its next start on ({script})"


def _shell() -> str:
    """Whose child we are, or what the user is known to use."""
    parent = read_entry(os.getppid())
    usual = Path(os.environ.get("SHELL", "")).name
    for name in (parent.program if parent else "", usual):
        if name in _SCRIPTS:
            return name
    raise UserError("neither bash nor zsh nor fish is seen", "call it from one of them")


def _start_file(shell: str) -> Path:
    if shell == "bash":
        return Path.home() / ".bashrc"
    return Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc"


def _append_once(path: Path, line: str) -> None:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if line not in text.splitlines():
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n" if not text or text.endswith("\n") else f"\n{line}\n")


def _units() -> Iterable[str]:
    written = {path.stem for path in logs_dir().glob("*.log")}
    return [*configured_models(), *sorted({"gateway", "valkey", "supervisor"} & written)]


def _environments() -> Iterable[str]:
    return [environment.name for environment in list_environments()]


def _keys() -> Iterable[str]:
    return [record.name or record.id for record in KeyFile().records().values()]


def _nothing() -> Iterable[str]:
    return ()


#: By the name of a parameter, or of a command and a parameter of it.
_VALUES: Final[dict[str, Callable[[], Iterable[str]]]] = {
    "engine": load_engines,
    "env": _environments,
    "key": _keys,
    "model": configured_models,
    "models": configured_models,
    "convert-trt model": _nothing,
    "logs name": _units,
    "quickstart model": _nothing,
    "remove name": _environments,
}
