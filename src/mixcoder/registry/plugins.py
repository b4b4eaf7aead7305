"""A user's own mixing layers, models, data sources and loggers: Python named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from mixcoder.errors import MixcoderError


class PluginError(MixcoderError):
    """A plugin cannot be loaded."""


def load_plugin(plugin: str) -> None:
    """Imports a Python file (`my_mixer.py`) or a module (`my_package.mixers`), also of the current folder.

    Its decorators (`register_mixer`, `register_model`, `register_source`, `register_optimizer`,
    `register_logger`) do the rest.

    Raises:
        PluginError: there is no such file or module, or it fails.
    """
    try:
        if plugin.endswith(".py"):
            _import_file(Path(plugin))
        else:
            _import_module(plugin)
    except MixcoderError as error:
        raise PluginError(f"--plugin {plugin}: {error}") from error
    except FileNotFoundError:
        raise PluginError(f"--plugin {plugin}: there is no such file") from None
    except ModuleNotFoundError as error:
        hint = (
            f"; for a file, write {plugin}.py"
            if error.name == plugin and Path(f"{plugin}.py").exists()
            else ""
        )
        raise PluginError(f"--plugin {plugin}: {str(error).lower()}{hint}") from None
    except (Exception, SystemExit) as error:
        raise PluginError(f"--plugin {plugin}: {type(error).__name__}: {error}") from error


def _import_module(name: str) -> None:
    """Imports a module; where it is not installed, from the current folder, which hides no installed one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or (name != error.name and not name.startswith(f"{error.name}.")):
            raise  # what is missing is something that the module imports
        sys.path.append(str(Path.cwd()))
        importlib.import_module(name)


def _import_file(path: Path) -> None:
    name = f"mixcoder_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
