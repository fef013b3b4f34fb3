//! What the name of a tensor in GGUF says about it.

/// What a tensor is for, as far as mixtures care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Output,
    TokenEmbedding,
    /// Values, alone or together with queries and keys.
    AttentionValue,
    AttentionKey,
    AttentionQuery,
    AttentionOutput,
    FfnUp,
    FfnGate,
    FfnDown,
    Other,
}

/// The role of the tensor of that name; the first rule that holds counts.
pub(super) fn role(name: &str) -> Role {
    const PARTS: [(&str, Role); 9] = [
        ("attn_qkv.weight", Role::AttentionValue),
        ("attn_kv_b.weight", Role::AttentionValue),
        ("attn_v.weight", Role::AttentionValue),
        ("attn_k.weight", Role::AttentionKey),
        ("attn_q.weight", Role::AttentionQuery),
        ("attn_output.weight", Role::AttentionOutput),
        ("ffn_up", Role::FfnUp),
        ("ffn_gate", Role::FfnGate),
        ("ffn_down", Role::FfnDown),
    ];
    match name {
        "output.weight" => Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Role::TokenEmbedding,
        _ => PARTS.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |(_, role)| *role),
    }
}

/// The number of the layer, for names such as `blk.12.attn_q.weight`.
pub(super) fn layer(name: &str) -> Option<u32> {
    let number = name.strip_prefix("blk.")?;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

/// Whether a matrix of that name is quantized at all: weights are, but for those that are small, precious, or looked
/// up in other ways.
pub(super) fn is_quantized(name: &str, architecture: &str) -> bool {
    const KEPT: [&str; 35] = [
        "_norm.weight",
        // Which expert is to be asked.
        "ffn_gate_inp.weight",
        "ffn_gate_tid2eid.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        // RWKV's.
        "time_mix_first.weight",
        "time_mix_w0.weight",
        "time_mix_w1.weight",
        "time_mix_w2.weight",
        "time_mix_v0.weight",
        "time_mix_v1.weight",
        "time_mix_v2.weight",
        "time_mix_a0.weight",
        "time_mix_a1.weight",
        "time_mix_a2.weight",
        "time_mix_g1.weight",
        "time_mix_g2.weight",
        "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight",
        "time_mix_lerp_fused.weight",
        // T5's relative positions.
        "attn_rel_b.weight",
        // Images and sound.
        ".position_embd",
        "sam.pos_embd",
        "sam.neck.",
        "sam.net_",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
        "a.rvq.codebook",
        "mm.a.code_embd",
    ];
    const KEPT_IN_GLM5_NEXT: [&str; 14] = [
        "hc_",
        "indexer.attn_q_b",
        "indexer.attn_k",
        "indexer.proj",
        "indexer_compressor_gate",
        "indexer_compressor_ape",
        "ssm_f_a.weight",
        "ssm_f_b.weight",
        "ssm_g_a.weight",
        "ssm_g_b.weight",
        "ssm_beta.weight",
        "attn_kv_a_mqa.weight",
        "attn_k_b.weight",
        "attn_v_b.weight",
    ];
    let has_one_of = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let of_architecture = if architecture == "glm5-next" { &KEPT_IN_GLM5_NEXT[..] } else { &[] };
    name.ends_with("weight")
        && !matches!(name, "position_embd.weight" | "token_types.weight")
        && !has_one_of(&KEPT)
        && !has_one_of(of_architecture)
}

/// Whether a tensor of that name stays at q8_0 at least.
pub(super) fn is_delicate(name: &str, architecture: &str) -> bool {
    const DELICATE: [&str; 3] = ["attn_q_a", "attn_q_b", "nextn.eh_proj"];
    architecture == "glm5-next" && DELICATE.iter().any(|part| name.contains(part))
}
