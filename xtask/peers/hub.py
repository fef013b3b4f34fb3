"""Hugging Face directories as transformers writes them: tiny models, a tokenizer, the cache's layout, foreign weights beside."""

import hashlib
import json
import shutil

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import bits
from common import SEED, TESTDATA, check

VOCABULARY = 96
TEXT = ["the quick brown fox jumps over the lazy dog", "größe und länge", "weights, please: 重み"] * 4
WEIGHTS = (".safetensors", ".bin", ".index.json")
PICKLED = "training_args.bin"


def configs():
    """(name, class, config) of tiny models: heads tied and not, encoder, decoder and both, experts."""
    t = transformers
    llama = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    yield "llama", t.LlamaForCausalLM, t.LlamaConfig(**llama, tie_word_embeddings=False)
    yield "llama tied", t.LlamaForCausalLM, t.LlamaConfig(**llama, tie_word_embeddings=True)
    yield "gpt2", t.GPT2LMHeadModel, t.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    yield "bert", t.BertForMaskedLM, t.BertConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2,
                                                  num_attention_heads=4, intermediate_size=64, max_position_embeddings=64)
    yield "t5", t.T5ForConditionalGeneration, t.T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2,
                                                         num_heads=4, decoder_start_token_id=0)
    yield "qwen2", t.Qwen2ForCausalLM, t.Qwen2Config(**llama)
    yield "mixtral", t.MixtralForCausalLM, t.MixtralConfig(**llama, num_local_experts=4, num_experts_per_tok=2)


def build(kind, config):
    """A model in f32 with seeded weights; norms and biases are perturbed so that a loss shows."""
    torch.manual_seed(SEED)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += torch.randn_like(parameter) * 0.1
    return model


def save(model, folder, **how):
    """A directory with weights, config, a trained tokenizer and other things that models come with."""
    model.save_pretrained(folder, **how)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    # One thread, one order: the same tokenizer on every run.
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<unk>", "<s>"],
                                                            show_progress=False))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    fast.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{ "size":  224,\n "größe": 1 }', encoding="utf-8")
    (folder / "merges.txt").write_bytes(b"#version: 0.2\r\na b\r\n")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}', encoding="utf-8")
    return folder


def logits(model):
    """The model's answer to a fixed input."""
    tokens = torch.randint(0, VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(SEED))
    more = {"decoder_input_ids": tokens.flip(1)} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return {"logits": bits.of_torch(model(tokens, **more).logits)}


def load(kind, folder, **how):
    """The model that from_pretrained makes of a folder, every key in its place."""
    model, info = kind.from_pretrained(folder, output_loading_info=True, local_files_only=True, **how)
    wrong = {key: value for key, value in info.items() if value}
    check(not wrong, f"from_pretrained: {wrong}")
    return model.eval()


def is_weights(name):
    """Whether a file is one of weights, or their index."""
    return name.endswith(WEIGHTS) and name != PICKLED


def assets(folder):
    """Everything in a directory but weights, by relative path."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not is_weights(path.name)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def weights(folder):
    """The names of the weights files and indexes in a directory."""
    return sorted(path.name for path in folder.iterdir() if is_weights(path.name))


def cached(folder, root):
    """The same directory as the hub's cache lays it out: a snapshot of links into blobs. Returns the snapshot."""
    blobs, snapshot = root / "blobs", root / "snapshots/0123456789abcdef"
    blobs.mkdir(parents=True)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * len(link.parent.relative_to(root).parts)
        link.symlink_to(f"{up}blobs/{blob.name}")
    (root / "refs").mkdir()
    (root / "refs/main").write_text(snapshot.name, encoding="utf-8")
    return snapshot


def litter(folder):
    """Other weights and a stale index beside the good ones, all of them wrong; returns names that a report must show."""
    stale = {"metadata": {"total_size": 1}, "weight_map": {"gone": "model-00001-of-00009.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(stale), encoding="utf-8")
    torch.save({"wrong": torch.ones(3)}, folder / "pytorch_model.bin")
    stale["weight_map"] = {"gone": "pytorch_model-00001-of-00009.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(stale), encoding="utf-8")
    (folder / "original").mkdir()
    torch.save({"wrong": torch.ones(3)}, folder / "original/consolidated.00.pth")
    (folder / "onnx").mkdir()
    (folder / "onnx/model.onnx").write_bytes(b"no graph")
    (folder / "tf_model.h5").write_bytes(b"\x89HDF")
    (folder / "flax_model.msgpack").write_bytes(b"\x80")
    return ["pytorch_model.bin", "original", "onnx", "tf_model.h5", "flax_model.msgpack"]


def arguments(folder, name):
    """Puts a training_args.bin of testdata into a directory."""
    shutil.copy(TESTDATA / "bad/pytorch" / name, folder / PICKLED)


def quantized():
    """(name, quantization_config, state dict) of checkpoints quantized in their own ways, one layer each."""
    generator = torch.Generator().manual_seed(SEED)

    def codes(*shape, dtype=torch.int32):
        high = 127 if dtype in (torch.int8, torch.uint8) else 1 << 31
        return torch.randint(0, high, shape, generator=generator, dtype=torch.int64).to(dtype)

    def floats(*shape, dtype=torch.float16):
        return torch.randn(*shape, generator=generator).to(dtype)

    layer = "model.layers.0.self_attn.q_proj"
    plain = {"model.embed_tokens.weight": floats(VOCABULARY, 32), "model.norm.weight": floats(32)}
    yield "fp8", {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}, {
        **plain, f"{layer}.weight": floats(32, 32, dtype=torch.float8_e4m3fn),
        f"{layer}.weight_scale_inv": floats(2, 2, dtype=torch.float32)}
    yield "gptq", {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": False, "sym": True}, {
        **plain, f"{layer}.qweight": codes(4, 32), f"{layer}.qzeros": codes(2, 4), f"{layer}.scales": floats(2, 32),
        f"{layer}.g_idx": codes(32)}
    yield "awq", {"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True, "version": "gemm"}, {
        **plain, f"{layer}.qweight": codes(32, 4), f"{layer}.qzeros": codes(2, 4), f"{layer}.scales": floats(2, 32)}
    yield "bitsandbytes", {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, {
        **plain, f"{layer}.weight": codes(512, 1, dtype=torch.uint8),
        f"{layer}.weight.absmax": floats(16, dtype=torch.float32), f"{layer}.weight.quant_map": floats(16, dtype=torch.float32),
        f"{layer}.weight.quant_state.bitsandbytes__nf4": codes(80, dtype=torch.uint8)}
