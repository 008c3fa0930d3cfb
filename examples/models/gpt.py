"""A small GPT: pre-norm transformer blocks over tokens, the output tied to the token embedding.

Parameter names are those of karpathy/nanoGPT (`model.py`). There is no initialization code here: the weights are
torch's defaults until a recipe is applied.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDENING = 4  # hidden width of a block's MLP, in widths


class CausalSelfAttention(nn.Module):
    """Multi-head attention of every place to itself and those before it.

    Args:
        width: size of the vector at a place.
        heads: number of heads, a divisor of `width`.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same."""
        # (batch, length, width) -> (batch, heads, length, width / heads)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        projected: Tensor = self.c_proj(mixed.transpose(1, 2).flatten(2))
        return projected


class MLP(nn.Module):
    """Two linear layers with GELU between them.

    Args:
        width: size of the vector at a place.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, WIDENING * width)
        self.c_proj = nn.Linear(WIDENING * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same."""
        projected: Tensor = self.c_proj(functional.gelu(self.c_fc(x), approximate="tanh"))
        return projected


class TransformerBlock(nn.Module):
    """Attention and an MLP, each after a norm and added to its input.

    Args:
        width: size of the vector at a place.
        heads: number of heads.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = CausalSelfAttention(width, heads=heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same."""
        x = x + self.attn(self.ln_1(x))
        summed: Tensor = x + self.mlp(self.ln_2(x))
        return summed


class GPT(nn.Module):
    """Embeddings of tokens and places, transformer blocks, a norm, and logits by the token embedding.

    Args:
        layers: number of blocks.
        heads: number of attention heads, a divisor of `width`.
        width: size of the vector at a place.
        context: the longest sequence, in tokens.
        vocabulary: number of tokens.

    Raises:
        ValueError: `width` is not a multiple of `heads`.

    Example:
        >>> gpt = GPT(layers=2, heads=4, width=32, context=16, vocabulary=11)
        >>> gpt(torch.zeros(1, 16, dtype=torch.int64)).shape
        torch.Size([1, 16, 11])
    """

    def __init__(self, *, layers: int, heads: int, width: int, context: int, vocabulary: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads; they are {width} and {heads}")
        embedding = nn.Embedding(vocabulary, width)
        self.transformer = nn.ModuleDict(
            {
                "wte": embedding,
                "wpe": nn.Embedding(context, width),
                "h": nn.Sequential(*(TransformerBlock(width, heads=heads) for _ in range(layers))),
                "ln_f": nn.LayerNorm(width),
            }
        )
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (batch, length) to logits (batch, length, vocabulary) of the next ones."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.transformer["wte"](tokens) + self.transformer["wpe"](places)
        x = self.transformer["ln_f"](self.transformer["h"](x))
        logits: Tensor = self.lm_head(x)
        return logits
