"""Dovecot's configuration language, typed settings with where each came from, and the loader's
checks."""

from sharefs.config.loader import Config, examine, load
from sharefs.config.namespaces import (
    AclSettings,
    Location,
    MailboxSettings,
    MapSettings,
    NamespaceSettings,
)
from sharefs.config.problems import ConfigError, Problem, Severity
from sharefs.config.services import (
    InetListener,
    PassdbSettings,
    ServiceSettings,
    UnixListener,
    UserdbSettings,
)
from sharefs.config.settings import Settings
from sharefs.config.variables import BadTemplate, Form, Template, Variables

__all__ = [
    "AclSettings",
    "BadTemplate",
    "Config",
    "ConfigError",
    "Form",
    "InetListener",
    "Location",
    "MailboxSettings",
    "MapSettings",
    "NamespaceSettings",
    "PassdbSettings",
    "Problem",
    "ServiceSettings",
    "Settings",
    "Severity",
    "Template",
    "UnixListener",
    "UserdbSettings",
    "Variables",
    "examine",
    "load",
]
