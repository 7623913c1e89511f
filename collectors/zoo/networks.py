"""Small networks for 8 × 8 images, (batch, 8, 8) → (batch, 10) logits.

Their last layers start with weights a tenth of the usual size, so that an untrained network
predicts nearly the same probability for every class: trajectories start at ignorance.
"""

import torch
from torch import Tensor, nn

SIDE = 8
N_CLASSES = 10


def linear() -> nn.Module:
    """Softmax regression: 650 weights."""
    return nn.Sequential(nn.Flatten(), _head(SIDE * SIDE))


def mlp(width: int = 64) -> nn.Module:
    """Two hidden layers of rectified units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(SIDE * SIDE, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        _head(width),
    )


def cnn(channels: int = 8) -> nn.Module:
    """Two convolutions with batch normalisation, each halving the image."""
    return nn.Sequential(
        nn.Unflatten(1, (1, SIDE)),
        nn.Conv2d(1, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        _head(2 * channels * 4),
    )


class Attention(nn.Module):
    """A transformer of one layer over the eight rows of the image."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(SIDE, width)
        self.position = nn.Parameter(0.02 * torch.randn(SIDE, width))
        self.norm_in = nn.LayerNorm(width)
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_mid = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.norm_out = nn.LayerNorm(width)
        self.head = _head(width)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.embed(x) + self.position
        seen = self.norm_in(rows)
        rows = rows + self.attend(seen, seen, seen, need_weights=False)[0]
        rows = rows + self.mix(self.norm_mid(rows))
        return self.head(self.norm_out(rows).mean(dim=1))


def attention() -> nn.Module:
    """Self-attention over the rows of the image, then an average over them."""
    return Attention()


def _head(width: int) -> nn.Linear:
    layer = nn.Linear(width, N_CLASSES)
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    return layer


ARCHITECTURES = {"linear": linear, "mlp": mlp, "cnn": cnn, "attention": attention}
