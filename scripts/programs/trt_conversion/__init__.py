"""The parts of `scripts/convert_trt.py`. They run in the environment of TensorRT-LLM, with nothing
of ew's installed there; what imports TensorRT-LLM runs in child processes of its own."""
