use super::*;
use Preset::*;

const LLAMA: Facts<'_> = Facts { architecture: "llama", n_layer: 16, n_head: 32, n_head_kv: 32, n_expert: 0 };

fn rules(preset: Preset) -> Rules {
    Rules { preset, pure: false, has_matrix: false }
}

/// The names of one layer's matrices.
const MATRICES: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

fn names(n_layer: u32, output: bool) -> Vec<String> {
    let mut names = vec!["token_embd.weight".to_owned(), "output_norm.weight".to_owned()];
    names.extend(output.then(|| "output.weight".to_owned()));
    for layer in 0..n_layer {
        names.push(format!("blk.{layer}.attn_norm.weight"));
        names.extend(MATRICES.map(|matrix| format!("blk.{layer}.{matrix}.weight")));
    }
    names
}

/// Quantizes a model of 512 × 512 matrices; one-dimensional norms.
fn types(rules: Rules, facts: &Facts<'_>, names: &[String]) -> Vec<Choice> {
    let tensors: Vec<Source<'_>> = names
        .iter()
        .map(|name| {
            let shape: &[u64] = if name.contains("norm") { &[512] } else { &[512, 512] };
            Source { name, dtype: DType::F32, shape, wanted: None }
        })
        .collect();
    choose(rules, facts, &tensors).unwrap()
}

fn of(names: &[String], choices: &[Choice], name: &str) -> DType {
    choices[names.iter().position(|other| other == name).unwrap()].dtype
}

#[test]
fn names_of_presets() {
    for preset in Preset::all() {
        assert_eq!(Preset::from_name(preset.name()), Some(preset));
        assert_eq!(Preset::from_name(&preset.name().to_uppercase()), Some(preset));
    }
    assert_eq!(Preset::from_name("Q4_K"), Some(Q4KM));
    assert_eq!(Preset::from_name("q4_k_x"), None);
    assert_eq!(Q4KM.file_type(), 15);
    assert!(Preset::all().filter(|preset| preset.needs_matrix()).count() == 9);
}

#[test]
fn what_is_left_alone() {
    let names = names(2, true);
    for preset in [Q8_0, F16, Q4KM] {
        let choices = types(rules(preset), &LLAMA, &names);
        for name in ["output_norm.weight", "blk.1.attn_norm.weight"] {
            assert_eq!(of(&names, &choices, name), DType::F32);
        }
    }
    let lone = |name, shape: &[u64]| {
        let tensor = Source { name, dtype: DType::F16, shape, wanted: Some(DType::Q8_0) };
        choose(rules(Q4_0), &LLAMA, &[tensor]).unwrap()[0].dtype
    };
    assert_eq!(lone("blk.0.attn_q.weight", &[64, 64]), DType::Q8_0);
    for kept in [
        "blk.0.attn_q.bias",
        "blk.0.ffn_gate_inp.weight",
        "blk.0.attn_k_norm.weight",
        "position_embd.weight",
        "v.patch_embd.weight",
        "blk.0.time_mix_w1.weight",
    ] {
        assert_eq!(lone(kept, &[64, 64]), DType::F16, "{kept}");
    }
    assert_eq!(lone("blk.0.attn_q.weight", &[1, 64]), DType::F16);
    assert_eq!(lone("blk.0.attn_q.weight", &[3, 1, 64]), DType::Q8_0);
}

#[test]
fn medium_mixture() {
    let names = names(16, true);
    let choices = types(rules(Q4KM), &LLAMA, &names);
    assert_eq!(of(&names, &choices, "output.weight"), DType::Q6K);
    assert_eq!(of(&names, &choices, "token_embd.weight"), DType::Q4K);
    let more: Vec<u32> = (0..16)
        .filter(|layer| of(&names, &choices, &format!("blk.{layer}.ffn_down.weight")) == DType::Q6K)
        .collect();
    assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15]);
    for layer in 0..16 {
        let dtype = |matrix: &str| of(&names, &choices, &format!("blk.{layer}.{matrix}.weight"));
        assert_eq!(dtype("attn_v"), dtype("ffn_down"));
        assert_eq!(dtype("ffn_up"), DType::Q4K);
    }
    assert!(choices.iter().all(|choice| choice.instead_of.is_none() && !choice.needs_matrix));
}

/// The rules count in the order of layers, whatever order tensors come in.
#[test]
fn order_does_not_matter() {
    let sorted = names(16, true);
    let mut turned = sorted.clone();
    turned.reverse();
    for preset in Preset::all() {
        let (one, other) = (types(rules(preset), &LLAMA, &sorted), types(rules(preset), &LLAMA, &turned));
        assert!(one.iter().eq(other.iter().rev()), "{}", preset.name());
    }
}

