"""Random ids and arrays, the same in every process."""

from random import Random


def tokens(count: int, vocabulary: int) -> list[int]:
    """Draw token ids behind a BOS; of the middle of the vocabulary, where no special token is."""
    r = Random(17)
    return [2] + [r.randrange(vocabulary // 16, vocabulary // 2) for _ in range(count - 1)]


def normal(seed: int, *shape: int):
    """Draw normal numbers of float32."""
    import numpy as np

    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def pixels(side: int):
    """Draw an image as the tower takes it, [1, 3, side, side] in [-1, 1]."""
    return normal(0, 1, 3, side, side).clip(-1, 1)


def image(height: int, width: int):
    """Draw a photo's worth of levels: waves and noise, [Y, X, 3] uint8."""
    import numpy as np

    y, x, c = np.ogrid[:height, :width, :3]
    waves = 96 * np.sin(y / 37 + c) + 96 * np.cos(x / 53)
    noise = np.random.default_rng(0).integers(-30, 30, (height, width, 3))
    return np.clip(128 + waves / 2 + noise, 0, 255).astype(np.uint8)
