"""Losses by name. They take logits ``(B, K, *spatial)`` and soft targets of the same shape."""

from medseg_nca.losses.create import create_loss, loss_names

__all__ = ["create_loss", "loss_names"]
