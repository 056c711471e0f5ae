"""Sounds to ask about."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import wave
from pathlib import Path
from typing import Final

from contract.paths import ROOT
from tests.engines.contract.engines import vllm_python

RATE: Final = 44_100
#: All that clients send but WAV; tests/engines/sound_files.py writes them.
COMPRESSED: Final = ("mp3", "flac", "ogg", "m4a", "webm", "aac")


def tone(hertz: float, seconds: float) -> bytes:
    """Return a WAV file with a tone that rises each second."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        steps = (i / RATE for i in range(int(RATE * seconds)))
        file.writeframes(
            b"".join(
                struct.pack("<h", int(9000 * math.sin(at * math.tau * hertz * (1 + int(at)))))
                for at in steps
            )
        )
    return written.getvalue()


def sound_files(directory: Path) -> dict[str, bytes]:
    """Return a tone in every form, by the end of its file's name."""
    program = ROOT / "tests" / "engines" / "sound_files.py"
    subprocess.run([vllm_python(), program, directory], check=True, capture_output=True)
    return {file.suffix[1:]: file.read_bytes() for file in directory.iterdir()}
