"""What the machine itself can do: reading memory, and products of NumPy's BLAS."""

from collections.abc import Iterator

from ..row import Entry, Job, Options, Row

READ = 2**28  # float32 numbers, a gibibyte
SIDE = 4_096


def rows(options: Options) -> Iterator[Row]:
    """List the rows."""
    yield Row(
        "machine-read",
        "a dot product of a gibibyte with itself, by BLAS",
        [Entry("ref", "rows.limits:read", {"count": READ})],
        READ * 4 / 1e9,
        "GB/s",
    )
    yield Row(
        "machine-product",
        f"a product of two matrices of {SIDE:,} rows and columns, float32, by ours and by NumPy's BLAS",
        [Entry("ref", "rows.limits:our_product", {"side": SIDE}), Entry("BLAS", "rows.limits:product", {"side": SIDE})],
        2 * SIDE**3 / 1e9,
        "GFLOP/s",
    )


def read(count: int) -> Job:
    """Read memory once."""
    import numpy as np

    x = np.ones(count, np.float32)
    return Job(lambda: x @ x)


def product(side: int) -> Job:
    """Multiply two matrices by BLAS."""
    from ..drawn import normal

    a, b = normal(0, side, side), normal(1, side, side)
    return Job(lambda: a @ b.T)


def our_product(side: int) -> Job:
    """Multiply them by the kernel of `linear`."""
    from ref.ops import KERNEL

    from ..drawn import normal

    a, b = normal(0, side, side), normal(1, side, side)
    return Job(lambda: KERNEL.linear(a, b))
