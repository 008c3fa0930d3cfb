"""Recipes drafted from distributions: formulas, depths, rules and their names."""
