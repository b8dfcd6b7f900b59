"""The machine's side of fast kernels: many numbers as one value, and the exponential that Numba lacks.

Each function says in Python what it computes, which is what runs where the JIT is off; below it stands how LLVM is told
to. All of it is generic LLVM IR: a processor with narrow registers computes the same numbers, in more instructions.
"""

import math
import operator
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.cgutils import get_or_insert_function
from numba.core.codegen import get_host_cpu_features
from numba.extending import lower_builtin, models, overload, register_jitable, register_model, type_callable
from numpy.typing import DTypeLike

# Bytes of a vector: four registers of 512 bits, or else two of 256. Four vectors, one more and a number spread out fit
# into the registers of either; such a step of a matrix product keeps the multipliers busy.
_asked: str | None = getattr(config, "CPU_FEATURES", None)
FEATURES = (get_host_cpu_features() if _asked is None else _asked).split(
    ","
)  # of the processor that Numba compiles for
BYTES = 256 if "+avx512f" in FEATURES else 64
CACHE_LINE = 64  # bytes; a load that straddles two lines takes twice as long


class Vector(types.Type):
    """Some numbers of one dtype held as one value; what NumPy calls an array."""

    def __init__(self, dtype, count):
        self.dtype, self.count = dtype, count
        super().__init__(f"Vector({dtype} x {self.count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        element = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(element, vector.count))


def _whole(a):
    """Return the type of a vector of BYTES bytes of an array's numbers."""
    return Vector(a.dtype, BYTES * 8 // a.dtype.bitwidth)


def _lowered(function, typer, *kinds):
    """Decorate what writes the LLVM IR of `function`; `typer` maps the types of its arguments to the result's."""

    def decorate(write):
        type_callable(function)(lambda context: typer)
        return lower_builtin(function, *kinds)(write)

    return decorate


def _address(context, builder, signature, args):
    return builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])


class _Part(NamedTuple):
    """The types of some arguments, where a signature is asked for."""

    args: Any


def _spread(builder, number, count):
    nothing = ir.Constant(ir.VectorType(number.type, count), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, nothing, ir.VectorType(ir.IntType(32), count)([0] * count))


