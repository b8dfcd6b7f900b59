"""What the machine itself can do: reading memory, products, and decoding blocks that lie in its caches."""

from collections.abc import Iterator

from ..row import Entry, Job, Options, Row

READ = 2**28  # float32 numbers, a gibibyte
SIDE = 4_096
FORMS = ("Q8_0", "Q5_0", "Q4_K", "Q6_K")  # of the 270M's files
SMALL, WIDE, TIMES = 2**18, 1_024, 500  # weights, in rows of so many, multiplied so often


def rows(options: Options) -> Iterator[Row]:
    """List the rows."""
    yield Row(
        "machine-read",
        "a gibibyte of float32 read once: one row times a matrix by ours, a product with itself by NumPy's BLAS",
        [Entry("ref", "rows.limits:our_read", {"count": READ}), Entry("BLAS", "rows.limits:read", {"count": READ})],
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
    for form in FORMS:
        yield Row(
            f"machine-dots-{form.lower()}",
            f"one row times a matrix of {SMALL:,} {form} weights that stays in the cache, by one thread",
            [Entry("ref", "rows.limits:dots", {"form": form})],
            SMALL * TIMES / 1e9,
            "billion weights/s",
        )


def dots(form: str) -> Job:
    """Multiply one row by the kernel of a block format, without starting threads."""
    import numpy as np

    from ref.ops.blocks import FORMATS, Blocks, job_of

    from ..drawn import normal

    rows, length = SMALL // WIDE, FORMATS[form].length
    data = np.random.default_rng(0).integers(0, 64, (rows, WIDE // length * FORMATS[form].size), np.uint8)
    kernel, size, _, *arguments = job_of(normal(0, 1, WIDE), Blocks(data, form), np.empty((1, rows), np.float32))

    def run() -> None:
        for _ in range(TIMES):
            kernel.kernel(0, size, *arguments)

    return Job(run)


def our_read(count: int) -> Job:
    """Read memory once by the kernel of `linear`, with all threads."""
    import numpy as np

    from ref.ops import KERNEL

    x, w = np.ones((1, WIDE), np.float32), np.ones((count // WIDE, WIDE), np.float32)
    return Job(lambda: KERNEL.linear(x, w))


def read(count: int) -> Job:
    """Read memory once by BLAS."""
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