#[test]
fn a_tied_embedding_is_treated_as_output() {
    let names = names(2, false);
    assert_eq!(of(&names, &types(rules(Q4KM), &LLAMA, &names), "token_embd.weight"), DType::Q6K);
    let pure = Rules { pure: true, ..rules(Q4KM) };
    assert!(
        types(pure, &LLAMA, &names)
            .iter()
            .zip(&names)
            .all(|(choice, name)| (choice.dtype == DType::Q4K) != name.contains("norm"))
    );
}

#[test]
fn rows_that_do_not_divide() {
    let choice = |preset, name, row| {
        let shape = [64, row];
        choose(rules(preset), &LLAMA, &[Source { name, dtype: DType::F32, shape: &shape, wanted: None }])
    };
    let pair = |preset, row| {
        let choice = choice(preset, "blk.0.attn_q.weight", row).unwrap()[0];
        (choice.dtype, choice.instead_of)
    };
    assert_eq!(pair(Q4KS, 320), (DType::Q5_0, Some(DType::Q4K)));
    assert_eq!(pair(Q5KS, 320), (DType::Q5_1, Some(DType::Q5K)));
    assert_eq!(pair(Q6K, 320), (DType::Q8_0, Some(DType::Q6K)));
    assert_eq!(pair(Q2K, 320), (DType::Q4_0, Some(DType::Q2K)));
    assert_eq!(pair(Iq4Xs, 320), (DType::Iq4Nl, Some(DType::Iq4Xs)));
    assert_eq!(pair(Q4KS, 40), (DType::F16, Some(DType::Q4K)));
    assert_eq!(pair(Q8_0, 40), (DType::F16, Some(DType::Q8_0)));
    assert_eq!(pair(F16, 40), (DType::F16, None));
    assert!(choice(Q1_0, "blk.0.attn_q.weight", 64).is_err());
    // The output head does not even try.
    let head = choice(Q4KS, "output.weight", 320).unwrap()[0];
    assert_eq!((head.dtype, head.instead_of), (DType::Q8_0, None));
}

#[test]
fn shared_heads_and_experts() {
    let names = names(16, true);
    let value =
        |preset, facts: &Facts<'_>| of(&names, &types(rules(preset), facts, &names), "blk.6.attn_v.weight");
    let shared = Facts { n_head_kv: 4, ..LLAMA };
    assert_eq!(value(Q2K, &LLAMA), DType::Q3K);
    assert_eq!(value(Q2K, &shared), DType::Q4K);
    assert_eq!(value(Iq4Xs, &shared), DType::Q5K);
    assert_eq!(value(Q4KM, &Facts { n_expert: 8, ..shared }), DType::Q8_0);
    assert_eq!(value(Q4KM, &Facts { n_head_kv: 0, ..LLAMA }), DType::Q4K);
    let large = Facts { n_layer: 80, n_head: 64, n_head_kv: 8, ..LLAMA };
    assert_eq!(value(Q4KM, &large), DType::Q5K);

    let experts = Facts { n_expert: 4, ..LLAMA };
    let tensor = |name, shape| Source { name, dtype: DType::F32, shape, wanted: None };
    let stacked =
        [tensor("blk.3.ffn_down_exps.weight", &[4, 256, 256]), tensor("blk.3.attn_q.weight", &[256, 256])];
    let choices = choose(rules(Mxfp4Moe), &experts, &stacked).unwrap();
    assert_eq!(choices.iter().map(|choice| choice.dtype).collect::<Vec<_>>(), [DType::Mxfp4, DType::Q8_0]);
    // Layers are counted by name then.
    assert_eq!(choose(rules(Q4KM), &experts, &stacked).unwrap()[0].dtype, DType::Q4K);
    for bad in ["layer.3.ffn_down.weight", "blk.16.ffn_down.weight"] {
        assert!(choose(rules(Q4KM), &experts, &[tensor(bad, &[256, 256])]).is_err());
    }
}

#[test]
fn types_that_need_a_matrix_say_so() {
    let names = names(16, true);
    for preset in Preset::all() {
        let needing = types(rules(preset), &LLAMA, &names).iter().any(|choice| choice.needs_matrix);
        assert_eq!(needing, preset.needs_matrix(), "{}", preset.name());
    }
}

#[test]
fn what_is_written_in_blocks_has_a_codec() {
    for dtype in WRITTEN.iter().filter(|dtype| dtype.class() == Class::Block) {
        assert!(BlockCodec::new(*dtype).is_some_and(|codec| codec.can_quantize()), "{dtype}");
    }
    assert!(minds_importance(DType::Q4K) && !minds_importance(DType::Q8_0) && !minds_importance(DType::F16));
}
