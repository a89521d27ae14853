"""Where figures come from: versions, processor, threads, engine, data, code."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import revrnn

# From the narrowest to the widest, as Linux names them, and as people do.
FLAGS: Final = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "VNNI",
    "avx512_vnni": "VNNI",
    "amx_tile": "AMX",
}
_PACKAGES: Final = {"torch": ("torch", "numba"), "jax": ("jax", "jaxlib", "flax", "optax")}


def processor() -> str:
    """Return what a processor offers to vector arithmetic, never which one it is."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return ", ".join(dict.fromkeys(word for flag, word in FLAGS.items() if flag in flags)) or (
        platform.machine()
    )


def versions(framework: str) -> dict[str, str]:
    """Return the versions of Python and of all packages that compute."""
    known = {"python": platform.python_version(), "revrnn": revrnn.__version__}
    for package in ("numpy", *_PACKAGES[framework]):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "none"
    return known


def code() -> dict[str, Any]:
    """Return the commit that the package is from and whether files differ from it.

    Where the package is no part of a checkout there is its version alone.
    """
    file = Path(revrnn.__file__).resolve()

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(file.parent), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An environment may lie within a checkout to which its packages do not belong.
    commit = git("rev-parse", "HEAD") if git("ls-files", "--error-unmatch", file.name) else None
    if commit is None:
        return {"version": revrnn.__version__}
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}


def hashes(files: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of files, by their names."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def of_run(framework: str, config: Any, corpus: Mapping[str, str]) -> dict[str, Any]:
    """Return all that figures of a run come from.

    Args:
        framework: that computes.
        config: of a reversible stack, to say which engine takes it; else ``None``.
        corpus: hashes of the data.
    """
    threads, engine = os.cpu_count() or 1, ""
    if framework == "torch":
        import torch

        from ..torch_impl import engine_plan

        threads, device = torch.get_num_threads(), "cuda" if torch.cuda.is_available() else "cpu"
        engine = f"PyTorch, {device}"
        if config is not None:
            engine = str(engine_plan(config, device)).splitlines()[0]
    else:
        import jax

        engine = f"XLA, {jax.default_backend()}"
        if hasattr(os, "sched_getaffinity"):
            threads = len(os.sched_getaffinity(0))
    return {
        "versions": versions(framework),
        "processor": processor(),
        "threads": threads,
        "engine": engine,
        "code": code(),
        "corpus": dict(corpus),
    }


def as_lines(provenance: Mapping[str, Any]) -> list[str]:
    """Return what :func:`of_run` gave, and what was added to it, as lines of Markdown."""
    state = provenance["code"]
    if "commit" in state:
        changed = ", with changes" if state["dirty"] else ""
        told = f"commit {state['commit'][:12]}{changed}"
    else:
        told = f"version {state['version']}"
    packages = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
    lines = [
        f"- code: {told}; {packages}",
        f"- processor: {provenance['processor']}; {provenance['threads']} threads",
        f"- engine: {provenance['engine']}",
        f"- wall time: {provenance['wall_seconds']:.0f} s in {provenance['sessions']} session(s)",
    ]
    lines += [f"- {name}: SHA-256 {digest}" for name, digest in provenance["corpus"].items()]
    return [*lines, *(f"- warned: {text}" for text in provenance["warnings"])]
