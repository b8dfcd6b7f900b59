"""`gemma3-ref explore`: one offline page of what happens inside while a prompt is read."""

from pathlib import Path

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.generate import find_tokenizer
from ref.commands.images import image_flags, read_multimodal, read_pictures
from ref.commands.shared import json_flag, load_weights, note, print_json, run_settings, text_flags, weights_flags

ABOUT = About(
    "explore",
    "draw a page of predictions, attention and norms of every layer",
    "The page needs no network. Up to 1,280 tokens.",
    ("gemma3-ref explore 'The sky is' -o page.html",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [text_flags(), image_flags(), weights_flags(), json_flag()])
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the page, such as page.html")


def run(args) -> int:
    """Run the prompt and write the page."""
    from tqdm import tqdm

    from ref.errors import wanted
    from ref.show.explore import Photo, explore
    from ref.show.explore_page import write_explore

    if len(args.text) > 1:
        raise wanted("prompt", "explore", "one", f"{len(args.text)} texts")
    _check_out(args)
    loaded = load_weights(args)
    pictures = read_pictures(args, loaded)
    [ids], images = read_multimodal(args, loaded, pictures)
    photos = [Photo(one.image, one.seen.boxes) for one in pictures]
    with tqdm(desc="explore", unit="row", disable=None, delay=1, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        tokenizer = find_tokenizer(args, loaded)
        explored = explore(loaded, ids, tokenizer, images, photos, run_settings(args), progress)
    path = write_explore(explored, args.out)
    facts = {"page": str(path), "bytes": path.stat().st_size, "tokens": len(ids), "layers": explored.facts["layers"]}
    if args.json:
        print_json(facts)
    else:
        note(f"{path}: {facts['tokens']} tokens, {facts['bytes'] / 1e6:.1f} MB; open it in a browser")
    return FINE


def _check_out(args) -> None:
    """Refuse a page that could not be written, before the prompt is run."""
    from ref.commands.output import refuse_overwriting
    from ref.report.page import check_target, plotly_js

    plotly_js()
    check_target(args.out)
    for source in (*(args.image or []), args.ids or "", args.weights, args.mmproj or ""):
        refuse_overwriting(str(source), args.out)
