"""The architectures of the first paper, in the sizes it trained on CIFAR-10 (its Table 1).

Parameters with 3 × 32 × 32 inputs and 10 classes: fully connected 3.8 M, All-CNN 0.4 M, Wide
ResNet 10-4 with 8 base planes 0.3 M and 16-4 with 64 base planes 43.9 M, ConvMixer 0.6 M, ViT
9.5 M. All take other shapes and numbers of classes as well. Batch normalisation has no weights of
its own in the fully connected and residual networks, and has them in the other convolutional ones.
Weights start as torch draws them.
"""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from inpca.errors import InputError

Shape = tuple[int, ...]


def fully_connected(
    shape: Shape, n_classes: int, widths: tuple[int, ...] = (1024, 512, 256, 128)
) -> nn.Module:
    """Rectified layers 1024-512-256-128, normalised before the activation."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise((prod(shape), *widths)):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after, affine=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))


def student(shape: Shape, n_classes: int, widths: tuple[int, ...] = (512,)) -> nn.Module:
    """The student of synthetic data: rectified layers, normalised after the activation."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise((prod(shape), *widths)):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.BatchNorm1d(after, affine=False)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))


def deep_student(shape: Shape, n_classes: int) -> nn.Module:
    """The student with two hidden layers."""
    return student(shape, n_classes, (512, 512))


def allcnn(shape: Shape, n_classes: int, planes: tuple[int, int] = (96, 144)) -> nn.Module:
    """Convolutions only, strides in place of pooling, an average over the image at the end.

    J. T. Springenberg et al., arXiv:1412.6806.
    """
    narrow, wide = planes
    return nn.Sequential(
        *_convolution(shape[0], narrow, 3, 1),
        *_convolution(narrow, narrow, 3, 2),
        *_convolution(narrow, wide, 3, 1),
        *_convolution(wide, wide, 3, 2),
        *_convolution(wide, n_classes, 1, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _convolution(before: int, after: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2)
    return [convolution, nn.ReLU(), nn.BatchNorm2d(after)]


class _Block(nn.Module):
    """Two convolutions, normalised and rectified before each, around a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm_in = nn.BatchNorm2d(before, affine=False)
        self.first = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm_mid = nn.BatchNorm2d(after, affine=False)
        self.second = nn.Conv2d(after, after, 3, stride=stride, padding=1, bias=False)
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(torch.relu(self.norm_in(x)))
        return self.second(torch.relu(self.norm_mid(inner))) + self.shortcut(x)


class WideResNet(nn.Module):
    """Wide residual network of `depth` layers, `widen` × `base` planes in its first stage.

    S. Zagoruyko, N. Komodakis, BMVC 2016.
    """

    def __init__(
        self, shape: Shape, n_classes: int, depth: int = 10, widen: int = 4, base: int = 8
    ) -> None:
        super().__init__()
        n_blocks = (depth - 4) // 6
        layers: list[nn.Module] = [nn.Conv2d(shape[0], base, 3, padding=1, bias=False)]
        before = base
        for stage, after in enumerate((base * widen, 2 * base * widen, 4 * base * widen)):
            for block in range(n_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(_Block(before, after, stride))
                before = after
        self.body = nn.Sequential(*layers, nn.BatchNorm2d(before, affine=False), nn.ReLU())
        self.head = nn.Linear(before, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))


def small_wide_resnet(shape: Shape, n_classes: int) -> nn.Module:
    """Wide ResNet 10-4 with 8 base planes."""
    return WideResNet(shape, n_classes, depth=10, widen=4, base=8)


def large_wide_resnet(shape: Shape, n_classes: int) -> nn.Module:
    """Wide ResNet 16-4 with 64 base planes."""
    return WideResNet(shape, n_classes, depth=16, widen=4, base=64)


class _Mixing(nn.Module):
    """A convolution of each plane by itself around a shortcut, then one over the planes."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.space = nn.Sequential(
            nn.Conv2d(width, width, kernel, groups=width, padding="same"),
            nn.GELU(),
            nn.BatchNorm2d(width),
        )
        self.planes = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.planes(x + self.space(x))


def convmixer(
    shape: Shape,
    n_classes: int,
    width: int = 256,
    depth: int = 8,
    kernel: int = 5,
    patch: int = 2,
) -> nn.Module:
    """ConvMixer-256/8 with kernels of 5 over patches of 2.

    A. Trockman, J. Z. Kolter, TMLR 2023.
    """
    return nn.Sequential(
        nn.Conv2d(shape[0], width, patch, stride=patch),
        nn.GELU(),
        nn.BatchNorm2d(width),
        *(_Mixing(width, kernel) for _ in range(depth)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, n_classes),
    )


class VisionTransformer(nn.Module):
    """ViT of six layers, 512 wide, over patches of 4 × 4 pixels; the class token is read.

    A. Dosovitskiy et al., ICLR 2021.

    Raises
    ------
    InputError
        If the image is not a whole number of patches.
    """

    def __init__(
        self,
        shape: Shape,
        n_classes: int,
        patch: int = 4,
        width: int = 512,
        depth: int = 6,
        heads: int = 8,
        hidden: int = 512,
    ) -> None:
        super().__init__()
        planes, height, breadth = shape
        if height % patch or breadth % patch:
            raise InputError(
                f"The vision transformer cuts images into patches of {patch} × {patch} pixels, "
                f"which images of {height} × {breadth} cannot be; choose another architecture."
            )
        n_patches = (height // patch) * (breadth // patch)
        self.embed = nn.Conv2d(planes, width, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, n_patches + 1, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, hidden, dropout=0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1)
        return self.head(self.layers(tokens + self.position)[:, 0])
