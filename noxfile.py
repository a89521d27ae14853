"""Every command that a person runs. ``nox -l`` lists them."""

from __future__ import annotations

import sys
from functools import partial
from itertools import product
from pathlib import Path
from shutil import which

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2024.4.15"
# pip, not uv: with the constraints file pip takes a CPU build of torch that a machine offers.
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

CONSTRAINTS = "constraints.txt"
# What the kernels were checked with; PyTorch's CUDA build brings its own.
TRITON = "triton==3.6.0; sys_platform == 'linux'"
# Tests of JAX whose programs are compiled as users' are; elsewhere compiling took most of the time,
# and results are the same with few passes of XLA's optimiser. The slow tests use all of it.
AS_COMPILED = [f"tests/test_jax{part}.py" for part in ("", "_apply", "_status")]
COMPILED_FAST = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
EVERYTHING = "torch,flax,equinox,experiments"
PROJECT = nox.project.load_toml("pyproject.toml")
TEST_TOOLS = PROJECT["dependency-groups"]["test"]
FOLDERS = {folder.split("/")[0] for folder in PROJECT["tool"]["setuptools"]["package-dir"].values()}
LINTED = (*sorted(FOLDERS), "tests", "benchmarks", "docs/site", "ports", "noxfile.py")


def install(session: nox.Session, *requirements: str) -> None:
    """Install requirements at the versions of the constraints file.

    Python compiles what is imported, which is less than there is, and keeps it, even where the
    environment says otherwise: compiling takes longer than importing, and processes are many.
    """
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    session.install("--no-compile", "-c", CONSTRAINTS, *requirements)


def install_wheel(session: nox.Session, extras: str, *tools: str) -> None:
    """Install the project as its users do, from a wheel, which pip makes anew each time."""
    install(session, f".[{extras}]" if extras else ".", *tools)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite; arguments go to pytest."""
    run_tests(session, "not slow")


@nox.session
def rule(session: nox.Session) -> None:
    """Show a rule and run its vectors and tests: ``-- BUF-031 --implementation torch``."""
    install_wheel(session, EVERYTHING, *TEST_TOOLS)
    session.run("python", "tests/rule.py", *session.posargs)


@nox.session
def mismatch(session: nox.Session) -> None:
    """Say where a port first goes wrong: ``nox -s mismatch -- --adapter torch --seed 1``."""
    install_wheel(session, "torch,jax")
    session.run("python", "-m", "revrnn.conformance.mismatch", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take long, and those that draw examples with eight times as many."""
    run_tests(session, "slow")


def run_tests(session: nox.Session, marked: str) -> None:
    """Run the tests that are marked so."""
    install_wheel(session, EVERYTHING, *TEST_TOOLS)
    install_triton(session)
    # What JAX compiled for one test of a file serves the next. A crash would leave others waiting.
    command = ("pytest", "-nauto", "--dist=loadfile", "--max-worker-restart=0", "-m", marked)
    if session.posargs:
        session.run(*command, *session.posargs)
        return
    parts = [partial(session.run, *command)]
    if marked != "slow":
        # PyTorch's threads wait by working: two tests' hold each other up. Some tests ask for two.
        session.env["OMP_NUM_THREADS"] = "1"
        others, fast = [f"--ignore={name}" for name in AS_COMPILED], {"XLA_FLAGS": COMPILED_FAST}
        parts = [partial(parts[0], *AS_COMPILED), partial(parts[0], *others, env=fast)]
    else:
        more = {"REVRNN_HYPOTHESIS_PROFILE": "long"}
        parts.append(partial(session.run, *command[:-1], "hypothesis", env=more))
    parts.append(partial(run_kernels, session, "-m", marked, interpreted=True))
    failed = 0
    for part in parts:  # all of them, whatever fails
        try:
            part()
        except CommandFailed:
            failed += 1
    if failed:
        session.error(f"{failed} of {len(parts)} parts failed")


