"""Measurements -> verdicts: of one slot, of many together, of ranks, of two audits."""
