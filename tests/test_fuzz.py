"""A little of ``nox -s fuzz``: what is nearly valid ends in an answer or a ``RevRNNError``."""

from __future__ import annotations

from pathlib import Path
from random import Random

import fuzz
import pytest
from fuzzing.changes import changed, damaged
from fuzzing.targets import Target

from revrnn import RevRNNError
from revrnn.vectors import load, manifest


@pytest.mark.rule("CONF-003", "ERR-002")
def test_nothing_nearly_valid_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert not fuzz.run(2600, seed=20), capsys.readouterr().out


def test_what_fails_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def take(data: bytes) -> str:
        if len(data) > 20:
            raise TypeError("too long")
        return "too short" if len(data) < 5 else ""

    texts = [b"0123456789"]
    target = Target(lambda random: damaged(texts[0], texts, random), take)
    assert fuzz.feed("ours", target, 200, Random(1)) > 20
    told = capsys.readouterr().out
    assert "TypeError: too long" in told
    assert "too short" in told
    assert "200 inputs" in told


def test_damage_is_drawn_from_the_seed_and_reaches_everything() -> None:
    value = {"a": [1, 2, {"b": "c"}], "d": None}
    drawn = [[changed(value, [value], Random(seed)) for seed in range(300)] for _ in range(2)]
    assert repr(drawn[0]) == repr(drawn[1])
    seen = {repr(one) for one in drawn[0]}
    assert len(seen) > 150
    assert value == {"a": [1, 2, {"b": "c"}], "d": None}
    assert any("'b'" not in one for one in seen)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"files": 3}', b'{"files": {"tanh.json": 1}, "flags": {}}', b"\xff"],
)
def test_damaged_manifests_are_named(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    for read in (manifest, lambda folder: load("tanh", folder)):
        with pytest.raises(RevRNNError, match=r"E_ARGUMENT.*folder: got manifest.json, damaged"):
            read(tmp_path)
