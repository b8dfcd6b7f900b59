"""Stored weights in vectors: bytes and 16-bit words become float32, sums end in one number, memory is asked for early.

As in `ref.ops.simd`, each function says in Python what it computes, and below it stands how LLVM is told to.
"""

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function

from ref.ops.simd import CACHE_LINE, Vector, _address, _lowered, _spread

AHEAD = 8192  # bytes: memory that far ahead is asked for; it takes as long to come as these to be read
I16, I32 = ir.IntType(16), ir.IntType(32)


def prefetch(a: np.ndarray, i: int) -> None:
    """Ask for the cache line AHEAD of a[i], which need not exist. It changes no number."""


def prefetch_64(a: np.ndarray, i: int) -> None:
    """Ask for the cache lines AHEAD of the 64 numbers from a[i] on."""


def fetch_64(a: np.ndarray, i: int) -> None:
    """Ask for the cache lines of the 64 numbers from a[i] on themselves."""


def _lowered_prefetch(function, ahead, lines_of):
    @_lowered(function, lambda a, i: types.void(a, types.intp), types.Array, types.Integer)
    def _(context, builder, signature, args):
        place = builder.bitcast(_address(context, builder, signature, args), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
        ask, read, keep, data = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0"), I32(0), I32(3), I32(1)
        for line in range(lines_of(signature.args[0])):
            builder.call(ask, [builder.gep(place, [I32(ahead + CACHE_LINE * line)]), read, keep, data])
        return context.get_dummy_value()


_lowered_prefetch(prefetch, AHEAD, lambda array: 1)
_lowered_prefetch(prefetch_64, AHEAD, lambda array: array.dtype.bitwidth * 64 // 8 // CACHE_LINE)
_lowered_prefetch(fetch_64, 0, lambda array: array.dtype.bitwidth * 64 // 8 // CACHE_LINE)


def load_word(a: np.ndarray, i: int) -> Any:
    """Return the four bytes from a[i] on as a number, the lowest first."""
    return a[i : i + 4].view("<u4")[0]


@_lowered(load_word, lambda a, i: types.uint32(a, types.intp), types.Array, types.Integer)
def _(context, builder, signature, args):
    return builder.load(builder.bitcast(_address(context, builder, signature, args), I32.as_pointer()), align=1)


for _operator, _name in (
    (operator.and_, "and_"),
    (operator.sub, "sub"),
    (operator.rshift, "lshr"),
    (operator.lshift, "shl"),
):

    @_lowered(
        _operator,
        lambda x, n: x(x, types.int64) if isinstance(x, Vector) and isinstance(n, types.Integer) else None,
        Vector,
        types.Integer,
    )
    def _(context, builder, signature, args, name=_name):
        number = builder.trunc(args[1], args[0].type.element)
        return getattr(builder, name)(args[0], _spread(builder, number, args[0].type.count))


@_lowered(operator.or_, lambda x, y: x if isinstance(x, Vector) and x == y else None, Vector, Vector)
def _(context, builder, signature, args):
    return builder.or_(*args)


def signed(x: Any) -> Any:
    """Return a vector of bytes as signed ones."""
    return x.view(np.int8)


@_lowered(signed, lambda x: Vector(types.int8, x.count)(x), Vector)
def _(context, builder, signature, args):
    return args[0]


def to_float32(x: Any) -> Any:
    """Return a vector of bytes as float32 numbers."""
    return x.astype(np.float32)


@_lowered(to_float32, lambda x: Vector(types.float32, x.count)(x), Vector)
def _(context, builder, signature, args):
    wide = ir.VectorType(I32, args[0].type.count)  # processors know how to make floats of such
    extend = builder.sext if signature.args[0].dtype.signed else builder.zext
    return builder.sitofp(extend(args[0], wide), context.get_value_type(signature.return_type))


def widen_bits(x: Any) -> Any:
    """Return bfloat16 bits as float32, a number or a vector of them; floats as they are."""
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32) if x.dtype == np.uint16 else x


def _widened(x):
    if not isinstance(x, Vector):
        return (types.float32 if x == types.uint16 else x)(x)
    return (Vector(types.float32, x.count) if x.dtype == types.uint16 else x)(x)


@_lowered(widen_bits, _widened, types.Any)
def _(context, builder, signature, args):
    kind, result = signature.args[0], context.get_value_type(signature.return_type)
    if getattr(kind, "dtype", kind) != types.uint16:
        return args[0]
    many = isinstance(kind, Vector)
    wide = ir.VectorType(I32, kind.count) if many else I32
    by = wide([16] * kind.count) if many else wide(16)
    return builder.bitcast(builder.shl(builder.zext(args[0], wide), by), result)


def where_bits(bits: int, x: Any, y: Any) -> Any:
    """Return a vector of 16 numbers: x[i] where bit i of `bits` is set, else y[i]."""
    return np.where(bits >> np.arange(16) & 1, x, y)


@_lowered(where_bits, lambda bits, x, y: x(bits, x, x), types.Integer, Vector, Vector)
def _(context, builder, signature, args):
    mask = builder.bitcast(builder.trunc(args[0], I16), ir.VectorType(ir.IntType(1), 16))
    return builder.select(mask, *args[1:])


def bytes_of(a: int, b: int, c: int, d: int) -> Any:
    """Return the 16 bytes of four numbers of 32 bits, the lowest of each first."""
    return np.array([a, b, c, d], np.uint32).view(np.uint8)


@_lowered(bytes_of, lambda a, b, c, d: Vector(types.uint8, 16)(*(types.uint32,) * 4), *(types.Integer,) * 4)
def _(context, builder, signature, args):
    words = ir.Constant(ir.VectorType(I32, 4), ir.Undefined)
    for i, word in enumerate(args):
        words = builder.insert_element(words, word, I32(i))
    return builder.bitcast(words, context.get_value_type(signature.return_type))


def lane(x: Any, i: int) -> Any:
    """Return a vector all of whose numbers are x[i]."""
    return np.full_like(x, x[i])


@_lowered(lane, lambda x, i: x(x, types.intp), Vector, types.Integer)
def _(context, builder, signature, args):
    return _spread(builder, builder.extract_element(args[0], args[1]), args[0].type.count)


def total(x: Any) -> Any:
    """Return the sum of a vector: halves are added until one number is left."""
    while x.size > 1:
        x = x[: x.size // 2] + x[x.size // 2 :]
    return x[0]


@_lowered(total, lambda x: x.dtype(x), Vector)
def _(context, builder, signature, args):
    x, count = args[0], args[0].type.count
    while count > 1:
        count //= 2
        low, high = (ir.Constant(ir.VectorType(I32, count), list(range(i, i + count))) for i in (0, count))
        x = builder.fadd(builder.shuffle_vector(x, x, low), builder.shuffle_vector(x, x, high))
    return builder.extract_element(x, I32(0))
