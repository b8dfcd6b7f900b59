"""Run llama.cpp on a GGUF file, on the CPU, and write every tap of it as a dump. Extra: [llama].

    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
    pip install "llama-cpp-python==0.3.36"          # -DGGML_AVX512=ON and its kin where the CPU has them

What llama.cpp computes, read in its commit 0c1e57098 (that of 0.3.36); paths are in `ggml/src/`. Values between nodes
are float32; what its products round before they multiply decides its distance from the truth.

Products with a weight (`ggml-cpu/ggml-cpu.c`, `type_traits_cpu[].vec_dot_type`): the activations are rounded to

    F32         -> float32; fused multiply-add in 16 lanes
    F16         -> float16, nearest even; float32 sums
    BF16        -> bfloat16, nearest even; float32 sums (`vdpbf16ps` flushes subnormals where the build has it)
    Q8_0, Q5_0, Q4_0 -> q8_0: for each 32 values of a token, m = max |x|; q = rint(x * (127 / m)), half to even,
                   127 / m in float32; used as q * float16(m / 127)        (`ggml-cpu/arch/x86/quants.c`; the portable
                   `ggml-quants.c` rounds half away from zero)
    Q4_K, Q5_K, Q6_K -> q8_K: for each 256 values, s = 127 / m in float32, q = rint(x * s), half to even; used as
                   q * (1 / s), in float32, not rounded to float16   (`ggml-quants.c`, `ggml-cpu/arch/x86/repack.cpp`)

    Integer products in a block are exact, sums over blocks float32. Which kernel runs (`llamafile/sgemm.cpp` from 2
    tokens on, `tiled/` from 8, `repack.cpp` for Q4_K, else `vec_dot`) changes the order of the sums only. The tied head
    is such a product too. A row of the embedding is dequantised exactly, then multiplied by float32(sqrt(D)).

The rest:

    cache       keys after RoPE and values are rounded to float16, also without cached steps (`src/llama-kv-cache.cpp`)
    scores      q * (1 / sqrtf(H)) in float32, rounded to float16; times float16 keys, float32 sums
    softmax     float32: exp within 2 ulp, sum of 16-lane float32 sums in float64, times float32(1 / sum)  (`ops.cpp`)
    mix         probabilities rounded to float16, times float16 values, float32 sums
    flash       fewer than 64 queries: q in float16, expf a key, the sum of values kept in float16 after every key;
                64 or more: float32 queries, probabilities and sums, float16 keys and values        (`ops.cpp`)
    norms       squares in float32, their sum in float64, mean to float32; x * (1 / sqrtf(mean + eps)) * gain, each
                product rounded; gain is 1 + w of the file
    RoPE        theta_0 = position, theta_i+1 = theta_i * powf(base, -2/H), each product rounded to float32, times
                float32(1 / factor); cosf, sinf: angles err by up to i * 2^-24, relative          (`ops.cpp`)
    GELU        from a table of float16: f16(gelu(f16(gate))), 0 up to -10, the gate itself from 10 on; times up in
                float32 (`ggml-cpu/vec.h`, GGML_GELU_FP16, which is always on): 3e-4 of `ffn.act`, whatever the weights
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ref.capture.common import check_prompts
from ref.capture.llama_cpp.copy import copy_as
from ref.capture.llama_cpp.ggml import Ggml, import_llama_cpp
from ref.capture.llama_cpp.listen import Listener
from ref.capture.llama_cpp.run import context, loaded, run
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.weights.config_files import config_from_gguf
from ref.weights.gguf import GgufFile, open_gguf
from ref.weights.package import package_file
from ref.weights.resolve import weights_name


def capture(
    gguf_path: str | Path,
    ids: Sequence[Any],
    out_dir: str | Path,
    *,
    steps: int = 0,
    weights: dict[str, Any] | None = None,
    flash_attention: bool = False,
    n_threads: int | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Write a dump of llama.cpp running prompts through a GGUF file.

    Args:
        gguf_path: the model; its text part is run.
        ids: [T] token ids of one prompt, or a list of prompts.
        out_dir: where the dump will be; must not exist or be empty.
        steps: greedy cached decode steps after each prompt, each a pass of its own.
        weights: what the dump says of the weights, {"name", "dtype", "sha256"}; by default the file's name.
        flash_attention: the fused attention; it has no scores and no probabilities.
        n_threads: None uses every core.
        taps: patterns of the taps to keep.

    Returns:
        out_dir. Each pass has the taps of `ref.model.taps`, float32, except `attn.visible` (read from the mask), and on
        runs with steps `cache.k` and `cache.v`, float16. `cache.positions` cannot be seen.

    Raises:
        BadInput: llama-cpp-python is missing or of another layout, the file is no Gemma 3, ids out of range, no tap
            matches, the folder is in use, or llama.cpp refuses.

    Source: llama.cpp 0c1e57098 `src/models/gemma3.cpp`; `llama_context_params.cb_eval`.
    Differs: keys outside a local layer's window stay in its cache (`swa_full`); they are left out here, as in ours.
    """
    path, prompts = Path(gguf_path), [ids] if len(ids) and np.ndim(ids[0]) == 0 else ids
    file = open_gguf(path)
    config = config_from_gguf(file.metadata, file.shape("token_embd.weight")[0], path)
    check_prompts(prompts, config, steps, taps, padded=False)
    llama = import_llama_cpp()
    ggml = Ggml(llama)
    held = weights or {"name": weights_name(str(path)), "dtype": "as in the file", "sha256": None}
    model = {"config": config._asdict(), "weights": held}
    producer = {"name": "llama.cpp", "version": f"llama-cpp-python {llama.__version__} ({ggml.version})"}
    policy = _policy(file, flash_attention)
    with DumpWriter(Path(out_dir), model, policy, producer) as writer, loaded(llama, path) as running:
        for prompt in prompts:
            listener = Listener(ggml, config, taps, writer.add_tensor, cached=steps > 0)
            with context(running, listener, len(prompt) + steps, flash_attention, n_threads) as made:
                run(llama, made, listener, prompt, steps, writer.end_pass)
    return writer.folder


