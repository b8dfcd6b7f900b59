"""transformers in float32: the text model, the tower, and what comes before it."""

import copy
import os
import sys

import torch
import transformers

from ..drawn import image, pixels, tokens
from ..row import Job

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
torch.set_grad_enabled(False)
FLOAT32 = {"dtype": torch.float32, "local_files_only": True}


def model_of(folder: str, attention: str):
    """Load the text model."""
    model = transformers.Gemma3ForCausalLM.from_pretrained(folder, attn_implementation=attention, **FLOAT32)
    return model.eval()


def load(folder: str, attention: str) -> Job:
    """Load the model and run one token."""
    return Job(lambda: model_of(folder, attention)(input_ids=torch.tensor([[2]])).logits)


def prefill(folder: str, attention: str, count: int, which: str) -> Job:
    """Run a prompt."""
    model = model_of(folder, attention)
    ids = torch.tensor([tokens(count, model.config.vocab_size)])
    return Job(lambda: model(input_ids=ids, use_cache=True, logits_to_keep=0 if which == "all" else 1).logits)


def decode(folder: str, attention: str, count: int, steps: int) -> Job:
    """Run tokens one at a time behind a prompt."""
    model = model_of(folder, attention)
    ids = torch.tensor([tokens(count + steps, model.config.vocab_size)])

    def one(part, cache):
        return model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values

    filled = one(ids[:, :count], None) if count else None
    cache = filled

    def before():
        nonlocal cache
        cache = copy.deepcopy(filled)

    def run():
        nonlocal cache
        for i in range(count, count + steps):
            cache = one(ids[:, i : i + 1], cache)

    return Job(run, before)


def tower(folder: str, attention: str) -> Job:
    """Run the vision tower and the projector on one image."""
    whole = transformers.Gemma3ForConditionalGeneration.from_pretrained(
        folder, attn_implementation=attention, **FLOAT32
    )
    model = whole.eval().model
    seen = torch.from_numpy(pixels(896))
    return Job(lambda: model.get_image_features(seen))


def preprocess(height: int, width: int, crops: bool, times: int) -> Job:
    """Resize an image, and crops of it if asked, with Pillow."""
    half, side = [0.5] * 3, {"height": 896, "width": 896}
    processor = transformers.Gemma3ImageProcessorPil(
        do_pan_and_scan=crops,
        pan_and_scan_min_crop_size=256,
        pan_and_scan_max_num_crops=4,
        pan_and_scan_min_ratio_to_activate=1.2,
        size=side,
        image_mean=half,
        image_std=half,
    )
    picture = image(height, width)
    return Job(lambda: [processor(picture, return_tensors="np") for _ in range(times)])


if __name__ == "__main__":  # the first token of a process
    given = torch.tensor([tokens(8, 1_000)])
    print(int(model_of(sys.argv[1], "sdpa")(input_ids=given, logits_to_keep=1).logits.argmax()))
