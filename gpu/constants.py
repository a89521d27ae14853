"""What kernels are compiled for: one object of constants, ``K`` in every kernel."""

from __future__ import annotations

from dataclasses import dataclass

from .sizes import Sizes, power


@dataclass(frozen=True)
class Mode:
    """How a chunk is processed.

    Attributes:
        mask: whether some rows may not have a step.
        gains: whether layers multiply their inputs.
        keep: whether words are kept.
        stored: whether states are stored (GRAD-020).
    """

    mask: bool = False
    gains: bool = False
    keep: bool = True
    stored: bool = False


@dataclass(frozen=True)
class Constants:
    """Constants of kernels.

    Attributes:
        GRU: whether the cell is RevGRU.
        G: units of a group; ``Gp`` padded.
        N: gates; ``Ip``: padded width of the input.
        SLOTS: groups of all layers, 2·L.
        PLANES: planes of a group's tape.
        R_S: fraction bits of sums; ``R_H`` of states, ``VIEW`` of views.
        SHIFT: from a state to its view; ``XS`` from a recurrent product to the input's.
        LIMIT: the largest number of bits forgotten, 0 for no limit.
        Z_MAX: largest forget gate; ``P_MAX`` of RevLSTM's ``p``.
        FORGET: whether the stack forgets; ``WRAPS``: whether states can wrap.
        MASK: as in :class:`Mode`, like ``GAINS``, ``KEEP`` and ``STORED``.
        BM: rows of a tile; ``BN`` its units; ``BK`` summands of a block.
        CP: a power of two that holds an operation's counts of words; ``NP`` those of a row.
        FIRST: whether the layer is the first.
        REFILL: whether the words of the last operation are still to be taken.
    """

    GRU: bool
    G: int
    Gp: int
    N: int
    Ip: int
    SLOTS: int
    PLANES: int
    R_S: int
    R_H: int
    VIEW: int
    SHIFT: int
    XS: int
    LIMIT: int
    Z_MAX: int
    P_MAX: int
    FORGET: bool
    WRAPS: bool
    MASK: bool
    GAINS: bool
    KEEP: bool
    STORED: bool
    BM: int
    BN: int
    BK: int
    CP: int
    NP: int
    FIRST: bool = True
    REFILL: bool = False

    @property
    def NT(self) -> int:  # noqa: N802 - a constant of kernels
        """Tiles of a group's units."""
        return self.Gp // self.BN

    @property
    def STATES(self) -> int:  # noqa: N802
        """Operations on the buffer in a group's update."""
        return 1 if self.GRU else 2

    @property
    def U_SLOT(self) -> int:  # noqa: N802
        """Slot of RevGRU's u among the byte planes: after views and inputs with gains."""
        return 2 * self.SLOTS if self.GAINS else self.SLOTS

    @property
    def INPUT_SLOT(self) -> int:  # noqa: N802
        """Slot of the first layer's contribution to the layer above."""
        return self.SLOTS if self.GAINS else 0


def constants_of(sizes: Sizes, mode: Mode) -> Constants:
    """Return the constants of a configuration, batch and mode."""
    config, tiles, f = sizes.config, sizes.tiles, sizes.config.formats
    return Constants(
        GRU=config.cell == "revgru",
        G=sizes.units,
        Gp=sizes.padded_units,
        N=config.num_gates,
        Ip=sizes.length,
        SLOTS=sizes.slots,
        PLANES=sizes.planes,
        R_S=f.sum_bits,
        R_H=f.state_bits,
        VIEW=config.view_bits,
        SHIFT=f.state_bits - config.view_bits,
        XS=f.operand_bits - config.view_bits,
        LIMIT=config.max_forget_bits or 0,
        Z_MAX=config.resolved_z_max,
        P_MAX=config.resolved_p_max,
        FORGET=config.forgetting,
        WRAPS=config.can_wrap,
        MASK=mode.mask,
        GAINS=mode.gains,
        KEEP=mode.keep,
        STORED=mode.stored,
        BM=tiles.rows,
        BN=tiles.units,
        BK=tiles.block,
        CP=power(sizes.padded_rows * sizes.across),
        NP=power(sizes.across),
    )
