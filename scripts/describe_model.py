"""Says what this environment's vLLM makes of models, without a GPU and without weights. Runs inside
of an engine's environment, on Python >= 3.10, and imports nothing of ew:

    ENV/bin/python scripts/describe_model.py < REQUESTS

Each line of its input is a JSON object: `arguments` of vLLM's engine (`model` among them), and the
card that the model is for, `card_name` and `card_bytes`. Each gets a line in its output: `release`,
`context_len`, `sequences` and `batched_tokens` (those of this release for a server on that card),
`dtype`, `quantization`, `weight_bytes`, `media` (the most tokens of an image, a video and a sound),
and two structures of orchestrator/estimate/layers: `caches`, the fields of `CacheLayers` in
kept.py, and `adapters`, those of `AdapterWidths` in adapters.py. Parts that are not understood are
in `error`; where only the layers are not, the rest is there, too.

How it is done: the model's own class is built on PyTorch's meta device, where tensors have a shape
and no memory, and its layers are asked for their KV cache specs, as a worker of vLLM asks them.
That needs a platform. The GPU's is not used, even if there is one: it would take half a gigabyte of
the GPU's memory, and without a driver there is none. The caches of layers do not depend on it.
"""

from __future__ import annotations

import dataclasses
import importlib.abc
import importlib.machinery
import json
import math
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import MagicMock, patch

