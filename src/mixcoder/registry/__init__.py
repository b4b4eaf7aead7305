"""Names for parts, their arguments, the plugins that add some."""
