"""The models whose estimates are held against NVML, and the configuration's entry of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from installation import ENV
from models import make_adapter, make_model

#: Plain NCCL between GPUs: faster ways may use NVLink multicast, which a host that others share
#: does not forgive. The fused one also compiles FlashInfer's kernels before the first start.
PLAIN_NCCL = {
    "disable_custom_all_reduce": True,
    "compilation_config": {"pass_config": {"fuse_allreduce_rms": False}},
}


class Combination(NamedTuple):
    """A model, and how it is run."""

    shape: str
    dtype: str
    max_model_len: int
    batch: int
    graphs: bool = True
    gpus: int = 1
    #: The method of speculative decoding, and the shape of the draft model if it has one.
    speculates: str = ""
    draft: str = ""
    #: The rank of one LoRA adapter.
    adapter_rank: int = 0
    kv_cache_dtype: str = ""
    #: Pixels on each side of the images that it is asked about.
    image_side: int = 0
    #: It is asked for embeddings.
    makes_vectors: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Combination:
        """The combination of a row of results; older rows lack the later fields."""
        return cls(**{name: row[name] for name in cls._fields if name in row})

    @property
    def name(self) -> str:
        parts = [self.shape, self.dtype, str(self.max_model_len), str(self.batch)]
        parts += [] if self.graphs else ["eager"]
        parts += [f"tp{self.gpus}"] if self.gpus > 1 else []
        parts += filter(None, (self.speculates, self.draft, self.kv_cache_dtype))
        parts += [f"lora{self.adapter_rank}"] if self.adapter_rank else []
        parts += [f"images{self.image_side}"] if self.image_side else []
        parts += ["embed"] if self.makes_vectors else []
        return "-".join(parts)

    def entry(self, models: Path) -> dict[str, Any]:
        """The model in the configuration: vLLM with dummy weights, its files below `models`."""
        entry: dict[str, Any] = {
            "engine": "cuda-vllm",
            "env": ENV,
            "model_path": str(make_model(models, self.shape)),
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "max_batch_size": self.batch,
            "tensor_parallel_size": self.gpus,
            "engine_args": self._arguments(models),
        }
        if self.adapter_rank:
            entry["adapters"] = {
                "adapted": str(make_adapter(models, self.shape, self.adapter_rank))
            }
        return entry

    def _arguments(self, models: Path) -> dict[str, Any]:
        args: dict[str, Any] = {"load_format": "dummy"}
        if not self.graphs:
            args["enforce_eager"] = True
        if self.gpus > 1:
            args |= PLAIN_NCCL
        if self.kv_cache_dtype:
            args["kv_cache_dtype"] = self.kv_cache_dtype
        if self.makes_vectors:
            args |= {"runner": "pooling", "convert": "embed"}
        if self.shape.startswith("Qwen3-Next"):
            # The other one compiles its kernels with a package that not every host has.
            args["gdn_prefill_backend"] = "triton"
        if self.speculates:
            args["speculative_config"] = self._speculation(models)
        return args

    def _speculation(self, models: Path) -> dict[str, Any]:
        drafted = {"model": str(make_model(models, self.draft))} if self.draft else {}
        return {"method": self.speculates, "num_speculative_tokens": 3} | drafted


COMBINATIONS = (
    Combination("0.5B", "bfloat16", 2048, 16),
    Combination("0.5B", "bfloat16", 8192, 64),
    Combination("0.5B", "float16", 32768, 8, graphs=False),
    Combination("0.5B", "bfloat16", 4096, 256),
    Combination("7B", "bfloat16", 4096, 16),
    Combination("7B", "bfloat16", 16384, 64),
    Combination("7B", "float16", 8192, 128),
    Combination("7B", "bfloat16", 8192, 32, graphs=False),
    Combination("0.5B", "bfloat16", 4096, 512),
    Combination("7B", "bfloat16", 2048, 256),
    # Published configurations: recurrent layers, one KV head, windows, scaled context.
    Combination("Nemotron-H-8B", "bfloat16", 4096, 32),
    Combination("falcon-7b", "bfloat16", 2048, 32),
    Combination("gemma-2-9b-it", "bfloat16", 8192, 32),
    Combination("Qwen3-8B", "bfloat16", 8192, 32),
    Combination("Mistral-7B-v0.3", "bfloat16", 8192, 32),
    Combination("deepseek-coder-6.7b", "bfloat16", 8192, 32),
    Combination("phi-3-128k", "bfloat16", 4096, 32),
    # Latent attention, another hybrid, Qwen3-Next, experts in four bits, a vision model.
    Combination("DeepSeek-V2-Lite", "bfloat16", 8192, 32),
    Combination("granite-4.0-h-tiny", "bfloat16", 8192, 32),
    Combination("Qwen3-Next-64-experts", "bfloat16", 8192, 16),
    Combination("gpt-oss-20b", "bfloat16", 8192, 32),
    Combination("Qwen2.5-VL-7B", "bfloat16", 8192, 16),
    # Quantised weights and caches.
    Combination("Llama-3.1-8B-FP8-dynamic", "bfloat16", 8192, 32),
    Combination("Qwen3-8B-FP8", "bfloat16", 8192, 32),
    Combination("Qwen2.5-7B-AWQ", "float16", 8192, 32),
    Combination("Qwen3-8B", "bfloat16", 8192, 32, kv_cache_dtype="fp8"),
    # Speculative decoding, an adapter.
    Combination("Qwen3-8B", "bfloat16", 8192, 32, speculates="ngram"),
    Combination("Qwen3-8B", "bfloat16", 8192, 32, speculates="draft_model", draft="Qwen3-0.6B"),
    Combination("Qwen3-8B", "bfloat16", 8192, 32, speculates="eagle3", draft="Qwen3-8B-eagle3"),
    Combination("7B", "bfloat16", 8192, 32, adapter_rank=32),
    # Asked about images: as many tokens each as a prompt of half the context; asked for vectors:
    # by a decoder, which keeps what it reads, and by an encoder, which does not.
    Combination("Qwen2.5-VL-7B", "bfloat16", 8192, 16, image_side=1792),
    Combination("Qwen3-8B", "bfloat16", 8192, 32, makes_vectors=True),
    Combination("bge-m3", "bfloat16", 8192, 32, makes_vectors=True),
    # On several GPUs.
    Combination("Qwen3-8B", "bfloat16", 8192, 32, gpus=2),
    Combination("DeepSeek-V2-Lite", "bfloat16", 8192, 32, gpus=2),
    Combination("gpt-oss-20b", "bfloat16", 8192, 32, gpus=2),
    Combination("Qwen3-8B", "bfloat16", 8192, 32, gpus=4),
)
