"""A stand-in for TensorRT, of which tests need only the version."""

import os

__version__ = os.environ.get("TENSORRT_STANDIN_VERSION", "10.14.1.48")
