"""From a TOML file, the environment and flags to one frozen Config, or every fault at once."""

from collector.config_loader.load import Settings, load, load_settings
from collector.config_loader.secret_files import Role, for_role

__all__ = ["Role", "Settings", "for_role", "load", "load_settings"]
