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
            lanes = [_Lane(size) for _ in spans[:2]]
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
                landing, current = lanes[k % 2].landing, cupy.cuda.get_current_stream()
                current.wait_event(landing.copied)
                yield slab
                landing.consumed.record(current)


class Landing:
    """A buffer on the device where slabs arrive, with the events that order its use.

    Parameters
    ----------
    size : float32 numbers
    """

    def __init__(self, size: int) -> None:
        cupy = namespace("cupy")
        self._there = cupy.empty(size, np.float32)
        self.copied = cupy.cuda.Event(disable_timing=True)
        self.consumed = cupy.cuda.Event(disable_timing=True)

    def bring(self, host: NDArray[np.float32], stream: Any) -> Any:
        """Start to copy `host`, pinned, once what lies here is consumed; returns the array here.

        Whoever reads it waits for `copied`, and then records `consumed`.
        """
        stream.wait_event(self.consumed)
        there = self._there[: host.size]
        there.set(host.reshape(-1), stream=stream)
        self.copied.record(stream)
        return there.reshape(host.shape)


def pinned(size: int) -> NDArray[np.float32]:
    """Memory of the host that the device can copy from by itself; nothing is written in it yet."""
    cuda = namespace("cupy").cuda
    # Not from cupy's pool, which would keep it from the system after the last use.
    memory = cuda.PinnedMemoryPointer(cuda.PinnedMemory(max(4 * size, 1)), 0)
    return np.frombuffer(memory, np.float32, size)


class _Lane:
    """One pinned buffer, and where it lands on the device."""

    def __init__(self, size: int) -> None:
        self._host = pinned(size)
        self.landing = Landing(size)

    def bring(
        self, stream: Any, shape: tuple[int, int, int], start: int, stop: int, read: Read
    ) -> Any:
        part = self._host[: int(np.prod(shape))].reshape(shape)
        self.landing.copied.synchronize()  # the last copy out of the pinned buffer
        read(start, stop, part)
        return self.landing.bring(part, stream)
