"""Faces drawn from a seed in two styles, as photographs and as anime portraits."""
