"""The architectures by name, and the small ones among them.

An architecture is a function of the shape of one input and the number of classes. Inputs are
vectors (d,), grey images (h, w) or images with channels (c, h, w). The last layers of the small
networks start with weights a tenth of the usual size, so that an untrained network predicts nearly
the same probability for every class: trajectories start at ignorance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from math import prod

import torch
from torch import Tensor, nn

from collectors.zoo import paper_networks as paper
from collectors.zoo.suggest import nearest
from inpca.errors import InputError

Shape = tuple[int, ...]
TANH_WIDTHS = (10, 20, 40, 80)


@dataclass(frozen=True)
class Architecture:
    """How to build one kind of network.

    Attributes
    ----------
    build : (shape of one input, number of classes) → network
    images : whether the input must be an image
    """

    build: Callable[[Shape, int], nn.Module]
    images: bool = False


def build(name: str, shape: Shape, n_classes: int) -> nn.Module:
    """The network `name` for inputs of this shape, with weights from torch's generator.

    Raises
    ------
    InputError
        If there is no architecture of that name, or it cannot take such inputs.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"`architecture` {name!r} is unknown; {nearest(name, ARCHITECTURES)}.")
    architecture = ARCHITECTURES[name]
    if not architecture.images:
        return architecture.build(shape, n_classes)
    if len(shape) not in (2, 3):
        raise InputError(
            f"`architecture` {name!r} takes images, (h, w) or (c, h, w), but the inputs have shape "
            f"{shape}; choose one of {', '.join(_for_vectors())}."
        )
    if len(shape) == 3:
        return architecture.build(shape, n_classes)
    body = architecture.build((1, *shape), n_classes)
    return nn.Sequential(nn.Unflatten(1, (1, shape[0])), body)


def start_from_point(model: nn.Module, point: int) -> None:
    """Give `model` the weights of initial point number `point`: N(0, 1), and biases 0.

    The weights depend on the point and the architecture alone, so that all runs of an architecture
    that start from one point start from the very same model, far from ignorance.
    """
    generator = torch.Generator().manual_seed(point)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim >= 2:
                weights.normal_(generator=generator)
            elif name.endswith("bias"):
                weights.zero_()


# --- for any input ---------------------------------------------------------------------------


def linear(shape: Shape, n_classes: int) -> nn.Module:
    """Softmax regression."""
    return nn.Sequential(nn.Flatten(), _head(prod(shape), n_classes))


def mlp(shape: Shape, n_classes: int, width: int = 64) -> nn.Module:
    """Two hidden layers of rectified units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(shape), width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        _head(width, n_classes),
    )


def tanh(shape: Shape, n_classes: int, width: int = 20, depth: int = 2) -> nn.Module:
    """`depth` layers of weights, hyperbolic tangents between: networks of inversion dynamics."""
    sizes = [prod(shape), *[width] * (depth - 1)]
    hidden = [(nn.Linear(before, after), nn.Tanh()) for before, after in pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *chain(*hidden), nn.Linear(width, n_classes))


# --- for small images ------------------------------------------------------------------------


def cnn(shape: Shape, n_classes: int, channels: int = 8) -> nn.Module:
    """Two convolutions with batch normalisation, each halving the image."""
    planes, height, width = shape
    return nn.Sequential(
        nn.Conv2d(planes, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        _head(2 * channels * (height // 4) * (width // 4), n_classes),
    )


class Attention(nn.Module):
    """A transformer of one layer over the rows of the image, then an average over them."""

    def __init__(self, shape: Shape, n_classes: int, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        planes, n_rows, row = shape
        self.embed = nn.Linear(planes * row, width)
        self.position = nn.Parameter(0.02 * torch.randn(n_rows, width))
        self.norm_in = nn.LayerNorm(width)
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_mid = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.norm_out = nn.LayerNorm(width)
        self.head = _head(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.embed(x.transpose(1, 2).flatten(2)) + self.position
        seen = self.norm_in(rows)
        rows = rows + self.attend(seen, seen, seen, need_weights=False)[0]
        rows = rows + self.mix(self.norm_mid(rows))
        return self.head(self.norm_out(rows).mean(dim=1))


def small_allcnn(shape: Shape, n_classes: int) -> nn.Module:
    """All-CNN with an eighth of the planes."""
    return paper.allcnn(shape, n_classes, planes=(12, 18))


def small_resnet(shape: Shape, n_classes: int) -> nn.Module:
    """A residual network of three blocks, with 8, 16 and 32 planes."""
    return paper.WideResNet(shape, n_classes, depth=10, widen=2, base=4)


def small_convmixer(shape: Shape, n_classes: int) -> nn.Module:
    """ConvMixer with two blocks of 32 planes."""
    return paper.convmixer(shape, n_classes, width=32, depth=2, kernel=3, patch=2)


def small_vit(shape: Shape, n_classes: int) -> nn.Module:
    """A vision transformer of two layers, 32 wide, over patches of 2 × 2 pixels."""
    model = paper.VisionTransformer(
        shape, n_classes, patch=2, width=32, depth=2, heads=4, hidden=32
    )
    model.head = _head(32, n_classes)
    return model


def _head(width: int, n_classes: int) -> nn.Linear:
    layer = nn.Linear(width, n_classes)
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    return layer


def _for_vectors() -> list[str]:
    return [name for name, kind in ARCHITECTURES.items() if not kind.images]


ARCHITECTURES = {
    # small
    "linear": Architecture(linear),
    "mlp": Architecture(mlp),
    "cnn": Architecture(cnn, images=True),
    "attention": Architecture(Attention, images=True),
    "small-allcnn": Architecture(small_allcnn, images=True),
    "small-resnet": Architecture(small_resnet, images=True),
    "small-convmixer": Architecture(small_convmixer, images=True),
    "small-vit": Architecture(small_vit, images=True),
    # the paper's, for CIFAR-10
    "fc": Architecture(paper.fully_connected),
    "allcnn": Architecture(paper.allcnn, images=True),
    "wrn-10-4-8": Architecture(paper.small_wide_resnet, images=True),
    "wrn-16-4-64": Architecture(paper.large_wide_resnet, images=True),
    "convmixer": Architecture(paper.convmixer, images=True),
    "vit": Architecture(paper.VisionTransformer, images=True),
    # the paper's students of synthetic data
    "student-512": Architecture(paper.student),
    "student-512-512": Architecture(paper.deep_student),
    # the networks of inversion dynamics: two layers, four, eight
    **{f"tanh-{h}": Architecture(partial(tanh, width=h)) for h in TANH_WIDTHS},
    **{
        f"tanh-{depth}x{h}": Architecture(partial(tanh, width=h, depth=depth))
        for depth in (4, 8)
        for h in TANH_WIDTHS
    },
}
