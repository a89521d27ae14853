"""The Triton engine where there is no GPU: everything works as before, and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from revrnn import RevRNNError
from revrnn.config import Config
from revrnn.gpu import support as kernels
from revrnn.torch_impl import RevGRU, engine, engine_plan
from revrnn.torch_impl.engine import Settings
from revrnn.torch_impl.triton import support
from revrnn.torch_impl.triton.engine import TritonEngine

CPU = torch.device("cpu")
GPU = torch.device("cuda")
NAMES = ("triton", "triton-persistent")
FIND = Path(__file__).parent / "gpu" / "find.py"


@pytest.fixture(autouse=True)
def _forget() -> None:
    support.device_refusal.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_says_why_it_is_not_taken(name: str) -> None:
    reason = engine_plan(Config("revgru", 2, 4)).refused[name]
    assert reason in ("Triton is not installed", "the device is cpu, not cuda")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_not_taken_by_itself_even_where_it_could_be(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TritonEngine, "refusal", lambda *_: None)
    monkeypatch.setattr(TritonEngine, "product", lambda *_: "")
    plan = engine_plan(Config("revgru", 2, 4))
    assert plan.engine not in NAMES
    assert "by name" in plan.refused[name]
    with engine(name):
        assert engine_plan(Config("revgru", 2, 4)).engine == name


@pytest.mark.parametrize("name", NAMES)
def test_asked_for_by_name_where_it_cannot_be_it_is_an_error(name: str) -> None:
    module, x = RevGRU(2, 4), torch.zeros(1, 1, 2)
    with engine(name), pytest.raises(RevRNNError, match=r"triton.*eager") as caught:
        module(x)
    assert caught.value.code == "E_UNSUPPORTED"


def test_nothing_of_it_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, torch\n"
        "from revrnn.torch_impl import RevGRU, engine_plan\n"
        "module = RevGRU(2, 4)\n"
        "module(torch.zeros(1, 1, 2))[0].sum().backward()\n"
        "engine_plan(module.config)\n"
        "print([name for name in sys.modules if name.startswith('revrnn.torch_impl.triton.')])\n"
        "assert 'revrnn.gpu.gru' not in sys.modules\n"
        "assert 'revrnn.torch_impl.triton.passes' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("config", "settings", "reason"),
    [
        (Config("revgru", 2, 4, buffer="wordlist"), Settings(), "wordlist"),
        (Config("revgru", 2, 4, buffer="bigint"), Settings(), "bigint"),
        (Config("revlstm", 2, 4), Settings(count=True), "counted"),
        (Config("revlstm", 2**16, 4), Settings(), "summands"),
        (Config("revlstm", 2, 2**17), Settings(), "summands"),
        (Config("revgru", 2, 2**16, 2), Settings(), "summands"),
    ],
)
def test_what_it_does_not_take_it_names(
    config: Config, settings: Settings, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "device_refusal", lambda *_: None)
    assert reason in (support.refusal(config, GPU, settings) or "")


@pytest.mark.parametrize("buffer", ["stream", "wordlist"])
def test_without_forgetting_the_buffer_does_not_matter(
    buffer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "device_refusal", lambda *_: None)
    config = Config("revlstm", 2, 4, forgetting=False, buffer=buffer)
    assert support.refusal(config, GPU, Settings()) is None


@pytest.mark.parametrize(
    ("installed", "cuda", "capability", "reason"),
    [
        (False, "13.0", (9, 0), "not installed"),
        (True, None, (9, 0), "not built for CUDA"),
        (True, "13.0", (7, 5), "7.5"),
        (True, "13.0", (8, 0), None),
    ],
)
def test_what_a_device_lacks_is_named(
    installed: bool,
    cuda: str | None,
    capability: tuple[int, int],
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(kernels, "find_spec", lambda _: object() if installed else None)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    told = support.refusal(Config("revgru", 2, 4), GPU, Settings())
    assert told is None if reason is None else reason in (told or "")


def test_a_gpu_that_is_required_and_not_there_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    for more, status in (([], 0), (["--require-gpu"], 1)):
        process = subprocess.run(
            [sys.executable, str(FIND), *more], capture_output=True, text=True, check=False
        )
        assert process.returncode == status
        assert "no GPU" in process.stdout
