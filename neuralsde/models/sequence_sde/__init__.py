"""The sequence neural SDE (Shen & Cheng, arXiv 2501.18871): what is fitted to a table of sequences.

window.py       what the model knows at one moment: last values, their ages, the past, the context
module.py       Config, SequenceSDE: coefficients, one-step law, loss
rollout.py      paths over many gaps, and the law of their last step
conditional.py  paths between observations, through the guided bridge of `sde/`
"""

from neuralsde.models.sequence_sde.module import (
    Config,
    Losses,
    SequenceSDE,
    Transition,
    loss,
    transition_losses,
)

__all__ = ["Config", "Losses", "SequenceSDE", "Transition", "loss", "transition_losses"]
