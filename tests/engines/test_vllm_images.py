"""Chats with images as vLLM's own renderer reads them, without an engine behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engines.contract.engines import MODEL_DIR
from tests.engines.vllm_process import VllmProcess

pytestmark = pytest.mark.vllm
_SCRIPT = """
import asyncio, hashlib, io, json, os, sys
from pathlib import Path
from types import SimpleNamespace
os.environ.update(HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1")
from msgspec.structs import replace
from PIL import Image
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.renderers import renderer_from_config
from contract.asked import Media
from contract.messages import ChatMessage, Job, Sampling
from tests.engines.vision_model import main as write_model
from workers.engine import JobRejected
from workers.engines.prompts import Prompts
from workers.engines.vllm.media.chats import MediaChats

demo, out = json.load(sys.stdin)
write_model(Path(demo), Path(out))
config = AsyncEngineArgs(model=out, max_model_len=512, enforce_eager=True).create_engine_config()
renderer = renderer_from_config(config)
chats = MediaChats(renderer, Prompts(renderer.tokenizer, 200, 512))

def picture(color, at=0):
    written = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(written, "PNG")
    data = written.getvalue()
    return Media("image", at, "image/png", hashlib.sha256(data).hexdigest(), len(data), data)

def prompt(*media):
    turn = ChatMessage("user", "what is this?", media=media)
    return asyncio.run(chats.prompt(Job("j", "m", Sampling(), messages=(turn,))))

def refused(*media):
    try:
        prompt(*media)
    except JobRejected as error:
        return [error.code.value, str(error)]

red = picture("red")
image = renderer.tokenizer.convert_tokens_to_ids("<image>")
seen = [prompt(*media) for media in ([red], [red, picture("blue", at=4)], [red])]
given = seen[0].followed_by([7, 8], "salt")
told = {
    "takes": chats.takes,
    "images": [each.token_ids.count(image) for each in seen],
    "places": [each.token_ids.index(image) for each in seen],
    "hashes": [each.rendered["mm_hashes"]["image"] for each in seen],
    "are whole": [all(each.rendered["mm_kwargs"]["image"]) for each in seen],
    "goes on": given["prompt_token_ids"][-2:],
    "before": given["prompt_token_ids"][:-2] == seen[0].token_ids,
    "salt": given["cache_salt"],
    "broken": refused(replace(red, data=b"no image")),
    "long": refused(*[red] * 60),
    "text models": MediaChats(SimpleNamespace(mm_processor=None), None).takes,
    "old releases": MediaChats(None, None).takes,
}
print(json.dumps(told))
"""


def test_vllm_reads_each_image_at_its_place(vllm_process: VllmProcess, tmp_path: Path) -> None:
    printed = vllm_process.run(_SCRIPT, [str(MODEL_DIR), str(tmp_path / "model")])
    told = json.loads(printed.splitlines()[-1])
    assert told["takes"] == ["image"]
    # As many tokens as the model sees an image in.
    assert told["images"] == [4, 8, 4]
    assert len(set(told["places"])) == 1
    first, both, again = told["hashes"]
    assert first == again == both[:1]
    assert both[1] not in first
    # Also one that was seen before: the engine core may not have it any more.
    assert told["are whole"] == [True] * 3
    assert (told["goes on"], told["before"], told["salt"]) == ([7, 8], True, "salt")
    assert told["broken"][0] == "invalid_request"
    assert "the messages cannot be read" in told["broken"][1]
    assert told["long"][0] == "prompt_too_long"
    assert (told["text models"], told["old releases"]) == ([], [])
