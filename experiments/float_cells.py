"""RevGRU and RevLSTM in float arithmetic, all states stored: the cells without reversal or limit.

The equations of CELL-010 to CELL-022 with real gates, real states and ordinary automatic
differentiation. What a reversible network of the same parameters loses against this one is what
fixed point and the limit of forgetting cost.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .framework import StackSettings

# h, and c where there is one.
State = tuple[Tensor, ...]


class FloatRev(nn.Module):
    """A stack of float cells with the parameters of :class:`revrnn.torch_impl.RevGRU`."""

    def __init__(self, settings: StackSettings) -> None:
        """Make the parameters; the limit, the layout and the formats are not looked at."""
        super().__init__()
        assert settings.config is not None
        self.settings, self.config = settings, settings.config
        bound = self.config.hidden_size**-0.5
        for name, shape in self.config.parameter_shapes().items():
            value = torch.empty(shape).uniform_(-bound, bound)
            setattr(self, name, nn.Parameter(value))

    def fresh(self, rows: int) -> State:
        """Return zeros ``[L, B, H]``."""
        h = torch.zeros(self.config.num_layers, rows, self.config.hidden_size)
        return (h, torch.zeros_like(h)) if self.config.has_cell_state else (h,)

    def forward(
        self, x: Tensor, start: State, drop: Any, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return outputs ``[T, B, H]`` of inputs ``[T, B, I]`` and the final state."""
        assert mask is None
        ends = []
        for layer in range(self.config.num_layers):
            if layer:
                name, rate = f"{self.settings.name}.{layer}", self.settings.dropout
                x = drop(name, rate, x, self.settings.locked)
            dropped = self.settings.weight_drop if drop.is_active else 0.0
            x, end = self._layer(layer, x, [value[layer] for value in start], dropped)
            ends.append(end)
        return x, tuple(torch.stack(values) for values in zip(*ends, strict=True))

    def _layer(
        self, layer: int, x: Tensor, start: list[Tensor], weight_drop: float
    ) -> tuple[Tensor, list[Tensor]]:
        """Run one layer; groups and gates lie in the weights' rows as CELL-002 and CELL-003 say."""
        config = self.config
        gates, size = config.num_gates, config.group_size
        weight_hh = getattr(self, f"weight_hh_l{layer}")
        weight_hh = nn.functional.dropout(weight_hh, weight_drop)
        from_x = nn.functional.linear(
            x, getattr(self, f"weight_ih_l{layer}"), getattr(self, f"bias_l{layer}")
        )
        weights = torch.split(weight_hh, gates * size)
        hs, *cells = [list(torch.split(value, size, 1)) for value in start]
        cs = cells[0] if cells else []
        step = _gru if config.cell == "revgru" else _lstm
        caps = config.resolved_z_max / 1024, config.resolved_p_max / 1024
        outputs = []
        for part in from_x.unbind():
            for own, s in enumerate(torch.split(part, gates * size, 1)):  # CELL-004
                step(hs, cs, own, s, weights[own], caps)
            outputs.append(torch.cat(hs, 1))
        return torch.stack(outputs), [torch.cat(parts, 1) for parts in (hs, cs) if parts]


def _gru(
    hs: list[Tensor],
    _: list[Tensor],
    own: int,
    from_x: Tensor,
    weight: Tensor,
    caps: tuple[float, float],
) -> None:
    """Update one group: CELL-010 to CELL-012."""
    v, size = hs[1 - own], hs[own].shape[1]
    s_zr = from_x[:, : 2 * size] + v @ weight[: 2 * size].T
    z, r = torch.sigmoid(s_zr).chunk(2, 1)
    z = z.clamp(max=caps[0])  # FMT-005
    g = torch.tanh(from_x[:, 2 * size :] + (r * v) @ weight[2 * size :].T)
    hs[own] = torch.lerp(g, hs[own], z)


def _lstm(
    hs: list[Tensor],
    cs: list[Tensor],
    own: int,
    from_x: Tensor,
    weight: Tensor,
    caps: tuple[float, float],
) -> None:
    """Update one group: CELL-020 to CELL-022."""
    # FMT-005, FMT-007: with the caps no state grows without end.
    f, i, g, o, p = (from_x + hs[1 - own] @ weight.T).chunk(5, 1)
    cs[own] = torch.sigmoid(f).clamp(max=caps[0]) * cs[own] + torch.sigmoid(i) * torch.tanh(g)
    hs[own] = torch.sigmoid(p).clamp(max=caps[1]) * hs[own] + torch.sigmoid(o) * torch.tanh(cs[own])
