"""A Hydra application: it builds a model, initialises it by a recipe, and trains it on generated data.

    python examples/train.py init=resnext
    python examples/train.py init=resnext init.rules.conv.init.mode=fan_in model.depth=56
    python examples/train.py experiment=gpt
    python examples/train.py -m init=torch_default,resnext,wrn model.depth=20,56
    python examples/train.py init=torch_default model.depth=56 probe=true

Hydra's folder of the run gets `audit.json`, what every parameter was given, and `loss.csv`, what came of it. With
`probe=true` what signals and gradients do is told before training, and `probe.html` shows it.
`compare.py` draws the losses of a sweep.
"""

import csv
import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional

import initplug

log = logging.getLogger(__name__)


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Give the cross-entropy of logits (…, classes) against classes (…), averaged."""
    return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


@hydra.main(version_base="1.3", config_path="../configs", config_name="config")
def main(config: DictConfig) -> float:
    """Train, and give the mean loss of the last tenth of the steps, which sweepers minimise."""
    folder = Path(HydraConfig.get().runtime.output_dir)

    model = instantiate(config.model)
    audit = initplug.apply(model, config.init, seed=config.seed)
    audit.save(folder / "audit.json")
    log.info(audit.headline())

    if config.probe:
        inputs, targets = next(instantiate(config.data, seed=config.seed))
        probe = initplug.probe(model, inputs, loss=lambda logits: loss_of(logits, targets))
        probe.save(folder / "probe.html")
        for line in probe.told():
            log.info(line)

    optimizer = instantiate(config.optimizer)(model.parameters())
    batches = instantiate(config.data, seed=config.seed)
    losses = []
    with (folder / "loss.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["step", "loss"])
        for step, (inputs, targets) in zip(range(config.steps), batches, strict=False):
            loss = loss_of(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch gives it no types
            optimizer.step()
            losses.append(loss.item())
            table.writerow([step, losses[-1]])

    last = losses[-max(1, len(losses) // 10) :]
    final = sum(last) / len(last)
    log.info("loss %.4f -> %.4f", losses[0], final)
    return final


if __name__ == "__main__":
    main()