def load(a: np.ndarray, i: int) -> Any:
    """Return the vector that begins at a[i]; `a` has one axis, and nothing is checked."""
    return a[i : i + BYTES // a.itemsize].copy()


def load_16(a: np.ndarray, i: int) -> Any:
    """Return the 16 numbers from a[i] on as a vector."""
    return a[i : i + 16].copy()


@_lowered(load, lambda a, i: _whole(a)(a, types.intp), types.Array, types.Integer)
@_lowered(load_16, lambda a, i: Vector(a.dtype, 16)(a, types.intp), types.Array, types.Integer)
def _(context, builder, signature, args):
    kind = context.get_value_type(signature.return_type).as_pointer()
    place = builder.bitcast(_address(context, builder, signature, args), kind)
    return builder.load(place, align=signature.args[0].dtype.bitwidth // 8)


def zeros_16(a: np.ndarray) -> Any:
    """Return 16 zeros of an array's dtype as a vector."""
    return np.zeros(16, a.dtype)


@_lowered(zeros_16, lambda a: Vector(a.dtype, 16)(a), types.Array)
def _(context, builder, signature, args):
    return ir.Constant(context.get_value_type(signature.return_type), None)


def store(a: np.ndarray, i: int, x: Any) -> None:
    """Write a vector to a[i] and on."""
    a[i : i + x.size] = x


@_lowered(store, lambda a, i, x: types.void(a, types.intp, x), types.Array, types.Integer, Vector)
def _(context, builder, signature, args):
    place = builder.bitcast(_address(context, builder, signature, args), args[2].type.as_pointer())
    builder.store(args[2], place, align=signature.args[0].dtype.bitwidth // 8)
    return context.get_dummy_value()


def turn_16(a: np.ndarray, i: int, row: int, b: np.ndarray, j: int, step: int) -> None:
    """Turn 16 x 16 numbers: b[j + n * step + m] = a[i + m * row + n]."""
    for n in range(16):
        for m in range(16):
            b[j + n * step + m] = a[i + m * row + n]


@_lowered(
    turn_16,
    lambda a, i, row, b, j, step: types.void(a, types.intp, types.intp, b, types.intp, types.intp),
    *(types.Array, types.Integer, types.Integer) * 2,
)
def _(context, builder, signature, args):
    number = context.get_value_type(signature.args[0].dtype)
    kind, align = ir.VectorType(number, 16), signature.args[0].dtype.bitwidth // 8

    def place(which, n):
        begin = _address(context, builder, _Part(signature.args[which : which + 2]), args[which : which + 2])
        at = builder.mul(args[which + 2], ir.Constant(args[which + 2].type, n))
        return builder.bitcast(builder.gep(begin, [at]), kind.as_pointer())

    rows = [builder.load(place(0, n), align=align) for n in range(16)]
    low, high = ([n + side + 16 * from_b for n in range(8) for from_b in (0, 1)] for side in (0, 8))
    for _ in range(4):  # each time the numbers of two rows that are 8 apart are laid one beside the other
        pairs = list(zip(rows[:8], rows[8:], strict=True))
        rows = [
            builder.shuffle_vector(x, y, ir.VectorType(ir.IntType(32), 16)(places))
            for x, y in pairs
            for places in (low, high)
        ]
    for n, numbers in enumerate(rows):
        builder.store(numbers, place(3, n), align=align)
    return context.get_dummy_value()


def spread(a: np.ndarray, i: int) -> Any:
    """Return the vector of which every number is a[i]."""
    return np.full(BYTES // a.itemsize, a[i])


@_lowered(spread, lambda a, i: _whole(a)(a, types.intp), types.Array, types.Integer)
def _(context, builder, signature, args):
    return _spread(builder, builder.load(_address(context, builder, signature, args)), signature.return_type.count)


# From here on, a number will do for a vector: Numba's loops over numbers become vectors by themselves.


def like(x: Any, constant: float) -> Any:
    """Return a constant of x's kind: its dtype, and all numbers of a vector."""
    return np.full_like(x, constant)[()]


@_lowered(like, lambda x, constant: x(x, types.float64), types.Any, types.Float)
def _(context, builder, signature, args):
    kind = args[0].type
    if not isinstance(kind, ir.VectorType):
        return context.cast(builder, args[1], types.float64, signature.args[0])
    return _spread(builder, context.cast(builder, args[1], types.float64, signature.args[0].dtype), kind.count)


def fma(x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z, rounded once (where the JIT is off, as nearly so as NumPy's longest float allows)."""
    return (np.longdouble(x) * y + z).astype(x.dtype)


@_lowered(fma, lambda x, y, z: x(x, x, x), types.Any, types.Any, types.Any)
def _(context, builder, signature, args):
    kind = args[0].type
    many = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    name = f"llvm.fma.{many}f{getattr(signature.args[0], 'dtype', signature.args[0]).bitwidth}"
    return builder.call(get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name), args)


def where_less(x: Any, y: Any, a: Any, b: Any) -> Any:
    """Return a where x < y, else b."""
    return np.where(x < y, a, b)[()]


@_lowered(where_less, lambda x, y, a, b: x(x, x, x, x), types.Any, types.Any, types.Any, types.Any)
def _(context, builder, signature, args):
    return builder.select(builder.fcmp_ordered("<", *args[:2]), *args[2:])


for _operator, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):

    @_lowered(_operator, lambda x, y: x if isinstance(x, Vector) and x == y else None, Vector, Vector)
    def _(context, builder, signature, args, name=_name):
        return getattr(builder, name)(*args)


@register_jitable
def larger(x: Any, y: Any) -> Any:
    """Return the larger of each two numbers; y where either is NaN."""
    return where_less(y, x, x, y)


def add_to_exponent(x: Any, bits: Any) -> Any:
    """Multiply x by 2^n, n being the lowest bits of the float `bits`; the result is to be a normal number."""
    integer, mantissa = (np.int32, 23) if x.dtype == np.float32 else (np.int64, 52)
    return (x.view(integer) + (bits.view(integer) << mantissa)).view(x.dtype)


@_lowered(add_to_exponent, lambda x, bits: x(x, x), types.Any, types.Any)
def _(context, builder, signature, args):
    width = getattr(signature.return_type, "dtype", signature.return_type).bitwidth
    mantissa, kind = {32: 23, 64: 52}[width], ir.IntType(width)
    by = kind(mantissa)
    if isinstance(args[0].type, ir.VectorType):
        kind = ir.VectorType(kind, args[0].type.count)
        by = kind([mantissa] * kind.count)
    x, bits = (builder.bitcast(value, kind) for value in args)
    return builder.bitcast(builder.add(x, builder.shl(bits, by)), args[0].type)


def _exp(dtype, degree, smallest, rounder):
    # x = n ln 2 + r, |r| <= ln 2 / 2:  e^x = 2^n (1 + r + r^2 / 2! + ... + r^degree / degree!)
    ln_2 = float(dtype(math.log(2)))
    rest = 2.3190468138462996e-17 + (math.log(2) - ln_2)  # of ln 2, whose digits go on
    last, *others = (1 / math.factorial(k) for k in range(degree, -1, -1))
    others = tuple(others)

    @register_jitable
    def exp_of(x):
        near = larger(like(x, smallest - 1), x)  # and NaN stays NaN
        rounded = fma(near, like(x, 1 / LN_2), like(x, rounder))  # n is in its lowest bits
        n = rounded - like(x, rounder)
        r = fma(n, like(x, -rest), fma(n, like(x, -ln_2), near))
        p = like(x, last)
        for coefficient in others:
            p = fma(p, r, like(x, coefficient))
        return where_less(x, like(x, smallest), like(x, 0.0), add_to_exponent(p, rounded))

    return exp_of


LN_2 = math.log(2)
_exp_float32, _exp_float64 = _exp(np.float32, 7, -87.0, 1.5 * 2**23), _exp(np.float64, 13, -708.0, 1.5 * 2**52)


def exp(x: Any) -> Any:
    """Return e^x for x <= 0, within 1 ulp; 0 where that is less than the smallest normal numbers."""
    return (_exp_float32 if x.dtype == np.float32 else _exp_float64)(x)


@overload(exp)
def _(x):
    chosen = _exp_float32 if getattr(x, "dtype", x) == types.float32 else _exp_float64
    return lambda x: chosen(x)


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Return an array of whatever numbers that begins with a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    longer = np.empty(size + CACHE_LINE, np.uint8)
    begin = -longer.ctypes.data % CACHE_LINE
    return longer[begin : begin + size].view(dtype).reshape(shape)


@register_jitable
def aligned_like(a: np.ndarray, size: int) -> np.ndarray:
    """Return `size` whatever numbers of an array's dtype, from the beginning of a cache line on."""
    longer = np.empty(size + CACHE_LINE // a.itemsize, a.dtype)
    begin = -longer.ctypes.data % CACHE_LINE // a.itemsize
    return longer[begin : begin + size]
