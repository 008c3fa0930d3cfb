"""The headings of docstrings, as the reader has them that makes the site's page of the API."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension


class Headings(Extension):
    """Names the sections of a docstring as its reader does."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of an object once it is read."""
        if obj.docstring is None:
            return
        text = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
        # Fields of such a class are no arguments.
        if obj.is_class and any(str(base) in ("_Told", "BaseModel") for base in obj.bases):
            text = re.sub(r"^(\s*)Args:$", r"\1Attributes:", text, flags=re.MULTILINE)
        obj.docstring.value = text
