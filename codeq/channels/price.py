"""Channels live that are worth more than they cost, at one price for a multiply-add in all layers."""

import numpy as np

from codeq.channels.spaces import ChannelSpaces

LEAST_SHARE = 1 / 16
"""Of the channels of a space so many live, and one at least: the collapse guard."""


def affordable(spaces: ChannelSpaces, worth: np.ndarray, macs: float, *, costs: np.ndarray | None = None) -> np.ndarray:
    """Choose the channels that live at the price that leaves so many multiply-adds, the nearest there is.

    Args:
        spaces: The channels.
        worth: Of every channel, float `(count,)`; infinite where it has to live.
        macs: That are to be left.
        costs: What every channel costs, `(count,)`; None takes `marginal_macs` of all that live.

    Returns:
        Which live, bool `(count,)`.
    """
    everything = np.ones(spaces.count, bool)
    costs = spaces.marginal_macs(everything) if costs is None else costs
    price = worth / np.maximum(costs, 1.0)
    order = np.argsort(price, kind="stable")
    low, high = 0, spaces.count
    while high - low > 1:
        middle = (low + high) // 2
        if spaces.macs(_without(spaces, price, order[:middle])) > macs:
            low = middle
        else:
            high = middle
    candidates = [_without(spaces, price, order[:count]) for count in (low, high)]
    return min(candidates, key=lambda live: abs(spaces.macs(live) - macs))


def least_macs(spaces: ChannelSpaces) -> float:
    """Count the multiply-adds that are left where the collapse guard holds every space."""
    return spaces.macs(_without(spaces, np.zeros(spaces.count), np.arange(spaces.count)))


def _without(spaces: ChannelSpaces, price: np.ndarray, dying: np.ndarray) -> np.ndarray:
    """Let some channels die, but keep the dearest few of every space."""
    live = np.ones(spaces.count, bool)
    live[dying] = False
    counts = np.bincount(spaces.space)
    least = np.maximum(1, np.ceil(counts * LEAST_SHARE)).astype(int)
    for number in np.flatnonzero(np.bincount(spaces.space[live], minlength=len(counts)) < least):
        members = np.flatnonzero(spaces.space == number)
        live[members[np.argsort(-price[members], kind="stable")[: least[number]]]] = True
    return live