#: The libraries that read images and sounds; nothing is read here.
MEDIA = ("torchvision", "torchaudio")
#: vLLM's mixtures of experts: of 0.26, of 0.32 and 0.33. Some families have classes of their own of
#: these (transformers, Kimi K3, Muse Spark).
EXPERTS = ("FusedMoE", "SharedFusedMoE", "MoERunner")
#: Sparse attention of NVIDIA's GPUs, whose cache in eight bits is packed in its own way.
PACKED = "fp8_ds_mla"
SPARSE = "vllm.v1.attention.backends.mla.flashmla_sparse.FlashMLASparseBackend"
#: Tokens in a block of GPUs' kernels for layers that compress (DeepSeek V4); a CPU's may differ.
COMPRESSED_BLOCK = 256
#: The function that asks a kernel for linear layers whether it runs here.
TAKES_LINEAR = "is_supported_and_can_implement_kernel"
SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "CRITICAL",
    # Kernels for several GPUs at once, whose library is only where there are some.
    "VLLM_KIMI_K3_GEMM_AR": "0",
    "VLLM_ENABLE_GEMM_RS": "0",
}


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands for packages that are not installed here, with whatever is asked of them."""

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in MEDIA:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        class Module(types.ModuleType):
            def __getattr__(self, name: str) -> Any:
                if name.startswith("__"):
                    raise AttributeError(name)
                return MagicMock()

        return Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """It has nothing to run."""


def prepare() -> None:
    """Make vLLM importable as it is needed here; releases differ, so what is not there is left."""
    from transformers.utils import import_utils

    # It shall not take what stands for them for the real ones.
    for name in MEDIA:
        getattr(import_utils, f"is_{name}_available", bool)()
    sys.meta_path.append(Absent())
    import vllm.platforms
    from vllm.platforms.cpu import CpuPlatform

    vllm.platforms.current_platform = CpuPlatform()
    from vllm.model_executor.models import registry

    # It would look at the model's class in a process of its own, which knows nothing of this.
    setattr(registry, "_run_in_subprocess", lambda look: look())  # noqa: B010
    from vllm.config import VllmConfig

    # Without Triton vLLM takes its first model runner, and refuses what that cannot run. None runs.
    if hasattr(VllmConfig, "_validate_v1_model_runner"):
        setattr(VllmConfig, "_validate_v1_model_runner", lambda self: None)  # noqa: B010


def describe(request: dict[str, Any]) -> dict[str, Any]:
    import vllm
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    wanted = {name: value for name, value in request["arguments"].items() if name in known}
    # On a CPU latent attention goes without cached prefixes, which a hybrid notices too late.
    fixed = {"load_format": "dummy", "enable_prefix_caching": False}
    args = AsyncEngineArgs(**wanted | fixed)
    config = args.create_engine_config(UsageContext.OPENAI_API_SERVER)
    model = config.model_config
    answer = {
        "release": vllm.__version__,
        "context_len": model.max_model_len,
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": model.quantization or "",
    }
    answer |= batch_defaults(request)
    answer["media"] = media_tokens(model)
    try:
        return answer | layers_of(config)
    except Exception as error:
        return answer | {"error": said(error)}


def batch_defaults(request: dict[str, Any]) -> dict[str, int]:
    """Return how much this release runs at once on a card, where the configuration does not say;
    nothing if it does not tell in the way of 0.26 to 0.33."""
    from vllm.engine import arg_utils
    from vllm.usage.usage_lib import UsageContext

    card = MagicMock()
    card.get_device_total_memory.return_value = request["card_bytes"]
    card.get_device_name.return_value = request["card_name"]
    for name in ("is_cpu", "is_tpu", "is_rocm", "is_xpu"):
        getattr(card, name).return_value = False
    former = arg_utils.current_platform
    arg_utils.current_platform = card
    try:
        tokens, sequences = arg_utils.AsyncEngineArgs.get_batch_defaults(1)
        server = UsageContext.OPENAI_API_SERVER
        return {"sequences": int(sequences[server]), "batched_tokens": int(tokens[server])}
    except Exception:
        return {}
    finally:
        arg_utils.current_platform = former


def media_tokens(model: Any) -> dict[str, int]:
    """Return the most tokens that an image, a video and a sound are for the language model, as its
    processor counts them; nothing without its files and those of the tokenizer."""
    if not model.is_multimodal_model:
        return {}
    skipped, model.skip_tokenizer_init = model.skip_tokenizer_init, False
    try:
        from vllm.multimodal import MULTIMODAL_REGISTRY
        from vllm.multimodal.encoder_budget import get_mm_max_toks_per_item

        processor = MULTIMODAL_REGISTRY.create_processor(model)
        allowed = processor.info.allowed_mm_limits
        one = {kind: 1 for kind in processor.info.supported_mm_limits if allowed.get(kind, 0)}
        return {
            kind: int(most) for kind, most in get_mm_max_toks_per_item(processor, one, None).items()
        }
    except Exception:
        return {}
    finally:
        model.skip_tokenizer_init = skipped


def said(error: Exception) -> str:
    """Return its message; of one that says nothing, where it was raised."""
    if str(error):
        return f"{type(error).__name__}: {error}"[:500]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = "/".join(frame.filename.split("/")[-2:])
    return f"{type(error).__name__} in {place}, line {frame.lineno}: {frame.line}"[:500]


def layers_of(config: Any) -> dict[str, Any]:
    """Return the bytes of the weights, and what the layers keep."""
    # As published, and as transformers has it (vLLM 0.33).
    ways = ("compress_ratios", "compress_rates")
    if any(hasattr(config.model_config.hf_config, each) for each in ways):
        config.cache_config.block_size = COMPRESSED_BLOCK
    built = build(config)
    context = config.compilation_config.static_forward_context
    specs = [spec for layer in context.values() if (spec := spec_of(layer, config)) is not None]
    counted: dict[str, dict[str, Any]] = {}
    for spec in specs:
        facts = facts_of(spec, config)
        counted.setdefault(json.dumps(facts), facts | {"layers": 0})["layers"] += 1
    weights = sum(each.numel() * each.element_size() for each in built.parameters())
    answer = {"weight_bytes": weights, "caches": list(counted.values())}
    has_places = getattr(built, "supports_lora", False)
    return answer | ({"adapters": adapter_widths(built)} if has_places else {})


def adapter_widths(built: Any) -> dict[str, int]:
    """Return the elements that one LoRA adapter takes for each unit of its rank, as vLLM's layers
    make them (`create_lora_weights`): those that every GPU has, and those that tensor parallelism
    divides."""
    widths = {"whole": 0, "divided": 0}
    packed = getattr(built, "packed_modules_mapping", {})
    towers = tower_prefixes(built)
    embeddings = {
        name for each in built.modules() for name in getattr(each, "embedding_modules", ())
    }
    for name, module in built.named_modules():
        if name.startswith(towers):
            continue
        last = name.rpartition(".")[2]
        if last in embeddings:
            widths["whole"] += module.num_embeddings + module.embedding_dim
        for kind, elements in widths_of(module, len(packed.get(last, ()))).items():
            widths[kind] += elements
    return widths


def tower_prefixes(built: Any) -> tuple[str, ...]:
    """Return where the parts are that see and hear, which have no adapters."""
    mapping = getattr(built, "get_mm_mapping", lambda: None)()
    parts = [*mapping.tower_model, *mapping.connector] if mapping is not None else []
    return tuple(each for each in parts if each)


def widths_of(module: Any, packed: int) -> dict[str, int]:
    """Return the same of one module; `packed` are the projections that a checkpoint has for it."""
    from vllm.model_executor.layers import linear

    if isinstance(module, linear.RowParallelLinear):
        return {"whole": module.output_size, "divided": module.input_size}
    if isinstance(module, linear.ColumnParallelLinear):
        # One matrix for all that comes out, unless a checkpoint has them apart, or three and more.
        parts = len(getattr(module, "output_sizes", ()))
        is_joint = packed < 2 and (parts <= 2 or isinstance(module, linear.QKVParallelLinear))
        slices = 1 if is_joint else max(1, parts)
        return {"whole": slices * module.input_size, "divided": module.output_size}
    if isinstance(module, linear.LinearBase):
        return {"whole": module.input_size + module.output_size}
    moe = getattr(module, "moe_config", None)
    kinds = {each.__name__ for each in type(module).__mro__}
    if moe is None or kinds.isdisjoint(EXPERTS):
        return {}
    matrices = 3 if getattr(moe, "is_act_and_mul", True) else 2
    inner = moe.intermediate_size_per_partition
    return {
        "whole": moe.num_experts * matrices * moe.hidden_dim,
        "divided": moe.num_experts * matrices * inner,
    }


def build(config: Any) -> Any:
    """Return the model without its weights. Parts that only GPUs run are built as if there was one,
    with kernels that nothing calls."""
    try:
        return build_here(config)
    except Exception:
        with pretended_gpu():
            return build_here(config)


def build_here(config: Any) -> Any:
    import torch
    from vllm.model_executor.model_loader.utils import initialize_model

    former = torch.get_default_dtype()
    torch.set_default_dtype(config.model_config.dtype)
    config.compilation_config.static_forward_context.clear()
    try:
        with alone(config), stand_ins(), torch.device("meta"):
            return initialize_model(config)
    finally:
        torch.set_default_dtype(former)


def with_sparse(backend: Callable[..., Any]) -> Callable[..., Any]:
    """Return how a platform chooses its kind of attention, with one for sparse attention."""

    def chosen(_: Any, *args: Any, **named: Any) -> Any:
        is_sparse = any(getattr(each, "use_sparse", False) for each in (*args, *named.values()))
        return SPARSE if is_sparse else backend(*args, **named)

    return chosen


def hopper(*_: Any, **__: Any) -> Any:
    from vllm.platforms.interface import DeviceCapability

    return DeviceCapability(9, 0)


def take_all(*_: Any) -> tuple[bool, None]:
    return True, None


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Kernels are there and take any model, since nothing calls them. Releases differ in what they
    ask: a class that is not there is left."""
    import torch
    from torch._ops import _OpNamespace
    from vllm.model_executor.kernels import linear
    from vllm.model_executor.layers.fused_moe import modular_kernel
    from vllm.platforms.cpu import CpuPlatform
    from vllm.triton_utils import triton
    from vllm.v1.worker import workspace

    found = _OpNamespace.__getattr__

    def kernel(namespace: Any, name: str) -> Any:
        try:
            return found(namespace, name)
        except AttributeError:
            if name.startswith("__"):
                raise
            return MagicMock()

    # Where Triton is not installed, its stand-in lacks this.
    vars(triton).setdefault("set_allocator", MagicMock())
    chosen = with_sparse(CpuPlatform.get_attn_backend_cls)
    experts = getattr(modular_kernel, "FusedMoEExperts", None)
    pretended = [
        (_OpNamespace, "__getattr__", kernel),
        (CpuPlatform, "is_cuda_alike", lambda self: True),
        (CpuPlatform, "get_attn_backend_cls", classmethod(chosen)),
        (CpuPlatform, "get_device_capability", classmethod(hopper)),
        (workspace, "_manager", MagicMock()),
        (torch.cuda, "Stream", MagicMock()),
        (torch.cuda, "Event", MagicMock()),
        (experts, "is_supported_config", staticmethod(take_all)),
        (linear, TAKES_LINEAR, take_all),
    ]
    with ExitStack() as pretences:
        for owner, name, value in pretended:
            if hasattr(owner, name):
                pretences.enter_context(patch.object(owner, name, value))
        yield


