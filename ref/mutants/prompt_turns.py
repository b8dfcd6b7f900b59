"""Mistakes in turns, roles, system texts and contents, and in how a prompt begins."""

from ref.config import BOS
from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs
from ref.mutants.prompt_parts import changed
from ref.mutants.prompt_tokenizer import bos_as_characters, by_model, turns_normal


def _system_dropped(text: str) -> str:
    return ""


_CHAT, _SYSTEM = Needs(note="a chat"), Needs(note="a chat with a system text")

TURN_MUTANTS: list[RuleMutant] = [
    # the beginning
    RuleMutant(
        name="prompt_no_bos",
        what="there is no <bos> before the prompt",
        needs=Needs(note="any prompt"),
        run=changed(front=()),
    ),
    RuleMutant(
        name="prompt_two_bos",
        what="there are two <bos>: the chat template writes one, and the tokenizer adds one",
        needs=Needs(note="any prompt"),
        run=changed(front=(BOS, BOS)),
    ),
    RuleMutant(
        name="prompt_bos_as_text",
        what="the report's [BOS] is written into the text and becomes four tokens",
        needs=Needs(note="any prompt"),
        run=changed(front=(), text="[BOS]{}".format),
    ),
    RuleMutant(
        name="prompt_bos_as_characters",
        what="<bos> in the text is read as characters, as SentencePiece by itself does",
        needs=Needs(note="any prompt"),
        run=changed(front=(), split=bos_as_characters),
    ),
    # turns
    RuleMutant(
        name="prompt_no_newline_after_role",
        what="the newline after user and model is missing",
        needs=_CHAT,
        run=changed(opening="<start_of_turn>{role}", opened="<start_of_turn>model"),
    ),
    RuleMutant(
        name="prompt_space_after_role",
        what="a space stands for the newline after the role, and the last one has nothing",
        needs=_CHAT,
        run=changed(opening="<start_of_turn>{role} ", opened="<start_of_turn>model"),
    ),
    RuleMutant(
        name="prompt_no_newline_at_end",
        what="the newline after the last model is missing",
        needs=Needs(note="a chat with a generation prompt"),
        run=changed(opened="<start_of_turn>model"),
    ),
    RuleMutant(
        name="prompt_no_newline_after_turn",
        what="the newline after <end_of_turn> is missing",
        needs=_CHAT,
        run=changed(closing="<end_of_turn>"),
    ),
    RuleMutant(
        name="prompt_turns_as_characters",
        what="<start_of_turn> and <end_of_turn> are read as characters",
        needs=Needs(note="a chat, or these names in a text"),
        run=changed(split=by_model(turns_normal)),
    ),
    RuleMutant(
        name="prompt_role_assistant",
        what="the model's turns are named assistant",
        needs=Needs(note="a chat with an answer in it, or a generation prompt"),
        run=changed(model="assistant", opened="<start_of_turn>assistant\n"),
    ),
    RuleMutant(
        name="prompt_assistant_in_history",
        what="only the answers so far are named assistant",
        needs=Needs(note="a chat with an answer in it"),
        run=changed(model="assistant"),
    ),
    RuleMutant(
        name="prompt_model_not_opened",
        what="no model turn is opened at the end",
        needs=Needs(note="a chat with a generation prompt"),
        run=changed(opened=""),
    ),
    RuleMutant(
        name="prompt_escaped_newlines",
        what=r"\n is two characters, as a shell and a program without --escape pass it on",
        needs=Needs(note="a newline, as any chat has"),
        run=changed(text=lambda text: text.replace("\n", r"\n")),
    ),
    # system text and contents
    RuleMutant(
        name="prompt_system_as_turn",
        what="the system text has a turn of its own, named system",
        needs=_SYSTEM,
        run=changed(system=None),
    ),
    RuleMutant(
        name="prompt_system_dropped",
        what="the system text is left out",
        needs=_SYSTEM,
        run=changed(system=_system_dropped),
    ),
    RuleMutant(
        name="prompt_no_blank_line_after_system",
        what="nothing stands between the system text and the user's",
        needs=_SYSTEM,
        run=changed(system=str),
    ),
    RuleMutant(
        name="prompt_one_newline_after_system",
        what="one newline stands between the system text and the user's",
        needs=_SYSTEM,
        run=changed(system="{}\n".format),
    ),
    RuleMutant(
        name="prompt_system_trimmed",
        what="the system text is trimmed, too, and an empty one adds no blank line",
        needs=Needs(note="a system text that is empty or has white space around it"),
        run=changed(system=lambda text: f"{text.strip()}\n\n" if text.strip() else ""),
    ),
    RuleMutant(
        name="prompt_not_trimmed",
        what="contents are not trimmed",
        needs=Needs(note="a chat whose content has white space around it"),
        run=changed(trim=str),
    ),
    RuleMutant(
        name="prompt_items_by_newline",
        what="the items of a content are joined by newlines",
        needs=Needs(note="a content of two items"),
        run=changed(join="\n".join),
    ),
    RuleMutant(
        name="prompt_items_by_space",
        what="the items of a content are joined by spaces",
        needs=Needs(note="a content of two items"),
        run=changed(join=" ".join),
    ),
]
