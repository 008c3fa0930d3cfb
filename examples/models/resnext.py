"""ResNeXt for CIFAR images: grouped bottlenecks in three stages, as torch.nn constructs them.

Parameter names are those of prlz77/ResNeXt.pytorch (`models/model.py`), so that its checkpoints load. There is no
initialization code here: the weights are torch's defaults until a recipe is applied.

Source: Xie et al. 2017, "Aggregated Residual Transformations for Deep Neural Networks", arXiv:1611.05431.
"""

from torch import Tensor, nn
from torch.nn import functional

STEM_CHANNELS = 64  # width of the stem; base_width is counted against it
EXPANSION = 4  # channels of a block's output per channel of the plain width
STAGES = 3
CONVS_PER_BLOCK = 3


class ResNeXtBottleneck(nn.Module):
    """Reduce, convolve in groups, expand, and add the input (form C of the paper's figure 3).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the grouped convolution and of the shortcut.
        cardinality: number of groups.
        base_width: channels of a group in the first stage.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, cardinality: int, base_width: int) -> None:
        super().__init__()
        # a group widens with its stage: base_width channels where the block puts out EXPANSION * STEM_CHANNELS
        inner = cardinality * (base_width * out_channels // (EXPANSION * STEM_CHANNELS))
        self.conv_reduce = nn.Conv2d(in_channels, inner, kernel_size=1, bias=False)
        self.bn_reduce = nn.BatchNorm2d(inner)
        self.conv_conv = nn.Conv2d(
            inner, inner, kernel_size=3, stride=stride, padding=1, groups=cardinality, bias=False
        )
        self.bn = nn.BatchNorm2d(inner)
        self.conv_expand = nn.Conv2d(inner, out_channels, kernel_size=1, bias=False)
        self.bn_expand = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()  # empty is the identity
        if in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            self.shortcut.add_module("shortcut_conv", projection)
            self.shortcut.add_module("shortcut_bn", nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, h / stride, w / stride)."""
        y = functional.relu(self.bn_reduce(self.conv_reduce(x)))
        y = functional.relu(self.bn(self.conv_conv(y)))
        y = self.bn_expand(self.conv_expand(y))
        return functional.relu(y + self.shortcut(x))


class CifarResNeXt(nn.Module):
    """A 3x3 stem, three stages of bottlenecks at full, half and quarter resolution, and a linear classifier.

    Args:
        depth: layers with weights on the longest path, 9n + 2 for n blocks in each stage.
        cardinality: number of groups of the grouped convolutions.
        base_width: channels of a group in the first stage.
        classes: number of classes.

    Raises:
        ValueError: `depth` is not 9n + 2 with a positive n.

    Example:
        >>> sum(1 for _ in CifarResNeXt(depth=29, cardinality=2, base_width=4, classes=10).parameters())
        95
    """

    def __init__(self, *, depth: int, cardinality: int, base_width: int, classes: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, STAGES * CONVS_PER_BLOCK)
        if blocks < 1 or rest:
            raise ValueError(f"depth must be 9n + 2 with a positive n, such as 29; it is {depth}")
        self.conv_1_3x3 = nn.Conv2d(3, STEM_CHANNELS, kernel_size=3, padding=1, bias=False)
        self.bn_1 = nn.BatchNorm2d(STEM_CHANNELS)
        channels = STEM_CHANNELS
        for number in range(1, STAGES + 1):
            stage = nn.Sequential()
            out_channels = EXPANSION * STEM_CHANNELS * 2 ** (number - 1)
            for index in range(blocks):
                # only the first block of a stage changes resolution, and the first stage keeps the image's
                stride = 2 if index == 0 and number > 1 else 1
                block = ResNeXtBottleneck(
                    channels, out_channels, stride=stride, cardinality=cardinality, base_width=base_width
                )
                stage.add_module(f"stage_{number}_bottleneck_{index}", block)
                channels = out_channels
            self.add_module(f"stage_{number}", stage)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w), h and w multiples of 4, to logits (batch, classes)."""
        x = functional.relu(self.bn_1(self.conv_1_3x3(x)))
        for number in range(1, STAGES + 1):
            x = self.get_submodule(f"stage_{number}")(x)
        pooled: Tensor = x.mean(dim=(2, 3))
        logits: Tensor = self.classifier(pooled)
        return logits


def resnext29(cardinality: int = 8, base_width: int = 64, classes: int = 10) -> CifarResNeXt:
    """ResNeXt-29, by default the paper's 8x64d: 95 parameter tensors, 34.4 million values.

    Args:
        cardinality: number of groups of the grouped convolutions.
        base_width: channels of a group in the first stage.
        classes: number of classes.

    Example:
        >>> resnext29(cardinality=2, base_width=4).classifier
        Linear(in_features=1024, out_features=10, bias=True)
    """
    return CifarResNeXt(depth=29, cardinality=cardinality, base_width=base_width, classes=classes)