@contextmanager
def stand_ins() -> Iterator[None]:
    """Parts that see or hear keep nothing: one whose library is not here has no layers. Factors
    that are worked out as tensors have no value on the meta device: any will do."""
    import torch
    from transformers import AutoModel

    found, number = AutoModel.from_config, torch.Tensor.item
    listed, moved, carried = torch.Tensor.tolist, torch.Tensor.cpu, torch.nn.Module.to

    def tower(*args: Any, **named: Any) -> Any:
        try:
            return found(*args, **named)
        except ImportError:
            return torch.nn.Identity()

    def item(tensor: Any) -> Any:
        return 1.0 if tensor.is_meta else number(tensor)

    def items(tensor: Any) -> Any:
        return torch.ones(tensor.shape, device="cpu").tolist() if tensor.is_meta else listed(tensor)

    def here(tensor: Any, *args: Any, **named: Any) -> Any:
        return tensor if tensor.is_meta else moved(tensor, *args, **named)

    def carry(module: Any, *args: Any, **named: Any) -> Any:
        try:
            return carried(module, *args, **named)
        except NotImplementedError:
            return module

    with (
        patch.object(AutoModel, "from_config", tower),
        patch.object(torch.Tensor, "item", item),
        patch.object(torch.Tensor, "tolist", items),
        patch.object(torch.Tensor, "cpu", here),
        patch.object(torch.nn.Module, "to", carry),
    ):
        yield