def run_kernels(session: nox.Session, *arguments: str, interpreted: bool) -> None:
    """Run the tests of Triton's kernels, interpreted or compiled; a process can do one of them."""
    folder, parallel = str(Path("tests", "gpu")), ("--numprocesses=auto", "--dist=worksteal")
    environment = {"TRITON_INTERPRET": "1" if interpreted else "0", "JAX_PLATFORMS": "cpu"}
    # Where Triton cannot be had, there is nothing to collect.
    session.run("pytest", folder, *parallel, *arguments, env=environment, success_codes=[0, 5])


def install_triton(session: nox.Session) -> None:
    """Install Triton unless PyTorch brought its own; there are wheels for Linux alone."""
    look = "import importlib.util as u; print(u.find_spec('triton') is not None)"
    if "True" not in str(session.run_install("python", "-c", look, silent=True)):
        install(session, TRITON)


@nox.session
def gpu(session: nox.Session) -> None:
    """Check the Triton kernels, and on a GPU run them; ``-- --require-gpu`` fails without one.

    Without a GPU they are interpreted, with faults put in too, and compiled ahead of time.
    """
    install_wheel(session, EVERYTHING, *TEST_TOOLS)
    install_triton(session)
    device = session.run("python", "tests/gpu/find.py", *session.posargs, silent=True)
    session.log(str(device).strip())
    plugin = "cuda12" if str(device).startswith("GPU") else "cuda12-local"  # compiles without one
    install(session, f"jax[{plugin}]")
    for interpreted in (True, False):
        run_kernels(session, interpreted=interpreted)
    if str(device).startswith("GPU"):
        engines = ("triton", "triton-persistent")
        for name in ("eager", *engines, "jax-triton"):
            session.run("python", "tests/gpu/check.py", name, "--seconds", "300")
        if which("compute-sanitizer"):
            guarded = ("compute-sanitizer", "--error-exitcode", "1", "python", "tests/gpu/small.py")
            for cell, name in product(("revgru", "revlstm"), engines):
                session.run(*guarded, cell, "--engine", name, external=True)
        Path("out").mkdir(exist_ok=True)
        session.run("python", "benchmarks/gpu.py", "--compiled", "--out", "out/gpu.json")


@nox.session
def soak(session: nox.Session) -> None:
    """Random operations and sequences everywhere, 100,000 steps: ``nox -s soak -- --hours 8``."""
    install_wheel(session, "torch,jax", *TEST_TOOLS, "psutil")
    session.run("python", "tests/soak.py", *session.posargs)


