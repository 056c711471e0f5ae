"""The reference of the configuration, docs/configuration.md: every key as the schema has it, and
every variable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from contract.config.variables import OTHERS
from contract.config.wording import phrase, schema, shown
from contract.paths import as_called
from orchestrator.config.effects import effect_of

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

**A change of the file while `ew` runs** counts as the column *counts* says:

| counts | |
|---|---|
| at once | within a second or two, by itself |
| reload | with `./ew reload`: the gateway's processes are replaced, and open answers go on |
| next load | with `./ew reload` for a model that is loaded on demand, from its next load on; with \
`./ew restart MODEL` in any case, which loses nothing |
| stop and start | with `./ew stop`, then `./ew start` |

`./ew reload` shows each change and which of the four it is; so does SIGHUP to the supervisor (and
`systemctl reload`), in `supervisor.log`. A file that cannot be used changes nothing, and what is
wrong with it is said with its line. `./ew config diff` shows the same and changes nothing.
"""


_ROUTES: Final = "See [models](models.md#another-model-in-the-place-of-one)."


class _Section(NamedTuple):
    """A table of keys. The text above them is the schema's, unless `about` says it; `see` goes
    on."""

    title: str
    kind: str
    about: str = ""
    see: str = ""


_SECTIONS: Final = (
    _Section("models.ID", "ModelConfig", "One model; ID is the name that clients ask for."),
    _Section("models.ID.sampling", "SamplingConfig"),
    _Section(
        "models.ID.watchdog",
        "WatchdogConfig",
        "When an engine is taken for hung; see [engines](engines.md#an-engine-that-hangs).",
    ),
    _Section("models.ID.fallback", "FallbackConfig", see=_ROUTES),
    _Section("models.ID.split", "SplitConfig", see=_ROUTES),
    _Section("models.ID.shadow", "ShadowConfig", see=_ROUTES),
    _Section("gateway", "GatewayConfig"),
    _Section("gateway.tls", "TlsConfig", see="See [security](security.md#tls)."),
    _Section("gateway.media", "MediaConfig", see="See [images](api.md#images-sound-and-video)."),
    _Section("limits", "LimitsConfig", see="They hold for open answers, too."),
    _Section(
        "limits.per_key",
        "KeyLimitsConfig",
        "Each of `limits.groups` has the same keys; see [limits](limits.md#limits-of-keys).",
    ),
    _Section("jobs", "JobsConfig"),
    _Section("files", "FilesConfig"),
    _Section("usage", "UsageConfig", see="See [usage](usage.md)."),
    _Section(
        "dead_letters",
        "DeadLettersConfig",
        see="See [jobs](jobs.md#requests-that-break-their-workers).",
    ),
    _Section("logs", "LogsConfig", see="See [logs](logs.md)."),
    _Section("tracing", "TracingConfig", see="See [traces](traces.md)."),
    _Section("redis", "RedisConfig"),
    _Section("keys", "KeysConfig", see="See [keys](keys.md#keys-of-several-hosts)."),
    _Section("hub", "HubConfig", see="`./ew models pull` heeds a change at once."),
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
    name, _, key = section.title.replace(".ID", "").partition(".")
    table = _table(("key", "value", "default", "counts", "meaning"), _rows(node, name, key))
    text = f"{about} {section.see}".strip()
    return "\n".join([f"## `{section.title}`", "", text, "", *table, ""])


def _rows(node: dict[str, Any], section: str, above: str) -> Iterator[tuple[str, ...]]:
    """Yield the keys of a section, or of a part of one that is the value of the key `above`."""
    required = node.get("required", ())
    for key, each in node["properties"].items():
        default = "required" if key in required else _default(each)
        effect = effect_of(section, above or key).value
        yield key, phrase(each), default, effect, each["description"]


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
