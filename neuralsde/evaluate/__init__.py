"""How good a forecast is, and the page that says so.

scores      CRPS, energy score, rounding-interval likelihood, coverage, PIT
distances   sliced W2, energy distance, Fréchet distance of two sets of points, and the floor of real against real
images      many small images as one picture
weighted    mean, quantiles, CRPS of weighted samples
bootstrap   95 % intervals by whole blocks of time
baselines   persistence, climatology, linear AR: what a model has to beat
diagnostics residuals, roughness of paths, what is said when something is wrong
compare     scores of single windows -> table rows with paired differences
content     what a report shows, as plain values; report writes it, sections, markup, plots, style and assets/ set it
"""
