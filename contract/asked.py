"""The parts of a job beside its words: images, tools, a constraint, arguments of the chat template,
vectors, its trace."""

from __future__ import annotations

from typing import Literal

import msgspec

#: `none`: the model is told of the tools, but calls none. `auto` leaves it to the model;
#: `required` makes it call one or more; `named` makes it call one tool, once.
ToolChoice = Literal["none", "auto", "required", "named"]
GuidedKind = Literal["json", "json_object", "regex", "choice", "grammar", "structural_tag"]
MediaKind = Literal["image", "audio", "video"]
#: Jobs of one class go before all of the next; `batch` makes room for the others.
PriorityClass = Literal["interactive", "normal", "batch"]
SpeechTask = Literal["transcribe", "translate"]
#: The tasks of pooling models, in vLLM's words: `any` is what it was made for. A `score` says
#: how relevant a text is to another.
PoolingTask = Literal["any", "embed", "classify", "token_embed", "token_classify", "score"]


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a job has its turn among those for the same model: by class, then by `number` (the
    lower goes first); within these, keys share by `weight`, and a key's own jobs go by when they
    are wanted, in `within_s` from when they were put (None: as late as they may)."""

    priority: PriorityClass = "normal"
    number: int = 0
    weight: float = 1.0
    within_s: float | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made in an earlier turn; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


class Media(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image, a sound or a video in a turn, after the first `at` characters of its text.

    `digest` (SHA-256, in hex) names its `size` bytes of `data`, which are no part of the job's own
    message (`contract/media.py`); `type` is their media type, such as `image/png`. Only its `url`
    is known of one that was not fetched yet. All sounds of a job together have at most `most_s`
    seconds, which each of them says."""

    kind: MediaKind
    at: int
    type: str = ""
    digest: str = ""
    size: int = 0
    data: bytes = b""
    url: str = ""
    most_s: float = 600


class Tools(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tools that the model may call: `definitions` is a JSON array as in OpenAI's API.
    `name` is the tool that the choice `named` names."""

    definitions: str
    choice: ToolChoice = "auto"
    name: str = ""
    parallel: bool = True


class Guided(msgspec.Struct, frozen=True):
    """A constraint on the output: `value` is a JSON schema, a regex, an EBNF grammar,
    a JSON array of choices, empty for `json_object`, or a structural tag: a JSON object of
    xgrammar's that says where in a free text constrained parts begin and end."""

    kind: GuidedKind
    value: str = ""


class Template(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the model's chat template writes the messages. `arguments` is a JSON object of what the
    template is given beside them. With `continue_final_message` the last one is left open, for the
    model to go on with. With `system_first`, messages of the system are moved to the first place if
    the template refuses them where they are."""

    arguments: str = ""
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    system_first: bool = False


class PromptReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request for details of the prompt beside the answer: its tokens. With `logprobs`, also
    how probable each of them was, and so many others; with `names`, what the tokenizer calls each.
    `only`: that is all, nothing is generated."""

    logprobs: int | None = None
    names: bool = False
    only: bool = False


class Pooling(msgspec.Struct, frozen=True, omit_defaults=True):
    """Texts, or their tokens, that numbers are wanted for: what a model makes of each, pooled over
    its tokens or for each token. Without inputs it is the job's `messages`. An embedding has
    `dimensions` numbers if given. For scores, the first `queries` inputs are compared with the
    others: one with all of them, or each with its own."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    task: PoolingTask = "embed"
    queries: int = 0
    #: Whether the model's own activation is applied at the end; None: as usual.
    activation: bool | None = None
    #: Only so many tokens of each query, and of each document; 0: all.
    query_tokens: int = 0
    document_tokens: int = 0
    #: The part that `truncate_prompt_tokens` keeps; None: as the model's tokenizer does.
    keeps: Literal["first", "last"] | None = None
    #: Cohere's: what the text is for, in the model's own words.
    input_type: str = ""


class Speech(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sound of the job's only turn is to be written down, or translated into English; the text
    of the turn is what was said before it. It has at most `most_s` seconds. `language` is a code
    of ISO 639-1; the model finds it out if empty. If `timed`, the text has Whisper's marks of when
    each part was said, such as `<|2.40|>`."""

    task: SpeechTask = "transcribe"
    language: str = ""
    timed: bool = False
    most_s: float = 600


class TraceContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """The span that a job belongs to, in the words of W3C Trace Context, for what works on it."""

    traceparent: str
    tracestate: str = ""

    def headers(self) -> dict[str, str]:
        """Return the HTTP header fields that continue the trace in another server."""
        state = {"tracestate": self.tracestate} if self.tracestate else {}
        return {"traceparent": self.traceparent, **state}
