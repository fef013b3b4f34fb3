"""Hugging Face directories: from one kind of weights to the other, and transformers loads them and gives the same logits."""

import json

import torch
import transformers
from safetensors.torch import save_file

import bits
import hub
import pickles
import theirs
from common import (EXIT_CANNOT_REPRESENT, EXIT_UNSUPPORTED, OURS_TO_THEIRS, ROUND_TRIP, THEIRS_TO_OURS, check, told)

PROGRAM = "transformers"
SHARD = "60KB"
TO_TORCH = ("--to", "pytorch")
TORCH_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def run(judge):
    """Every model both ways; one of them in every odd surrounding."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name, kind, config in hub.configs():
        model = hub.build(kind, config)
        both_ways(judge, name, model)
        ours_sharded(judge, name, model)
        theirs_sharded(judge, name, model)
        recast(judge, name, model)
    name, kind, config = next(hub.configs())
    model = hub.build(kind, config)
    legacy(judge, model)
    cache(judge, model)
    littered(judge, model)
    variant(judge, model)
    training_arguments(judge, model)
    prefixed(judge, model)
    config_text(judge, model)
    in_place(judge, model)
    quantized(judge)
    judge.not_judged("GPTQ, AWQ and bitsandbytes directories: made by hand, carried bit by bit; their programs need a GPU")


def same_model(case, before, folder, **how):
    """transformers loads a directory of ours, and the model in it is the one before."""
    after = hub.load(type(before), folder, **how)
    case.opened()
    same_states(case, before, after)


def same_states(case, before, after):
    """Two models have the same tensors and give the same logits, bit by bit."""
    case.same({key: bits.of_torch(value) for key, value in before.state_dict().items()},
              {key: bits.of_torch(value) for key, value in after.state_dict().items()}, "state dict")
    case.same(hub.logits(before), hub.logits(after), "logits")


def same_assets(source, target, changed=()):
    """All but the weights is there, byte for byte, and nothing else."""
    before, after = hub.assets(source), hub.assets(target)
    # Pickles become JSON; a case of their own looks at that.
    before.pop(hub.PICKLED, None)
    after.pop("training_args.json", None)
    missing, more = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    check(not missing and not more, f"missing {missing}, too many {more}")
    wrong = [name for name in before if name not in changed and before[name] != after[name]]
    check(not wrong, f"changed: {wrong}")
    transformers.AutoTokenizer.from_pretrained(target, local_files_only=True)


def both_ways(judge, name, model):
    """safetensors to .bin, loaded; and back, loaded."""
    with judge.case(f"{name}, to .bin and back", PROGRAM, ROUND_TRIP) as case:
        source = hub.save(model, case.path("in"))
        middle, target = case.path("middle"), case.path("out")
        judge.convert_into(source, middle, *TO_TORCH)
        check(hub.weights(middle) == ["pytorch_model.bin"], f"weights: {hub.weights(middle)}")
        same_assets(source, middle)
        same_model(case, model, middle)
        held = theirs.read_safetensors(source / "model.safetensors")
        pickles.check_file(case, middle / "pytorch_model.bin", held)
        judge.convert_into(middle, target)
        check(hub.weights(target) == ["model.safetensors"], f"weights: {hub.weights(target)}")
        same_assets(source, target)
        same_model(case, model, target)
        case.same(held, theirs.read_safetensors(target / "model.safetensors"), "model.safetensors")
        check(theirs.metadata(target / "model.safetensors").get("format") == "pt", "metadata without format: pt")


def ours_sharded(judge, name, model):
    """One file into shards of either kind."""
    for suffix, options in (("safetensors", ()), ("bin", TO_TORCH)):
        with judge.case(f"{name}, our shards of .{suffix}", PROGRAM, OURS_TO_THEIRS) as case:
            source = hub.save(model, case.path("in"))
            judge.convert_into(source, case.path("out"), "--shard-size", SHARD, *options)
            made = hub.weights(case.path("out"))
            check(len(made) > 2 and made[-1].endswith(f"{suffix}.index.json"), f"weights: {made}")
            same_assets(source, case.path("out"))
            same_model(case, model, case.path("out"))


def theirs_sharded(judge, name, model):
    """Shards by transformers, kept or joined."""
    with judge.case(f"{name}, their shards", PROGRAM, THEIRS_TO_OURS) as case:
        source = hub.save(model, case.path("in"), max_shard_size=SHARD)
        check((source / "model.safetensors.index.json").exists(), f"transformers wrote {hub.weights(source)}")
        for size, sharded in (("keep", True), ("none", False)):
            target = case.path(size)
            judge.convert_into(source, target, "--shard-size", size, *TO_TORCH)
            check((len(hub.weights(target)) > 1) == sharded, f"--shard-size {size}: {hub.weights(target)}")
            same_assets(source, target)
            same_model(case, model, target)
        held = theirs.read_sharded(source / "model.safetensors.index.json")[0]
        case.listed(source, held)


def recast(judge, name, model):
    """--dtype: the config follows, and nothing else in it changes; the weights are those that transformers' cast gives."""
    for dtype in ("bf16", "f16"):
        for options in ((), TO_TORCH):
            with judge.case(f"{name}, --dtype {dtype} {' '.join(options)}".strip(), PROGRAM, OURS_TO_THEIRS) as case:
                source, target = hub.save(model, case.path("in")), case.path("out")
                judge.convert_into(source, target, "--dtype", dtype, *options)
                same_assets(source, target, changed=("config.json",))
                before, after = (folder.joinpath("config.json").read_text(encoding="utf-8") for folder in (source, target))
                wanted = before.replace('"dtype": "float32"', f'"dtype": "{TORCH_NAMES[dtype]}"')
                check(wanted != before and after == wanted, f"config.json: {changes(wanted, after)}")
                again = hub.load(type(model), target)
                meant = getattr(torch, TORCH_NAMES[dtype])
                check(again.dtype == meant, f"loads as {again.dtype}")
                case.opened()
                # transformers keeps a few tensors of some models in f32, whatever was asked: ours are rounded all the same.
                rounded = {key: value.to(meant) if value.is_floating_point() else value for key, value in model.state_dict().items()}
                reference = hub.load(type(model), source, dtype=meant)
                reference.load_state_dict(rounded)
                same_states(case, reference, again)


