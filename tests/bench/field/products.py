"""Products of matrices as others compute them, in the place of torch's: rounded operands, other sums.

Each is a function of a [..., M, K] and b [..., K, N] that returns [..., M, N] in their dtype.
"""

import torch
from numba import njit
from torch.overrides import TorchFunctionMode

PRODUCTS = ("linear", "matmul", "bmm", "__matmul__")


class Products(TorchFunctionMode):
    """Compute torch's products with another function while a model runs.

    Args:
        product: of two operands; None leaves products as they are.
        convolve: what the operands of convolutions go through; None leaves them as they are.
        only: tells by the shape of b which products are meant.
    """

    def __init__(self, product=None, convolve=None, only=lambda shape: True):
        super().__init__()
        self.product, self.convolve, self.only = product, convolve, only

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if name == "conv2d" and self.convolve:
            args = (self.convolve(args[0]), self.convolve(args[1]), *args[2:])
        if self.product and name in PRODUCTS and not set(kwargs) - {"bias"}:
            a, b, *bias = *args, *kwargs.values()
            b = b.transpose(-1, -2) if name == "linear" else b
            # the angles are a product with one term, which no implementation takes for a product of matrices
            if b.shape[-2] > 1 and a.is_floating_point() and self.only(b.shape):
                y = self.product(a, b)
                return y if not bias or bias[0] is None else y + bias[0]
        return function(*args, **kwargs)


def to_tf32(x):
    """Round to 10 bits of mantissa, to nearest even."""
    if x.dtype != torch.float32:
        return x
    bits = x.detach().contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def to_bfloat16(x):
    """Round to bfloat16 and stay in the dtype."""
    return x.to(torch.bfloat16).to(x.dtype)


def tf32(a, b):
    """Round the operands to TF32, but not at one row, where cuBLAS takes another kernel."""
    return torch.matmul(a, b) if _rows(a, b) == 1 else torch.matmul(to_tf32(a), to_tf32(b))


def bfloat16_operands(a, b):
    """Round the operands to bfloat16 and keep sums and results in float32."""
    return torch.matmul(to_bfloat16(a), to_bfloat16(b))


def to_float8(x):
    """Round to e4m3 with one scale a tensor, its largest value at 448."""
    scale = (x.abs().max().float() / 448).clamp(min=1e-12)
    return (x.float() / scale).to(torch.float8_e4m3fn).float() * scale


def float8(a, b):
    """Multiply operands of e4m3, sums in float32."""
    return torch.matmul(to_float8(a), to_float8(b)).to(a.dtype)


def float16_sums(block: int):
    """Make a product whose running sum is rounded to float16 after every `block` terms, as with fp16 accumulation."""

    def product(a, b):
        total = torch.zeros((*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))
        for k in range(0, a.shape[-1], block):
            part = a[..., k : k + block].float() @ b[..., k : k + block, :].float()
            total = (total + part).half().float()
        return total.to(a.dtype)

    return product


def split(parts: int):
    """Make a product whose inner axis is cut into parts, each summed for itself, as split-K kernels do."""

    def product(a, b):
        pairs = zip(a.float().tensor_split(parts, -1), b.float().tensor_split(parts, -2), strict=True)
        return sum(torch.matmul(x, y) for x, y in pairs).to(a.dtype)

    return product


def by_loop(kernel):
    """Make a product of a compiled loop over two matrices of float32."""

    def product(a, b):
        if b.ndim == 2:  # one matrix of weights for all rows
            rows = a.float().reshape(-1, a.shape[-1]).contiguous()
            out = torch.empty(len(rows), b.shape[-1])
            kernel(rows.numpy(), b.float().contiguous().numpy(), out.numpy())
            return out.reshape(*a.shape[:-1], -1).to(a.dtype)
        batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (x.expand(*batch, *x.shape[-2:]).flatten(0, -3) for x in (a, b))
        return torch.stack([product(x, y) for x, y in zip(a, b, strict=True)]).unflatten(0, batch)

    return product


def _rows(a, b) -> int:
    return a.shape[:-1].numel() if b.ndim == 2 else a.shape[-2]


def _chain(a, b, out):
    """One sum an output, term after term."""
    for m in range(a.shape[0]):
        out[m] = 0
        for k in range(a.shape[1]):
            for n in range(b.shape[1]):
                out[m, n] += a[m, k] * b[k, n]


BLOCK = 32  # of the blocked sum


def _blocked(a, b, out):
    """Sums of 32 terms, added one after another."""
    part = out[0].copy()
    for m in range(a.shape[0]):
        out[m] = 0
        for start in range(0, a.shape[1], BLOCK):
            part[:] = 0
            for k in range(start, min(start + BLOCK, a.shape[1])):
                for n in range(b.shape[1]):
                    part[n] += a[m, k] * b[k, n]
            for n in range(b.shape[1]):
                out[m, n] += part[n]


chain = by_loop(njit(_chain))
fused_chain = by_loop(njit(fastmath={"contract"})(_chain))  # multiply and add round once
blocked = by_loop(njit(_blocked))
