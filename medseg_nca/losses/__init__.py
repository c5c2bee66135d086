"""Losses by name. They take logits ``(B, K, *spatial)`` and soft targets of the same shape."""

from medseg_nca.losses.create import LOSSES, create_loss

__all__ = ["LOSSES", "create_loss"]
