"""Build a TensorRT-LLM plan (a compiled engine) of a Hugging Face checkpoint.

    python scripts/convert_trt.py --model Qwen/Qwen2.5-7B-Instruct --dtype float16

Runs in the environment of TensorRT-LLM (`./ew convert-trt` sees to that), on the kind of GPU that
will serve. The output appears whole or not at all; the same conversion again does nothing. Where
the release cannot build plans any more, it prepares the checkpoint that is served instead.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from programs.trt_conversion.command import as_called
from programs.trt_conversion.conversion import Conversion
from programs.trt_conversion.problem import Problem

DTYPES: Final = ("auto", "float16", "bfloat16", "float32")
QUANTIZATIONS: Final = ("fp8", "int8_sq", "int4_awq", "w4a8_awq", "int8_wo", "int4_wo", "nvfp4")
KV_CACHE_DTYPES: Final = ("auto", "fp8", "int8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 something that the user can fix, 130 Ctrl-C."""
    options = argument_parser().parse_args(arguments)
    if options.output is None:
        options.output = f"models/{Path(options.model).name}-trt"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        Conversion(options).run()
    except Problem as problem:
        print(f"error: {problem.message}", file=sys.stderr)
        if problem.hint:
            print(f"hint: {as_called(problem.hint)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was begun has been removed", file=sys.stderr)
        return 130
    return 0


class Parser(argparse.ArgumentParser):
    """A wrong argument is something that the user can fix."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"error: {message}\nhint: --help lists the arguments\n")


def argument_parser() -> argparse.ArgumentParser:
    parser = Parser(
        description="Build a TensorRT-LLM plan of a Hugging Face checkpoint.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", required=True, help="a checkpoint's directory, or a Hugging Face id")
    add("--output", help="the directory to make; models/NAME-trt if not given")
    add("--revision", help="of the Hugging Face repository")
    add("--model-type", help="llama, qwen, mistral, baichuan, chatglm, yi, ...: checked if given")
    add("--dtype", default="float16", choices=DTYPES)
    add("--tp-size", type=_positive, default=1, help="GPUs that share each layer")
    add("--pp-size", type=_positive, default=1, help="GPUs that share the layers")
    add("--max-batch-size", type=_positive, default=64, help="sequences at once")
    add("--max-input-len", type=_positive, default=4096, help="the longest prompt, in tokens")
    add("--max-output-len", type=_positive, default=2048, help="the longest answer, in tokens")
    add("--max-beam-width", type=_positive, default=1, help="more than 1 for beam search")
    add("--quantization", choices=QUANTIZATIONS)
    add("--kv-cache-dtype", default="auto", choices=KV_CACHE_DTYPES)
    add("--calib-data", help="texts to calibrate with; downloaded if not given")
    add("--lora", help="an adapter: the plan takes such, up to its rank, for its layers")
    add("--trust-remote-code", action="store_true", help="run the checkpoint's own Python code")
    add("--workers", type=_positive, help="CPU threads; all cores if not given")
    add("--force", action="store_true", help="replace what an earlier conversion made")
    add("--dry-run", action="store_true", help="say what would be done, and what it takes")
    add("--log", type=Path, help="OUTPUT.log if not given")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
