"""What is done to a batch of images before each update; never to what is recorded."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from inpca.errors import InputError

AUGMENTATIONS = ("none", "flips-crops")


def augment(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Images (batch, …, h, w), each flipped and shifted at random if `kind` is ``"flips-crops"``.

    Half of them are mirrored; each is cut anew from the image with a margin of an eighth of its
    height all around (4 pixels of 32), which is filled with 0, the mean of standardised inputs.

    Raises
    ------
    InputError
        If the inputs are no images.
    """
    if kind == "none":
        return x
    if x.ndim < 3:
        raise InputError(
            f"`augmentation` {kind!r} is for images, but inputs have shape {tuple(x.shape[1:])}; "
            "use 'none'."
        )
    flipped = torch.rand(len(x), generator=generator) < 0.5
    mirrored = torch.where(_column(flipped, x), x.flip(-1), x)
    return _cropped(mirrored, max(1, x.shape[-2] // 8), generator)


def _cropped(x: Tensor, margin: int, generator: torch.Generator) -> Tensor:
    """Each image moved by −margin … +margin pixels in both directions."""
    height, width = x.shape[-2:]
    wide = pad(x, (margin, margin, margin, margin))
    shifts = torch.randint(0, 2 * margin + 1, (2, len(x), 1), generator=generator).to(x.device)
    rows = shifts[0] + torch.arange(height, device=x.device)
    columns = shifts[1] + torch.arange(width, device=x.device)
    images = torch.arange(len(x), device=x.device)
    channels = wide.reshape(len(x), -1, *wide.shape[-2:])
    picked = channels[images[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).reshape(x.shape)


def _column(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 1)).to(x.device)
