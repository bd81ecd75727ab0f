"""Where and how a run computes: device, threads, deterministic algorithms, precision, random states."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import plausible
from plausible.core.errors import ConfigurationError
from plausible.train.run import Run


def device_of(run: Run) -> torch.device:
    """The device of a run, with its number: of "cuda" that of the process among those of ``torchrun`` here.

    Raises:
        ConfigurationError: this machine does not have it.
    """
    device = torch.device(run.device)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    if index >= count:
        raise ConfigurationError(
            f"device = {run.device!r}: torch sees {count} CUDA devices on this machine. Use device='cpu', or "
            "install a build of torch for your GPU."
        )
    return torch.device("cuda", index)


def require_compiler(device: torch.device) -> None:
    """See that ``torch.compile`` finds what it needs on this device.

    Raises:
        ConfigurationError: there is no C++ compiler for the CPU. (For CUDA torch brings its own.)
    """
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    wanted = os.environ.get("CXX", usual)
    if device.type == "cpu" and shutil.which(wanted) is None:
        raise ConfigurationError(
            f"compile = True: torch compiles steps for the CPU with a C++ compiler, and there is no {wanted!r} here. "
            "Install one, name it in the environment variable CXX, or leave compile = False."
        )


@contextmanager
def prepared(run: Run, device: torch.device) -> Iterator[None]:
    """Set torch up for the run, and leave it afterwards as it was, the global random states included."""
    # cuBLAS reads this when it starts, and is not deterministic without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn: Any = torch.backends.cudnn
    filling: Any = torch.utils.deterministic
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        filling.fill_uninitialized_memory,
        cudnn.benchmark,
    )
    products = [torch.backends.cuda.matmul, cudnn.conv]
    precisions = [setting.fp32_precision for setting in products]
    if run.compile:
        torch.compiler.reset()  # torch compiles a function so many times, runs before this one included, and no more
    try:
        torch.set_num_threads(run.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        filling.fill_uninitialized_memory = False  # helps debugging, and costs a pass over every new tensor
        cudnn.benchmark = False  # it may choose another algorithm in the next process
        for setting in products:
            setting.fp32_precision = "tf32" if run.precision == "tf32" else "ieee"
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
        filling.fill_uninitialized_memory = before[3]
        cudnn.benchmark = before[4]
        for setting, precision in zip(products, precisions, strict=True):
            setting.fp32_precision = precision


def autocast(run: Run, device: torch.device) -> torch.autocast:
    """The context of forward and learning: bfloat16 where the run asks for it, else nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=run.precision == "bfloat16")


def set_random_state(state: list[torch.Tensor], device: torch.device) -> None:
    """Put back what :func:`plausible.functional.random.random_state` gave for this device."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware, for a reader who wants to know where numbers come from."""
    cuda = device.type == "cuda"
    return {
        "plausible": plausible.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "cuda": torch.cuda.get_device_name(device) if cuda else None,
        "cuda_version": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # only Linux has it
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
