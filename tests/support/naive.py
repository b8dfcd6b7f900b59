"""Scalar oracles: one number at a time, Python floats, no broadcasting. Slow and obvious on purpose."""

import cmath
import math


def rms_norm(row, scale, eps):
    mean_square = sum(x * x for x in row) / len(row)
    return [x / math.sqrt(mean_square + eps) * (1 + g) for x, g in zip(row, scale, strict=True)]


def layer_norm(row, gain, bias, eps):
    mean = math.fsum(row) / len(row)
    variance = math.fsum((x - mean) ** 2 for x in row) / len(row)
    return [(x - mean) / math.sqrt(variance + eps) * g + b for x, g, b in zip(row, gain, bias, strict=True)]


def angle(position, j, head_dim, base, factor):
    return position / (factor * base ** (2 * j / head_dim))


def rotate(row, position, base, factor=1.0):
    """Rotate one head: the pair (j, j + H/2) is one complex number."""
    half = len(row) // 2
    turns = [cmath.exp(1j * angle(position, j, len(row), base, factor)) for j in range(half)]
    turned = [complex(row[j], row[j + half]) * turns[j] for j in range(half)]
    return [z.real for z in turned] + [z.imag for z in turned]


def rotate_interleaved(row, position, base, factor=1.0):
    """Rotate the pairs (2j, 2j + 1) instead: the mistake that a half-split checkpoint does not survive."""
    halves = rotate([*row[0::2], *row[1::2]], position, base, factor)
    half = len(row) // 2
    return [halves[half * (d % 2) + d // 2] for d in range(len(row))]


def sees(query, key, prompts, window):
    """Tell whether the token at index `query` may look at index `key`.

    `prompts[i]` names the prompt that token i belongs to, None for padding; window None is a global layer.
    """
    same_prompt = prompts[query] is not None and prompts[query] == prompts[key]
    return same_prompt and key <= query and (window is None or query - key < window)


def visibility(prompts, window):
    """[T][T] booleans of one row."""
    tokens = range(len(prompts))
    return [[sees(query, key, prompts, window) for key in tokens] for query in tokens]


def image_of(soft, prompts, index):
    """Name the run of soft tokens that a token is in by its first index; None for text."""
    if not soft[index]:
        return None
    first = index
    while first > 0 and soft[first - 1] and prompts[first - 1] == prompts[index]:
        first -= 1
    return first


def sees_with_images(query, key, prompts, soft, window, composition):
    """As `sees`, but the soft tokens of an image see each other, composed with the window as `composition` says."""
    if prompts[query] is None or prompts[query] != prompts[key]:
        return False
    causal, inside = key <= query, window is None or query - key < window
    image = image_of(soft, prompts, query)
    block = image is not None and image_of(soft, prompts, key) == image
    ahead = window is None or key - query < window
    return {
        "current": inside and (causal or block),
        "before_46850": (inside and causal) or block,
        "two_sided": inside and ahead and (causal or block),
    }[composition]


def visibility_with_images(prompts, soft, window, composition):
    """[T][T] booleans of one row."""
    tokens = range(len(prompts))
    return [[sees_with_images(q, k, prompts, soft, window, composition) for k in tokens] for q in tokens]


def softmax(row, seen):
    """Softmax over what is seen; zeros elsewhere, and everywhere if nothing is seen."""
    if not any(seen):
        return [0.0] * len(row)
    largest = max(x for x, visible in zip(row, seen, strict=True) if visible)
    weights = [math.exp(x - largest) if visible else 0.0 for x, visible in zip(row, seen, strict=True)]
    return [w / math.fsum(weights) for w in weights]


def attention(q, k, v, seen, scale):
    """Attend with one batch row: q [T][N][H], k and v [S][K][H], seen [T][S]; returns [T][N][H]."""
    group = len(q[0]) // len(k[0])
    out = []
    for t, query_heads in enumerate(q):
        heads = []
        for n, query in enumerate(query_heads):
            kv = n // group
            scores = [scale * sum(a * b for a, b in zip(query, key[kv], strict=True)) for key in k]
            probs = softmax(scores, seen[t])
            heads.append([sum(p * value[kv][h] for p, value in zip(probs, v, strict=True)) for h in range(len(query))])
        out.append(heads)
    return out


def multi_head_attention(q, k, v, seen, scale):
    """As `attention`, but head n has keys and values of its own: what G = 1 must equal."""
    out = [[None] * len(q[0]) for _ in q]
    for n in range(len(q[0])):
        one = [attention([[row[n]]], [[key[n]] for key in k], [[value[n]] for value in v], [seen[t]], scale)
               for t, row in enumerate(q)]  # fmt: skip
        for t, result in enumerate(one):
            out[t][n] = result[0][0]
    return out


def gelu_tanh(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def average_pool(x, pool):
    """x [P][D] of a square image in rows; returns [P / pool^2][D]."""
    side = math.isqrt(len(x))
    out = []
    for top in range(0, side, pool):
        for left in range(0, side, pool):
            square = [x[(top + i) * side + left + j] for i in range(pool) for j in range(pool)]
            out.append([math.fsum(values) / pool**2 for values in zip(*square, strict=True)])
    return out


def geglu(gate, up):
    return [gelu_tanh(g) * u for g, u in zip(gate, up, strict=True)]


def linear(x, weight):
    """x [T][C], weight [R][C]; returns [T][R], each sum exact but for one rounding."""
    return [[math.fsum(a * b for a, b in zip(row, w, strict=True)) for w in weight] for row in x]


def embed(ids, table):
    """ids [T], table [V][D]; returns [T][D]."""
    return [[x * math.sqrt(len(table[0])) for x in table[token]] for token in ids]


def filtered_probs(logits, temperature, top_k, top_p):
    """Temperature, then top-k (ties at the k-th place kept), then top-p (the crossing token kept)."""
    scaled = [x / temperature for x in logits]
    seen = [True] * len(scaled)
    if 0 < top_k < len(scaled):
        seen = [x >= sorted(scaled, reverse=True)[top_k - 1] for x in scaled]
    probs = softmax(scaled, seen)
    if top_p < 1:
        before, kept = 0.0, set()
        for v in sorted(range(len(probs)), key=lambda v: (-probs[v], v)):
            if before < top_p:
                kept.add(v)
            before += probs[v]
        probs = softmax(scaled, [visible and v in kept for v, visible in enumerate(seen)])
    return probs
