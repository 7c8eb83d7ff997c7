"""Ring 3: what one does with a fitted model.

Fitted      model, encoder and gap law: all that a task needs            (fitted.py)
ahead       paths from many origins over a grid of steps                 (ahead.py)
forecast    the law of what follows each series, as a table              (forecast.py)
widths      how much wider or narrower recent forecasts should have been  (widths.py)
sample      paths from a start point                                     (sample.py)
impute      what lies between the observations                           (impute.py, between.py, blocks.py)
marginal    the score of a process' marginals from one start, fitted     (marginal.py)
diagnose    what looks wrong on rows that were not seen                  (diagnose.py)
score       held-out scores next to three baselines; also the backtest   (score.py, windows.py)
"""
