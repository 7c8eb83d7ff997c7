"""The sequence neural SDE (Shen & Cheng, arXiv 2501.18871): what is fitted to a table of sequences.

config.py       Config: the options, and which of them exclude each other
window.py       what the model knows at one moment: last values, their ages, the past, the context
memory.py       a learned summary of a longer past
law.py          the law of one step: Gaussian or Student, diagonal or with common factors
transition.py   the law of a whole gap: one step, several, local linear
module.py       SequenceSDE: flow, diffusion, denoiser; its process and its laws
objective.py    the losses, and where between two rows they are taken
rollout.py      paths over many gaps, and the law of their last step
conditional.py  paths between observations, through the guided bridge of `sde/`
"""

from neuralsde.models.sequence_sde.config import Config
from neuralsde.models.sequence_sde.law import StepLaw
from neuralsde.models.sequence_sde.module import InGap, SequenceSDE, Transition
from neuralsde.models.sequence_sde.objective import Losses, Running, loss, transition_losses

__all__ = ["Config", "InGap", "Losses", "Running", "SequenceSDE", "StepLaw", "Transition", "loss", "transition_losses"]
