"""Gradients: recovered states against stored ones, frameworks and autograd against the oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agreement import assert_agree, both_gradients, equal_bits
from revrnn import Config
from revrnn.conformance.contents import Arguments, Shape, gradient_arguments, sequence_arguments
from revrnn.evaluation import Implementation, load
from strategies import FIXED, SEEDS, name_of

fixed = pytest.mark.parametrize("setup", FIXED, ids=name_of)
RULES = (
    "GRAD-001",
    "GRAD-002",
    "GRAD-010",
    "GRAD-011",
    "GRAD-012",
    "GRAD-013",
    "GRAD-014",
    "GRAD-015",
    "GRAD-016",
)


def drawn(setup: tuple[Config, Shape], seed: int, weights: str, states: str) -> Arguments:
    generator = np.random.default_rng(seed)
    arguments = sequence_arguments(*setup, generator, weights, "usual", states, "random")
    return gradient_arguments(arguments, generator)


@pytest.mark.rule("GRAD-020", "GRAD-021", *RULES)
@fixed
@pytest.mark.parametrize("name", ["torch", "jax"])
@given(
    seed=SEEDS,
    weights=st.sampled_from(("zero", "small", "usual")),
    states=st.sampled_from(("zero", "usual", "large")),
)
def test_gradients(
    oracle: Implementation,
    name: str,
    setup: tuple[Config, Shape],
    seed: int,
    weights: str,
    states: str,
) -> None:
    """Equal bit for bit from recovered and stored states, and close to the oracle's."""
    other = load(name)
    arguments = drawn(setup, seed, weights, states)
    recovered = other.evaluate("sequence_gradient", arguments | {"states": "reversed"})
    stored = other.evaluate("sequence_gradient", arguments | {"states": "stored"})
    assert equal_bits(recovered, stored)
    assert_agree(oracle, other, "sequence_gradient", arguments | {"states": "reversed"}, recovered)


@pytest.mark.rule("GRAD-020")
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_where_states_come_from_changes_no_rounding(name: str) -> None:
    """Of many rows: compilers that round a product and a sum once in some programs are noticed."""
    config, shape = next(one for one in FIXED if not one[0].forgetting)
    request = drawn((config, replace(shape, rows=64)), 1, "usual", "usual")
    assert equal_bits(*both_gradients(load(name), request))


@pytest.mark.rule("GRAD-020")
@fixed
@given(seed=SEEDS)
def test_oracle_gradients_do_not_depend_on_where_states_come_from(
    oracle: Implementation, setup: tuple[Config, Shape], seed: int
) -> None:
    arguments = drawn(setup, seed, "large", "large")
    recovered = oracle.evaluate("sequence_gradient", arguments | {"states": "reversed"})
    assert equal_bits(
        recovered, oracle.evaluate("sequence_gradient", arguments | {"states": "stored"})
    )


class Exact(torch.autograd.Function):
    """Give an exact value forward and a given derivative backward: a straight-through estimator."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor, slope: torch.Tensor) -> Any:
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None


def exact_value(x: torch.Tensor, value: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Return ``value`` with the derivative ``slope`` with respect to ``x``."""
    out: torch.Tensor = Exact.apply(x, value, slope)  # type: ignore[no-untyped-call]
    return out


