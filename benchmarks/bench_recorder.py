"""What a checkpoint costs to record, beside a plain file of the same bytes that is fsynced.

    python benchmarks/bench_recorder.py [--folder FOLDER]

Wall time depends on the disk; processor time does not. Both kinds of write alternate, so that a
busy disk slows both alike.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import inpca

N_CLASSES = 10


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of `action`."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def write_plain(path: Path, values: np.ndarray) -> None:
    with open(path, "wb") as file:
        file.write(values.tobytes())
        file.flush()
        os.fsync(file.fileno())


def measure(folder: Path, n_samples: int, n_checkpoints: int) -> None:
    rng = np.random.default_rng(0)
    sizes = {"train": n_samples, "test": n_samples // 5}
    log_p = {
        name: np.log(rng.dirichlet(np.ones(N_CLASSES), n)).astype(np.float32)
        for name, n in sizes.items()
    }
    ensemble = inpca.create_ensemble(
        folder / f"{n_samples}.ensemble",
        sample_sets={name: np.arange(n) % N_CLASSES for name, n in sizes.items()},
        n_classes=N_CLASSES,
    )
    ours, plain = [], []
    with ensemble.start_run("a", {"lr": 0.1}) as writer:
        for k in range(n_checkpoints):
            ours.append(timed(lambda k=k: writer.append(log_p, step=k, epoch=k)))
            plain.append(timed(lambda k=k: write_plain(folder / f"{k}.raw", log_p["train"])))
    wall, cpu = np.median(ours[1:], axis=0) * 1e3
    floor = np.median(plain, axis=0)[0] * 1e3
    print(
        f"{n_samples:>7,} × {N_CLASSES}: {wall:6.1f} ms a checkpoint ({cpu:5.1f} ms of processor "
        f"time), {wall / floor:4.1f} × one fsynced file of {log_p['train'].nbytes / 1e6:.2f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where to write; default: the system's temporary folder")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as folder:
        for n_samples, n_checkpoints in ((500, 200), (5_000, 100), (50_000, 30)):
            measure(Path(folder), n_samples, n_checkpoints)


if __name__ == "__main__":
    main()
