"""A sharded model from nothing: meta, `fully_shard`, `initplug.apply`, one training step.

    torchrun --nproc-per-node 2 examples/fsdp2.py

Every rank fills its own shard, and no rank ever holds a whole parameter; put together they are, bit for bit, the model
that one process would initialise. Without a GPU it runs on gloo.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import initplug

RECIPE = """
rules:
  matrices: {match: <Linear>.weight,    init: trunc_normal std=0.02}
  residual: {match: down.weight,        init: {fn: normal, std: 0.02, factor: {count: <Block>, times: 2}}}
  tokens:   {match: <Embedding>.weight, init: normal std=0.02}
  norms:    {match: <RMSNorm>.weight,   init: 1}
"""


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what the block has to say."""
        out: torch.Tensor = x + self.down(torch.relu(self.up(self.norm(x))))
        return out


class Model(nn.Module):
    """Blocks between an embedding and a head."""

    def __init__(self, width: int = 64, depth: int = 4, words: int = 101) -> None:
        super().__init__()
        self.tokens = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, words, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The logits of the next token."""
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.head(x)
        return out


def main() -> None:
    """Join the other processes, train, and leave them together."""
    local = dist.get_node_local_rank(0)
    gpu = torch.cuda.device_count() > local
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    dist.init_process_group("nccl" if gpu else "gloo")
    if gpu:
        torch.cuda.set_device(device)
    # A function of its own, so that nothing of the model outlives the process group, which would end in an abort.
    train(device)
    dist.barrier()
    dist.destroy_process_group()


def train(device: torch.device) -> None:
    """Build, shard, initialise, train, report."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))

    with initplug.deferred():  # no memory for parameters yet
        model = Model()
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)

    audit = initplug.apply(model, RECIPE, seed=0, device=device)  # every rank its own shard

    tokens = torch.arange(2 * 16, device=device).view(2, 16) % 101
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten())
    torch.autograd.backward(loss)
    optimizer.step()

    report = audit.reduced()  # all ranks bring their parts together, one of them reports
    if dist.get_rank() == 0:
        shard = audit["blocks.0.up.weight"]
        whole = report["blocks.0.up.weight"]
        print(f"rank 0 measured {shard.measured_count} of {whole.measured_count} elements of {whole.name}")
        print(report.headline())
        print(f"loss before the first step: {loss.item():.4f}")


if __name__ == "__main__":
    main()
