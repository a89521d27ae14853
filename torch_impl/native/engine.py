"""The native engine behind the seam; numba is imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor

from revrnn.config import Config

from ..compiled import steps_are_compiled
from ..conversions import Conversions
from ..engine import Engine, Settings, Work
from ..engines import chosen_engine
from ..product import chosen_method
from ..sequence import Schedule

# Numbers of a readout's weight from which on compiling its kernels is worth it.
_LARGE: Final = 2**20


@cache
def _fault() -> str | None:
    """Return what is wrong with numba or with what it compiles, once per process."""
    try:
        products: Any = import_module("revrnn.native.products")
        import_module(".work", __package__)
        right = products.self_check()
    except MemoryError:  # which says nothing of numba, and may be over next time
        raise
    except Exception as error:  # whatever a broken installation raises: eager goes on
        return f"numba cannot be used ({type(error).__name__}: {str(error).splitlines()[:1]})"
    return None if right else "its products are wrong on this processor"


def compiled_readout(linear: Any, x: Tensor) -> Any:
    """Return :func:`.readout.losses_and_gradients` where it is faster than PyTorch's products.

    Which is used depends on processor, sizes and the engine chosen, not on a measurement: the
    losses of two processes on one machine are the same bits.
    """
    w, tensors = linear.weight, (x, linear.weight, linear.bias)
    plain = all(
        t is None or (t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous())
        for t in tensors
    )
    if not plain or w.numel() < _LARGE or chosen_engine() not in ("auto", "native"):
        return None
    if _fault() is not None or not import_module("revrnn.native.tiles").AHEAD:
        return None
    if torch.get_num_threads() > 1 and not import_module("revrnn.native.threads").POSIX:
        return None  # one thread would do it all
    return import_module(".readout", __package__).losses_and_gradients


class NativeEngine(Engine):
    """A chunk of steps in one compiled call, on the processor."""

    name = "native"
    # At 200 units Python takes a tenth of a chunk's time. Operands and outputs of a step take 6
    # bytes a unit, what the way back over it needs some 60.
    ahead = 4

    def refusal(self, config: Config, device: torch.device, settings: Settings) -> str | None:
        """Refuse other devices, other buffers, and what was chosen that it does not have."""
        if device.type != "cpu":
            return f"it computes on the CPU, and the parameters are on {device}"
        if config.forgetting and config.buffer != "stream":
            return f"it has the buffer 'stream', and the configuration asks for {config.buffer!r}"
        if steps_are_compiled():
            return "compiled_steps is chosen, which are the eager engine's"
        if chosen_method() != "auto":
            return f"product_method {chosen_method()!r} is chosen, and it has its own product"
        return _fault()

    @cached_property
    def conversions(self) -> Conversions:
        """Compiled ones."""
        made: Conversions = import_module(".conversions", __package__).CONVERSIONS
        return made

    def prepare(
        self, config: Config, params: Mapping[str, Tensor], schedule: Schedule, settings: Settings
    ) -> Work:
        """Prepare the weights."""
        work: Any = import_module(".work", __package__)
        made: Work = work.NativeWork(config, params, schedule, settings)
        return made

    def product(self, config: Config, device: torch.device) -> str:
        """Return the product's name and what of the processor it takes."""
        products: Any = import_module("revrnn.native.products")
        return str(products.PRODUCT)


ENGINE = NativeEngine()
