"""Faces drawn from a seed in two styles, as photographs and as anime portraits."""

from .anime import draw_anime
from .identity import Identity, draw_identity, identity_of
from .photograph import draw_photograph

__all__ = ["Identity", "draw_anime", "draw_identity", "draw_photograph", "identity_of"]
