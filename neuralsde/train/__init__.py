"""Training: a run that can be killed at any moment and still ends in the same bits.

problem.py     what is trained (`Problem`) and how (`TrainConfig`).
state.py       everything that a step changes, as one pytree.
step.py        one optimiser step, and a loop of them inside one compiled program.
loop.py        `train`: steps, log lines, validation, checkpoints, Ctrl-C.
checkpoint.py  the state on disk, atomically (orbax).
files.py       atomic files, `metrics.jsonl`, one writer per folder.
weights.py     a model's arrays as safetensors.
progress.py    a bar on a terminal, lines in a log.
"""
