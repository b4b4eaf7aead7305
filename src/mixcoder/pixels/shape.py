"""The shape of an image."""

from __future__ import annotations

ImageShape = tuple[int, int, int]
"""Channels, height, width."""
