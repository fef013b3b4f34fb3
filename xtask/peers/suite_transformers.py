"""transformers: models carried to npz and back load without a missing key and give the same logits, bit by bit."""

import shutil

import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import bits
import theirs
from common import OURS_TO_THEIRS, ROUND_TRIP, SEED, THEIRS_TO_OURS, check

PROGRAM = "transformers"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SMALL_SHARD = "60KB"


def models():
    """(name, class, config) of tiny models, one of them tied at the head, one not."""
    llama = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
             "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    yield "llama", LlamaForCausalLM, LlamaConfig(**llama, tie_word_embeddings=False)
    yield "llama, tied", LlamaForCausalLM, LlamaConfig(**llama, tie_word_embeddings=True)
    yield "gpt2, tied", GPT2LMHeadModel, GPT2Config(vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=64)
    yield "bert", BertForMaskedLM, BertConfig(vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
                                              intermediate_size=64, max_position_embeddings=64)


def run(judge):
    """Every model in f32 and bf16, whole and sharded."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name, kind, config in models():
        for dtype in (torch.float32, torch.bfloat16):
            short = str(dtype).removeprefix("torch.")
            model = build(kind, config, dtype)
            with judge.case(f"{name}, {short}, one file", PROGRAM, ROUND_TRIP) as case:
                carry(case, model, whole=True)
            with judge.case(f"{name}, {short}, shards", PROGRAM, THEIRS_TO_OURS) as case:
                carry(case, model, whole=False)
            with judge.case(f"{name}, {short}, our shards", PROGRAM, OURS_TO_THEIRS) as case:
                our_shards(case, model)


def build(kind, config, dtype):
    """A model with seeded weights; norms and biases, which start as ones and zeros, are perturbed so that a loss shows."""
    torch.manual_seed(SEED)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += torch.randn_like(parameter) * 0.1
    return model.to(dtype)


def logits(model):
    """The model's answer to a fixed input."""
    tokens = torch.randint(0, 96, (2, 20), generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        return {"logits": bits.of_torch(model(tokens).logits)}


def saved(case, model, whole):
    """Where save_pretrained put the weights: one file, or the index of several."""
    folder = case.path("in")
    model.save_pretrained(folder, **({} if whole else {"max_shard_size": SMALL_SHARD}))
    source = folder / (WEIGHTS if whole else INDEX)
    check(source.exists(), f"save_pretrained wrote {sorted(path.name for path in folder.iterdir())}")
    return source


def carry(case, model, whole):
    """Weights by save_pretrained, to npz, to safetensors, beside the config again, and loaded."""
    source = saved(case, model, whole)
    expected = theirs.read_safetensors(source) if whole else theirs.read_sharded(source)[0]
    case.listed(source, expected)
    archive = case.convert(source, "weights.npz")
    case.same(expected, theirs.read_npz(archive, {name: tensor.dtype for name, tensor in expected.items()}), "npz")
    case.opened()
    case.convert(archive, f"back/{WEIGHTS}")
    loads(case, model)


def our_shards(case, model):
    """Weights by save_pretrained, split by us, and loaded."""
    source = saved(case, model, whole=True)
    case.convert(source, f"back/{WEIGHTS}", "--shard-size", SMALL_SHARD)
    check(case.path(f"back/{INDEX}").exists(), "no index was written")
    found, shards = theirs.read_sharded(case.path(f"back/{INDEX}"))
    check(len(shards) > 1, "one shard only")
    case.same(theirs.read_safetensors(source), found)
    loads(case, model)


def loads(case, model):
    """from_pretrained takes what lies in `back`, every key in its place, and the model answers as the original does."""
    for path in case.path("in").glob("*.json"):
        if path.name != INDEX:
            shutil.copy(path, case.path("back"))
    original, _ = load(model, case.path("in"))
    again, info = load(model, case.path("back"))
    wrong = {key: value for key, value in info.items() if value}
    check(not wrong, f"from_pretrained: {wrong}")
    case.opened()
    case.same({name: bits.of_torch(value) for name, value in model.state_dict().items()},
              {name: bits.of_torch(value) for name, value in again.state_dict().items()}, "state dict")
    # The live model is no measure for bf16: casting it has rounded its rotary frequencies, which loading does not do.
    case.same(logits(original), logits(again), "logits")
    if model.dtype == torch.float32:
        case.same(logits(model), logits(again), "logits of the live model")


def load(model, folder):
    """The model that from_pretrained makes of a folder, and what it says about the keys."""
    loaded, info = type(model).from_pretrained(folder, output_loading_info=True, local_files_only=True)
    return loaded.eval(), info
