"""The piece `estimate`: what ew says that a model needs, against what NVML shows of it."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import msgspec
from combinations import COMBINATIONS, Combination
from installation import Installation
from load import load
from results import GIB, Failure, Piece, Row
from setting import H200, MODELS, Setting, version_of
from watch import MIB, Watch, bytes_of, family, look

from contract.config import ModelConfig
from orchestrator.estimate.checkpoint import locate_model, read_checkpoint
from orchestrator.estimate.description import Description, Question, as_described, ask, remembered
from orchestrator.estimate.estimate import Estimate
from orchestrator.estimate.estimate import estimate as work_out
from orchestrator.estimate.running import Card
from orchestrator.estimate.speculation import speculation_of
from orchestrator.terminal.sizes import show

_ENGINE = "cuda-vllm"
#: The promise of docs/memory.md.
_ALLOWED_SHARE, _ALLOWED_BYTES = 0.10, GIB
#: A cache as large as it is wanted shows nothing that a smaller one does not.
_LARGEST_CACHE = 40 * GIB
_MOST_OF_A_GPU = 0.92
_ASKING_S = 150.0
#: A model on several GPUs compiles longer than on one.
_START_S = 500


def estimate(setting: Setting, piece: Piece) -> None:
    """The estimate against NVML, at rest and under load, for each combination: as many of them
    at once on each GPU as the setting says; those that take several GPUs one after the other."""
    chosen = [each for each in COMBINATIONS if not setting.only or each.name in setting.only]
    unknown = set(setting.only) - {each.name for each in chosen}
    piece.require("these combinations are known", not unknown, _unknown(unknown))
    if not setting.is_mock:
        _ask_engine(setting, piece, chosen)
    narrow = [each for each in chosen if each.gpus == 1]
    gpus = 1 if setting.is_mock else len(look().gpus)
    _try_all(setting, piece, narrow, [[gpu] for _ in range(setting.at_once) for gpu in range(gpus)])
    for each in chosen:
        if 1 < each.gpus <= (each.gpus if setting.is_mock else gpus):
            _try(setting, piece, each, None)
        elif each.gpus > 1:
            piece.note(f"not tried: {each.name}", f"it needs {each.gpus} GPUs, and {gpus} are here")


def _unknown(names: set[str]) -> str | None:
    known = "\n  ".join(each.name for each in COMBINATIONS)
    return f"{', '.join(sorted(names))}; known are\n  {known}" if names else None


def _try_all(
    setting: Setting, piece: Piece, chosen: list[Combination], places: list[list[int]]
) -> None:
    """Try each on the next place that is free."""
    free: SimpleQueue[list[int]] = SimpleQueue()
    for place in places:
        free.put(place)

    def run(combination: Combination) -> None:
        place = free.get()
        try:
            _try(setting, piece, combination, place)
        finally:
            free.put(place)

    with ThreadPoolExecutor(len(places)) as pool:
        for done in [pool.submit(run, each) for each in chosen]:
            done.result()


def _ask_engine(setting: Setting, piece: Piece, chosen: list[Combination]) -> None:
    """Ask vLLM what it makes of all models, in one go. What it says is remembered in `out`, and
    by each installation."""
    os.environ["EW_STATE_DIR"] = str(setting.out / "state")
    questions = [_question(each, setting.card()) for each in chosen]
    with setting.installation("asking") as ew:
        problem = ask(questions, Path(ew.python), _ASKING_S)
    piece.note("asking vLLM", problem or "it answered")


def _question(combination: Combination, card: Card) -> Question:
    model = ModelConfig(**combination.entry(MODELS))
    return Question.of(model, _ENGINE, version_of("vllm"), card)


def _try(setting: Setting, piece: Piece, combination: Combination, gpus: list[int] | None) -> None:
    """Try one on these GPUs, beside others; or, without them, alone and where ew puts it."""
    if setting.left_s() < 0:
        piece.note(f"not tried: {combination.name}", "no time left; run it with --only")
        return
    try:
        _measure(setting, piece, combination, gpus)
    except Failure as error:
        piece.check(f"{combination.name} runs", False, str(error))
    except Exception as error:
        piece.check(f"{combination.name} runs", False, f"{type(error).__name__}: {error}")


def _measure(
    setting: Setting, piece: Piece, combination: Combination, gpus: list[int] | None
) -> None:
    entry = combination.entry(MODELS)
    card = setting.card()
    described = None if setting.is_mock else remembered(_question(combination, card))
    need = _need(entry, described, card)
    cache = min(need.kv_cache.wanted_bytes, _LARGEST_CACHE)
    if setting.at_once > 1 and gpus is not None:
        part = _MOST_OF_A_GPU / setting.at_once
        cache = min(cache, int(part * card.total_bytes) - need.fixed_bytes)
        entry |= {"gpu_memory_utilization": part, "gpus": gpus}
    if cache:
        entry["engine_args"]["kv_cache_memory_bytes"] = cache
    with setting.installation(f"estimate-{combination.name}", combination.gpus) as ew:
        if described is not None:
            shutil.copytree(setting.out / "state" / "descriptions", ew.state / "descriptions")
        seen = (
            _watched(ew, combination._replace(image_side=0), mock_entry(need, cache))
            if setting.is_mock
            else _watched(ew, combination, entry)
        )
    row = {
        "combination": combination.name,
        **combination._asdict(),
        "release": version_of("vllm"),
        "described": msgspec.to_builtins(described),
        "kv_cache_bytes": cache,
        **seen._asdict(),
    }
    row |= estimates_beside(row)
    # Whatever ends this program early, what was measured stays.
    piece.add_row(row, setting.out)
    estimated, peak = row["estimated_peak"], seen.measured_peak
    piece.check(f"{combination.name} answers", not seen.problem, seen.problem or None)
    piece.check(
        f"{combination.name}: the estimate is within 10 % or 1 GiB",
        peak > 0 and abs(estimated - peak) <= max(_ALLOWED_BYTES, _ALLOWED_SHARE * peak),
        f"{show(estimated)} estimated, {show(peak)} by NVML ({show(seen.measured_rest)} at rest)",
    )


class _Seen(NamedTuple):
    """Bytes of the worker on the GPU where it has the most, and why its load was not served."""

    measured_rest: int
    measured_peak: int
    ready_after_s: float
    problem: str


def _watched(ew: Installation, combination: Combination, entry: dict[str, Any]) -> _Seen:
    """Start the model and put it under load."""
    ew.configure({"m": entry})
    ew.ew("start", "--model", "m", timeout_s=_START_S)
    (worker,) = ew.workers("m")
    pids = family(worker["pid"])
    rest, problem = max(bytes_of(pids).values(), default=0), ""
    with Watch(pids) as watch:
        try:
            load(ew, combination, ["m", *entry.get("adapters", ())])
        except Failure as error:
            problem = str(error)
    return _Seen(rest, max(rest, watch.most_bytes), worker["ready_after_s"], problem)


def estimates_beside(row: Row) -> Row:
    """The estimates for what was measured in that row: just after the start, and the most."""
    described = row.get("described")
    found = msgspec.convert(described, Description) if described else None
    need = _need(Combination.of(row).entry(MODELS), found, H200, row.get("release", ""))
    taken = need.fixed_bytes - need.part_bytes("spare") + row["kv_cache_bytes"]
    return {
        "parts": {part.name: part.size_bytes for part in need.parts},
        "estimated_rest": taken - need.unseen_at_rest_bytes,
        "estimated_peak": taken,
    }


def _need(
    entry: dict[str, Any], described: Description | None, card: Card, release: str = ""
) -> Estimate:
    model = ModelConfig(**entry)
    release = release or version_of("vllm")
    checkpoint = read_checkpoint(locate_model(model), release)
    if described is not None:
        checkpoint = as_described(checkpoint, described)
    return work_out(model, _ENGINE, checkpoint, card, speculation_of(model, release))


def mock_entry(need: Estimate, cache: int) -> dict[str, Any]:
    """The mock engine, that takes as much memory as is estimated, with that cache."""
    script = {"allocate_mib": (need.fixed_bytes + cache) // MIB}
    parallel = {"tensor_parallel_size": need.gpus}
    return {"engine": "mock", "model_path": "none", "engine_args": script} | parallel
