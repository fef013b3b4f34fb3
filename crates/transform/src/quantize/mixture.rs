//! Which tensors of a mixture get more bits, or fewer.

use super::names::{Role, is_delicate, layer, role};
use super::{Facts, Preset, Rules, Source};
use modelferry_core::dtype::{Class, DType};
use modelferry_core::{Error, Result};

/// The state of one pass over the tensors in llama-quantize's order.
pub(super) struct Mixture<'a> {
    rules: Rules,
    facts: &'a Facts<'a>,
    /// Whether the embedding is the output head too.
    tied: bool,
    /// How many tensors with attention values there are.
    n_values: u32,
    /// How many tensors of some roles have been seen.
    seen_values: u32,
    seen_up: u32,
    seen_gate: u32,
    seen_down: u32,
}

/// A layer's place among all.
#[derive(Clone, Copy)]
struct Place {
    at: u32,
    of: u32,
}

impl Place {
    fn is_in_first(self, fraction: u32) -> bool {
        self.at < self.of / fraction
    }

    /// The first and the last eighth, and every third layer between.
    fn gets_more_bits(self) -> bool {
        let eighth = self.of / 8;
        self.at < eighth || self.at >= 7 * self.of / 8 || (self.at - eighth) % 3 == 2
    }
}

impl<'a> Mixture<'a> {
    pub(super) fn new(rules: Rules, facts: &'a Facts<'a>, tensors: &[Source<'_>]) -> Mixture<'a> {
        let count = |wanted| tensors.iter().filter(|tensor| role(tensor.name) == wanted).count();
        Mixture {
            rules,
            facts,
            tied: count(Role::Output) == 0,
            n_values: u32::try_from(count(Role::AttentionValue)).unwrap_or(u32::MAX),
            seen_values: 0,
            seen_up: 0,
            seen_gate: 0,
            seen_down: 0,
        }
    }

    /// The type of the next tensor, whatever its shape.
    pub(super) fn next(&mut self, tensor: &Source<'_>) -> Result<DType> {
        let (preset, usual) = (self.rules.preset, self.rules.preset.dtype());
        if is_delicate(tensor.name, self.facts.architecture) && usual.class() == Class::Block {
            return Ok(DType::Q8_0);
        }
        let role = role(tensor.name);
        Ok(match role {
            Role::Output => self.output(tensor),
            Role::TokenEmbedding if self.tied => self.output(tensor),
            _ if preset == Preset::Mxfp4Moe => self.mxfp4_moe(tensor, role),
            Role::TokenEmbedding => token_embedding(preset).unwrap_or(usual),
            _ if preset.is_below_3_bits() => self.below_3_bits(role).unwrap_or(usual),
            Role::AttentionValue => self.value(),
            Role::AttentionKey if self.facts.n_expert == 8 => DType::Q8_0,
            Role::AttentionKey | Role::AttentionQuery => match preset {
                Preset::Iq3Xs => DType::Iq3Xxs,
                Preset::Iq3Xxs => DType::Iq2S,
                _ => usual,
            },
            Role::AttentionOutput => self.attention_output().unwrap_or(usual),
            Role::FfnDown => {
                let place = self.place(tensor.name, self.seen_down)?;
                self.seen_down += 1;
                self.down(place).unwrap_or(usual)
            }
            Role::FfnGate => {
                let place = self.place(tensor.name, self.seen_gate)?;
                self.seen_gate += 1;
                up_or_gate(preset, place).unwrap_or(usual)
            }
            Role::FfnUp => {
                let place = self.place(tensor.name, self.seen_up)?;
                self.seen_up += 1;
                up_or_gate(preset, place).unwrap_or(usual)
            }
            Role::Other => usual,
        })
    }

    /// The layer of a tensor: by its number among those like it, or by its name where experts stand apart.
    fn place(&self, name: &str, seen: u32) -> Result<Place> {
        let of = self.facts.n_layer;
        if self.facts.n_expert <= 1 {
            return Ok(Place { at: seen, of });
        }
        let missing = "the mixture of types needs the number of the layer, and the name has none";
        let at = layer(name).ok_or_else(|| Error::target(missing).tensor(name))?;
        if at >= of {
            let outside = "the name of a tensor says a layer that the model has not";
            return Err(Error::malformed(outside).tensor(name).expected(format!("below {of}")).found(at));
        }
        Ok(Place { at, of })
    }

    fn is_falcon(&self) -> bool {
        self.facts.architecture == "falcon"
    }

    fn output(&self, tensor: &Source<'_>) -> DType {
        let preset = self.rules.preset;
        let fits = tensor.row().is_multiple_of(preset.dtype().item_elements());
        match preset.dtype() {
            DType::Mxfp4 | DType::Q8_0 => DType::Q8_0,
            _ if self.is_falcon() || !fits => DType::Q8_0,
            _ if preset.is_below_3_bits() || preset == Preset::Iq3Xxs => DType::Q5K,
            _ => DType::Q6K,
        }
    }

    /// Experts are stacked; but so are other matrices in one architecture.
    fn mxfp4_moe(&self, tensor: &Source<'_>, role: Role) -> DType {
        let of_experts = self.facts.architecture != "bailingmoe3"
            || matches!(role, Role::FfnUp | Role::FfnGate | Role::FfnDown);
        if tensor.is_stacked() && of_experts { DType::Mxfp4 } else { DType::Q8_0 }
    }

    fn below_3_bits(&mut self, role: Role) -> Option<DType> {
        let preset = self.rules.preset;
        let upper = matches!(preset, Preset::Iq2S | Preset::Iq2M);
        let more = if upper { DType::Iq3S } else { DType::Q2K };
        match role {
            Role::AttentionValue if self.facts.gqa() >= 4 || self.facts.n_expert >= 4 => Some(DType::Q4K),
            Role::AttentionValue => Some(more),
            Role::AttentionKey if self.facts.n_expert == 8 => Some(DType::Q4K),
            Role::FfnDown => {
                let place = Place { at: self.seen_down, of: self.facts.n_layer };
                self.seen_down += 1;
                place.is_in_first(8).then_some(more)
            }
            Role::AttentionOutput if self.facts.n_expert == 8 => Some(DType::Q5K),
            Role::AttentionOutput if upper => Some(DType::Iq3S),
            Role::AttentionOutput if matches!(preset, Preset::Iq1S | Preset::Iq1M) => Some(DType::Iq2Xxs),
            _ => None,
        }
    }

    fn value(&mut self) -> DType {
        use Preset::*;
        let place = Place { at: self.seen_values, of: self.n_values };
        self.seen_values += 1;
        let preset = self.rules.preset;
        let shared = self.facts.gqa() >= 4;
        let dtype = match preset {
            Q2K if shared => DType::Q4K,
            Q2K => DType::Q3K,
            Q2KS | Iq3Xxs | Iq3Xs | Iq3S if shared => DType::Q4K,
            Iq3Xxs if !self.rules.has_matrix => DType::Iq3S,
            Iq3M => DType::Q4K,
            Q3KM if place.at < 2 => DType::Q5K,
            Q3KM => DType::Q4K,
            Q3KL => DType::Q5K,
            Iq4Nl | Iq4Xs if shared => DType::Q5K,
            Q4KM | Q5KM if place.gets_more_bits() => DType::Q6K,
            Q4KS if place.at < 4 => DType::Q5K,
            _ => preset.dtype(),
        };
        match dtype {
            _ if self.facts.n_expert == 8 => DType::Q8_0,
            // Eight heads share a value there, so more bits cost little.
            DType::Q3K | DType::Q4K if self.facts.is_70b() => DType::Q5K,
            _ => dtype,
        }
    }

    fn down(&self, place: Place) -> Option<DType> {
        use Preset::*;
        let (falcon, has_matrix) = (self.is_falcon(), self.rules.has_matrix);
        Some(match self.rules.preset {
            Q2K => DType::Q3K,
            Q2KS if place.is_in_first(8) => DType::Q4K,
            Iq3Xxs if !has_matrix && place.is_in_first(8) => DType::Q4K,
            Iq3Xxs if !has_matrix => DType::Q3K,
            Q3KM if place.is_in_first(16) => DType::Q5K,
            Q3KM if !falcon || place.gets_more_bits() => DType::Q4K,
            Iq3M if place.is_in_first(8) => DType::Q4K,
            Iq3M if self.facts.n_expert == 8 && place.gets_more_bits() => DType::Q4K,
            Q3KL if falcon => DType::Q4K,
            Q3KL => DType::Q5K,
            Q4KM if falcon && place.is_in_first(16) => DType::Q6K,
            Q4KM if falcon && place.gets_more_bits() => DType::Q5K,
            Q4KM if !falcon && place.gets_more_bits() => DType::Q6K,
            Iq4Nl | Iq4Xs if !has_matrix && place.is_in_first(8) => DType::Q5K,
            Q5KM if place.gets_more_bits() => DType::Q6K,
            Q4KS if !falcon && place.is_in_first(8) => DType::Q5K,
            Q4_0 if has_matrix && place.is_in_first(8) => DType::Q4_1,
            Q5_0 if has_matrix && place.is_in_first(8) => DType::Q5_1,
            _ => return None,
        })
    }

    fn attention_output(&self) -> Option<DType> {
        use Preset::*;
        let preset = self.rules.preset;
        if self.is_falcon() {
            return (preset == Q3KL).then_some(DType::Q4K);
        }
        if self.facts.n_expert == 8 {
            let more = [Q2K, Iq3Xs, Iq3Xxs, Q3KS, Q3KM, Iq4Nl, Q4KS, Q4KM, Iq3S, Iq3M, Iq4Xs];
            return more.contains(&preset).then_some(DType::Q5K);
        }
        Some(match preset {
            Q2K => DType::Q3K,
            Iq3Xxs => DType::Iq3S,
            Q3KM | Iq3M => DType::Q4K,
            Q3KL => DType::Q5K,
            _ => return None,
        })
    }
}

fn token_embedding(preset: Preset) -> Option<DType> {
    use Preset::*;
    match preset {
        Iq2Xxs | Iq2Xs | Iq1S | Iq1M => Some(DType::Q2K),
        Iq2S | Iq2M | Iq3Xxs => Some(DType::Iq3S),
        Tq1_0 | Tq2_0 | Q2_0 => Some(DType::Q4K),
        _ => None,
    }
}

fn up_or_gate(preset: Preset, place: Place) -> Option<DType> {
    let in_between = !place.is_in_first(8) && place.at < 7 * place.of / 8;
    (preset == Preset::Iq3Xs && in_between).then_some(DType::Iq3Xxs)
}
