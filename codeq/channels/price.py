"""Channels live that are worth more than they cost, at one price for a multiply-add in all layers."""

import numpy as np

from codeq.channels.spaces import ChannelSpaces

LEAST_SHARE = 1 / 16
"""Of the channels of a space so many live, and one at least: the collapse guard."""
MARGIN = 0.02
"""How far from the multiply-adds asked for a network may end, relative to them."""
TOLERANCE = MARGIN / 4
"""So near exchanges bring them; then no further one is made."""
EXCHANGES = 8
CANDIDATES = 48
TRIED = 64
"""So many exchanges at most, among so many channels next to the price; so many of each are counted exactly."""


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


def landed(spaces: ChannelSpaces, worth: np.ndarray, live: np.ndarray, macs: float, costs: np.ndarray) -> np.ndarray:
    """Exchange channels whose worth for their cost is nearest to the price, until multiply-adds are as asked.

    Channels cost more or less, so that one price alone leaves up to one of them too many.

    Args:
        spaces, worth, macs, costs: As for `affordable`.
        live: What it gave.

    Returns:
        Which live, within TOLERANCE where some exchange of one or two gives that, and never further than `live`.
    """
    price = worth / np.maximum(costs, 1.0)
    least = _guarded(spaces)
    for _ in range(EXCHANGES):
        miss = spaces.macs(live) - macs
        if abs(miss) <= TOLERANCE * macs:
            break
        border = price[live].min() if live.any() else 0.0
        spare = (_living(spaces, live) > least)[spaces.space]
        may = np.flatnonzero(np.isfinite(price) & (~live | spare))
        nearest = may[np.argsort(np.abs(price[may] - border), kind="stable")[:CANDIDATES]]
        moves = np.where(live[nearest], -1.0, 1.0) * spaces.marginal_macs(live)[nearest]
        pairs = np.add.outer(moves, moves)
        np.fill_diagonal(pairs, moves)  # one alone
        for flat in np.argsort(np.abs(pairs + miss), axis=None)[:TRIED]:
            exchanged = live.copy()
            chosen = np.unique(nearest[list(np.unravel_index(flat, pairs.shape))])
            exchanged[chosen] ^= True
            if (_living(spaces, exchanged) >= least).all() and abs(spaces.macs(exchanged) - macs) < abs(miss):
                live = exchanged
                break
        else:
            break
    return live


def least_macs(spaces: ChannelSpaces) -> float:
    """Count the multiply-adds that are left where the collapse guard holds every space."""
    return spaces.macs(_without(spaces, np.zeros(spaces.count), np.arange(spaces.count)))


def _guarded(spaces: ChannelSpaces) -> np.ndarray:
    """Count the channels of every space that the collapse guard keeps."""
    counts = _living(spaces, np.ones(spaces.count, bool))
    return np.maximum(1, np.ceil(counts * LEAST_SHARE)).astype(int)


def _living(spaces: ChannelSpaces, live: np.ndarray) -> np.ndarray:
    """Count the channels of every space that live."""
    return np.bincount(spaces.space[live], minlength=len(spaces.names))


def _without(spaces: ChannelSpaces, price: np.ndarray, dying: np.ndarray) -> np.ndarray:
    """Let some channels die, but keep the dearest few of every space."""
    live = np.ones(spaces.count, bool)
    live[dying] = False
    least = _guarded(spaces)
    for number in np.flatnonzero(_living(spaces, live) < least):
        members = np.flatnonzero(spaces.space == number)
        live[members[np.argsort(-price[members], kind="stable")[: least[number]]]] = True
    return live
