"""Registries of models, layers, data sources and loggers; checks of arguments; plugins."""