@nox.session
def matrix(session: nox.Session) -> None:
    """One digest over versions, processors, threads, compiled or not; see ``tests/matrix.py``."""
    install_wheel(session, EVERYTHING, "build")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", folder, silent=True)
    wheel = str(sorted(Path(folder).glob("*.whl"))[-1])
    session.run("python", "tests/matrix.py", "--wheel", wheel, *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Build, check, install in clean environments, ask the vectors, write hashes into ``dist/``.

    Nothing is published. ``nox -s release -- --extras torch jax`` installs these as well.
    """
    # Not at the versions of the constraints: cffconvert needs an older jsonschema.
    session.install("build", "twine", "cffconvert")
    session.run("cffconvert", "--validate", "-i", "CITATION.cff")
    session.run("python", "tests/release.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed the protocol, the doors and all readers of files: ``nox -s fuzz -- 1000000`` inputs.

    They are nearly valid; a tenth as many, drawn by Hypothesis, are anything at all.
    """
    install_wheel(session, "torch,jax,experiments", *TEST_TOOLS)
    count, *others = session.posargs or ["100000"]
    session.run("python", "tests/fuzz.py", "--inputs", count, *others)
    tests = ("tests/test_hostile_requests.py", "-k", "fuzz")
    session.run("pytest", *tests, env={"REVRNN_FUZZ": str(max(60, int(count) // 30))})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format; ``nox -s lint -- --fix`` mends what can be mended."""
    install(session, "ruff")
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), *LINTED)
    session.run("ruff", "format", *([] if fix else ["--check"]), *LINTED)


@nox.session
def structure(session: nox.Session) -> None:
    """Check who imports whom, and write docs/structure.md; ``-- --check`` only compares."""
    install(session, "import-linter")
    session.run("python", "tests/structure.py", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the installed package, in the tests' environment, and of the tests."""
    install(session, "mypy")
    here, there = Path(session.bin), Path(session.bin).parents[1]
    once = (sys.executable, "-m", "nox", "-f", __file__, "--envdir", str(there), "--install-only")
    session.run_install(*once, "-s", "tests", external=True)
    python = str(there / "tests" / here.name / "python")
    session.run("python", "tests/check_types.py", "--python-executable", python, *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Train small models by reversal in both frameworks and compare them with the oracle."""
    install_wheel(session, "demo")
    session.run("python", "-m", "revrnn.experiments.demo", *session.posargs)


@nox.session
def experiments(session: nox.Session) -> None:
    """Run one of the paper's experiments: ``nox -s experiments -- lm --out out/lm``."""
    install_wheel(session, "experiments")
    session.run("python", "-m", "revrnn.experiments", *session.posargs)


@nox.session
def figures(session: nox.Session) -> None:
    """Draw all figures of the documentation from the results in docs/results."""
    install_wheel(session, "experiments")
    session.run("python", "-m", "revrnn.experiments.figures", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Measure time and memory of training steps side by side, variants in turns."""
    install_wheel(session, EVERYTHING)
    session.run("python", "benchmarks/step.py", *session.posargs)


@nox.session
def ports(session: nox.Session) -> None:
    """Build the ports with the system's C compiler, and ask them everything they claim."""
    install_wheel(session, "conformance")
    session.run("make", "-C", str(Path("ports", "c")), external=True)
    command = str(Path("ports", "c", "build", "revrnn-port"))
    session.run("python", "-m", "revrnn.conformance", "--command", command, *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Change the arithmetic one place at a time; the vectors must notice: ``-- --port c``.

    ``--port jax --sample 20`` takes some of each file. A C compiler is needed for the port in C;
    ``tcc`` is the quickest. Processes have one thread each, since more would wait for one another.
    """
    install_wheel(session, "torch,jax")
    session.run("python", "tests/mutants.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def conformance(session: nox.Session) -> None:
    """Ask every implementation and port, and write docs/conformance.md."""
    install_wheel(session, "torch,jax,conformance")
    session.run("make", "-C", str(Path("ports", "c")), external=True)
    session.run("python", "ports/matrix.py", *session.posargs)


@nox.session
def vectors(session: nox.Session) -> None:
    """Write the test vectors anew; ``nox -s vectors -- --check`` only compares."""
    install_wheel(session, "")
    session.run("python", "-m", "revrnn.vector_maker", *session.posargs, "spec/vectors")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation as a site in out/site; a dead link or unknown rule fails."""
    install_wheel(session, "", "mkdocs-material", "mkdocstrings[python]", "ruff")
    session.run("mkdocs", "build", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def archive(session: nox.Session) -> None:
    """Write the law (text, tables, vectors) and the suite as one ZIP file, the judge as another."""
    install_wheel(session, "")
    Path("dist").mkdir(exist_ok=True)
    session.run("python", "-m", "revrnn.archive", "dist/revrnn-spec.zip", "dist/revrnn-judge.zip")


@nox.session
def tables(session: nox.Session) -> None:
    """Write the tanh table (ACT-001) and the text's tables of operations anew."""
    install_wheel(session, "")
    session.run("python", "-m", "revrnn.tanh_table", str(Path("spec", "data", "tanh.json")))
    session.run("python", "-m", "revrnn.operations_text", str(Path("spec", "text")))
