"""Rows of plain data -> text, JSON, CSV, Markdown: what plans and audits print with. No torch."""
