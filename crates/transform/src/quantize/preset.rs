//! What a quantized file may be called, and the type that most of its tensors get.

use modelferry_core::dtype::DType;

macro_rules! presets {
    ($($variant:ident $name:literal $file_type:literal $dtype:ident;)*) => {
        /// A mixture of types, as llama-quantize knows them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names say it")]
        pub enum Preset {
            $($variant,)*
        }

        const ALL: &[Preset] = &[$(Preset::$variant,)*];

        impl Preset {
            fn row(self) -> (&'static str, u32, DType) {
                match self {
                    $(Preset::$variant => ($name, $file_type, DType::$dtype),)*
                }
            }
        }
    };
}

// Variant, name, number in GGUF's `general.file_type`, type of most tensors.
presets! {
    F32 "f32" 0 F32;
    F16 "f16" 1 F16;
    Bf16 "bf16" 32 Bf16;
    Q4_0 "q4_0" 2 Q4_0;
    Q4_1 "q4_1" 3 Q4_1;
    Q5_0 "q5_0" 8 Q5_0;
    Q5_1 "q5_1" 9 Q5_1;
    Q8_0 "q8_0" 7 Q8_0;
    Q2K "q2_k" 10 Q2K;
    Q2KS "q2_k_s" 21 Q2K;
    Q3KS "q3_k_s" 11 Q3K;
    Q3KM "q3_k_m" 12 Q3K;
    Q3KL "q3_k_l" 13 Q3K;
    Q4KS "q4_k_s" 14 Q4K;
    Q4KM "q4_k_m" 15 Q4K;
    Q5KS "q5_k_s" 16 Q5K;
    Q5KM "q5_k_m" 17 Q5K;
    Q6K "q6_k" 18 Q6K;
    Iq1S "iq1_s" 24 Iq1S;
    Iq1M "iq1_m" 31 Iq1M;
    Iq2Xxs "iq2_xxs" 19 Iq2Xxs;
    Iq2Xs "iq2_xs" 20 Iq2Xs;
    Iq2S "iq2_s" 28 Iq2Xs;
    Iq2M "iq2_m" 29 Iq2S;
    Iq3Xxs "iq3_xxs" 23 Iq3Xxs;
    Iq3Xs "iq3_xs" 22 Iq3S;
    Iq3S "iq3_s" 26 Iq3S;
    Iq3M "iq3_m" 27 Iq3S;
    Iq4Nl "iq4_nl" 25 Iq4Nl;
    Iq4Xs "iq4_xs" 30 Iq4Xs;
    Tq1_0 "tq1_0" 36 Tq1_0;
    Tq2_0 "tq2_0" 37 Tq2_0;
    Mxfp4Moe "mxfp4_moe" 38 Mxfp4;
    Q1_0 "q1_0" 40 Q1_0;
    Q2_0 "q2_0" 41 Q2_0;
}

impl Preset {
    /// Every preset.
    pub fn all() -> impl Iterator<Item = Preset> {
        ALL.iter().copied()
    }

    /// The preset of that name in any case; `q3_k`, `q4_k` and `q5_k` are their medium ones.
    pub fn from_name(name: &str) -> Option<Preset> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "q3_k" => Some(Preset::Q3KM),
            "q4_k" => Some(Preset::Q4KM),
            "q5_k" => Some(Preset::Q5KM),
            _ => Preset::all().find(|preset| preset.name() == name),
        }
    }

    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The number that GGUF's `general.file_type` has for it.
    pub fn file_type(self) -> u32 {
        self.row().1
    }

    /// The type that tensors get unless a rule says otherwise.
    pub fn dtype(self) -> DType {
        self.row().2
    }

    /// Whether it is made for an importance matrix: without one, a model of the usual tensors cannot have it.
    pub fn needs_matrix(self) -> bool {
        self.is_below_3_bits() || matches!(self, Preset::Iq3Xxs | Preset::Iq3Xs | Preset::Q2KS)
    }

    /// The presets of the `iq1` and `iq2` types, which have rules of their own.
    pub(super) fn is_below_3_bits(self) -> bool {
        use Preset::*;
        matches!(self, Iq1S | Iq1M | Iq2Xxs | Iq2Xs | Iq2S | Iq2M)
    }
}
