"""Plan, apply and audit a model in a few lines, and reproduce a source that draws in an order of its own.

Run it with `python examples/plain_use.py`.
"""

import sys
from pathlib import Path

import torch

import initplug

sys.path.insert(0, str(Path(__file__).parent / "models"))
from resnext import resnext29  # its folder is put on the path above

model = resnext29(cardinality=2, base_width=16)

plan = initplug.plan(model, "resnext")
print(plan["stage_1.stage_1_bottleneck_0.conv_conv.weight"])

# One pass, in the order of the parameters.
audit = initplug.apply(model, plan)
print(audit.headline())
assert not audit.problems()

# The source draws its classifier first: two passes in that order give its bits.
torch.manual_seed(0)
initplug.apply(model, plan, only="^classifier.weight")
others = [name for name, _ in model.named_parameters() if name != "classifier.weight"]
audit = initplug.apply(model, plan, only=others)
print(audit.headline())

# Whatever has trained since is measured against the plan, and nothing is written.
with torch.no_grad():
    model.get_parameter("classifier.weight").mul_(2)
for row in initplug.audit(model, plan).problems():
    print(f"{row.name}: expected std {row.std:.4f}, measured {row.measured_std:.4f}")
