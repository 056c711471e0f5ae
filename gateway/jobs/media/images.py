"""Headers of images: type and size, before anyone decodes them."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Final, NamedTuple

#: Forms that models' libraries read in common, and Pillow without plug-ins.
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")


class ImageHeader(NamedTuple):
    """A media type, and how many pixels an image has; all frames of one that moves are as large."""

    type: str
    pixels: int


class NoImage(ValueError):
    """The bytes are no image of a known format."""


def image_header(data: bytes) -> ImageHeader:
    """Read an image's header, by the library that decodes images in the workers, so that both mean
    the same size; one beyond what that library opens counts as endless. Raises `NoImage`."""
    # It takes a while, and most gateways never need it.
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Sizes are bounded by the configuration.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                type_ = image.get_format_mimetype() or ""
                return ImageHeader(type_, image.width * image.height)
    except Image.DecompressionBombError:
        return ImageHeader("", sys.maxsize)
    # The library raises what it likes for files that are made to break it.
    except Exception as error:
        raise NoImage(str(error)) from error
