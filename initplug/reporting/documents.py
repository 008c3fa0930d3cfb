"""Documents: what is told in rows, as JSON, CSV, Markdown, a frame of pandas, a page, and files of these."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from initplug.tables.files import save, to_csv, to_frame, to_json, to_markdown

if TYPE_CHECKING:
    from initplug.reporting.page import Report
    from initplug.reporting.pictures import Picture


class Document:
    """Rows that are written in several forms: plans, audits, recordings, diffs, probes."""

    __slots__ = ()

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain data; missing numbers are None."""

    @abstractmethod
    def to_text(self, *, width: int | None = None, color: bool = False, every: bool = False) -> str:
        """Return the rows as a table for a terminal."""

    @property
    @abstractmethod
    def _keys(self) -> Sequence[str]:
        """The columns of files, in order."""

    @abstractmethod
    def _flat(self, every: bool = True) -> Iterable[Mapping[str, Any]]:
        """Return the rows as plain data, of repeated blocks that agree one alone unless every row is asked for."""

    @abstractmethod
    def _report(self) -> Report:
        """Return what a page is made of."""

    def __str__(self) -> str:
        return self.to_text()

    def to_json(self) -> str:
        """Return JSON text."""
        return to_json(self.to_dict())

    def to_csv(self) -> str:
        """Return the rows as CSV text."""
        return to_csv(self._flat(), self._keys)

    def to_markdown(self, *, every: bool = True) -> str:
        """Return the rows as a Markdown table; with `every` False one row where those of repeated blocks agree."""
        return to_markdown(self._flat(every), self._keys)

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame.

        Raises:
            InitplugError: pandas is not installed.
        """
        return to_frame(self._flat(), self._keys)

    def to_html(
        self,
        *,
        title: str | None = None,
        command: str | None = None,
        date: str | None = None,
        pictures: Iterable[Picture] = (),
    ) -> str:
        """Return a page of its own, that needs no network.

        The same rows give the same text: neither a date nor a command stands there unless it is given.

        Args:
            title: the heading, instead of the name of the recipe, the model or both sides.
            command: the command that made it.
            date: when it was made, as text.
            pictures: further ones, beside those of the first screen.
        """
        from initplug.reporting.page import page

        return page(self._report(), title=title, command=command, date=date, pictures=pictures)

    def save(self, path: str | PathLike[str], **page: Any) -> None:
        """Write a file; the suffix (.html, .json, .csv, .md) says how.

        Args:
            path: of the file.
            page: what `to_html` takes, for .html alone.

        Raises:
            InitplugError: an unknown suffix, or a path that cannot be written; an old file is kept.
        """
        save(path, self._writers(), page)

    def _writers(self) -> dict[str, Callable[..., str]]:
        return {".html": self.to_html, ".json": self.to_json, ".csv": self.to_csv, ".md": self.to_markdown}
