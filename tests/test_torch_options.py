"""Options of RevGRU and RevLSTM: dropout, resets, slices, checkpoints, offloading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch_results import both, close, gradients_of, same

from revrnn.evaluation import Implementation
from revrnn.torch_impl import RevGRU, quantise_parameters, rev_rnn, set_engine, value_and_grad
from revrnn.torch_impl.quantise import quantise


@both
@pytest.mark.rule("SEQ-012", "GRAD-016", "GRAD-020")
def test_dropout_repeats_in_the_backward_pass(kind: Any) -> None:
    """Reversed and stored, and at any chunk size, the same bits; no two calls the same units."""
    x, output_sets = torch.randn(14, 3, 4, generator=torch.Generator().manual_seed(0)), []
    for locked in (False, True):
        torch.manual_seed(5)
        module = kind(4, 6, 3, dropout=0.4, locked_dropout=locked)
        params = dict(module.named_parameters())
        gains = module.gains(3, x.device)
        assert torch.equal(gains(3), gains(3))
        assert torch.equal(gains(3), gains(4)) == locked
        assert set(gains(0).unique().tolist()) == {0, 6827}  # 4096 / 0.6
        results = []
        for chunk in (1, 2, 7, 14):
            for states in ("reversed", "stored"):
                out = rev_rnn(
                    x, params, module.config, gains=gains, chunk_size=chunk, states=states
                )
                (out.outputs * torch.linspace(-1, 1, 6)).sum().backward()  # type: ignore[no-untyped-call]
                results.append((chunk, out.outputs.detach(), gradients_of(module)))
        assert all(torch.equal(results[0][1], outputs) for _, outputs, _ in results)
        for a, b in zip(results[::2], results[1::2], strict=True):
            assert same(a[2], b[2])
            assert close(a[2], results[0][2])
        output_sets.append(results[0][1])
        assert not torch.equal(module(x)[0], module(x)[0])
        module.eval()
        assert torch.equal(module(x)[0], module(x)[0])
    assert not torch.equal(*output_sets)


@both
@pytest.mark.rule("SEQ-013", "GRAD-016", "SEQ-008")
def test_resets_are_segments(oracle: Implementation, kind: Any) -> None:
    """The oracle, run in segments, gives the same; reversed and stored gradients are equal."""
    torch.manual_seed(6)
    module, steps, rows = kind(3, 6, 3, slice_size=1), 9, 4
    params, config = dict(module.named_parameters()), module.config
    x = torch.randn(steps, rows, 3, requires_grad=True)
    resets = torch.rand(steps, rows) < 0.2
    resets[0, 1] = resets[5] = True
    mask = torch.rand(steps, rows) < 0.8
    state = rev_rnn(x.detach(), params, config).state  # not zero, heads not fresh
    exact: dict[str, Any] = {n: v.numpy() for n, v in quantise_parameters(params, config).items()}
    exact |= {"config": config.as_dict(), "h": state.h.numpy()}
    assert state.heads is not None
    exact["heads"] = state.heads.to(torch.int64).numpy()
    if state.c is not None:
        exact["c"] = state.c.numpy()
    outputs = []
    for t in range(steps):
        for name in ("h", "c"):
            if name in exact:
                exact[name] = np.where(resets[t].numpy()[None, :, None], 0, exact[name])
        exact["x"] = quantise("operand", x[t : t + 1].detach(), config.formats).numpy()
        exact["mask"] = mask[t : t + 1].numpy()
        segment = oracle.evaluate("sequence_forward", exact)
        exact |= {name: segment[name] for name in ("h", "c", "heads") if name in segment}
        outputs.append(segment["outputs"])
    results = []
    for states, chunk, every in (
        ("stored", 4, None),
        ("reversed", 4, None),
        ("reversed", 4, 4),
        ("reversed", 1, None),
    ):
        out = rev_rnn(
            x,
            params,
            config,
            state=state,
            mask=mask,
            resets=resets,
            states=states,
            chunk_size=chunk,
            checkpoint_every=every,
        )
        assert np.array_equal(out.state.h.numpy(), exact["h"])
        assert out.state.heads is not None
        assert np.array_equal(out.state.heads.numpy(), exact["heads"])
        scaled = np.concatenate(outputs).astype(np.float32) / np.float32(2**23)
        assert np.array_equal(out.outputs.detach().numpy(), scaled)
        (out.outputs**2).sum().backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        results.append(gradients_of(module) | {"x": x.grad})
        x.grad = None
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    assert close(results[3], results[0])
    # Row 0 of step 0 has no part in what row 0 gives after its last reset.
    out = rev_rnn(x, params, config, state=state, resets=resets)
    out.outputs[5:].sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert (x.grad[:5] == 0).all()
    assert (x.grad[5:] != 0).any()


@both
@pytest.mark.rule("SEQ-009")
def test_checkpoints_and_offloading_change_nothing(kind: Any) -> None:
    torch.manual_seed(8)
    x, results, outputs = torch.randn(30, 2, 3, requires_grad=True), [], []
    module = kind(3, 6, 2, chunk_size=4)
    for every, offload, buffer in (
        (None, False, "stream"),
        (8, False, "stream"),
        (9, True, "stream"),
        (400, True, "stream"),
        (8, False, "wordlist"),
        (None, True, "wordlist"),
    ):
        other = kind(3, 6, 2, chunk_size=4, checkpoint_every=every, offload=offload, buffer=buffer)
        other.load_state_dict(module.state_dict(), strict=False)  # of another layout, perhaps
        own_outputs, _ = other(x)
        (own_outputs**2).sum().backward()
        outputs.append(own_outputs.detach())
        assert x.grad is not None
        results.append(gradients_of(other) | {"x": x.grad})
        x.grad = None
    # The layouts differ in the lowest bits of states, which hold what the buffer gave back.
    for first, others in ((0, (1, 2, 3)), (4, (5,))):
        assert all(torch.equal(outputs[first], outputs[other]) for other in others)
        assert all(same(results[first], results[other]) for other in others)


@both
@pytest.mark.parametrize("engine", ["eager", "native"])
def test_a_retained_graph_gives_the_same_gradients_again(kind: Any, engine: str) -> None:
    """What a backward pass consumed comes back from one more forward pass."""
    torch.manual_seed(9)
    x = torch.randn(9, 3, 2, requires_grad=True)
    mask, resets = torch.rand(9, 3) > 0.3, torch.rand(9, 3) > 0.7
    set_engine(engine)
    try:
        for every in (None, 4):
            module = kind(2, 6, 2, dropout=0.5, weight_drop=0.3, chunk_size=2)
            module.checkpoint_every = every
            outputs, last = module(x, mask=mask, resets=resets)
            h = last[0] if isinstance(last, tuple) else last
            inputs = [x, *module.parameters()]
            whole = [torch.autograd.grad(outputs.sum() + h.sum(), inputs, retain_graph=True)]
            whole.append(torch.autograd.grad(outputs.sum() + h.sum(), inputs, retain_graph=True))
            assert all(torch.equal(a, b) for a, b in zip(*whole, strict=True))
            outputs.sum().backward(retain_graph=True)
            h.sum().backward()
            for one, wanted in zip(inputs, whole[0], strict=True):
                assert torch.allclose(one.grad, wanted, rtol=1e-4, atol=1e-5)
            x.grad = None
            outputs, last = module(x, module.initial_state(3))
            outputs.sum().backward(retain_graph=True)
            last.h.zero_()
            outputs.sum().backward()
            x.grad = None
    finally:
        set_engine("auto")


@pytest.mark.parametrize(("steps", "size"), [(17, 16), (33, 16), (9, 4), (241, 16)])
def test_no_chunk_of_one_step_is_left_over(steps: int, size: int) -> None:
    """Layers that need several steps fail on one, and its mean over steps does not show."""
    module, seen = RevGRU(2, 4), list[int]()
    norm = torch.nn.InstanceNorm1d(2)

    def readout(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(outputs.numel() // 8)  # len() would have more steps tried
        each = outputs.permute(1, 2, 0)[:, :2]
        norm(each)
        return (outputs - targets).square().mean()

    x, y = torch.randn(steps, 2, 2), torch.randn(steps, 2, 4)
    torch.manual_seed(0)
    step = value_and_grad(module, x, y, readout, chunk_size=size, checkpoint_every=8)
    assert sum(seen) == steps
    assert 1 < min(seen) <= max(seen) <= size
    assert torch.allclose(step.loss, (module(x)[0] - y).square().mean(), rtol=1e-5)
