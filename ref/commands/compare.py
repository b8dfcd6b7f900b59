"""`gemma3-ref compare`: judge a dump, and say where it goes wrong and why."""

import sys
from pathlib import Path

from ref.commands import BUG, FINE, REGRESSED, UNDETERMINED
from ref.commands.about import About, add_command
from ref.commands.compare_many import add_flags, dumps_of, open_baseline, run_many
from ref.commands.next_folder import check_next, write_next
from ref.commands.output import refuse_overwriting
from ref.commands.pace import Pace
from ref.commands.shared import encode_prompt, json_flag, note, print_json, read_ids, set_threads
from ref.dump.find_dumps import names_of
from ref.errors import BadInput, wanted

REPORTS = (".html", ".htm", ".xml")
ABOUT = About(
    "compare",
    "find the first wrong operation of a port, and which known mistake it is",
    "Give it a dump of the port's activations. Errors are measured in multiples of rounding noise.",
    ("gemma3-ref compare golden/dumps/tiny-bug", "gemma3-ref compare golden/dumps/tiny-bug --html report.html"),
    (FINE, BUG, UNDETERMINED, REGRESSED),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [json_flag()])
    about = "a dump's folder, or .npz, .safetensors, llama.cpp text, JSON; a server's JSON of log-probabilities"
    about += "; two are judged next to each other, three or more, or a folder of dumps, each by itself"
    parser.add_argument("dumps", nargs="*", metavar="DUMP", help=about)
    group = parser.add_argument_group("the weights that the dump was made with")
    group.add_argument("--weights", metavar="W", help="default: those that the dump names")
    group.add_argument("--mmproj", metavar="FILE", help="the vision tower that goes with a .gguf file of text weights")
    group.add_argument("--adapter", metavar="DIR", help="the LoRA adapter on them, as PEFT saves it")
    group.add_argument(
        "--held-as", choices=("file", "float32", "bfloat16", "float16"), help="default: as the dump says"
    )
    group = parser.add_argument_group("the port's arithmetic and tensor names")
    group.add_argument("--policy", metavar="NAME", help="whose noise floor: float32, bfloat16, llama.cpp, ...")
    about = "how window and image block combine"
    group.add_argument("--composition", choices=("current", "before_46850", "two_sided"), help=about)
    group.add_argument("--names", metavar="TABLE", help="whose tensor names a bare file has: transformers, gemma, ...")
    group = parser.add_argument_group("the prompt that the dump claims to be of")
    group.add_argument("--ids", metavar="FILE_OR_LIST", help="token ids: of a bare file, or to check a dump's")
    group.add_argument("--prompt", metavar="TEXT", help="the text that the dump's ids must be of")
    group.add_argument("--chat", action="store_true", help="the text is a user's turn")
    group.add_argument("--system", metavar="TEXT", help="system text, folded into the user's turn (with --chat)")
    about = "in the place of a dump: what the model wrote greedily after --prompt or --ids"
    group.add_argument("--text", metavar="FILE", help=about)
    group = parser.add_argument_group("reports")
    group.add_argument("--all", action="store_true", help="a line for every tap, not for every group")
    group.add_argument(
        "--html", type=Path, metavar="FILE", help="one offline page: heat map, tokens, channels, evidence"
    )
    group.add_argument("--junit", type=Path, metavar="FILE", help="JUnit XML, one test case per tap")
    about = "write what to capture next: prompts made for it, and the commands; empty or new"
    group.add_argument("--next", type=Path, metavar="DIR", help=about)
    add_flags(parser)
    group = parser.add_argument_group("how much is looked at; the report says what was left out")
    about = "layers of the text model, such as 3,9-11; and vision, embed, final, logits"
    group.add_argument("--layers", metavar="LIST", help=about)
    group.add_argument("--taps", action="append", metavar="PATTERN", help="such as 'text.layer.*.attn.q' (repeatable)")
    group.add_argument("--sample", type=int, metavar="N", help="N layers that stand for all, spread evenly")
    group = parser.add_argument_group("who does it")
    group.add_argument("--threads", type=int, metavar="N", help="default: all cores")
    about = "that may be used, such as 6GB: fewer runs go side by side; default: what is available"
    group.add_argument("--memory", metavar="SIZE", help=about)
    group.add_argument("--workers", type=int, metavar="N", help="processes of this machine, which share the threads")
    about = "of Dask, such as tcp://10.0.0.1:8786: its workers do it (the extra [cluster])"
    group.add_argument("--scheduler", metavar="ADDRESS", help=about)
    about = "keep what is finished there, and go on from it (the extra [cluster])"
    group.add_argument("--resume", type=Path, metavar="DIR", help=about)
    parser.set_defaults(forbid_control=False, image_layout=None, quiet=False)


def run(args) -> int:
    """Judge one dump, two beside each other, or many; print what was found and write the reports asked for.

    What was found is printed whatever becomes of the reports. Where one cannot be written the exit code is 2, also of a
    bug: whoever asked for it must not take the file of an earlier run for that of this one.
    """
    from ref.judge.heap import keep_freed_memory

    set_threads(args.threads)
    keep_freed_memory()
    args.dump, args.other, args.planned = *[*args.dumps, None, None][:2], {}
    if many := dumps_of(args):
        _check_outputs(args)
        return run_many(args, many, _judge)
    if (args.dump is None) == (args.text is None):
        raise wanted("dump", "compare", "DUMP, or --text FILE", "neither" if args.dump is None else "both")
    _check_outputs(args)
    dump = args.dump if args.text is None else args.text
    [name], lost = names_of([Path(dump)]), ""
    with open_baseline(args, [name], _judge) as beside:
        report, profiles = _judge(args, dump)
        if args.baseline:
            report["regression"], lost = beside(report, name)
    other = _judge(args, args.other)[0] if args.other else None
    try:
        if args.json:
            print_json(report | ({"other": other} if other else {}))
        else:
            show(args, report, other)
        sys.stdout.flush()
    finally:  # also where the reader of the table left early, as `head` does
        _write_reports(args, report, profiles, other)
        _write_next(args, report)
    if lost:
        raise BadInput(lost)
    worst = [one["verdict"] for one in (report, other) if one]
    if args.fail_on_regression and "bug" not in worst and report.get("regression", {})["worse"]:
        return REGRESSED
    return BUG if "bug" in worst else UNDETERMINED if "undetermined" in worst else FINE


