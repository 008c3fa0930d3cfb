"""Deep nets of 3x3 convolutions and ReLU, plain or with shortcuts, without a norm between the layers.

Nothing rescales the signal on its way, so that depth shows what an initialization is worth. The layout is that of the
CIFAR nets in He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2, without
their batch norms; the shortcuts are those of option A, which have no parameters.
"""

from torch import Tensor, nn
from torch.nn import functional

STAGES = 3
CONVS_PER_BLOCK = 2


class PlainBlock(nn.Module):
    """Two 3x3 convolutions, each before a ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, h / stride, w / stride)."""
        return functional.relu(self.conv2(functional.relu(self.conv1(x))))


class ResidualBlock(PlainBlock):
    """A plain block whose input is added before the last ReLU.

    The shortcut takes every `stride`-th pixel and has zeros in the channels that the input lacks.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, h / stride, w / stride)."""
        y = self.conv2(functional.relu(self.conv1(x)))
        stride, missing = self.conv1.stride[0], y.shape[1] - x.shape[1]
        shortcut = functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, missing))
        return functional.relu(y + shortcut)


class DeepNet(nn.Module):
    """A norm of the images, a 3x3 stem, three stages at full, half and quarter resolution, and a linear classifier.

    Args:
        depth: layers with weights on the longest path, 6n + 2 for n blocks in each stage.
        width: channels of the first stage; each further one has twice as many.
        residual: whether blocks have shortcuts.
        classes: number of classes.

    Raises:
        ValueError: `depth` is not 6n + 2 with a positive n.

    Example:
        >>> net = DeepNet(depth=56, width=16, residual=False, classes=10)
        >>> sum(1 for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear))
        56
    """

    def __init__(self, *, depth: int, width: int, residual: bool, classes: int) -> None:
        super().__init__()
        count, rest = divmod(depth - 2, STAGES * CONVS_PER_BLOCK)
        if count < 1 or rest:
            raise ValueError(f"depth must be 6n + 2 with a positive n, such as 20; it is {depth}")
        block = ResidualBlock if residual else PlainBlock
        self.bn = nn.BatchNorm2d(3)  # in place of a data set's mean and std
        self.conv = nn.Conv2d(3, width, kernel_size=3, padding=1)
        self.blocks = nn.Sequential()
        channels = width
        for stage in range(STAGES):
            for index in range(count):
                stride = 2 if index == 0 and stage > 0 else 1
                self.blocks.append(block(channels, width * 2**stage, stride=stride))
                channels = width * 2**stage
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w), h and w multiples of 4, to logits (batch, classes)."""
        x = self.blocks(functional.relu(self.conv(self.bn(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits
