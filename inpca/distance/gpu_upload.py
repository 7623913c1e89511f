"""Slabs of predictions from the host to the device, the copy hidden behind the kernels."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.backend import namespace

Read = Callable[[int, int, NDArray[np.float32]], object]


class SlabUploader:
    """Slabs on the device, one after the other, the next one on its way meanwhile.

    A thread of the host reads slab k + 1 into pinned memory and a stream of its own copies it
    while the caller's kernels work on slab k: two pinned buffers, two on the device.

    Parameters
    ----------
    read : ``read(start, stop, out)`` fills `out` (m, stop − start, C) float32 with the samples
        from `start` to `stop`; called from another thread, one call at a time.
    bounds : sample numbers at which slabs begin, and the last one's end: ``[0, 512, …, N]``.
    n_models, n_classes : m and C.
    device : number of the GPU.
    """

    def __init__(
        self,
        read: Read,
        bounds: Sequence[int],
        n_models: int,
        n_classes: int,
        *,
        device: int | None = None,
    ) -> None:
        self.read, self.bounds = read, list(bounds)
        self.shape = (n_models, n_classes)
        self.device = 0 if device is None else device

    def __iter__(self) -> Iterator[Any]:
        """Each slab (m, n, C) float32; it is overwritten once the next one but one is asked for."""
        cupy = namespace("cupy")
        spans = list(zip(self.bounds[:-1], self.bounds[1:], strict=True))
        m, n_classes = self.shape
        size = m * n_classes * max((stop - start for start, stop in spans), default=0)
        with cupy.cuda.Device(self.device), ThreadPoolExecutor(1) as reader:
            lanes = [_Lane(cupy, size) for _ in spans[:2]]
            stream = cupy.cuda.Stream(non_blocking=True)

            def bring(k: int) -> Any:
                start, stop = spans[k]
                with cupy.cuda.Device(self.device):
                    return lanes[k % 2].bring(
                        stream, (m, stop - start, n_classes), start, stop, self.read
                    )

            ahead = [reader.submit(bring, k) for k in range(len(spans[:1]))]
            for k in range(len(spans)):
                slab = ahead.pop().result()
                if k + 1 < len(spans):
                    ahead.append(reader.submit(bring, k + 1))
                lane, current = lanes[k % 2], cupy.cuda.get_current_stream()
                current.wait_event(lane.copied)
                yield slab
                lane.consumed.record(current)


class _Lane:
    """One pinned buffer and its twin on the device, with the events that order their use."""

    def __init__(self, cupy: Any, size: int) -> None:
        self.pinned = cupy.cuda.alloc_pinned_memory(4 * size)
        self.host = np.frombuffer(self.pinned, np.float32, size)
        self.there = cupy.empty(size, np.float32)
        self.copied = cupy.cuda.Event(disable_timing=True)
        self.consumed = cupy.cuda.Event(disable_timing=True)

    def bring(
        self,
        stream: Any,
        shape: tuple[int, int, int],
        start: int,
        stop: int,
        read: Read,
    ) -> Any:
        size = int(np.prod(shape))
        self.copied.synchronize()  # the last copy out of the pinned buffer
        read(start, stop, self.host[:size].reshape(shape))
        stream.wait_event(self.consumed)  # the last kernel that reads the device buffer
        self.there[:size].set(self.host[:size], stream=stream)
        self.copied.record(stream)
        return self.there[:size].reshape(shape)
