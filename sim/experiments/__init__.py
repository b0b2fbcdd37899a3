"""Experiments: `methods`, `protection`, `expansion`, `grid`, `attenuation`, `figures` are commands above `library`."""