def changes(before, after):
    """The first line that differs."""
    for one, two in zip(before.splitlines(), after.splitlines()):
        if one != two:
            return f"{one!r} became {two!r}"
    return f"{len(before)} characters became {len(after)}"


def legacy(judge, model):
    """A directory as old transformers wrote it: pytorch_model.bin as a legacy stream, or in shards."""
    with judge.case("pytorch_model.bin as a legacy stream", PROGRAM, THEIRS_TO_OURS) as case:
        source = with_bin(model, case.path("in"), _use_new_zipfile_serialization=False)
        same_model(case, model, source)
        for name, options in (("safe", ()), ("bin", TO_TORCH)):
            judge.convert_into(source, case.path(name), *options)
            same_assets(source, case.path(name))
            same_model(case, model, case.path(name))


def with_bin(model, folder, **how):
    """The directory with pytorch_model.bin instead of safetensors."""
    hub.save(model, folder)
    (folder / "model.safetensors").unlink()
    pickles.save(folder / "pytorch_model.bin", model.state_dict(), **how)
    return folder


def cache(judge, model):
    """The hub's cache: a snapshot of links, whole and in shards; what we write are files."""
    for name, how in (("", {}), (", shards", {"max_shard_size": SHARD})):
        with judge.case(f"cache layout{name}", "huggingface_hub", THEIRS_TO_OURS) as case:
            plain = hub.save(model, case.path("plain"), **how)
            source = hub.cached(plain, case.path("models--x--y"))
            for target, options in ((case.path("safe"), ()), (case.path("bin"), TO_TORCH)):
                judge.convert_into(source, target, *options)
                check(not any(path.is_symlink() for path in target.rglob("*")), "a link was written")
                same_assets(plain, target)
                same_model(case, model, target)
            file = next(iter(sorted(source.glob("*.safetensors"))))
            case.convert(file, "one.bin")
    with judge.case("link that leaves the model", "huggingface_hub", THEIRS_TO_OURS) as case:
        source = hub.save(model, case.path("in"))
        case.path("secret.txt").write_text("secret", encoding="utf-8")
        (source / "notes.txt").symlink_to("../secret.txt")
        result = judge.run("convert", source, f"{case.path('out')}/")
        leaked = case.path("out/notes.txt").exists() or any(b"secret" == path.read_bytes() for path in case.path("out").rglob("*.txt"))
        check(result.returncode != 0 and not leaked, f"exit {result.returncode}, {'leaked' if leaked else told(result)}")
        case.opened()


