"""Writes the k-quants Q4_K and Q6_K of GGUF files, which the `gguf` package only reads.

The arithmetic is that of llama.cpp's reference (ggml-quants.c: make_qkx2_quants, make_qx_quants,
quantize_row_q4_K_ref, quantize_row_q6_K_ref), in float32. A block has 256 values of a row.
"""

import numpy as np
from numba import njit

BLOCK = 256
_ZERO = np.float32(0)
_TENTH = np.float32(0.1)
_NOTHING = np.float32(1e-15)  # GROUP_MAX_EPS


@njit(cache=True)
def _affine_scales(values):
    """Fit scale and minimum to each group of 32 values, float32 [groups, 32]: value = scale * level - minimum
    with levels from 0 to 15.

    Returns scales and minima, float32 [groups], and levels, uint8 [groups, 32].
    """
    groups = values.shape[0]
    scales, minima = np.zeros(groups, np.float32), np.zeros(groups, np.float32)
    chosen = np.zeros((groups, 32), np.uint8)
    tried, weights = np.zeros(32, np.float32), np.zeros(32, np.float32)
    top = np.float32(15)
    for group in range(groups):
        x = values[group]
        squares = _ZERO
        for i in range(32):
            squares += x[i] * x[i]
        mean = np.float32(np.sqrt(squares / np.float32(32)))
        low, high, sum_w, sum_x = x[0], x[0], _ZERO, _ZERO
        for i in range(32):
            weights[i] = mean + abs(x[i])
            low, high = min(low, x[i]), max(high, x[i])
            sum_w += weights[i]
            sum_x += weights[i] * x[i]
        low = min(low, _ZERO)
        if high == low:
            minima[group] = -low
            continue
        inverse, best = top / (high - low), _ZERO
        scale = np.float32(1) / inverse
        for i in range(32):
            level = min(max(np.rint(inverse * (x[i] - low)), _ZERO), top)
            chosen[group, i] = np.uint8(level)
            difference = scale * level + low - x[i]
            best += weights[i] * difference * difference
        for step in range(21):  # from the best minimum so far, as the reference does
            inverse = (np.float32(-1) + _TENTH * np.float32(step) + top) / (high - low)
            sum_l, sum_l2, sum_xl = _ZERO, _ZERO, _ZERO
            for i in range(32):
                level = min(max(np.rint(inverse * (x[i] - low)), _ZERO), top)
                tried[i] = level
                sum_l += weights[i] * level
                sum_l2 += weights[i] * level * level
                sum_xl += weights[i] * level * x[i]
            determinant = sum_w * sum_l2 - sum_l * sum_l
            if determinant > 0:
                new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
                new_minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
                if new_minimum > 0:
                    new_minimum, new_scale = _ZERO, sum_xl / sum_l2
                error = _ZERO
                for i in range(32):
                    difference = new_scale * tried[i] + new_minimum - x[i]
                    error += weights[i] * difference * difference
                if error < best:
                    best, scale, low = error, new_scale, new_minimum
                    for i in range(32):
                        chosen[group, i] = np.uint8(tried[i])
        scales[group], minima[group] = scale, -low
    return scales, minima, chosen


@njit(cache=True)
def _symmetric_scales(values):
    """Fit a scale to each group of 16 values, float32 [groups, 16]: value = scale * level, from -32 to 31.

    Returns scales, float32 [groups], and levels + 32, uint8 [groups, 16].
    """
    groups = values.shape[0]
    scales, chosen = np.zeros(groups, np.float32), np.zeros((groups, 16), np.uint8)
    top = np.float32(32)
    for group in range(groups):
        x = values[group]
        largest = _ZERO
        for i in range(16):
            if abs(x[i]) > abs(largest):
                largest = x[i]
        if abs(largest) < _NOTHING:
            continue
        best, best_scale = np.float32(-1), _ZERO
        for trial in range(19):  # an offset of 0 first, then -0.9 to 0.9
            step = 0 if trial == 0 else trial - 10 if trial < 10 else trial - 9
            inverse = -(top + _TENTH * np.float32(step)) / largest
            sum_lx, sum_l2 = _ZERO, _ZERO
            for i in range(16):
                level = min(max(np.rint(inverse * x[i]), -top), top - np.float32(1))
                weight = x[i] * x[i]
                sum_lx += weight * x[i] * level
                sum_l2 += weight * level * level
            if trial == 0 or (sum_l2 > 0 and sum_lx * sum_lx > best * sum_l2):
                best_scale = sum_lx / sum_l2 if sum_l2 > 0 else _ZERO
                best = best_scale * sum_lx
                for i in range(16):
                    level = min(max(np.rint(inverse * x[i]), -top), top - np.float32(1))
                    chosen[group, i] = np.uint8(level + top)
        scales[group] = best_scale
    return scales, chosen


