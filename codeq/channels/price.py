"""Channels live that are worth more than they cost, at one price for a multiply-add, or a millisecond, in all layers.

Where kernels take tiles of channels, channels of a space live or die by tiles: the best ones together, and so on.
"""

import numpy as np

from codeq.channels.spaces import ChannelSpaces

LEAST_SHARE = 1 / 16
"""Of the channels of a space so many live, and one at least: the collapse guard."""
MARGIN = 0.02
"""How far from the multiply-adds asked for a network may end, relative to them."""
LATENCY_MARGIN = 0.1
"""How far from the latency asked for."""
TOLERANCE = MARGIN / 4
"""So near exchanges bring them; then no further one is made."""
EXCHANGES = 8
CANDIDATES = 48
TRIED = 64
"""So many exchanges at most, among so many channels next to the price; so many of each are counted exactly."""


def affordable(spaces: ChannelSpaces, worth: np.ndarray, most: float, *, costs: np.ndarray | None = None) -> np.ndarray:
    """Choose the channels that live at the price that leaves what is asked for, the nearest there is.

    Args:
        spaces: The channels.
        worth: Of every channel, float `(count,)`; infinite where it has to live.
        most: What is to be left of their cost: multiply-adds, or milliseconds.
        costs: What every channel costs, `(count,)`; None takes `marginal_cost` of all that live.

    Returns:
        Which live, bool `(count,)`.
    """
    everything = np.ones(spaces.count, bool)
    costs = spaces.marginal_cost(everything) if costs is None else costs
    price, tiles = _by_tiles(spaces, _price(worth, costs))
    order = np.lexsort((tiles, price))
    ends = np.append(np.flatnonzero(np.diff(tiles[order])) + 1, spaces.count)  # where a whole tile has died
    low, high = 0, len(ends)
    while high - low > 1:
        middle = (low + high) // 2
        if spaces.cost(_without(spaces, price, order[: ends[middle - 1]])) > most:
            low = middle
        else:
            high = middle
    candidates = [_without(spaces, price, order[: ends[count - 1] if count else 0]) for count in (low, high)]
    return min(candidates, key=lambda live: abs(spaces.cost(live) - most))


def landed(spaces: ChannelSpaces, worth: np.ndarray, live: np.ndarray, most: float, costs: np.ndarray) -> np.ndarray:
    """Exchange channels whose worth for their cost is nearest to the price, until what is left is as asked.

    Channels cost more or less, so that one price alone leaves up to one of them too many. Tiles are not exchanged:
    latency has the wider margin.

    Args:
        spaces, worth, most, costs: As for `affordable`.
        live: What it gave.

    Returns:
        Which live, within TOLERANCE where some exchange of one or two gives that, and never further than `live`.
    """
    if spaces.times is not None:
        return live
    price = _price(worth, costs)
    least = _guarded(spaces)
    for _ in range(EXCHANGES):
        miss = spaces.cost(live) - most
        if abs(miss) <= TOLERANCE * most:
            break
        border = price[live].min() if live.any() else 0.0
        spare = (_living(spaces, live) > least)[spaces.space]
        may = np.flatnonzero(np.isfinite(price) & (~live | spare))
        nearest = may[np.argsort(np.abs(price[may] - border), kind="stable")[:CANDIDATES]]
        moves = np.where(live[nearest], -1.0, 1.0) * spaces.marginal_cost(live)[nearest]
        pairs = np.add.outer(moves, moves)
        np.fill_diagonal(pairs, moves)  # one alone
        for flat in np.argsort(np.abs(pairs + miss), axis=None)[:TRIED]:
            exchanged = live.copy()
            chosen = np.unique(nearest[list(np.unravel_index(flat, pairs.shape))])
            exchanged[chosen] ^= True
            if (_living(spaces, exchanged) >= least).all() and abs(spaces.cost(exchanged) - most) < abs(miss):
                live = exchanged
                break
        else:
            break
    return live


def least_cost(spaces: ChannelSpaces) -> float:
    """Count what is left where the collapse guard holds every space."""
    return spaces.cost(_without(spaces, np.zeros(spaces.count), np.arange(spaces.count)))


def _price(worth: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Give what every channel is worth for what it costs; one that costs nothing stays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(costs > 0, worth / costs, np.inf)


def _by_tiles(spaces: ChannelSpaces, price: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give every channel the mean price of its tile, and the number of it: a space's best are in its first."""
    if spaces.times is None:
        return price, np.arange(spaces.count)
    shared, tiles, given = price.copy(), np.zeros(spaces.count, int), 0
    for number, size in enumerate(spaces.tiles):
        members = np.flatnonzero(spaces.space == number)
        members = members[np.argsort(-price[members], kind="stable")]
        for start in range(0, len(members), size):
            tile = members[start : start + size]
            shared[tile], tiles[tile] = price[tile].mean(), given
            given += 1
    return shared, tiles


def _guarded(spaces: ChannelSpaces) -> np.ndarray:
    """Count the channels of every space that the collapse guard keeps."""
    tiles = np.maximum(1, np.ceil(spaces.sizes * LEAST_SHARE / spaces.tiles)).astype(int)
    return np.minimum(tiles * spaces.tiles, spaces.sizes)


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
