"""From light to a file: averaging, blur, colour response, noise, image size and format."""

from io import BytesIO

import numpy as np
from PIL import Image

from protocols.crosswalk.cameras import Camera
from protocols.crosswalk.compiled import compiled

LEVELS = 1024  # of the table that maps light to grey levels


@compiled
def halve(fine: np.ndarray) -> np.ndarray:
    """Average 2 x 2 pixels, (2H, 2W, 3) -> (H, W, 3)."""
    rows, columns = fine.shape[0] // 2, fine.shape[1] // 2
    coarse = np.empty((rows, columns, 3), dtype=np.float32)
    for j in range(rows):
        for i in range(columns):
            for c in range(3):
                upper = fine[2 * j, 2 * i, c] + fine[2 * j, 2 * i + 1, c]
                lower = fine[2 * j + 1, 2 * i, c] + fine[2 * j + 1, 2 * i + 1, c]
                coarse[j, i, c] = 0.25 * (upper + lower)
    return coarse


@compiled
def blur(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Convolve rows and columns with symmetric ``taps`` (centre first); edges are repeated."""
    rows, columns, _ = image.shape
    across, both = np.empty_like(image), np.empty_like(image)
    for j in range(rows):
        for i in range(columns):
            for c in range(3):
                total = taps[0] * image[j, i, c]
                for k in range(1, len(taps)):
                    total += taps[k] * (image[j, max(0, i - k), c] + image[j, min(columns - 1, i + k), c])
                across[j, i, c] = total
    for j in range(rows):
        for i in range(columns):
            for c in range(3):
                total = taps[0] * across[j, i, c]
                for k in range(1, len(taps)):
                    total += taps[k] * (across[max(0, j - k), i, c] + across[min(rows - 1, j + k), i, c])
                both[j, i, c] = total
    return both


@compiled
def _expose(
    light: np.ndarray, curves: np.ndarray, saturation: float, grain: np.ndarray, out: np.ndarray
) -> None:
    """Look up each channel's curve, mix towards grey, add grain, round to uint8."""
    rows, columns, _ = light.shape
    rgb = np.empty(3)
    for j in range(rows):
        for i in range(columns):
            for c in range(3):
                level = min(1.0, max(0.0, light[j, i, c])) * (LEVELS - 1)
                low = min(LEVELS - 2, int(level))
                rgb[c] = curves[c, low] + (level - low) * (curves[c, low + 1] - curves[c, low])
            grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
            for c in range(3):
                value = grey + saturation * (rgb[c] - grey) + grain[j, i]
                out[j, i, c] = np.uint8(min(255.0, max(0.0, value + 0.5)))


def develop(light: np.ndarray, camera: Camera, exposure: float, rng: np.random.Generator) -> np.ndarray:
    """What ``camera`` makes of linear light (2H, 2W, 3); (H, W, 3) uint8."""
    coarse = blur(halve(light), _taps(camera.blur))
    level = np.linspace(0, 1, LEVELS)
    shown = (level[None, :] * exposure * np.array(camera.gains)[:, None]) ** (camera.gamma / 2.2)
    curves = 255 * (camera.haze + (1 - camera.haze) * np.minimum(1, shown))
    grain = rng.standard_normal(coarse.shape[:2], dtype=np.float32) * np.float32(camera.noise)
    out = np.empty(coarse.shape, dtype=np.uint8)
    _expose(coarse, curves, camera.saturation, grain, out)
    return out


def _taps(deviation: float) -> np.ndarray:
    """One side of a Gaussian kernel, centre first; the whole kernel sums to 1."""
    taps = np.exp(-0.5 * (np.arange(4) / deviation) ** 2)
    kernel: np.ndarray = (taps / (2 * taps.sum() - taps[0])).astype(np.float32)
    return kernel


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (height, width, 3) uint8, stretched where proportions differ."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encode (H, W, 3) uint8."""
    return _encoded(image, "JPEG", quality=quality)


def png(image: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 without loss; 4 % more bytes than by default, in half the time."""
    return _encoded(image, "PNG", compress_level=3)


def bmp(image: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 without loss or compression."""
    return _encoded(image, "BMP")


def _encoded(image: np.ndarray, form: str, **options: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return buffer.getvalue()
