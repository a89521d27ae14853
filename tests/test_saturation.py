"""What saturates is counted, reported, and warned of once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from revrnn import Config, saturation
from revrnn.saturation import Saturation, SaturationWarning, view_limit, warn_of_saturation
from revrnn.torch_impl import RevGRU, RevLSTM, rev_rnn, value_and_grad


@pytest.fixture(autouse=True)
def nothing_was_said() -> Iterator[None]:
    saturation._warned.clear()
    yield
    saturation._warned.clear()


def test_view_limit_is_the_last_value_that_is_not_clipped() -> None:
    for config in (Config("revgru", 1, 2), Config("revlstm", 1, 2)):
        shift, limit = config.formats.state_bits - config.view_bits, view_limit(config)
        assert (limit + (1 << (shift - 1))) >> shift == 32512
        assert (limit + 1 + (1 << (shift - 1))) >> shift == 32513


@pytest.mark.rule("FMT-004", "GRAD-002")
def test_inputs_beyond_their_range_are_counted() -> None:
    rnn = RevGRU(4, 6)
    x = torch.zeros(20, 2, 4)
    x[:, :, 1] = torch.tensor([9.0, -9.0])
    with pytest.warns(SaturationWarning, match=r"25\.0% of the .*±7\.94.*scale them down"):
        out = rev_rnn(x, dict(rnn.named_parameters()), rnn.config)
    assert out.saturation is not None
    assert out.saturation.inputs == 0.25
    mask = torch.arange(20)[:, None].expand(20, 2) < 10
    x[:10] = 0
    gone = x.clone().requires_grad_()
    out = rev_rnn(gone, dict(rnn.named_parameters()), rnn.config, mask=mask)
    assert out.saturation is not None
    assert out.saturation.inputs == 0  # steps that no row has are nobody's
    out.outputs.sum().backward()  # type: ignore[no-untyped-call]
    assert gone.grad is not None
    assert not gone.grad[10:].any()
    x[0, 0] = 9.0
    out = rev_rnn(x, dict(rnn.named_parameters()), rnn.config, mask=mask)
    assert out.saturation is not None
    assert out.saturation.inputs == 0.05
    assert out.saturation.views == 0
    assert out.saturation.largest_h == pytest.approx(out.outputs.abs().max().item(), rel=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rnn(x)  # said once


@pytest.mark.rule("FMT-004")
def test_states_beyond_their_views_are_counted() -> None:
    rnn = RevLSTM(2, 4, p_max=1024, z_max=1024)
    h = torch.full((1, 3, 4), 100.0)
    h[:, :, 0] = 1.0
    for name, parameter in rnn.named_parameters():
        nn.init.constant_(parameter, 8.0 if name == "bias_l0" else 0.0)
    with pytest.warns(SaturationWarning, match=r"75\.0% of the states .*±31\.75"):
        out = rev_rnn(torch.zeros(2, 3, 2), dict(rnn.named_parameters()), rnn.config, hx=(h, 0 * h))
    assert out.saturation is not None
    assert out.saturation.views == 0.75
    assert 100 < out.saturation.largest_h < 103


@pytest.mark.rule("FMT-003", "GRAD-003")
def test_weights_beyond_their_range_are_counted_where_they_are_trained() -> None:
    rnn, x = RevGRU(2, 4), torch.zeros(3, 1, 2)
    hidden = rnn.get_parameter("weight_hh_l0")
    nn.init.constant_(hidden, -9.0)  # half of the weights, 24 of 48
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            rnn(x)
        for _ in range(2):  # an error is raised every time
            with pytest.raises(SaturationWarning, match=r"50\.0% of the weights .*±7\.94"):
                value_and_grad(rnn, x, x, lambda o, y: (o * y[..., :1]).mean())
        assert hidden.grad is None
    with pytest.warns(SaturationWarning) as caught:
        rnn(x)
    assert [one.filename for one in caught] == [__file__]  # the line that called


def test_advice_is_of_what_the_stack_has() -> None:
    for config, word in (
        (Config("revgru", 1, 2), "begin with smaller"),
        (Config("revgru", 1, 2, forgetting=False), "a cell that forgets"),
        (Config("revlstm", 1, 2), "p_max"),
    ):
        with pytest.warns(SaturationWarning, match=word):
            warn_of_saturation(Saturation(0.0, 0.5, 9.0), config)
        saturation._warned.clear()


def test_a_share_of_one_in_a_hundred_is_not_warned_of() -> None:
    config = Config("revgru", 1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_saturation(Saturation(0.01, 0.01, 1.0), config)
    with pytest.warns(SaturationWarning, match="inputs"):
        warn_of_saturation(Saturation(0.0101, 0.0, 1.0), config)


def test_streaming_reports_outputs_it_recovered() -> None:
    torch.manual_seed(0)
    rnn, linear = RevLSTM(3, 4), nn.Linear(4, 2)
    x = torch.randn(37, 2, 3)
    x[:, 0, 0] = 8.0
    y = torch.randint(2, (37, 2))

    def readout(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(linear(outputs).flatten(0, 1), targets.flatten())

    with pytest.warns(SaturationWarning):
        step = value_and_grad(rnn, x, y, readout, report=True)
    report, outputs = step.report, rnn(x)[0]
    assert report is not None
    assert report.saturation.inputs == pytest.approx(1 / 6)
    assert report.as_dict()["largest_h"] == pytest.approx(outputs.abs().max().item(), rel=1e-6)
    assert "saturated: inputs 16.67%" in str(report)