def _check_outputs(args) -> None:
    """Refuse reports that could not be written, or would be written over what is read, before anything is judged."""
    from ref.report.junit import import_junitparser
    from ref.report.page import check_target, plotly_js

    if args.next:
        check_next(args.next)
    if args.html:
        plotly_js()
    if args.junit:
        import_junitparser()
    outputs = [check_target(path) for path in (args.html, args.junit) if path]
    if args.html and args.junit and args.html.absolute() == args.junit.absolute():
        raise wanted("output file", args.junit, "another file than --html", "the same")
    for path in outputs:
        for source in (*args.dumps, args.text, args.baseline, args.weights, args.mmproj, args.adapter, args.ids):
            _refuse_source(str(source or ""), path)


def _refuse_source(source: str, out: Path) -> None:
    """Refuse to write over a file that is read, or over one in a folder that is, unless it is a report itself."""
    refuse_overwriting(source, out)
    inside = source and Path(source).is_dir() and out.exists() and Path(source).resolve() in out.resolve().parents
    if inside and out.suffix not in REPORTS:
        raise wanted("output file", out, f"another file than those of {source}", "one of them")


def _write_reports(args, report: dict, profiles, other: dict | None) -> None:
    """Write the reports asked for: if one fails, still the other."""
    from ref.report.page import write_page

    try:
        if args.junit:
            from ref.report.junit import junit_xml

            write_page(args.junit, junit_xml(report))
    finally:
        if args.html:
            from ref.report.html import write_html

            write_html(report, profiles, args.html, other)


def _write_next(args, report: dict) -> None:
    if args.next and report["next"]:
        write_next(args.next, report, args.planned)
        note(f"{args.next}: README.txt says what to capture next, and how")
    elif args.next:
        note(f"{args.next}: not written, as nothing is left to capture")


def _judge(args, dump: str):
    from ref.judge.compare import compare_with_profiles
    from ref.judge.spread import Spread

    pace = Pace(f"compare {Path(dump).name}", "tap", quiet=args.quiet)
    held = "file" if args.held_as == "float32" else args.held_as
    how = {"mmproj": args.mmproj, "family": args.policy, "held": held, "composition": args.composition}
    how |= {"memory": args.memory, "adapter": args.adapter, "load": args.load}
    how |= {"layers": args.layers, "taps": args.taps, "sample": args.sample}
    how |= {"spread": Spread(args.workers, args.scheduler, resume=args.resume)}
    if args.next and dump == args.dump:
        how |= {"next_folder": str(args.next), "advised": args.planned.update}
    ids = read_ids(args.ids) if args.ids else None
    bare, said = not Path(dump).is_dir(), _answer(args, dump)
    if args.prompt is not None:
        ids = _check_prompt(args, dump, said is not None) or ids
    how |= {"ids": ids if bare else None, "prompt": None if bare else ids, "progress": pace.reach, "names": args.names}
    with pace:
        return compare_with_profiles(dump if said is None else said, args.weights, say=pace.say, **how)


def _answer(args, dump: str):
    """Return a server's answer or a greedy text, if that is what there is; else None."""
    from ref.dump.read_server_json import is_server_json, read_greedy_text, read_server_json

    if dump == args.text:
        return read_greedy_text(dump)
    return read_server_json(dump) if is_server_json(dump) else None


def _check_prompt(args, dump: str, is_answer: bool) -> list[int] | None:
    """Refuse a dump whose ids are not those of --prompt, naming the mistake that gives them if it is known.

    Returns:
        The prompt's ids, of a server's answer, which may not repeat them.
    """
    from ref.dump.claims import check_prompt
    from ref.dump.open import open_dump
    from ref.mutants.prompt_parts import Prompt
    from ref.mutants.prompts import name_prompt_mistake
    from ref.weights.resolve import default_tokenizer

    if args.ids:
        raise BadInput("prompt: wanted either --prompt or --ids, got both")
    if args.system and not args.chat:
        raise BadInput("--system: wanted --chat beside it, got none")
    tokenizer = default_tokenizer("--prompt")
    if is_answer:
        return encode_prompt(args, tokenizer, args.prompt)
    opened = open_dump(dump, names=args.names)
    try:
        check_prompt(opened, encode_prompt(args, tokenizer, args.prompt))
    except BadInput as error:
        turns = [{"role": "system", "content": args.system}] if args.system else []
        content = [*turns, {"role": "user", "content": args.prompt}] if args.chat else args.prompt
        mistake = name_prompt_mistake(opened.passes[0].ids.tolist(), tokenizer, Prompt(content))
        raise BadInput(f"{error}; as if: {mistake.name}: {mistake.what}" if mistake else str(error)) from None
    return None


def show(args, report: dict, other: dict | None) -> None:
    """Print the table; of two dumps both, then where they part."""
    from ref.report.text import render_text, render_two

    if other is None:
        print(render_text(report, everything=args.all))
        return
    *lines, last = render_two(report, other, (args.dump, args.other), args.all).split("\n")
    print("\n".join(lines))
    note(last)
