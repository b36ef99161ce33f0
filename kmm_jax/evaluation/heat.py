"""Heat-maps as numbers: enlarged to pixels, their maximum, the part that stands out, a box of it.

A heat-map says of each of G x G patches how relevant it is to a text. N maps, S pixels along a
side, B boxes. Places and boxes are in shares of the side.
"""

from __future__ import annotations

import numpy as np

from kmm_jax.data.boxes import Box


def enlarge(heat_NGG: np.ndarray, size: int) -> np.ndarray:
    """Maps of ``size`` x ``size`` pixels, float32, bilinear between the centres of the patches.

    Between a centre at the border and the border itself the map is flat.
    """
    weight_SG = _bilinear(heat_NGG.shape[-1], size)
    heat_NGG = heat_NGG.astype(np.float32)
    # What rounding leaves of a flat map would be taken for its heat.
    low_N11 = heat_NGG.min(axis=(1, 2), keepdims=True)
    return low_N11 + weight_SG @ (heat_NGG - low_N11) @ weight_SG.T


def _bilinear(grid: int, size: int) -> np.ndarray:
    centres_G, centres_S = (np.arange(n) + 0.5 for n in (grid, size))
    basis = np.eye(grid, dtype=np.float32)
    return np.stack(
        [np.interp(centres_S * grid / size, centres_G, one_G) for one_G in basis], axis=1
    ).astype(np.float32)


def relative(heat_NGG: np.ndarray) -> np.ndarray:
    """Each map from 0 at its minimum to 1 at its maximum; a flat one is 0 everywhere."""
    low, high = (of(heat_NGG, axis=(1, 2), keepdims=True) for of in (np.min, np.max))
    return (heat_NGG - low) / np.where(high > low, high - low, 1)


def outstanding(heat_NSS: np.ndarray, floor: float = 0.5) -> np.ndarray:
    """Where each map reaches ``floor`` of the way from its minimum to its maximum; bool.

    One rule for every model: cosines have no natural zero, and Grad-CAM no scale. Nothing stands
    out of a flat map, which is marked whole, as a guess would be.
    """
    flat_N11 = np.ptp(heat_NSS, axis=(1, 2), keepdims=True) == 0
    return (relative(heat_NSS) >= floor) | flat_N11


def peak(heat_GG: np.ndarray) -> tuple[float, float]:
    """x and y of the maximum, the centre of its patch; the first of ties."""
    side = len(heat_GG)
    row, column = divmod(int(heat_GG.argmax()), side)
    return (column + 0.5) / side, (row + 0.5) / side


def region_box(heat_GG: np.ndarray, size: int, floor: float = 0.5) -> Box:
    """Around the connected pixels that stand out and hold the maximum."""
    heat_SS = enlarge(heat_GG[None], size)[0]
    marked_SS = outstanding(heat_SS[None], floor)[0]
    region_SS = np.zeros_like(marked_SS)
    region_SS.flat[heat_SS.argmax()] = True
    before = 0
    while (count := int(region_SS.sum())) > before:
        before = count
        grown_SS = region_SS.copy()
        grown_SS[1:] |= region_SS[:-1]
        grown_SS[:-1] |= region_SS[1:]
        grown_SS[:, 1:] |= region_SS[:, :-1]
        grown_SS[:, :-1] |= region_SS[:, 1:]
        region_SS = grown_SS & marked_SS
    rows, columns = (np.flatnonzero(region_SS.any(axis=axis)) for axis in (1, 0))
    x0, y0, x1, y1 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return x0 / size, y0 / size, x1 / size, y1 / size


def cells_within(box_B4: np.ndarray, side: int) -> np.ndarray:
    """Which of ``side`` x ``side`` cells have their centre in each box; bool (B, side, side)."""
    centre = (np.arange(side) + 0.5) / side
    low_B21, high_B21 = box_B4[:, :2, None], box_B4[:, 2:, None]
    column_BS, row_BS = np.moveaxis((low_B21 <= centre) & (centre < high_B21), 1, 0)
    return row_BS[:, :, None] & column_BS[:, None, :]
