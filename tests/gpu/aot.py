"""What XLA makes of JAX's engine of kernels for a GPU that is not there.

``python tests/gpu/aot.py revgru`` has XLA compile a training step for an H100, with JAX's plugin
for CUDA, which needs no GPU for it, and counts the kernels of each step of its loops. ``--engine
scan`` does so for XLA's own kernels, ``--units 1150 --batch 20`` for a larger layer. ``--spoil``
puts an operation that there is not into each kernel: an error, if XLA compiles them at all.

Any version of JAX will do, installed with its plugin alone: ``pip install "jax[cuda12-local]"
triton``, or ``cuda13-local``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from revrnn.config import Config
from revrnn.jax_impl import apply, engine, init
from revrnn.jax_impl.triton.calls import TARGET

# As a data sheet and NVIDIA's tools give them.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
runtime_version: { major: 12 minor: 8 }
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
# Of what a program does, all that is a kernel or a copy.
KERNELS = ("fusion", "custom-call", "copy", "dot", "sort", "scatter", "reduce", "reduce-window")


def step_of(config: Config, steps: int, batch: int) -> tuple[Callable[..., Any], tuple[Any, Any]]:
    """Return the gradient of a loss, and arguments for it."""
    params = init(jax.random.key(0), config)

    def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        return (apply(params, x, config).outputs ** 2).mean()

    return jax.grad(loss), (params, jnp.zeros((steps, batch, config.input_size)))


def exported(config: Config, steps: int, batch: int) -> str:
    """Return a training step lowered for CUDA, as text."""
    function, arguments = step_of(config, steps, batch)
    kept = [export.DisabledSafetyCheck.custom_call(TARGET)]
    with engine("triton"):
        made = export.export(jax.jit(function), platforms=("cuda",), disabled_checks=kept)
        return str(made(*arguments).mlir_module())


def launches(config: Config, steps: int, batch: int) -> tuple[Counter[str], list[Counter[str]]]:
    """Return the launches of kernels outside of loops over the steps, and in a step of each."""
    from jax.extend.core import jaxprs_in_params  # since JAX 0.10; compiling takes older ones

    function, arguments = step_of(config, steps, batch)
    outside: Counter[str] = Counter()
    loops: list[Counter[str]] = []

    def walk(jaxpr: Any, into: Counter[str]) -> None:
        for equation in jaxpr.eqns:
            if equation.primitive.name == "revrnn_triton_launch":
                into[equation.params["what"].kernel.__name__] += 1
            loop = into
            if equation.primitive.name == "while":
                loop = Counter()
            for inner in jaxprs_in_params(equation.params):
                walk(inner, loop)
            if loop:
                loops.extend([loop] if loop is not into else [])

    with engine("triton"):
        walk(jax.make_jaxpr(function)(*arguments).jaxpr, outside)
    return outside, loops


def calls_in(text: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield name, text, warps and stages of the kernels in a program, each once."""
    seen = set()
    for line in text.splitlines():
        if TARGET in line:
            strings = dict(re.findall(r'(\w+) = "((?:[^"\\]|\\.)*)"', line))
            numbers = dict(re.findall(r"(num_\w+) = (\d+) : i32", line))
            key = (strings["name"], strings["ir"])
            if key not in seen:
                seen.add(key)
                escape = re.compile(r"\\([0-9A-F]{2})")
                plain = escape.sub(lambda m: chr(int(m[1], 16)), strings["ir"])
                yield key[0], plain, int(numbers["num_warps"]), int(numbers["num_stages"])


def compiled(config: Config, steps: int, batch: int, name: str) -> str:
    """Return what XLA compiles a training step to for an H100, as text."""
    from jax.experimental.topologies import get_topology_desc

    described = get_topology_desc("h100", "cuda", target_config=H100, topology="1x1x1")
    where = jax.sharding.SingleDeviceSharding(described.devices[0])
    function, arguments = step_of(config, steps, batch)
    like = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=where), arguments)
    with engine(name):
        text = jax.jit(function).lower(*like).compile().as_text()
    if text is None:
        raise RuntimeError(f"XLA compiled it, but that of JAX {jax.__version__} does not show it")
    return text


def kernels_in_loops(text: str) -> list[Counter[str]]:
    """Count what is a kernel or a copy in each loop's body of what XLA compiled."""
    bodies = re.findall(r"\bwhile\(.*?body=%([\w.\-]+)", text)
    counts = []
    for body in bodies:
        (inside,) = re.findall(rf"^%{re.escape(body)} \(.*?^\}}", text, re.DOTALL | re.MULTILINE)
        kinds = re.findall(r"^  (?:ROOT )?%\S+ = .*? ([\w\-]+)\(", inside, re.MULTILINE)
        counts.append(Counter(kind for kind in kinds if kind in KERNELS))
    return counts


def has_plugin() -> bool:
    """Say whether JAX's plugin for CUDA is installed."""
    return find_spec("jax_plugins") is not None and any(map(find_spec, PLUGINS))


def spoil() -> None:
    """Put an operation that there is not into the text of each kernel."""
    from revrnn.jax_impl.triton import ir

    text_of: Any = ir.text_of

    def spoiled(*arguments: Any) -> Any:
        made = text_of(*arguments)
        return made._replace(text=made.text.replace("arith.addi", "arith.no_such_operation", 1))

    vars(ir)["text_of"] = spoiled


def run(*arguments: str) -> str:
    """Run this file in a process of its own, where JAX may look for its plugin for CUDA."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia"
    with tempfile.TemporaryDirectory() as folder:
        for source, target in (("bin/ptxas", "bin"), ("lib/libdevice.10.bc", "nvvm/libdevice")):
            Path(folder, target).mkdir(parents=True)
            shutil.copy(tools / source, Path(folder, target))
        flags = f"--xla_gpu_cuda_data_dir={folder} --xla_gpu_autotune_level=0"
        more = {"XLA_FLAGS": flags, "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "JAX_PLATFORMS": ""}
        command = [sys.executable, __file__, "--here", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | more, check=False
        )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def main() -> None:
    """Print the kernels of each step of every loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cell", choices=("revgru", "revlstm"))
    parser.add_argument("--engine", default="triton")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--spoil", action="store_true", help="kernels that do not compile")
    parser.add_argument("--here", action="store_true", help="in this process")
    options = parser.parse_args()
    if not has_plugin():
        raise SystemExit("JAX's plugin for CUDA is not installed (jax-cuda12-plugin)")
    if not options.here:
        print(run(*sys.argv[1:]), end="")
        return
    if options.spoil:
        spoil()
    config = Config(options.cell, 8, options.units, options.layers, max_forget_bits=3)
    for counts in kernels_in_loops(compiled(config, 6, options.batch, options.engine)):
        print(*(f"{kind} {number}" for kind, number in sorted(counts.items())), sep=", ")


if __name__ == "__main__":
    main()
