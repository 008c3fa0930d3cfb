"""Wide ResNet for CIFAR images: three groups of pre-activation blocks, as torch.nn constructs them.

Parameter names are those of szagoruyko/wide-residual-networks (`pytorch/resnet.py`), with `.weight` behind those of its
convolutions. There is no initialization code here: the weights are torch's defaults until a recipe is applied.

Source: Zagoruyko and Komodakis 2016, "Wide Residual Networks", arXiv:1605.07146.
"""

from torch import Tensor, nn
from torch.nn import functional

STEM_CHANNELS = 16
GROUPS = 3
CONVS_PER_BLOCK = 2


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after norm and ReLU, and the input added.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution and of the projection.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(in_channels)
        self.conv0 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv1 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.convdim: nn.Conv2d | None = None
        if in_channels != out_channels:
            self.convdim = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, h / stride, w / stride)."""
        active = functional.relu(self.bn0(x))
        y = self.conv1(functional.relu(self.bn1(self.conv0(active))))
        summed: Tensor = y + (x if self.convdim is None else self.convdim(active))
        return summed


class WideResNet(nn.Module):
    """A 3x3 stem, three groups of blocks at full, half and quarter resolution, and a linear classifier.

    Args:
        depth: layers with weights on the longest path, 6n + 4 for n blocks in each group.
        width: factor of the channels.
        classes: number of classes.

    Raises:
        ValueError: `depth` is not 6n + 4 with a positive n.
    """

    def __init__(self, *, depth: int, width: int, classes: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, GROUPS * CONVS_PER_BLOCK)
        if blocks < 1 or rest:
            raise ValueError(f"depth must be 6n + 4 with a positive n, such as 28; it is {depth}")
        self.conv0 = nn.Conv2d(3, STEM_CHANNELS, kernel_size=3, padding=1, bias=False)
        channels = STEM_CHANNELS
        for number in range(GROUPS):
            out_channels = STEM_CHANNELS * width * 2**number
            group = nn.Sequential()
            for index in range(blocks):
                stride = 2 if index == 0 and number > 0 else 1
                group.add_module(f"block{index}", WideBlock(channels, out_channels, stride=stride))
                channels = out_channels
            self.add_module(f"group{number}", group)
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w), h and w multiples of 4, to logits (batch, classes)."""
        x = self.conv0(x)
        for number in range(GROUPS):
            x = self.get_submodule(f"group{number}")(x)
        pooled = functional.relu(self.bn(x)).mean(dim=(2, 3))
        logits: Tensor = self.fc(pooled)
        return logits


def wrn(depth: int = 28, width: int = 10, classes: int = 10) -> WideResNet:
    """Wide ResNet, by default the paper's WRN-28-10 with 36.5 million parameters.

    Args:
        depth: layers with weights on the longest path, 6n + 4 for n blocks in each group.
        width: factor of the channels.
        classes: number of classes.

    Example:
        >>> sum(parameter.numel() for parameter in wrn().parameters())
        36479194
    """
    return WideResNet(depth=depth, width=width, classes=classes)
