"""Images as other hands might have drawn them: so that what the training set shows is not learnt by
heart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

SPREAD = 0.15  # of the matrix's numbers; half the image is 1
SHIFT = 0.4  # pixels
NOISE = 0.2  # where 1 is from paper to ink


def warped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images `(B, rows, columns)`, each turned, stretched, slanted and moved a little, with noise.

    What a pixel shows is looked up, bilinearly, where an affine map puts it: the identity, plus
    normal numbers of the deviation SPREAD in its matrix and SHIFT in its offset. Beyond the edge
    there is paper, 0.
    """
    count, rows, columns = images.shape
    # affine_grid's unit of length is half the image, along either axis.
    deviations = torch.tensor(
        [[SPREAD, SPREAD, 2 * SHIFT / columns], [SPREAD, SPREAD, 2 * SHIFT / rows]]
    )
    maps = torch.eye(2, 3) + deviations * torch.randn(count, 2, 3, generator=generator)
    grid = functional.affine_grid(maps, [count, 1, rows, columns], align_corners=False)
    moved = functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
    return moved + NOISE * torch.randn(images.shape, generator=generator)
