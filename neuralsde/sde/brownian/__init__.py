"""Brownian motion, replayed exactly: a path is a value, and a cell of it a pure function of (path, i).

cell       what a method sees of one step: times, W, and on request H, A and a sub-key
area       models of the space-space Lévy area given W and H
path       the contract of a path, `BrownianGrid` (the path of one key on one grid), and the same path coarser,
finer, mirrored, or run backward
"""

from neuralsde.sde.brownian.area import Area, Davie, Foster, Fourier
from neuralsde.sde.brownian.cell import Cell
from neuralsde.sde.brownian.normals import normals, subkey
from neuralsde.sde.brownian.path import Backward, BrownianGrid, BrownianPath, subdivide

__all__ = [
    "Area",
    "Backward",
    "BrownianGrid",
    "BrownianPath",
    "Cell",
    "Davie",
    "Foster",
    "Fourier",
    "normals",
    "subdivide",
    "subkey",
]
