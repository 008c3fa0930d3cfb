"""The plugin that puts initplug's presets, the config group `init`, on the search path of every Hydra application.

Hydra 1.4 finds it by the entry point `hydra.plugins`, Hydra 1.3 as the module `hydra_plugins.initplug_searchpath`,
which installations make of this file.
"""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

SEARCH_PATH = "pkg://initplug.presets"


class InitplugSearchPath(SearchPathPlugin):
    """Appends the presets, so that a file of the application's own comes before a preset of the same name."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the presets once, whichever ways the plugin was found, and whether or not the application did."""
        if all(element.path != SEARCH_PATH for element in search_path.get_path()):
            search_path.append("initplug", SEARCH_PATH)
