"""The promises of docs/memory.md about GPU memory, tried on real GPUs with real engines.

    python3 scripts/programs/gpu_acceptance PIECE... --out DIR [--budget-s 330]
    python3 scripts/programs/gpu_acceptance estimate --out DIR [--only NAME,NAME] [--at-once N]
    python3 scripts/programs/gpu_acceptance report --out DIR [--from DIR...]

Pieces: check, estimate, share, evict, kill, sleep (one GPU) and two (two GPUs). Each takes some
minutes, installs nothing, and adds DIR/PIECE.json and its logs to DIR; `report` (and the end of
every run) makes DIR/results.json and DIR/results.md of all there is. With --from it takes other
runs in.

The host needs nothing but a Python with ew's dependencies and vLLM on its path (PYTHONPATH
counts); the models are real shapes with dummy weights. --mock runs the same pieces anywhere, with
the mock engine under a scripted NVIDIA driver: it tries the script, and proves nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
if "--mock" in sys.argv:
    # This process, too, shall see the scripted driver.
    sys.path.insert(0, str(ROOT / "tests" / "standins" / "pynvml"))

from estimating import estimates_beside  # noqa: E402 - the path has to be complete first
from pieces import PIECES  # noqa: E402
from results import Failure, Piece, write_report  # noqa: E402
from setting import Setting  # noqa: E402


def main() -> int:
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        out=args.out,
        is_mock=args.mock,
        only=tuple(filter(None, args.only.split(","))),
        deadline=time.monotonic() + args.budget_s,
        at_once=1 if args.mock else args.at_once,
    )
    failed = [name for name in args.pieces if name != "report" and not _try(name, setting)]
    write_report(args.out, [args.out, *args.include], estimates_beside)
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _try(name: str, setting: Setting) -> bool:
    """Run one piece; whatever happens, what was found out is written down."""
    piece = Piece(name, is_mock=setting.is_mock)
    print(f"== {name}", flush=True)
    try:
        PIECES[name](setting, piece)
    except Failure as error:
        piece.fail(str(error))
    except KeyboardInterrupt:
        piece.fail("interrupted")
        raise
    except Exception as error:
        piece.fail(f"{type(error).__name__}: {error}")
        piece.keep_trace()
    finally:
        piece.write(setting.out)
    print(f"== {name}: {'good' if piece.is_good else 'FAILED'}", flush=True)
    return piece.is_good


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pieces", nargs="+", choices=[*PIECES, "report"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="include", type=Path, nargs="*", default=[])
    parser.add_argument("--only", default="", help="of `estimate`: these combinations")
    parser.add_argument("--budget-s", type=float, default=330, help="begin nothing new after that")
    parser.add_argument("--at-once", type=int, default=1, help="of `estimate`: on each GPU")
    parser.add_argument("--mock", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    # Nothing is fetched, and no kernel is compiled that the host has no compiler for.
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
        "NCCL_NVLS_ENABLE": "0",
    }.items():
        os.environ.setdefault(name, value)
    sys.exit(main())
