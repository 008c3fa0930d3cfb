"""The command line: commands, the models and configs that they name, what they print and save."""
