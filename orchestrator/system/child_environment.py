"""Which variables each child inherits. A list of what it needs, and not of what it must not have:
keys and passwords of this shell that no list could foresee stay here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Final

from contract.engines import declared_engines

#: For every child: the system's own, and how its libraries and interpreter are found and tuned.
COMMON: Final = (  # noqa: SIM905 - words are read more easily than a column of literals
    "PATH HOME USER LOGNAME SHELL HOSTNAME TERM TZ LANG LANGUAGE LC_* TMPDIR TMP TEMP XDG_*_HOME "
    "LD_LIBRARY_PATH LD_PRELOAD MALLOC_* SSL_CERT_FILE SSL_CERT_DIR "
    "PYTHONHASHSEED PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONUTF8 PYTHONIOENCODING "
    "PYTHONMALLOC PYTHONFAULTHANDLER PYTHONASYNCIODEBUG PYTHONWARNINGS PYTHONTRACEMALLOC"
).split()
#: For workers: those of libraries that engines stand on.
LIBRARIES: Final = (  # noqa: SIM905
    # Models and where they come from.
    "HF_* HUGGINGFACE_* HUGGING_FACE_* TRANSFORMERS_* TOKENIZERS_* SAFETENSORS_* MODELSCOPE_* "
    # GPUs and what connects them.
    "CUDA* NVIDIA_* NVCC_* NCCL_* NVSHMEM_* NVTE_* PYNVML_* ROCM_* ROCR_* HIP_* HSA_* "
    "UCX_* GLOO_* MPI_* OMPI_* OPAL_* PMIX_* PRTE_* FI_* SLURM_* "
    # Frameworks and compilers.
    "TORCH* PYTORCH_* TRITON_* FLASHINFER_* XFORMERS_* RAY_* NUMBA_* "
    "CC CXX CPP CFLAGS CXXFLAGS LDFLAGS CPATH C_INCLUDE_PATH "
    "CPLUS_INCLUDE_PATH LIBRARY_PATH MAX_JOBS CONDA_* "
    # Processors.
    "OMP_* GOMP_* KMP_* MKL_* OPENBLAS_* BLIS_* DNNL_* ONEDNN_* NUMEXPR_* "
    # The way to the network.
    "HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy "
    "REQUESTS_CA_BUNDLE CURL_CA_BUNDLE"
).split()
#: For the gateway: OpenTelemetry's own (docs/traces.md).
TELEMETRY: Final = ("OTEL_*",)
#: A Python sees its own environment, and not what its user has installed beside it: that goes
#: before the packages of a conda environment.
OWN_PACKAGES: Final = {"PYTHONNOUSERSITE": "1"}
PYTHON: Final = {**OWN_PACKAGES, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def engine_variables() -> list[str]:
    """Return the patterns for workers: those of libraries, and those that engines declare."""
    declared = {each for engine in declared_engines().values() for each in engine.variables}
    return [*LIBRARIES, *sorted(declared)]


def inherited(environment: Mapping[str, str], *patterns: Collection[str]) -> dict[str, str]:
    """Return what these patterns name of an environment; a `*` stands for any letters. Nothing
    of ew's own (EW_*) is ever inherited: children are told what they are to know."""
    wanted = [pattern for group in (COMMON, *patterns) for pattern in group]
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("EW_") and any(fnmatchcase(name, each) for each in wanted)
    }
