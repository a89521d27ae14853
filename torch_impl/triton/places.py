"""Arrays and CUDA graphs that passes use in turn.

The kernels of a chunk are captured once as a CUDA graph and replayed; nothing within a chunk waits
for the host. Arrays are kept by configuration, batch and chunk size, and serve one pass after
another.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from revrnn.config import Config

from ...gpu.constants import Mode
from ...gpu.sizes import Tiles
from ..engine import Settings
from ..sequence import Schedule
from .arrays import Arrays
from .launch import Launcher
from .launch_persistent import PersistentLauncher, tiles_together

lock = threading.RLock()


class Holder(Protocol):
    """A pass whose state may be in a place's arrays."""

    place: Place | None

    def enter(self, arrays: Arrays) -> None:
        """Bring the state into arrays."""

    def leave(self, arrays: Arrays) -> None:
        """Take the state out of arrays that another pass wants."""


class Place:
    """Arrays, the pass that works in them, and the graphs captured over them."""

    def __init__(self, arrays: Arrays) -> None:
        """Take new arrays."""
        self.arrays = arrays
        self.holder: weakref.ref[Holder] | None = None
        self.tape_open = False
        self.stream: Any = None
        self.ran: set[Any] = set()
        self.graphs: dict[Any, Any] = {}

    def free(self) -> bool:
        """Say whether another pass may take the arrays."""
        return not self.tape_open or self.holder is None or self.holder() is None

    def follow(self) -> None:
        """Let the present stream wait for the one that worked in the arrays before."""
        if self.arrays.device.type == "cuda":
            stream = torch.cuda.current_stream(self.arrays.device)
            if self.stream is not None and stream != self.stream:
                stream.wait_stream(self.stream)
            self.stream = stream

    def run(self, key: Any, launch: Callable[[], None]) -> None:
        """Launch, from the second time that a key is seen as one graph; without a key never."""
        if (
            key is None
            or self.arrays.device.type != "cuda"
            or torch.cuda.is_current_stream_capturing()
        ):
            launch()
        elif key in self.graphs:
            self.graphs[key].replay()
        elif key not in self.ran:  # compiles
            launch()
            self.ran.add(key)
        else:
            self.graphs[key] = _captured(launch)
            self.graphs[key].replay()


def _captured(launch: Callable[[], None]) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call,unused-ignore]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")
        launch()
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
    return graph


# By configuration, batch, chunk size, device and tiles; the one used last comes last.
_places: dict[Any, list[Place]] = {}
_KEPT = 8


def release() -> None:
    """Drop the arrays and graphs that are kept for later passes."""
    with lock:
        _places.clear()


class Prepared:
    """A stack with its weights in fixed point, its schedule, and places to work in."""

    def __init__(
        self,
        config: Config,
        params: Mapping[str, Tensor],
        schedule: Schedule,
        settings: Settings,
        persistent: bool = False,
    ) -> None:
        """Take what all passes share, and whether one launch takes many steps where it can."""
        self.config, self.schedule, self.settings = config, schedule, settings
        self.params, self.persistent = dict(params), persistent

    def _together(self, batch: int, device: torch.device) -> Tiles | None:
        return tiles_together(self.config, batch, device) if self.persistent else None

    def launcher(self, arrays: Arrays, mode: Mode) -> Launcher:
        """Return what launches kernels over arrays."""
        together = self._together(arrays.batch, arrays.device)
        return (PersistentLauncher if together else Launcher)(arrays, mode)

    def place(self, holder: Holder, batch: int, device: torch.device) -> Place:
        """Return arrays that the pass may work in, its state brought there."""
        place = holder.place
        if place is None:
            place = self._free(batch, device)
            before = None if place.holder is None else place.holder()
            if before is not None:
                before.leave(place.arrays)
            place.holder, place.tape_open = weakref.ref(holder), False
            holder.enter(place.arrays)
        place.follow()
        if place.arrays.loaded is not self.params:
            place.arrays.load_weights(self.params)
            place.arrays.loaded = self.params
        return place

    def _free(self, batch: int, device: torch.device) -> Place:
        """Return arrays that no pass needs at the moment."""
        tiles = self._together(batch, device) or Tiles.for_batch(batch)
        key = (self.config, batch, self.settings.chunk_size, device, tiles)
        places = _places.pop(key, [])
        _places[key] = places  # as the one used last
        while len(_places) > _KEPT:
            del _places[next(iter(_places))]
        free = [place for place in places if place.free()]
        if free:
            free[0].follow()
            return free[0]
        steps = self.settings.chunk_size
        # They also serve passes that are not in inference mode.
        with torch.inference_mode(False):
            arrays = Arrays(self.config, batch, steps, device, tiles)
        places.append(Place(arrays))
        return places[-1]
