"""A llama of f32 as gguf writes it, with the names and keys that llama-quantize goes by."""

import json
import sys

import gguf
import numpy as np

PARTS = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
ENDS = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def named(name):
    if name in ENDS:
        return ENDS[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.weight"


shapes = {named(name): shape for name, shape in json.loads(sys.argv[2]).items()}
vocabulary, hidden = shapes["token_embd.weight"]
writer = gguf.GGUFWriter(sys.argv[1], "llama")
writer.add_block_count(sum(name.endswith("attn_q.weight") for name in shapes))
writer.add_context_length(512)
writer.add_embedding_length(hidden)
writer.add_feed_forward_length(shapes["blk.0.ffn_up.weight"][0])
writer.add_head_count(hidden // 64)
writer.add_head_count_kv(shapes["blk.0.attn_k.weight"][0] // 64)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_vocab_size(vocabulary)
for name, shape in shapes.items():
    writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * int(np.prod(shape)))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_ti_data_to_file()
random = np.random.default_rng(0)
for shape in shapes.values():
    writer.write_tensor_data(random.standard_normal(shape, dtype=np.float32) * np.float32(0.02))
writer.close()
