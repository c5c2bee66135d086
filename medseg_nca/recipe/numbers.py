"""Every number that the recipe decides by, in one place.

Where no experiment is named, the number is what the fixed default was before, or a guess.
"""

from __future__ import annotations

# -- The automaton -----------------------------------------------------------------------------

# State channels of a cell, and hidden values of its rule, where nothing asks for others.
CHANNELS, HIDDEN_VALUES = 16, 64
# Channels besides the image's that a cell needs to remember and to tell its neighbours anything.
LEAST_HIDDEN_CHANNELS = 12
# A cell gets one channel a label, up to this number. With fewer channels than labels, the logits
# that a linear head makes of them depend on each other.
MOST_LABEL_CHANNELS = 32
# The most parameters of a model, whatever the data: the package promises small files.
MOST_PARAMETERS = 50_000
# The rule is made smaller in steps of this many values, and not below this.
HIDDEN_STEP, LEAST_HIDDEN_VALUES = 8, 16

# -- Optimisation ------------------------------------------------------------------------------

# Samples of an iteration, by the number of axes.
BATCH = {2: 2, 3: 2}
# The optimiser of an automaton on the levels of the plan, and of every other model.
OPTIMISER_PLANNED, OPTIMISER = "muon", "adamw"
# The learning rate with Muon; else that of an automaton on those levels, and of other models.
LR_MUON, LR_PLANNED, LR = 8e-3, 4e-3, 2e-3
# Iterations without a limit of time; with one, so many that the time ends the training.
ITERATIONS, MOST_ITERATIONS = 20_000, 100_000
# With fewer iterations a model learns little of what it could; a warning says so beforehand.
LEAST_ITERATIONS = 1_500

# -- Schedule ----------------------------------------------------------------------------------

# Iterations until the full learning rate; with a limit of time its share, and minutes at most.
WARMUP, WARMUP_SHARE, WARMUP_MINUTES = 100, 0.05, 1.0
# Iterations without a limit of time; with one, validations in all, and minutes between two.
VALIDATE_EVERY, VALIDATIONS, VALIDATION_MINUTES = 500, 10, 0.5
# The share of a training's time that its validations may take. Where that is too little, cases are
# left out until this many are left; then validations until this many are left; then cases again,
# until two are left.
VALIDATION_SHARE, SOME_VALIDATION_CASES, LEAST_VALIDATIONS = 0.15, 8, 2
# What a core does in a second, from which the number of validation cases follows: operations, and
# voxels that are resampled, decoded and compared; and the seconds that opening a case takes. These
# are guesses, not measured at run time, so that the same data give the same plan. README's table
# has 45 GFLOP/s for the loops of the automaton alone.
FLOP_PER_SECOND, VOXELS_PER_SECOND, CASE_SECONDS = 1.5e10, 5e6, 0.05
# Iterations between two checkpoints; with a limit of time, minutes.
CHECKPOINT_EVERY, CHECKPOINT_MINUTES = 250, 2.0

# -- The machine -------------------------------------------------------------------------------

# Processes that prepare samples: one on a CPU, which leaves the other cores to the automaton; on a
# GPU half of the cores, up to the second number.
CPU_WORKERS, GPU_WORKERS = 1, 8

# -- Symmetry ----------------------------------------------------------------------------------

# Cases of every label that are needed to know anything.
LEAST_CASES = 8
# An axis is a mirror if the mean of a difference is at most so many of its standard deviations...
MIRROR_MEAN = 1.0
# ... and at least this share of the cases has the other sign;
MIRROR_MIX = 0.15
# or if it is this small in any case, as a share of the image: then a flip changes nothing.
MIRROR_NEAR = 0.02
# Sides are equal for quarter turns if they differ by no more than this share.
SQUARE = 0.02