def littered(judge, model):
    """Stale indexes and second sets of weights lie about: the right set is taken, none other copied, all are named."""
    with judge.case("stale indexes and second weights", PROGRAM, THEIRS_TO_OURS) as case:
        source = hub.save(model, case.path("in"))
        clean = hub.assets(source)
        named = hub.litter(source)
        same_model(case, model, source)
        for target, options in ((case.path("safe"), ()), (case.path("bin"), TO_TORCH)):
            result = judge.run("convert", source, f"{target}/", "--json", *options)
            check(result.returncode == 0, f"exit {result.returncode}: {told(result)}")
            said = (result.stdout + result.stderr).decode(errors="replace")
            check(all(name in said for name in named), f"not named: {[name for name in named if name not in said]}")
            check(len(hub.weights(target)) == 1, f"weights: {hub.weights(target)}")
            check(hub.assets(target) == clean, f"assets: {sorted(hub.assets(target))}")
            same_model(case, model, target)
    with judge.case("stale shards of an earlier output", PROGRAM, OURS_TO_THEIRS) as case:
        source, target = hub.save(model, case.path("in")), case.path("out")
        judge.convert_into(source, target, "--shard-size", SHARD)
        (target / "mine.txt").write_text("a stranger's", encoding="utf-8")
        result = judge.run("convert", source, f"{target}/")
        check(result.returncode == 3, f"exit {result.returncode} without --force: {told(result)}")
        judge.convert_into(source, target, "--force")
        check(hub.weights(target) == ["model.safetensors"], f"weights: {hub.weights(target)}")
        check((target / "mine.txt").read_text(encoding="utf-8") == "a stranger's", "a stranger's file is gone")
        same_model(case, model, target)


def variant(judge, model):
    """--variant fp16 takes model.fp16.safetensors, and is refused where there is none."""
    with judge.case("--variant fp16", PROGRAM, THEIRS_TO_OURS) as case:
        source = hub.save(model, case.path("in"))
        other = hub.build(type(model), model.config).to(torch.float16)
        other.save_pretrained(case.path("other"), variant="fp16")
        made = case.path("other/model.fp16.safetensors")
        made.rename(source / made.name)
        expected = theirs.read_safetensors(source / made.name)
        judge.convert_into(source, case.path("out"), "--variant", "fp16")
        case.same(expected, theirs.read_safetensors(one_of(case.path("out"), ".safetensors")))
        judge.convert_into(source, case.path("plain"))
        case.same(theirs.read_safetensors(source / "model.safetensors"), theirs.read_safetensors(case.path("plain/model.safetensors")))
        result = judge.run("convert", source, f"{case.path('none')}/", "--variant", "ema")
        check(result.returncode != 0 and not case.path("none").exists(), f"--variant ema: exit {result.returncode}")
        case.opened(2)


def one_of(folder, suffix):
    """The only file of that kind."""
    found = sorted(folder.glob(f"*{suffix}"))
    check(len(found) == 1, f"{suffix}: {[path.name for path in found]}")
    return found[0]


def training_arguments(judge, model):
    """training_args.bin becomes JSON with its values, unrun; --keep-pickles keeps the file as it is."""
    with judge.case("training_args.bin", PROGRAM, THEIRS_TO_OURS) as case:
        source = hub.save(model, case.path("in"))
        hub.arguments(source, "no-weights-training_args.bin")
        judge.convert_into(source, case.path("out"))
        check(not case.path(f"out/{hub.PICKLED}").exists(), "the pickle was copied")
        text = case.path("out/training_args.json").read_text(encoding="utf-8")
        json.loads(text)
        held = ("learning_rate", "5e-05", "output_dir", "seed", "42")
        check(all(word in text or word == "5e-05" and "0.00005" in text for word in held), f"JSON is {text[:400]}")
        same_assets(source, case.path("out"))
        judge.convert_into(source, case.path("kept"), "--keep-pickles")
        check(case.path(f"kept/{hub.PICKLED}").read_bytes() == (source / hub.PICKLED).read_bytes(), "the pickle changed")
        same_model(case, model, case.path("out"))
    with judge.case("training_args.bin that runs code", PROGRAM, THEIRS_TO_OURS) as case:
        source = hub.save(model, case.path("in"))
        hub.arguments(source, "runs-training_args.bin")
        judge.convert_into(source, case.path("out"))
        judge.inspect(source)
        json.loads(case.path("out/training_args.json").read_text(encoding="utf-8"))
        check(not list(judge.folder.rglob("pwned")), "something ran")
        same_model(case, model, case.path("out"))


