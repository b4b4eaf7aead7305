"""A user's own mixing layers, models, data sources and loggers: Python named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from mixcoder.errors import MixcoderError, system_reason


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


def read_plugins(plugins: Sequence[str]) -> tuple[list[str], dict[str, bytes]]:
    """Returns plugins as another machine can load them: their names there, and files by path.

    Of a module or a package of the current folder, all its Python files are read; what else it imports, and
    modules that are installed, must be on the other machine.

    Raises:
        PluginError: a file cannot be read.
    """
    names: list[str] = []
    files: dict[str, bytes] = {}
    for number, plugin in enumerate(plugins):
        try:
            if plugin.endswith(".py"):
                names.append(f"{number}/{Path(plugin).name}")
                files[names[-1]] = Path(plugin).read_bytes()
            else:
                names.append(plugin)
                files |= _files_of_module(plugin.partition(".")[0])
        except OSError as error:
            raise PluginError(f"--plugin {plugin}: {system_reason(error)}") from error
    return names, files


def _files_of_module(name: str) -> dict[str, bytes]:
    """Returns the Python files of a module, or of a package, of the current folder."""
    here = Path.cwd()
    paths = [here / f"{name}.py", *sorted((here / name).rglob("*.py"))]
    return {path.relative_to(here).as_posix(): path.read_bytes() for path in paths if path.is_file()}


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