class Autograd:
    """The network as an ordinary float64 graph around the oracle's exact numbers.

    It shares with the oracle's gradients only the exact elementary operations; all derivatives of
    sums and products are autograd's.
    """

    def __init__(self, config: Config, arguments: Arguments, oracle: Implementation) -> None:
        self.config, self.oracle = config, oracle
        f = config.formats
        self.leaves: dict[str, torch.Tensor] = {}
        for name in config.parameter_shapes():
            bits = f.sum_bits if name.startswith("bias") else f.weight_bits
            self.leaf(name, arguments[name], bits)
        self.leaf("x", arguments["x"], f.operand_bits)
        for name in ("h", "c")[: config.state_arrays]:
            self.leaf(name, arguments[name], f.state_bits)

    def leaf(self, name: str, integers: Any, bits: int) -> None:
        self.leaves[name] = torch.tensor(integers.astype(np.float64) / 2.0**bits).requires_grad_()

    def ask(self, operation: str, result: str, **arguments: Any) -> torch.Tensor:
        got = self.oracle.evaluate(operation, arguments)[result]
        return torch.from_numpy(got.astype(np.float64))

    def view(self, h: torch.Tensor, exact: Any) -> torch.Tensor:
        f, bits = self.config.formats, self.config.view_bits
        value = self.ask("view", "a", h=exact, state_bits=f.state_bits, view_bits=bits)
        unclipped = np.floor(exact / 2.0 ** (f.state_bits - bits) + 0.5)
        passes = torch.from_numpy((np.abs(unclipped) <= 32512).astype(np.float64))
        return exact_value(h, value / 2.0**bits, passes)

    def gained(self, a: torch.Tensor, gain: Any) -> torch.Tensor:
        scale = 2.0**self.config.view_bits
        unclipped = torch.floor(a.detach() * scale * torch.from_numpy(gain / 4096) + 0.5)
        passes = (unclipped.abs() <= 32512).double() * torch.from_numpy(gain / 4096)
        return exact_value(a, unclipped.clamp(-32512, 32512) / scale, passes)

    def gate(self, kind: str, s: torch.Tensor) -> torch.Tensor:
        """Apply an activation to an exact pre-activation, recovered from its float64 value."""
        config, bits = self.config, self.config.formats.sum_bits
        integers = torch.round(s.detach() * 2.0**bits).to(torch.int64).numpy()
        if kind == "tanh":
            y = self.ask("tanh", "y", s=integers, bits=bits) / 2**15
            return exact_value(s, y, 1 - y * y)
        y = self.ask("sigmoid", "y", s=integers, bits=bits) / 2**15
        if kind == "sigmoid":
            return exact_value(s, y, y * (1 - y))
        n = config.max_forget_bits
        settings = {"s": integers, "bits": bits, "max_forget_bits": n}
        cap = config.resolved_p_max if kind == "forget p" else config.resolved_z_max
        z = self.ask("forget_gate", "z", **settings, z_max=cap)
        share = 0.0 if n is None else 2.0**-n
        unclipped = torch.floor((share + (1 - share) * y) * 1024 + 0.5)
        passes = ((unclipped >= 1) & (unclipped <= cap)).double()
        return exact_value(s, z / 1024, (1 - share) * y * (1 - y) * passes)

    def group(
        self, layer: int, group: int, x: Any, own: Any, c: Any, other: Any, exact: Any
    ) -> Any:
        config, f, units = self.config, self.config.formats, self.config.group_size
        w_ih, w_hh, bias = (
            self.leaves[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias")
        )

        def s(gate: str, v: torch.Tensor) -> torch.Tensor:
            start = (group * config.num_gates + config.gates.index(gate)) * units
            rows = slice(start, start + units)
            out: torch.Tensor = x @ w_ih[rows].T + v @ w_hh[rows].T + bias[rows]
            return out

        def to(value: torch.Tensor, name: str) -> torch.Tensor:
            """Replace a state's smooth value by the exact one."""
            target = torch.from_numpy(exact[name].astype(np.float64)) / 2.0**f.state_bits
            return value + (target - value).detach()

        v = self.view(other, exact["other"])
        if config.cell == "revgru":
            z, r = self.gate("forget", s("z", v)), self.gate("sigmoid", s("r", v))
            scale = 2.0**config.view_bits
            u = r * v
            u = u + (torch.floor(u * scale + 0.5) / scale - u).detach()
            g = self.gate("tanh", s("g", u))
            kept = own * z if config.forgetting else own
            return to(kept + (1 - z) * g, "h"), None
        i, g, o = (
            self.gate(kind, s(name, v))
            for kind, name in (("sigmoid", "i"), ("tanh", "g"), ("sigmoid", "o"))
        )
        if config.forgetting:
            c, own = c * self.gate("forget", s("f", v)), own * self.gate("forget p", s("p", v))
        c = to(c + i * g, "c")
        t = self.ask("tanh", "y", s=exact["c"].astype(np.int64), bits=f.state_bits) / 2**15
        return to(own + o * exact_value(c, t, 1 - t * t), "h"), c

    def run(self, arguments: Arguments) -> dict[str, Any]:
        """Return the gradients under the names of ``sequence_gradient``."""
        config, units = self.config, self.config.group_size
        forward = self.oracle.evaluate(
            "sequence_forward",
            {k: v for k, v in arguments.items() if not k.startswith("grad")} | {"trace": True},
        )
        h = [list(layer.split(units, 1)) for layer in self.leaves["h"]]
        c = [list(layer.split(units, 1)) for layer in self.leaves.get("c", [])]
        steps = len(arguments["x"])
        outputs = []
        past = {"h_steps": arguments["h"], "c_steps": arguments.get("c")}
        for t in range(steps):
            keep = torch.from_numpy(arguments["mask"][t])[:, None]
            for layer in range(config.num_layers):
                x = self.leaves["x"][t]
                if layer:
                    exact_below = forward["h_steps"][t][layer - 1]
                    x = self.view(torch.cat(h[layer - 1], 1), exact_below)
                    if "gains" in arguments:
                        x = self.gained(x, arguments["gains"][t, layer - 1])
                for group in (0, 1):
                    columns = [slice(g * units, (g + 1) * units) for g in (0, 1)]
                    source = past["h_steps"] if group == 0 else forward["h_steps"][t]
                    exact = {
                        "other": source[layer][:, columns[1 - group]],
                        "h": forward["h_steps"][t][layer][:, columns[group]],
                    }
                    own_c = None
                    if c:
                        exact["c"] = forward["c_steps"][t][layer][:, columns[group]]
                        own_c = c[layer][group]
                    new_h, new_c = self.group(
                        layer, group, x, h[layer][group], own_c, h[layer][1 - group], exact
                    )
                    h[layer][group] = torch.where(keep, new_h, h[layer][group])
                    if c:
                        c[layer][group] = torch.where(keep, new_c, c[layer][group])
            past = {name: forward[name][t] for name in past if name in forward}
            outputs.append(torch.cat(h[-1], 1))
        loss = sum(
            (
                (out * torch.from_numpy(grad)).sum()
                for out, grad in zip(outputs, arguments["grad_outputs"], strict=True)
            ),
            torch.zeros(()),
        )
        for name, state in (("grad_h", h), ("grad_c", c)):
            if state:
                final = torch.stack([torch.cat(layer, 1) for layer in state])
                loss = loss + (final * torch.from_numpy(arguments[name])).sum()
        names = list(self.leaves)
        gradients = torch.autograd.grad(loss, [self.leaves[name] for name in names])
        return {f"grad_{name}": g.numpy() for name, g in zip(names, gradients, strict=True)}


@pytest.mark.rule(*RULES)
@pytest.mark.parametrize(
    "config",
    [
        Config("revgru", 3, 6, 2, max_forget_bits=3, slice_size=1),
        Config("revgru", 2, 4, 1),
        Config("revgru", 2, 4, 2, forgetting=False),
        Config("revlstm", 3, 6, 2, max_forget_bits=2, slice_size=1),
        Config("revlstm", 2, 4, 1),
        Config("revlstm", 2, 4, 2, forgetting=False),
    ],
    ids=lambda config: f"{config.cell}-{config.forgetting}-{config.max_forget_bits}",
)
@given(
    seed=SEEDS, states=st.sampled_from(("zero", "usual", "large", "extreme")), gains=st.booleans()
)
def test_oracle_against_autograd(
    oracle: Implementation, config: Config, seed: int, states: str, gains: bool
) -> None:
    arguments = drawn((config, Shape(4, 2, gains)), seed, "usual", states)
    wanted = Autograd(config, arguments, oracle).run(arguments)
    got = oracle.evaluate("sequence_gradient", arguments | {"states": "reversed"})
    assert set(got) == set(wanted)
    for name, gradient in wanted.items():
        scale = np.abs(gradient).max() + 1e-9
        assert np.abs(got[name] - gradient).max() <= 1e-7 * scale, name