def prefixed(judge, model):
    """Names that all begin with module., under which transformers silently makes up every weight, lose it."""
    with judge.case("module. before every name", PROGRAM, THEIRS_TO_OURS) as case:
        source = with_bin(model, case.path("in"))
        state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
        pickles.save(source / "pytorch_model.bin", state)
        for target, options in ((case.path("safe"), ()), (case.path("bin"), TO_TORCH)):
            report = json.dumps(judge.convert_into(source, target, *options))
            check("module." in report, "the prefix is not reported")
            same_model(case, model, target)


def config_text(judge, model):
    """A config with text of its own style keeps it: torch_dtype, NaN, escapes, order, no line end."""
    texts = {"torch_dtype": ('"dtype": "float32"', '"torch_dtype":\t"float32"', "bfloat16"),
             "both": ('"dtype": "float32"', '"dtype": "float32", "torch_dtype" : "float32"', "bfloat16")}
    for name, (old, new, dtype) in texts.items():
        with judge.case(f"config.json with {name}", PROGRAM, OURS_TO_THEIRS) as case:
            source, target = hub.save(model, case.path("in")), case.path("out")
            path = source / "config.json"
            text = path.read_text(encoding="utf-8").rstrip().replace(old, new)
            text = text[:-1].rstrip() + ',\n\t"extra" : [NaN, -Infinity, 1e5, "gr\\u00f6\\/e", "größe"] }'
            path.write_text(text, encoding="utf-8")
            judge.convert_into(source, target, "--dtype", "bf16")
            found = (target / "config.json").read_text(encoding="utf-8")
            wanted = text.replace(new, new.replace("float32", dtype))
            check(found == wanted, f"config.json: {changes(wanted, found)}")
            judge.convert_into(source, case.path("same"))
            check(case.path("same/config.json").read_bytes() == path.read_bytes(), "config.json changed without --dtype")
            check(hub.load(type(model), target).dtype == torch.bfloat16, "loads in another type")
            case.opened()


def in_place(judge, model):
    """An existing empty directory is filled."""
    with judge.case("output directory exists", PROGRAM, OURS_TO_THEIRS) as case:
        source, target = hub.save(model, case.path("in")), case.path("out")
        target.mkdir()
        result = judge.run("convert", source, target)
        check(result.returncode == 0, f"exit {result.returncode}: {told(result)}")
        same_assets(source, target)
        same_model(case, model, target)


def quantized(judge):
    """Checkpoints quantized in their own ways pass unchanged, and are not cast as if they were plain."""
    for name, settings, state in hub.quantized():
        with judge.case(f"quantized: {name}", "safetensors", ROUND_TRIP) as case:
            source = case.path("in")
            source.mkdir()
            config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "float16", "hidden_size": 32,
                      "quantization_config": settings}
            (source / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
            save_file(state, source / "model.safetensors", {"format": "pt"})
            expected = pickles.tensors(state)
            judge.convert_into(source, case.path("safe"))
            case.same(expected, theirs.read_safetensors(case.path("safe/model.safetensors")), "safetensors")
            judge.convert_into(source, case.path("bin"), *TO_TORCH)
            pickles.check_file(case, case.path("bin/pytorch_model.bin"), expected)
            for folder in ("safe", "bin"):
                check(hub.assets(case.path(folder)) == hub.assets(source), f"{folder}: config.json changed")
            result = judge.run("convert", source, f"{case.path('cast')}/", "--dtype", "bf16")
            check(result.returncode in (EXIT_UNSUPPORTED, EXIT_CANNOT_REPRESENT), f"--dtype: exit {result.returncode}: {told(result)}")
            check("quant" in told(result).lower() or name in told(result).lower(), f"the reason is not told: {told(result)}")
            check(not case.path("cast").exists(), "written although refused")
            case.opened()
