"""The settings: a YAML file, environment variables and flags, read strictly and all at once."""

from dsgitops.settings.loading import load
from dsgitops.settings.review import Checks
from dsgitops.settings.shown import Shown, effective
from dsgitops.settings.subjects import Settings, SourceSettings, Window

__all__ = ["Checks", "Settings", "Shown", "SourceSettings", "Window", "effective", "load"]
