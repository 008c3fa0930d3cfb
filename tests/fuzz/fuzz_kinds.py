"""All kinds of inputs, with how many of each the tests try: about a minute of CPU time in all."""

from __future__ import annotations

import hostile_names
import hydra_overrides
import model_targets
import python_mappings
import recipe_texts
import selector_trees
import weight_files
import whole_runs
from fuzzing import Kind

KINDS = {
    kind.name: kind
    for kind in (
        Kind("recipes", recipe_texts.made, recipe_texts.checked, count=2500, share=4),
        Kind("mappings", python_mappings.made, python_mappings.checked, count=8000, share=4),
        Kind("overrides", hydra_overrides.made, hydra_overrides.checked, count=1000, share=3),
        Kind("selectors", selector_trees.made, selector_trees.checked, each=selector_trees.RULES, count=800, share=4),
        Kind("targets", model_targets.made, model_targets.checked, count=2500, share=2),
        Kind("files", weight_files.made, weight_files.checked, count=1000, share=2),
        Kind("names", hostile_names.made, hostile_names.checked, count=150, share=2),
        Kind("runs", whole_runs.made, whole_runs.checked, count=120, share=3),
    )
}
