"""Endless batches of generated data, the same for the same seed."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

STRIPES = 3  # periods across an image


def gratings(*, seed: int, batch: int, size: int, classes: int, noise: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Images of stripes in a random colour at a random phase, under noise; the class is the way they run.

    Mean, colour and phase say nothing about the class, so that what sees pixels or their means alone stays at chance.

    Args:
        seed: of all that is random.
        batch: images at a time.
        size: height and width, in pixels.
        classes: number of directions over half a turn.
        noise: std of the noise; that of the stripes is 1 over the colours together.

    Yields:
        Images (batch, 3, size, size) and classes (batch,).

    Example:
        >>> images, classes = next(gratings(seed=0, batch=4, size=16, classes=8, noise=0.3))
        >>> images.shape, classes.shape
        (torch.Size([4, 3, 16, 16]), torch.Size([4]))
    """
    generator = torch.Generator().manual_seed(seed)
    along = torch.arange(size, dtype=torch.float32) * (2 * math.pi * STRIPES / size)
    while True:
        targets = torch.randint(classes, (batch,), generator=generator)
        angle = (targets * (math.pi / classes)).view(-1, 1, 1)
        phase = 2 * math.pi * torch.rand(batch, 1, 1, generator=generator)
        stripes = math.sqrt(2) * torch.sin(angle.cos() * along + angle.sin() * along.view(-1, 1) + phase)
        colour = functional.normalize(torch.randn(batch, 3, 1, 1, generator=generator), dim=1)
        images = colour * stripes.unsqueeze(1) + noise * torch.randn(batch, 3, size, size, generator=generator)
        yield images, targets


def sums(*, seed: int, batch: int, length: int, vocabulary: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Sequences in which every token is the sum of the two before it, modulo the vocabulary.

    Args:
        seed: of the first two tokens of every sequence.
        batch: sequences at a time.
        length: of a sequence, in tokens.
        vocabulary: number of tokens.

    Yields:
        Tokens (batch, length), and at every place the token that comes next.

    Example:
        >>> tokens, following = next(sums(seed=0, batch=1, length=8, vocabulary=11))
        >>> bool((tokens[:, 2:] == (tokens[:, :-2] + tokens[:, 1:-1]) % 11).all())
        True
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = list(torch.randint(vocabulary, (2, batch), generator=generator))
        while len(tokens) <= length:
            tokens.append((tokens[-2] + tokens[-1]) % vocabulary)
        sequences = torch.stack(tokens, dim=1)
        yield sequences[:, :-1], sequences[:, 1:]
