"""Wrong arguments of the benchmarks end in one line that names them, before any work."""

from __future__ import annotations

import runpy

import pytest

from folders import ROOT

WRONG = (
    "--sizes a,b,c",
    "--sizes 3,4",
    "--sizes 4,5,1",
    "--steps 0",
    "--chunk=-1",
    "--bits 11",
    "--variants nonsense",
    "--variants plain nonsense",
    "--variants eager --framework torch jax",
    "--device tpu",
    "--out /dev/null/figures",
)


ON_GPUS = ("--sizes 200", "--sizes 0x2", "--engines nonsense")


@pytest.mark.parametrize(
    ("program", "wrong"),
    [*(("step.py", wrong) for wrong in WRONG), *(("gpu.py", wrong) for wrong in ON_GPUS)],
)
def test_wrong_arguments_are_named(
    program: str, wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ROOT / "benchmarks" / program
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setattr("sys.argv", [program, *wrong.split()])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 2
    assert f"argument {wrong.split()[0].partition('=')[0]}:" in capsys.readouterr().err
