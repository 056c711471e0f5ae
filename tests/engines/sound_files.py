"""Writes one sound in every form that clients send. It needs av: `python sound_files.py OUT`."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Final

#: By the end of the file's name: the container, the codec, and the samples as the codec reads them.
FORMS: Final = {
    "wav": ("wav", "pcm_s16le", "s16"),
    "mp3": ("mp3", "libmp3lame", "fltp"),
    "flac": ("flac", "flac", "s16"),
    "ogg": ("ogg", "libopus", "flt"),
    "m4a": ("ipod", "aac", "fltp"),
    "webm": ("webm", "libopus", "flt"),
    "aac": ("adts", "aac", "fltp"),
}
RATE: Final = 48_000
SECONDS: Final = 1


def main(out: Path) -> None:
    """Write `tone.wav` and so on to `out`."""
    import av
    import numpy

    steps = numpy.arange(RATE * SECONDS) / RATE
    tone = numpy.sin(steps * 440 * math.tau).astype(numpy.float32)[None] / 2
    for end, (container, codec, form) in FORMS.items():
        with av.open(str(out / f"tone.{end}"), "w", format=container) as file:
            stream = file.add_stream(codec, rate=RATE)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.rate = RATE
            resampler = av.AudioResampler(form, "mono", RATE, frame_size=960)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                file.mux(stream.encode(piece))
            file.mux(stream.encode(None))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
