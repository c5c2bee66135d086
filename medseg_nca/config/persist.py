"""Settings by which an automaton learns to keep its answer when it runs on."""

from __future__ import annotations

from pydantic import Field

from medseg_nca.config.base import Settings


class PersistSettings(Settings):
    """In training, let roll-outs go on from older states, so that the answer stays as it is.

    With the probability ``chance``, a level first takes extra steps without gradients, and then its
    usual steps with gradients, so that the loss sees states of all ages. It does what a pool of
    states does (Growing NCA, Mordvintsev et al., Distill 2020). A pool itself would not do, because
    its states would belong to other patches, and to the image before its random changes. In the
    terms of recurrent networks it is truncated back-propagation through time. Inference does not
    change.

    extra: at most how many extra steps, as a multiple of the level's usual steps; each level draws
    for itself, from 0 to this. begin: share of the training after which this begins; before, every
    roll-out begins anew, which costs less and learns the answer itself sooner. From there to the
    middle of what is left, ``extra`` grows evenly from 0, because an automaton that has never seen
    old states would have a loss at once by which training counts as diverged. holes: chance
    that a part of the hidden channels is set to 0 between the extra and the usual steps: a ball, or
    the cells behind a plane (damage of Growing NCA). noise: standard deviation of normal noise that
    is added to the hidden channels at the same place (by such noise arXiv 2605.26726 measures the
    resilience of trained automata).
    still: weight of the penalty on the mean distance of the hidden values after the usual steps
    from those before them, for levels that took as many extra steps as usual ones or more; what was
    damaged must come back. It asks for a fixed point, as deep equilibrium models have one (Bai et
    al., arXiv 1909.01377).
    """

    begin: float = Field(0.0, ge=0, lt=1)
    chance: float = Field(0.5, gt=0, le=1)
    extra: float = Field(3.0, gt=0, le=100)
    holes: float = Field(0.0, ge=0, le=1)
    noise: float = Field(0.0, ge=0, le=10)
    still: float = Field(0.0, ge=0, le=1e3)

    def reach(self, progress: float) -> float:
        """Return ``extra`` as it is at a share of the training; 0 before ``begin``."""
        grown = 2 * (progress - self.begin) / (1 - self.begin)
        return self.extra * min(max(grown, 0.0), 1.0)
