"""DenseNet-BC for CIFAR images: dense blocks of bottlenecks with compressing transitions, as torch.nn constructs them.

Parameter names are those of bamos/densenet.pytorch (`densenet.py`), so that its checkpoints load. There is no
initialization code here: the weights are torch's defaults until a recipe is applied.

Source: Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv:1608.06993.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = 3
CONVS_PER_LAYER = 2
WIDENING = 4  # channels between the two convolutions of a layer, in growth rates
COMPRESSION = 0.5  # share of the channels that a transition keeps


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 convolution, each after norm and ReLU, whose output joins the input's channels.

    Args:
        in_channels: channels of the input.
        growth_rate: channels that the layer adds.
    """

    def __init__(self, in_channels: int, growth_rate: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, WIDENING * growth_rate, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(WIDENING * growth_rate)
        self.conv2 = nn.Conv2d(WIDENING * growth_rate, growth_rate, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, in_channels + growth_rate, h, w)."""
        y = self.conv1(functional.relu(self.bn1(x)))
        y = self.conv2(functional.relu(self.bn2(y)))
        return torch.cat([x, y], dim=1)


class Transition(nn.Module):
    """A 1x1 convolution after norm and ReLU, and a pooling that halves the resolution.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, h / 2, w / 2)."""
        return functional.avg_pool2d(self.conv1(functional.relu(self.bn1(x))), kernel_size=2)


class DenseNetBC(nn.Module):
    """A 3x3 stem, three dense blocks with transitions between them, and a linear classifier.

    Args:
        depth: layers with weights on the longest path, 6n + 4 for n layers in each block.
        growth_rate: channels that each layer adds.
        classes: number of classes.

    Raises:
        ValueError: `depth` is not 6n + 4 with a positive n.
    """

    def __init__(self, *, depth: int, growth_rate: int, classes: int) -> None:
        super().__init__()
        layers, rest = divmod(depth - 4, BLOCKS * CONVS_PER_LAYER)
        if layers < 1 or rest:
            raise ValueError(f"depth must be 6n + 4 with a positive n, such as 100; it is {depth}")
        channels = 2 * growth_rate
        self.conv1 = nn.Conv2d(3, channels, kernel_size=3, padding=1, bias=False)
        for number in range(1, BLOCKS + 1):
            dense = nn.Sequential(*(Bottleneck(channels + place * growth_rate, growth_rate) for place in range(layers)))
            self.add_module(f"dense{number}", dense)
            channels += layers * growth_rate
            if number < BLOCKS:
                kept = int(channels * COMPRESSION)
                self.add_module(f"trans{number}", Transition(channels, kept))
                channels = kept
        self.bn1 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w), h and w multiples of 4, to logits (batch, classes)."""
        x = self.conv1(x)
        for number in range(1, BLOCKS + 1):
            x = self.get_submodule(f"dense{number}")(x)
            if number < BLOCKS:
                x = self.get_submodule(f"trans{number}")(x)
        pooled = functional.relu(self.bn1(x)).mean(dim=(2, 3))
        logits: Tensor = self.fc(pooled)
        return logits


def densenet_bc(depth: int = 100, growth_rate: int = 12, classes: int = 10) -> DenseNetBC:
    """DenseNet-BC, by default the paper's L=100, k=12 with 0.8 million parameters.

    Args:
        depth: layers with weights on the longest path, 6n + 4 for n layers in each block.
        growth_rate: channels that each layer adds.
        classes: number of classes.

    Example:
        >>> sum(parameter.numel() for parameter in densenet_bc().parameters())
        769162
    """
    return DenseNetBC(depth=depth, growth_rate=growth_rate, classes=classes)
