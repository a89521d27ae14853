"""Shares of what lies at the end of its range, as PyTorch counts them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from revrnn import Config, RevRNNError
from revrnn import saturation as counts
from revrnn.jax_impl import apply, init, saturation_of, value
from revrnn.torch_impl import rev_rnn

CONFIG = Config("revlstm", 3, 4, max_forget_bits=3, p_max=1024, z_max=1024)
PARAMS = init(jax.random.key(0), CONFIG) | {"bias_l0": jnp.full(20, 7.0)}
PARAMS["weight_hh_l0"] = PARAMS["weight_hh_l0"].at[0].set(-9.0)  # 2 of 100
X = jnp.ones((5, 2, 3)).at[:3, :, 0].set(9.0).at[0, 0, 1].set(-8.0)
H = jnp.full((1, 2, 4), 200.0).at[0, 0, 0].set(1.0)


@pytest.fixture(autouse=True)
def _not_yet_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "_warned", set())


@pytest.mark.rule("FMT-004", "GRAD-002")
def test_counts_are_those_of_pytorch() -> None:
    out = apply(PARAMS, X, CONFIG, hx=(H, H))
    with pytest.warns(counts.SaturationWarning) as said:
        met = saturation_of(out, CONFIG, X, PARAMS)
    assert [one.filename for one in said] == [__file__] * 3  # the line that called
    assert saturation_of(out, CONFIG, X, PARAMS) == met  # said once
    weights = {name: torch.tensor(np.asarray(v)) for name, v in PARAMS.items()}
    x, h = torch.tensor(np.asarray(X), requires_grad=True), torch.tensor(np.asarray(H))
    other = rev_rnn(x, weights, CONFIG, hx=(h, h))  # said already
    assert other.saturation is not None
    assert met.inputs == other.saturation.inputs == 7 / 30
    assert met.weights == other.saturation.weights == 0.02
    assert met.views == other.saturation.views > 0
    assert met.largest_h == pytest.approx(other.saturation.largest_h, rel=1e-6)


def test_final_states_where_there_are_no_outputs() -> None:
    first: Any = PARAMS, {}, X / 9, (), CONFIG
    mask = jnp.zeros((5, 2), jnp.bool_)
    out = value(*first, readout=lambda _, h, __: h.mean(), hx=(H, H), mask=mask)
    with pytest.warns(counts.SaturationWarning, match="of the states"):
        met = saturation_of(out, CONFIG)
    assert met.inputs == 0
    assert met.views == 7 / 8
    assert met.largest_h == 200


def test_what_cannot_be_counted_is_named() -> None:
    out: Any = apply(PARAMS, X, CONFIG)
    with pytest.raises(RevRNNError, match="result: got a ArrayImpl"):
        saturation_of(out.outputs, CONFIG)
    with pytest.raises(RevRNNError, match="x: got elements of int32"):
        saturation_of(out, CONFIG, jnp.ones(3, jnp.int32))
    with pytest.raises(RevRNNError, match="result: got a traced value"):
        jax.jit(lambda out: saturation_of(out, CONFIG).inputs)(out)
    with pytest.raises(RevRNNError, match="params: got traced values"):
        jax.jit(lambda params: saturation_of(out, CONFIG, None, params).weights)(PARAMS)
    hidden: Any = np.ma.masked_array(X)
    with pytest.raises(RevRNNError, match=r"x: got a masked array"):
        saturation_of(out, CONFIG, hidden)