def capture_weights(
    weights: str,
    prompts: Sequence[Sequence[int]],
    out: Path,
    *,
    dtype: str = "file",
    steps: int = 0,
    attention: str | None = None,
    n_threads: int | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Write a dump of llama.cpp on weights as the command line names them, held as a dtype.

    Args:
        weights: `270m` or a `.gguf` file.
        prompts: token ids.
        out: where; empty or new.
        dtype: `file` runs the file itself; float32, bfloat16, float16 and q8_0 a temporary copy whose matrices are
            converted (see `copy_as`).
        steps: greedy cached decode steps.
        attention: `eager` (the default) or `flash`.
        n_threads: as `capture`.
        taps: as `capture`.

    Returns:
        out.

    Raises:
        BadInput: other weights, dtype or attention; and as `capture`.
    """
    if attention not in (None, "eager", "flash"):
        raise wanted("attention", "capture", "eager or flash", attention)
    path = package_file() if weights == "270m" else Path(weights)
    if path.suffix != ".gguf" or not path.is_file():
        raise wanted("--weights", "capture", "270m or a .gguf file, which is what llama.cpp runs", weights)
    more = {"steps": steps, "flash_attention": attention == "flash", "n_threads": n_threads, "taps": taps}
    if dtype == "file":
        held = {"name": weights_name(weights), "dtype": "as in the file", "sha256": None}
        return capture(path, prompts, out, weights=held, **more)
    with tempfile.TemporaryDirectory() as folder:
        held = {"name": weights_name(weights), "dtype": dtype, "sha256": None}
        return capture(copy_as(path, Path(folder) / "copy.gguf", dtype), prompts, out, weights=held, **more)


def _policy(file: GgufFile, flash_attention: bool) -> dict[str, str]:
    kinds = {info.type for info in file.tensors.values() if len(info.shape) > 1}
    plain = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    # one matrix of blocks is enough to be judged by their floor
    rounded = "q8_0" if kinds - plain.keys() else plain[next(k for k in ("BF16", "F16", "F32") if k in kinds)]
    return {
        "compute_dtype": "float32",
        "matmul_activations": rounded,
        "kv_dtype": "float16",
        "rope_angle": "float32",
        "attention_impl": "flash" if flash_attention else "eager",
    }
