"""The reference of the configuration, docs/configuration.md: every key as the schema has it, and
every variable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from contract.config import GATEWAY_FIELDS
from contract.config.variables import OTHERS
from contract.config.wording import phrase, schema, shown
from contract.paths import as_called

_INTRODUCTION: Final = """\
# Configuration

<!-- Made by `./ew config reference`: what is said of a key is in contract/config/. -->

`deploy/config.json` in the project says what `ew` serves. It is JSON; comments (`//`, `/* */`)
and a comma after the last item are allowed. `./ew config check` reads it without starting
anything and names each mistake with its line; `./ew config schema` prints it as a JSON schema,
for editors.

**Each key can be given by a variable**, which wins over the file: `EW_`, the section, two
underscores, the key, as in `EW_GATEWAY__PORT=9000`, or `EW_MODELS__DEMO__REPLICAS=2` for a model
whose name is in small letters. A list or an object is written as JSON. A variable that means
nothing to `ew` is named by `./ew config check`, with the nearest that does.

**Units** are in the names: `_s` are seconds, `_bytes` are bytes, `_len` are tokens. Paths are
relative to the project. A key that is *unset* by default may be `null`.

**Things of the host** that the configuration names (files, programs, variables, hosts) are checked,
too. A fault that would make a start fail is an error: `./ew start` refuses it with the same words.
One that may pass by itself, such as a server that has no address yet, is only a warning. To
check a configuration that is for another host, as in CI: `./ew config check --elsewhere`.
"""
_RESTART: Final = "A change counts when `ew` is started anew."
_RESTART_GATEWAY: Final = "A change counts with `./ew restart gateway`."
_HERE_AND_NOW: Final = ", ".join(f"`{key}`" for key in sorted(GATEWAY_FIELDS))


_ROUTES: Final = (
    "A change counts at once. See [models](models.md#another-model-in-the-place-of-one)."
)


class _Section(NamedTuple):
    """A table of keys; `counts` is when a change in the file does, while ew runs. Notes
    above the keys is the schema's, unless `about` says it."""

    title: str
    kind: str
    counts: str
    about: str = ""


_SECTIONS: Final = (
    _Section(
        "models.ID",
        "ModelConfig",
        f"A change of {_HERE_AND_NOW} counts at once; of the rest, when the model is stopped and "
        "started.",
        "One model; ID is the name that clients ask for.",
    ),
    _Section("models.ID.sampling", "SamplingConfig", "A change counts at once."),
    _Section(
        "models.ID.watchdog",
        "WatchdogConfig",
        "A change counts when the model is stopped and started.",
        "When an engine is taken for hung; see [engines](engines.md#an-engine-that-hangs).",
    ),
    _Section("models.ID.fallback", "FallbackConfig", _ROUTES),
    _Section("models.ID.split", "SplitConfig", _ROUTES),
    _Section("gateway", "GatewayConfig", _RESTART),
    _Section(
        "gateway.tls",
        "TlsConfig",
        f"See [security](security.md#tls). {_RESTART_GATEWAY}",
    ),
    _Section(
        "gateway.media", "MediaConfig", f"See [images](api.md#images-sound-and-video). {_RESTART}"
    ),
    _Section("limits", "LimitsConfig", "A change counts at once, for open answers too."),
    _Section(
        "limits.per_key",
        "KeyLimitsConfig",
        "Each of `limits.groups` has the same keys. A change counts at once; see "
        "[limits](limits.md#limits-of-keys).",
    ),
    _Section("jobs", "JobsConfig", _RESTART_GATEWAY),
    _Section("files", "FilesConfig", _RESTART_GATEWAY),
    _Section(
        "usage",
        "UsageConfig",
        "A change counts when models are stopped and started; see [usage](usage.md).",
    ),
    _Section(
        "dead_letters",
        "DeadLettersConfig",
        "A change counts when models are stopped and started; see "
        "[jobs](jobs.md#requests-that-break-their-workers).",
    ),
    _Section("logs", "LogsConfig", "See [logs](logs.md). A change counts with `./ew restart`."),
    _Section("redis", "RedisConfig", _RESTART),
    _Section(
        "hub",
        "HubConfig",
        "A change counts for the next `./ew models pull`, and when a model is stopped and started.",
    ),
)
_VARIABLES: Final = """\
## Variables that are no keys

Beside them, `ew` and its engines heed those of others that are usual: `HF_HOME`, `HF_TOKEN` and
`HF_ENDPOINT`, `PIP_INDEX_URL` and the rest of pip's for `./ew setup`, `HTTPS_PROXY`, `CUDA_HOME`,
`NO_COLOR`.
"""


def reference() -> str:
    """All of it, as Markdown."""
    parts = [_INTRODUCTION]
    parts += map(_section, _SECTIONS)
    parts.append("\n".join([_VARIABLES, *_table(("variable", "is"), OTHERS.items()), ""]))
    return as_called("\n".join(parts))


def _section(section: _Section) -> str:
    node = schema()["$defs"][section.kind]
    about = section.about or " ".join(node["description"].split())
    table = _table(("key", "value", "default", "meaning"), _rows(node))
    return "\n".join([f"## `{section.title}`", "", f"{about} {section.counts}", "", *table, ""])


def _rows(section: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    required = section.get("required", ())
    for key, node in section["properties"].items():
        default = "required" if key in required else _default(node)
        yield key, phrase(node), default, node["description"]


def _default(node: dict[str, Any]) -> str:
    default = node.get("default")
    if default is None:
        return "unset" if "default" in node else "none"
    return f"`{shown(default)}`"


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    for first, *others in rows:
        yield f"| {' | '.join((f'`{first}`', *others))} |"
