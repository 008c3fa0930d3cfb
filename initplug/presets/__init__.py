"""The Hydra config group `init`: one file per recipe."""
