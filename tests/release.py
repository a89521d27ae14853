"""What is due before a release: build, check, install in clean environments, conformance, hashes.

``python tests/release.py`` writes ``dist/`` with a wheel, a source distribution, the archive for
porters and ``SHA256SUMS``. Nothing is published. ``--extras torch jax`` also installs these.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
# What a clean installation is asked, by the extra that was installed with it.
ASKED: Final = {"": ("numpy",), "torch": ("torch", "torch-native"), "jax": ("jax",)}
# What each extra is for; the tests see that none is missing.
IMPORTS: Final = {
    "": "revrnn.numpy_ref.evaluate",
    "torch": "revrnn.torch_impl",
    "jax": "revrnn.jax_impl",
    "flax": "revrnn.jax_impl.flax",
    "equinox": "revrnn.jax_impl.equinox",
    "conformance": "revrnn.conformance.__main__",
    "demo": "revrnn.experiments.demo",
    "experiments": "revrnn.experiments.__main__",
}


def call(*command: object, folder: Path = ROOT) -> str:
    """Run a command outside any environment; return its output, or end with its error."""
    surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=surroundings, text=True, capture_output=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def check_texts(version: str) -> None:
    """Check that what names the version names this one."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)", changes, re.MULTILINE)
    if not headings or headings[0] != version or len(set(headings)) != len(headings):
        raise SystemExit(f"CHANGELOG.md begins with {headings[:1]}, not {version}, or repeats one")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    if f"\nversion: {version}\n" not in citation:
        raise SystemExit(f"CITATION.cff is of another version than {version}")


def tracked() -> list[str]:
    """Return the files of the repository."""
    return call("git", "ls-files").splitlines()


def build(dist: Path) -> tuple[Path, Path]:
    """Build the source distribution, and from it the wheel; return wheel and source."""
    with tempfile.TemporaryDirectory() as folder:
        # From a copy of what is tracked, so that nothing else can come in.
        source = Path(folder, "source")
        source.mkdir()
        for name in tracked():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        call(sys.executable, "-m", "build", "--outdir", dist, source, folder=source)
    (wheel,), (archive,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return wheel, archive


def check_contents(wheel: Path, archive: Path) -> None:
    """Check that the wheel has licence, data and nothing generic, the source what is tracked."""
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    if {name for name in top if not name.startswith("revrnn")}:
        raise SystemExit(f"the wheel would install {sorted(top)}")
    wanted = ("revrnn/text/00-conventions.md", "revrnn/vectors/manifest.json", "revrnn/py.typed")
    missing = [name for name in wanted if name not in names]
    with tarfile.open(archive) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    missing += [name for name in tracked() if name[0] != "." and name not in inside]
    if missing or not any(name.endswith("licenses/LICENSE") for name in names):
        raise SystemExit(f"missing: {missing or 'LICENSE in the wheel'}")


def install(what: Path, extra: str, folder: Path) -> None:
    """Install in a clean environment; import what the extra is for; ask it all vectors."""
    call(sys.executable, "-m", "venv", folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    requirement = f"{what}[{extra}]" if extra else what
    pins = ("-c", ROOT / "constraints.txt")
    call(python, "-m", "pip", "install", "-q", "--no-compile", *pins, requirement)
    call(python, "-m", "pip", "check", folder=folder)
    call(python, "-W", "error", "-c", f"import {IMPORTS[extra]}", folder=folder)
    for name in ASKED.get(extra, ()):
        asking = ("-m", "revrnn.conformance", "--adapter", name, "--quiet", "--examples", "2")
        report = call(python, *asking, folder=folder)
        print(f"  {report.splitlines()[0]}", flush=True)


def main() -> int:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", nargs="*", choices=tuple(IMPORTS)[1:], default=[])
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    dist = options.dist.resolve()
    if dist.exists() and any(dist.iterdir()):
        raise SystemExit(f"{dist} is not empty")
    init = (ROOT / "spec" / "__init__.py").read_text(encoding="utf-8")
    version = re.findall(r'__version__ = "(.*)"', init)[0]
    check_texts(version)
    wheel, archive = build(dist)
    check_contents(wheel, archive)
    call(sys.executable, "-m", "twine", "check", "--strict", wheel, archive)
    print(f"built and checked: {wheel.name}, {archive.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for what, extra in [(wheel, ""), (archive, ""), *((wheel, one) for one in options.extras)]:
            print(f"installing {what.name} {extra}", flush=True)
            install(what, extra, Path(folder, f"{what.suffix[1:]}-{extra}"))
        python = Path(folder, "whl-", "bin", "python")
        parts = (dist / f"revrnn-{name}.zip" for name in ("spec", "judge"))
        call(python, "-m", "revrnn.archive", *parts, folder=Path(folder))
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
        for path in sorted(dist.iterdir())
    ]
    (dist / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="ascii")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
