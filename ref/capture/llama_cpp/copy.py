"""Copies of a GGUF file with its matrices in another type, made with the `gguf` package: llama.cpp runs files only."""

from pathlib import Path

from ref.errors import wanted
from ref.weights.gguf_writing import announce, import_gguf

# dtype asked for -> name of the type in the `gguf` package
KINDS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "q8_0": "Q8_0"}


def copy_as(source: Path, target: Path, dtype: str) -> Path:
    """Write a copy whose matrices are dequantised and held as `dtype`; vectors (the norms) are float32.

    Args:
        source: a `.gguf` file.
        target: the copy; replaced if it is there.
        dtype: float32, bfloat16 or float16 (both to nearest even), or q8_0 (see `ref.ops.blocks`).

    Returns:
        target.

    Raises:
        BadInput: another dtype, no `gguf` package, or rows that are no whole number of blocks.

    Source: `gguf` 0.19 `quants.dequantize`, `quants.quantize`.
    Differs: `llama-quantize` may leave some matrices in other types.
    """
    if dtype not in KINDS:
        raise wanted("dtype", "capture", f"file, {', '.join(KINDS)}", dtype)
    gguf = import_gguf("capture", "pip install gguf, which writes copies in other dtypes")
    part = target.with_name(target.name + ".part")
    reader, kind = gguf.GGUFReader(source), gguf.GGMLQuantizationType[KINDS[dtype]]
    writer = gguf.GGUFWriter(part, str(reader.fields["general.architecture"].contents()))
    _copy_metadata(gguf, reader, writer, kind)
    kinds = [kind if len(tensor.shape) > 1 else gguf.GGMLQuantizationType.F32 for tensor in reader.tensors]
    for tensor, held in zip(reader.tensors, kinds, strict=True):
        announce(gguf, writer, tensor.name, tensor.shape[::-1].tolist(), held.name, source)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, held in zip(reader.tensors, kinds, strict=True):  # one at a time: the float32 model may be large
        writer.write_tensor_data(gguf.quantize(gguf.dequantize(tensor.data, tensor.tensor_type), held))
    writer.close()
    return part.replace(target)


def _copy_metadata(gguf, reader, writer, kind) -> None:
    for name, field in reader.fields.items():
        # the header's own, and what the writer says itself
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub)
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if kind.name == "F32" else f"MOSTLY_{kind.name}"])
