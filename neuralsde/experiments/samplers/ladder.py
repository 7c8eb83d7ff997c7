"""The ladder that is to be climbed: published figures at equal numbers of evaluations (NFE).

Figures are those of the exact-score protocol on eight Gaussians in two significant digits, from one draw of starts. A
cell counts as reproduced where the mean over seeds is not above the published figure by more than the rounding of that
figure, 5 %, and two standard errors of the mean; sliced W2 also where it lies within the floor's 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass

ERROR_NFE = (12, 24, 48, 96, 192, 384)
LAW_NFE = (12, 24, 48, 96, 192)
FAR_NFE = (768, 1_536)
"""Budgets beyond the ladder, where methods of high order come into their own: for the order alone."""

MEDIAN = {
    "Euler, uniform t": (9.6e-2, 4.6e-2, 2.3e-2, 1.1e-2, 5.7e-3, 2.9e-3),
    "DDIM, uniform t": (1.2e-1, 6.1e-2, 3.1e-2, 1.6e-2, 8.0e-3, 4.0e-3),
    "DDIM, log-SNR": (2.0e-1, 9.2e-2, 4.5e-2, 2.2e-2, 1.1e-2, 5.5e-3),
    "Heun, uniform t": (1.2e-1, 4.2e-2, 1.2e-2, 3.2e-3, 8.3e-4, 2.1e-4),
    "EDM Heun, ρ = 7": (9.7e-1, 1.2e-1, 2.1e-2, 4.7e-3, 1.1e-3, 2.7e-4),
    "DPM-Solver-2, log-SNR": (4.0e-1, 6.1e-2, 1.2e-2, 2.7e-3, 6.4e-4, 1.6e-4),
    "DPM-Solver++(2M), log-SNR": (9.8e-2, 1.7e-2, 3.7e-3, 8.8e-4, 2.1e-4, 5.3e-5),
    "DPM-Solver++(2M), ρ = 7": (2.1e-1, 3.0e-2, 6.1e-3, 1.4e-3, 3.4e-4, 8.4e-5),
    "DPM-Solver-3, log-SNR": (2.8e-1, 4.1e-2, 2.1e-3, 1.6e-4, 1.8e-5, 2.1e-6),
    "RK4, log-SNR": (1.5e-1, 1.3e-2, 1.2e-3, 1.3e-4, 8.4e-6, 5.4e-7),
}
"""Median error of the end point at ERROR_NFE."""

ORDER_SEEN = {
    "Euler, uniform t": 1.00,
    "DDIM, uniform t": 1.00,
    "DDIM, log-SNR": 1.00,
    "Heun, uniform t": 1.98,
    "EDM Heun, ρ = 7": 2.04,
    "DPM-Solver-2, log-SNR": 2.02,
    "DPM-Solver++(2M), log-SNR": 2.02,
    "DPM-Solver++(2M), ρ = 7": 2.03,
    "DPM-Solver-3, log-SNR": 3.10,
    "RK4, log-SNR": 3.96,
}
"""Published fits beside them."""

SLICED_W2 = {
    "DDIM, log-SNR": (0.293, 0.165, 0.098, 0.072, 0.066),
    "DPM-Solver++(2M), log-SNR": (0.108, 0.068, 0.068, 0.069, 0.069),
    "EDM Heun, ρ = 7": (0.711, 0.124, 0.076, 0.070, 0.069),
    "Euler-Maruyama, uniform t": (0.203, 0.109, 0.074, 0.055, 0.048),
    "DDPM ancestral, uniform t": (0.334, 0.193, 0.123, 0.063, 0.035),
    "SDE-DPM-Solver++(1), log-SNR": (0.492, 0.289, 0.168, 0.108, 0.070),
    "SDE-DPM-Solver++(2M), log-SNR": (0.217, 0.048, 0.042, 0.028, 0.038),
}
"""Sliced W2 of 100,000 samples at LAW_NFE; its floor was about 0.03."""

EXCESS = {
    "DDIM, log-SNR": (0.70, 0.27, 0.115, 0.054, 0.029),
    "DPM-Solver++(2M), log-SNR": (0.175, 0.074, 0.031, 0.014, 0.008),
    "EDM Heun, ρ = 7": (6.4, 0.136, 0.038, 0.016, 0.009),
    "Euler-Maruyama, uniform t": (0.957, 0.225, 0.090, 0.046, 0.029),
    "SDE-DPM-Solver++(2M), log-SNR": (0.366, 0.051, 0.019, 0.014, 0.005),
}
"""Cross-entropy above the entropy, in nats, at LAW_NFE."""

ALLOWED = 0.05
ORDER_TOLERANCE = 0.15
MEDIAN_ASKED = ("DPM-Solver++(2M), log-SNR", 48, 3.7e-3)
FLOOR_ASKED = ("SDE-DPM-Solver++(2M), log-SNR", 96)


@dataclass(frozen=True)
class Cell:
    """A measured figure beside the published one."""

    measured: float
    error: float
    published: float
    half_unit: float

    @property
    def ratio(self) -> float:
        return self.measured / self.published

    def held(self, floor: float = 0.0) -> bool:
        """Reproduced or beaten."""
        allowed = self.published * (1 + ALLOWED) + self.half_unit + 2 * self.error
        return self.measured <= max(allowed, floor)


def half_unit(published: float, digits: int | None = None) -> float:
    """Half of the last digit given: of two significant ones, or of so many decimals."""
    if digits is not None:
        return 0.5 * 10.0**-digits
    exponent = int(f"{published:.1e}".split("e")[1])
    return 0.5 * 10.0 ** (exponent - 1)
