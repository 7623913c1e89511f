"""Let the tests of this folder import the emulator that lies in it; a fake GPU to put in place."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def use(monkeypatch):
    """Put a fake cupy in place; compiled kernels of one never serve another."""
    from fake_cupy import fake_cupy

    from inpca.distance import gpu_device, gpu_upload

    def put(**machine):
        fake = fake_cupy(**machine)
        monkeypatch.setattr(gpu_device, "namespace", lambda name: fake)
        monkeypatch.setattr(gpu_upload, "namespace", lambda name: fake)
        gpu_device.compiled.cache_clear()
        return fake

    yield put
    gpu_device.compiled.cache_clear()
