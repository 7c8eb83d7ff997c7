"""The checker that the import hook of `conftest.py` puts on every function: beartype, where an int is also a float."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
