"""A small ensemble with the shape of a real one, and a browser to look at pages with."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

LABELS = np.random.default_rng(1).integers(0, 10, 60)


@dataclass
class Picture:
    """What the drawing functions take."""

    embedding: Any
    models: pd.DataFrame
    projected: np.ndarray
    projected_models: pd.DataFrame

    @property
    def held_out(self) -> dict[str, Any]:
        return {"projected": self.projected, "projected_models": self.projected_models}


def embedded(distances: np.ndarray, n_components: int) -> SimpleNamespace:
    """InPCA of a small distance matrix by the formulas, with the attributes of a fitted one."""
    means = distances.mean(axis=1)
    centred = -0.5 * (distances - means[:, None] - means[None] + means.mean())
    values, vectors = np.linalg.eigh(centred)
    order = np.argsort(-np.abs(values))[:n_components]
    values, vectors = values[order], vectors[:, order]
    stress = np.cumsum(values**2) / (centred**2).sum()
    return SimpleNamespace(
        embedding_=vectors * np.sqrt(np.abs(values)),
        eigenvalues_=values,
        signature_=np.where(values < 0, -1, 1),
        eigenvectors_=vectors,
        explained_stress_=stress,
        explained_stress_root_=1 - np.sqrt(np.maximum(1 - stress, 0)),
        row_means_=means,
    )


def trainings(n_runs: int, n_checkpoints: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Log-probabilities that move from ignorance towards truth, and their models table."""
    rng = np.random.default_rng(0)
    right = np.eye(10)[LABELS]
    hard = rng.gamma(2.0, 0.5, (len(LABELS), 1))
    tastes = rng.normal(0, 0.5, (4, *right.shape))
    rows, tables = [], []
    for run in range(n_runs):
        architecture = ("attention", "cnn", "linear", "mlp")[run % 4]
        optimizer = ("adam", "sgd")[run // 4 % 2]
        own = tastes[run % 4] + rng.normal(0, 0.2, right.shape)
        for checkpoint in range(n_checkpoints):
            way = 9 * (checkpoint / max(n_checkpoints - 1, 1)) ** 1.5
            logits = 1.5 * np.maximum(way - hard, 0) * right + own * min(1, way)
            log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            tables.append(log_p)
            loss = float(-(log_p * right).sum(axis=-1).mean())
            error = float((log_p.argmax(axis=-1) != LABELS).mean())
            run_id = f"{architecture}-{optimizer}-{run // 8}"
            rows.append(
                {
                    "model": f"{run_id}/{checkpoint}",
                    "run": run_id,
                    "checkpoint": checkpoint,
                    "step": 10 * checkpoint,
                    "kind": "checkpoint",
                    "architecture": architecture,
                    "optimizer": optimizer,
                    "seed": run // 8,
                    "train_loss": max(loss, 1e-4),
                    "train_error": error,
                }
            )
    return np.array(tables), pd.DataFrame(rows).set_index("model")


def with_references(log_p: np.ndarray, models: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Ignorance and truth in front, as an ensemble gives them."""
    truth = np.log(np.maximum(np.eye(10)[LABELS], 2.0**-124))
    both = np.stack([np.full_like(truth, -np.log(10)), truth])
    keys = pd.Index(["@ignorance", "@truth"], name="model")
    rows = pd.DataFrame({"run": ["", ""], "kind": ["reference", "reference"]}, index=keys)
    return np.concatenate([both, log_p]), pd.concat([rows, models])


def bhattacharyya(log_p: np.ndarray) -> np.ndarray:
    roots = np.exp(log_p / 2)
    distances = np.zeros((len(roots), len(roots)))
    for sample in range(roots.shape[1]):
        distances -= np.log(roots[:, sample] @ roots[:, sample].T)
    distances /= roots.shape[1]
    own = np.diag(distances).copy()
    return distances - (own[:, None] + own[None]) / 2


def make_picture(
    n_runs: int = 10,
    n_checkpoints: int = 6,
    n_components: int = 12,
    n_held_out: int = 2,
    references: bool = True,
) -> Picture:
    log_p, models = trainings(n_runs, n_checkpoints)
    if references:
        log_p, models = with_references(log_p, models)
    distances = bhattacharyya(log_p)
    held = np.arange(len(models)) >= len(models) - n_held_out * n_checkpoints
    fitted = embedded(distances[np.ix_(~held, ~held)], n_components)
    new = distances[np.ix_(held, ~held)]
    centred = -0.5 * (
        new - new.mean(axis=1, keepdims=True) - fitted.row_means_ + fitted.row_means_.mean()
    )
    scale = fitted.signature_ * np.sqrt(np.abs(fitted.eigenvalues_))
    return Picture(fitted, models[~held], centred @ fitted.eigenvectors_ / scale, models[held])


@pytest.fixture(scope="session")
def picture() -> Picture:
    """10 runs of 6 checkpoints, two of them held out, with references; 12 components."""
    return make_picture()


@pytest.fixture(scope="session")
def draw_ensemble() -> Any:
    """The function that makes such ensembles of any size."""
    return make_picture


@pytest.fixture
def coinciding() -> Picture:
    """Five models at one place, up to rounding, and the references; the third coordinate is 0."""
    points = np.array([[-0.36, 0.125, 0], [0.71, 0.047, 0], *5 * [[-0.07, -0.034, 0]]])
    points[2:, :2] += 1e-13 * np.random.default_rng(0).normal(size=(5, 2))
    values = np.array([0.66, 0.024, 0.0])
    stress = np.cumsum(values**2) / (values**2).sum()
    embedding = SimpleNamespace(
        embedding_=points,
        eigenvalues_=values,
        signature_=np.array([1, 1, 1]),
        explained_stress_=stress,
        explained_stress_root_=1 - np.sqrt(np.maximum(1 - stress, 0)),
    )
    keys = pd.Index(["@ignorance", "@truth", *(f"r{k}/0" for k in range(5))], name="model")
    models = pd.DataFrame({"run": ["", "", *(f"r{k}" for k in range(5))]}, index=keys)
    return Picture(embedding, models, points[:0], models[:0])


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    pyplot.close("all")


class Browser:
    """Headless Chromium through chromedriver's WebDriver interface, nothing else installed."""

    def __init__(self, folder: Path, size: tuple[int, int] = (1500, 1000)) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._log = open(folder / "chromedriver.log", "wb")  # noqa: SIM115
        self._process = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=self._log, stderr=self._log
        )
        self._url = f"http://127.0.0.1:{port}"
        try:
            self._wait_until_ready()
            self._url += "/session/" + self._open(folder, size)
        except BaseException:
            self._end()
            raise

    def _open(self, folder: Path, size: tuple[int, int]) -> str:
        flags = "headless no-sandbox disable-quic no-first-run disable-background-networking"
        flags += " disable-component-update disable-sync disable-dev-shm-usage"
        flags += " use-gl=angle use-angle=swiftshader enable-unsafe-swiftshader"
        options = {
            "args": [
                *(f"--{flag}" for flag in flags.split()),
                f"--window-size={size[0]},{size[1]}",
                f"--user-data-dir={folder / 'profile'}",
            ]
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            # Drawn without a GPU, on cores that others use too, a script may take its time.
            "timeouts": {"script": 170_000, "pageLoad": 170_000},
        }
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        return str(answer["sessionId"])

    def _wait_until_ready(self) -> None:
        for _ in range(1200):
            try:
                if self._ask("GET", "/status")["ready"]:
                    return
            except urllib.error.URLError:
                time.sleep(0.1)
        raise RuntimeError("chromedriver did not start")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._url + path, data, method=method)
        with urllib.request.urlopen(request, timeout=180) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        self._ask("POST", "/url", {"url": page.resolve().as_uri()})

    def run(self, script: str) -> Any:
        """Run JavaScript in the page; what it returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def move(self, x: int, y: int) -> None:
        """Move the pointer there."""
        moves = [{"type": "pointerMove", "duration": 60, "x": x + d, "y": y} for d in (-2, 0)]
        actions = [{"type": "pointer", "id": "mouse", "actions": moves}]
        self._ask("POST", "/actions", {"actions": actions})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def console(self) -> list[str]:
        """Warnings and errors since the last call."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] != "INFO"]

    def requests(self) -> list[str]:
        """Addresses that the page asked for, itself first; data and blob ones left out."""
        entries = self._ask("POST", "/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        ours = [e["params"] for e in sent if e["params"]["documentURL"].startswith("file:")]
        urls = [event["request"]["url"] for event in ours]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def close(self) -> None:
        self._ask("DELETE", "")
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if not (shutil.which("chromedriver") and shutil.which("chromium")):
        pytest.skip("chromium and chromedriver are not installed")
    opened = Browser(tmp_path)
    yield opened
    opened.close()