def _packed_scales(scales: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """Returns the eight 6-bit scales and minima of each block, uint8 [blocks, 8], as uint8 [blocks, 12]."""
    low = scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4
    first = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    second = minima[:, :4] | (minima[:, 4:] >> 4) << 6
    return np.concatenate([first, second, low], axis=1)


def _halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns float32 [blocks] rounded to float16, as float32 and as bytes, uint8 [blocks, 2]."""
    rounded = values.astype(np.float16)
    return rounded.astype(np.float32), rounded.view(np.uint8).reshape(-1, 2)


def _inverse(largest: np.ndarray) -> np.ndarray:
    """Returns 63 / largest, float32 [blocks]; 0 where largest is 0."""
    return np.divide(np.float32(63), largest, out=np.zeros_like(largest), where=largest > 0)


def quantize_q4_k(values: np.ndarray) -> np.ndarray:
    """Returns float32 [blocks, 256] as Q4_K, uint8 [blocks, 144]."""
    groups = values.reshape(-1, 8, 32)
    scales, minima, chosen = _affine_scales(values.reshape(-1, 32))
    scales, minima = scales.reshape(-1, 8), minima.reshape(-1, 8)
    largest, deepest = scales.max(axis=1).clip(min=0), minima.max(axis=1).clip(min=0)
    small, offset = (
        np.minimum(np.rint(_inverse(top)[:, None] * all), 63).astype(np.int32).astype(np.uint8)
        for top, all in ((largest, scales), (deepest, minima))
    )
    scale, scale_bytes = _halves(largest / np.float32(63))
    minimum, minimum_bytes = _halves(deepest / np.float32(63))
    step = (scale[:, None] * small)[:, :, None]
    shifted = groups + (minimum[:, None] * offset)[:, :, None]
    again = np.rint(np.divide(shifted, step, out=np.zeros_like(groups), where=step != 0)).clip(0, 15)
    levels = np.where(step != 0, again, chosen.reshape(groups.shape)).astype(np.uint8)
    packed = (levels[:, ::2] | levels[:, 1::2] << 4).reshape(-1, 128)
    return np.concatenate([scale_bytes, minimum_bytes, _packed_scales(small, offset), packed], axis=1)


def quantize_q6_k(values: np.ndarray) -> np.ndarray:
    """Returns float32 [blocks, 256] as Q6_K, uint8 [blocks, 210]."""
    groups = values.reshape(-1, 16, 16)
    scales, chosen = _symmetric_scales(values.reshape(-1, 16))
    scales = scales.reshape(-1, 16)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1)[:, None], axis=1)
    empty = np.abs(largest) < _NOTHING
    inverse = np.divide(np.float32(-128), largest, out=np.zeros_like(largest), where=~empty)
    scale, scale_bytes = _halves(np.divide(1, inverse, out=np.zeros_like(inverse), where=~empty)[:, 0])
    small = np.minimum(np.rint(inverse * scales), 127).astype(np.int8)
    step = (scale[:, None] * small)[:, :, None]
    again = np.rint(np.divide(groups, step, out=np.zeros_like(groups), where=step != 0)).clip(-32, 31) + 32
    levels = np.where(step != 0, again, chosen.reshape(groups.shape)).astype(np.uint8)
    levels = np.where(empty[:, :, None], 0, levels).astype(np.uint8).reshape(-1, 2, 4, 32)
    low, high = levels & 15, levels >> 4
    low = low[:, :, :2] | low[:, :, 2:] << 4
    high = np.bitwise_or.reduce(high << np.array([0, 2, 4, 6], np.uint8)[:, None], axis=2)
    parts = (low.reshape(-1, 128), high.reshape(-1, 64), small.view(np.uint8), scale_bytes)
    return np.concatenate(parts, axis=1)


QUANTIZERS = {"Q4_K": quantize_q4_k, "Q6_K": quantize_q6_k}
