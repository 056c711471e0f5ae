from dataclasses import dataclass


@dataclass
class ReleaseMemoryOccupationReqInput:
    tags: list[str] | None = None


@dataclass
class ResumeMemoryOccupationReqInput:
    tags: list[str] | None = None


@dataclass
class EmbeddingReqInput:
    rid: str | None = None
    text: str | None = None
    input_ids: list[int] | None = None
    lora_path: str | None = None
    dimensions: int | None = None