@contextmanager
def alone(config: Any) -> Iterator[None]:
    """Layers ask how many processes share them: one, also after this. Each model has groups of its
    own: only one with experts makes one for these."""
    import torch.distributed
    from vllm import distributed
    from vllm.config import set_current_vllm_config

    with set_current_vllm_config(config):
        if torch.distributed.is_initialized():
            distributed.destroy_model_parallel()
        else:
            # In this process's memory: a meeting place in a file would outlive a killed process.
            store = torch.distributed.HashStore()
            torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
            distributed.init_distributed_environment(1, 0, local_rank=0, backend="gloo")
        distributed.ensure_model_parallel_initialized(1, 1)
        yield


def spec_of(layer: Any, config: Any) -> Any:
    """Return a layer's KV cache spec; None if it keeps nothing, or shares what another keeps."""
    from vllm.config import set_current_vllm_config

    if not hasattr(layer, "get_kv_cache_spec"):
        return None
    if getattr(layer, "kv_sharing_target_layer_name", None):
        return None
    with set_current_vllm_config(config):
        return layer.get_kv_cache_spec(config)


def reach_of(spec: Any, config: Any) -> dict[str, Any]:
    """Return which tokens a layer keeps, and how they lie together."""
    name = type(spec).__name__
    where: dict[str, Any] = {"kind": "full"}
    window = getattr(spec, "attention_chunk_size", None) or getattr(spec, "sliding_window", None)
    if name.startswith("Cross"):
        positions = getattr(config.model_config.hf_config, "max_source_positions", 0)
        where = {"kind": "cross", "window": positions}
    elif window and not name.startswith(("Full", "MLA", "Sink")):
        where = {"kind": "window", "window": window}
    every = getattr(spec, "tokens_per_state", 1)
    if every > 1:
        where["every"] = every
    # Only layers that compress have pages of other sizes in one pool, which are filled up.
    if getattr(spec, "alignment", None):
        where["block"] = spec.block_size
    return where


def facts_of(spec: Any, config: Any) -> dict[str, Any]:
    """Return a spec as ew counts. Numbers are those of the whole model: it was built for one
    GPU."""
    if hasattr(spec, "shapes"):
        unpadded = dataclasses.replace(spec, page_size_padded=None)
        return {"kind": "state", "state_bytes": unpadded.page_size_bytes}
    if type(spec).__name__ == "CircularBufferSpec":
        return {"kind": "state", "state_bytes": spec.page_size_bytes}
    # Tokens that share an entry; Whisper's causal kin has several entries for one.
    every = getattr(spec, "tokens_per_state", 1)
    per_token = math.ceil(spec.page_size_bytes * every / spec.block_size)
    where = reach_of(spec, config)
    heads, head_size = getattr(spec, "num_kv_heads", 0), getattr(spec, "head_size", 0)
    is_shared = "MLA" in type(spec).__name__
    value_size = 0 if is_shared else getattr(spec, "head_size_v", None) or head_size
    elements = head_size + value_size
    # An indexer's keys have a type of their own, whatever that of the cache is.
    is_index = is_shared and not spec.cache_dtype_str
    is_packed = is_shared and spec.cache_dtype_str == PACKED
    # DeepSeek V4 has no other form.
    is_fixed = is_index or getattr(spec, "model_version", None) is not None
    if is_packed and not is_fixed:
        where["packed_bytes"] = per_token
    elif is_fixed or heads * elements * spec.dtype.itemsize != per_token:
        return {**where, "is_shared": is_shared, "fixed_bytes": per_token}
    return {**where, "heads": heads, "elements": elements, "is_shared": is_shared}


def main() -> None:
    os.environ.update(SETTINGS)
    # Libraries write what they like; what is asked for goes to the output as it was.
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepare()
    for line in sys.stdin:
        try:
            answer = describe(json.loads(line))
        except Exception as error:
            answer = {"error": said(error)}
        output.write(json.dumps(answer) + "\n")
        output.flush()


if __name__ == "__main__":
    main()
