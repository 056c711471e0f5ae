"""`ew convert-trt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contract.paths import config_path
from orchestrator.client.conversion import (
    add_to_config,
    convert,
    default_output,
    located,
    require_addable,
    require_environment,
)
from orchestrator.tensorrt.plan import DEFAULTS
from orchestrator.terminal.speech import say


def convert_trt(
    model: Annotated[
        str, typer.Option(help="The checkpoint: a directory, or a Hugging Face repository id.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="The directory to make; models/NAME-trt if not given.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Of the repository.")] = None,
    model_type: Annotated[
        str | None, typer.Option(help="llama, qwen, mistral, baichuan, ...: checked if given.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float16, bfloat16 or float32.")] = DEFAULTS[
        "dtype"
    ],
    tp_size: Annotated[int, typer.Option(help="GPUs that share each layer.")] = DEFAULTS["tp_size"],
    pp_size: Annotated[int, typer.Option(help="GPUs that share the layers.")] = DEFAULTS["pp_size"],
    max_batch_size: Annotated[int, typer.Option(help="Sequences at once.")] = DEFAULTS[
        "max_batch_size"
    ],
    max_input_len: Annotated[int, typer.Option(help="The longest prompt, in tokens.")] = DEFAULTS[
        "max_input_len"
    ],
    max_output_len: Annotated[int, typer.Option(help="The longest answer, in tokens.")] = DEFAULTS[
        "max_output_len"
    ],
    max_beam_width: Annotated[int, typer.Option(help="More than 1 for beam search.")] = DEFAULTS[
        "max_beam_width"
    ],
    quantization: Annotated[
        str | None,
        typer.Option(help="fp8, int8_sq, int4_awq, w4a8_awq, int8_wo, int4_wo or nvfp4."),
    ] = None,
    kv_cache_dtype: Annotated[str, typer.Option(help="auto, fp8 or int8.")] = DEFAULTS[
        "kv_cache_dtype"
    ],
    calib_data: Annotated[
        Path | None, typer.Option(help="Texts to calibrate with; downloaded if not given.")
    ] = None,
    lora: Annotated[
        Path | None, typer.Option(help="An adapter: the plan takes such, up to its rank.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the checkpoint's own Python code.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="CPU threads; all cores if not given.")
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="The environment that converts; `ew-cuda-trt` if not given.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what an earlier conversion made.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and what it takes.")
    ] = False,
    add_to_config_as: Annotated[
        str | None,
        typer.Option("--add-to-config", metavar="ID", help="Then configure the model by this id."),
    ] = None,
) -> None:
    """Build a TensorRT-LLM plan of a checkpoint.

    A plan (a compiled TensorRT engine) runs on the kind of GPU, and with the release, that built
    it, and its limits are fixed. With a release that builds no plans any more, this prepares the
    checkpoint that it serves instead. The same conversion again does nothing.
    """
    environment = require_environment(env)
    if add_to_config_as is not None:
        require_addable(add_to_config_as)
    arguments = {
        "model": located(model),
        "output": str((output or default_output(model)).expanduser().absolute()),
        "revision": revision,
        "model_type": model_type,
        "dtype": dtype,
        "tp_size": tp_size,
        "pp_size": pp_size,
        "max_batch_size": max_batch_size,
        "max_input_len": max_input_len,
        "max_output_len": max_output_len,
        "max_beam_width": max_beam_width,
        "quantization": quantization,
        "kv_cache_dtype": kv_cache_dtype,
        "calib_data": calib_data and str(calib_data.absolute()),
        "lora": lora and str(lora.absolute()),
        "trust_remote_code": trust_remote_code,
        "workers": workers,
        "force": force,
        "dry_run": dry_run,
    }
    code = convert(environment, arguments)
    if code != 0:
        raise typer.Exit(code if code > 0 else 2)
    if dry_run:
        return
    if add_to_config_as is None:
        say(
            f"to serve it, give the same command with --add-to-config ID, or configure a model "
            f'with "engine": "cuda-trt", "model_path": "{arguments["output"]}"'
        )
        return
    add_to_config(config_path(), add_to_config_as, arguments, env)
    say(f"model `{add_to_config_as}` is configured: ./ew start {add_to_config_as}")
