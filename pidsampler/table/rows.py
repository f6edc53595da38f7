"""What a table is made of: combinations of tensors, and rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs

from ..errors import ConfigError
from ..values import field, flag, instance, number, pairs, whole, word

Terms = tuple[tuple[int, float], ...]
"""Weights by slot or draw, as pairs: what a row holds."""

TermsLike = Mapping[int, float] | Iterable[tuple[int, float]]
"""Weights by slot or draw, as a mapping or as pairs: what a row is given."""

PREDICTIONS = ("velocity", "x0", "eps")
"""What a network may predict: the velocity eps - x0, the clean image x0, or the noise eps."""

_MOST = 2**32 - 1  # of a slot or draw


def _terms(kind: str, value: TermsLike) -> Terms:
    """Return terms sorted by index without those of weight 0, so that equal tables compare equal."""
    if type(value) in (tuple, dict) and not value:  # most have none
        return ()
    found: dict[int, float] = {}
    for index, weight in pairs(f"weights by {kind}", value):
        index = whole(kind, index, low=0, high=_MOST)
        if index in found:
            raise ConfigError(f"{kind} {index} occurs twice in one combination: add its weights")
        found[index] = number(f"the weight of {kind} {index}", weight)
    return tuple(sorted((i, w) for i, w in found.items() if w != 0.0))


def _slots(h: TermsLike) -> Terms:
    return _terms("slot", h)


def _draws(noise: TermsLike) -> Terms:
    return _terms("draw", noise)


@attrs.frozen(kw_only=True)
class Combination:
    """Weighted sum a*x + b*x0 + sum_k h[k]*S[k] + sum_j c[j]*N(draw[j]), all coefficients float64.

    Args:
        a: Weight of x, as it was when the row began.
        b: Weight of x0, the row's prediction of the clean image.
        h: Weights of saved tensors, {slot: weight} or pairs.
        noise: Weights of noise draws, {draw: weight} or pairs. Draw 0 is the initial noise.

    Raises:
        PidSamplerError: A coefficient is not finite, an index is not a whole number, or one occurs twice.
    """

    a: float = field(number, default=0.0)
    b: float = field(number, default=0.0)
    h: Terms = attrs.field(converter=_slots, default=())
    noise: Terms = attrs.field(converter=_draws, default=())

    def formula(self) -> str:
        """Return the combination as text, such as "0.5*x + 0.5*x0 + 0.1*N(1)"."""
        parts = [(self.a, "x"), (self.b, "x0")]
        parts += [(w, f"S{k}") for k, w in self.h] + [(w, f"N({k})") for k, w in self.noise]
        text = " + ".join(name if w == 1.0 else f"{w:.6g}*{name}" for w, name in parts if w != 0.0)
        return text.replace("+ -", "- ") or "0"


def combined(parts: Iterable[tuple[float, Combination]]) -> Combination:
    """Return the sum of weight * combination: how a scheduler puts parts of a row together.

    Raises:
        PidSamplerError: A weight is not finite, or a part is no `Combination`.
    """
    a, b = 0.0, 0.0
    h: dict[int, float] = {}
    noise: dict[int, float] = {}
    for weight, part in pairs("parts", parts):
        weight = number("the weight of a part", weight)
        part = instance("part", part, kind=Combination, words="a Combination")
        a, b = a + weight * part.a, b + weight * part.b
        for total, terms in ((h, part.h), (noise, part.noise)):
            for index, w in terms:
                total[index] = total.get(index, 0.0) + weight * w
    return Combination(a=a, b=b, h=h, noise=noise)


def _saves(saves: Mapping[int, Combination] | Iterable[tuple[int, Combination]]) -> tuple[tuple[int, Combination], ...]:
    found = {
        whole("slot", slot, low=0, high=_MOST): instance("saves", c, kind=Combination, words="Combinations by slot")
        for slot, c in pairs("saves", saves)
    }
    return tuple(sorted(found.items(), key=lambda item: item[0]))


def _weight_of_network(q: float | None) -> float:
    return math.nan if q is None else number("q", q)


def _time_told(at: float | None) -> float:
    return math.nan if at is None else number("at", at, low=0, high=1, above=True)


@attrs.frozen(cache_hash=True)  # backends keep what they make of a row
class Row(Combination):
    """One network evaluation of x at the noise level `t`, and the update of x to the noise level `t_next`.

    Args:
        t: Noise level of x, in (0, 1].
        t_next: Noise level of x after the row, in [0, 1]. The next row's t.
        a: Weight of the old x, see `Combination`.
        b: Weight of x0.
        h: Weights of saved tensors.
        noise: Weights of noise draws.
        p: Weight of x in x0 = p*x + q*m. Default 1, the velocity's.
        q: Weight of the network's output m there. Default -t, the velocity's. Not 0, which would ignore the network.
        at: Time that the network is told, in (0, 1]. Default t. The self-check cannot judge another one.
        net: Which network answers: 0 the conditional one, 1 the unconditional one.
        clip: Bound: x0 is clipped to -clip..clip. None leaves it.
        biased: Whether the row misses its noise level on purpose; `StepTable.bias` then tells by how much.
        saves: {slot: Combination} of what to keep for later rows, made from the values before the update.

    Raises:
        PidSamplerError: A value is not finite or out of its range.
    """

    t: float = field(number, low=0, high=1, above=True)
    t_next: float = field(number, low=0, high=1)
    p: float = field(number, default=1.0, kw_only=True)
    q: float = attrs.field(converter=_weight_of_network, default=None, kw_only=True)
    at: float = attrs.field(converter=_time_told, default=None, kw_only=True)
    net: int = field(whole, low=0, high=1, default=0, kw_only=True)
    clip: float | None = field(number, low=0, above=True, default=None, optional=True, kw_only=True)
    saves: tuple[tuple[int, Combination], ...] = attrs.field(converter=_saves, default=(), kw_only=True)
    biased: bool = field(flag, default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if math.isnan(self.q):  # none was given
            object.__setattr__(self, "q", -self.t)
        if math.isnan(self.at):
            object.__setattr__(self, "at", self.t)
        if self.q == 0.0:
            raise ConfigError(f"the row at t={self.t!r} has q = 0: it would ignore the network")

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """All that the row computes: its update, then what it saves, slot by slot."""
        return (self, *(c for _, c in self.saves))

    @property
    def draws(self) -> list[int]:
        """The noise draws in any of its combinations, ascending."""
        return sorted({draw for c in self.combinations for draw, _ in c.noise})

    def prediction(self) -> str:
        """Return the row's x0 as text, such as "x - 0.999*m"."""
        text = Combination(a=self.p, h={0: self.q}).formula().replace("S0", "m")
        return text if self.clip is None else f"clip({text}, {self.clip:g})"


def check_prediction(prediction: str) -> str:
    """Return what a network predicts, checked: "velocity" (eps - x0), "x0" or "eps".

    Args:
        prediction: Name to check.

    Raises:
        PidSamplerError: The name is unknown.
    """
    return word("prediction", prediction, choices=PREDICTIONS)


def x0_weights(prediction: str, t: float) -> tuple[float, float]:
    """Return (p, q) of x0 = p*x + q*m, where x has the noise level t and the network predicts m.

    Args:
        prediction: "velocity", "x0" or "eps".
        t: Noise level of x, above 0.

    Raises:
        PidSamplerError: The name is unknown, t is not in (0, 1], or eps is predicted at 1, where x tells nothing of x0.
    """
    t = number("t", t, low=0, high=1, above=True)
    if check_prediction(prediction) == "velocity":
        return 1.0, -t
    if prediction == "x0":
        return 0.0, 1.0
    if t == 1.0:
        raise ConfigError("a network that predicts eps is undefined at t = 1: start below 1")
    return 1.0 / (1.0 - t), -t / (1.0 - t)
