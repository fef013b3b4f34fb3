//! Which instruction set the kernels run on.
//!
//! The choice never changes a byte of output; it can be forced so that a test may prove it.

use std::sync::atomic::{AtomicU8, Ordering};

/// A set of instructions that kernels are compiled for, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Dispatch {
    /// What the compiler's target has: SSE2 on x86-64, and the only level elsewhere.
    Portable = 1,
    /// x86-64 with AVX2, F16C, BMI2, SSE4.1 and PCLMULQDQ (2013 and later).
    Avx2 = 2,
    /// AVX-512 F, BW, DQ, VL and VPCLMULQDQ besides.
    Avx512 = 3,
}

impl Dispatch {
    /// Every level, weakest first.
    pub const ALL: [Dispatch; 3] = [Dispatch::Portable, Dispatch::Avx2, Dispatch::Avx512];

    /// The level's name in `MODELFERRY_CPU`.
    pub fn name(self) -> &'static str {
        match self {
            Dispatch::Portable => "portable",
            Dispatch::Avx2 => "avx2",
            Dispatch::Avx512 => "avx512",
        }
    }

    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Dispatch> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    fn from_code(code: u8) -> Option<Dispatch> {
        Self::ALL.into_iter().find(|level| *level as u8 == code)
    }
}

/// 0 until the first question, then the code of a level that this machine has.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The strongest level this machine has.
pub fn best() -> Dispatch {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("pclmulqdq");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("vpclmulqdq");
        if avx2 && avx512 {
            return Dispatch::Avx512;
        }
        if avx2 {
            return Dispatch::Avx2;
        }
    }
    Dispatch::Portable
}

/// The level in use: the strongest one, unless `MODELFERRY_CPU` names a weaker one (read once, an unknown name is
/// ignored) or [`set_dispatch`] was called.
#[inline]
pub fn dispatch() -> Dispatch {
    match Dispatch::from_code(LEVEL.load(Ordering::Relaxed)) {
        Some(level) => level,
        None => first_dispatch(),
    }
}

#[cold]
fn first_dispatch() -> Dispatch {
    let wanted = std::env::var("MODELFERRY_CPU").ok().and_then(|name| Dispatch::from_name(&name));
    set_dispatch(wanted.unwrap_or(Dispatch::Avx512))
}

/// Sets the level for the whole process, clamped to what the machine has, and returns what was set.
///
/// Safe at any time, also while other threads run kernels: every level gives the same bytes.
pub fn set_dispatch(level: Dispatch) -> Dispatch {
    let level = level.min(best());
    // This store is the only one, and it never stores a level above `best()`: calls compiled for a level rely on it.
    LEVEL.store(level as u8, Ordering::Relaxed);
    level
}

/// Compiles the body of one function for every instruction set and calls the one in use.
///
/// The body is inlined into each version, so that the compiler vectorizes it anew.
macro_rules! per_cpu {
    (
        $(#[$attribute:meta])*
        $vis:vis fn $name:ident $(<$($generic:ident : $bound:path),+>)? ($($arg:ident : $type:ty),* $(,)?)
        $(-> $result:ty)? $body:block
    ) => {
        $(#[$attribute])*
        $vis fn $name $(<$($generic: $bound),+>)? ($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn portable $(<$($generic: $bound),+>)? ($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,f16c,bmi2,sse4.1,pclmulqdq")]
                fn avx2 $(<$($generic: $bound),+>)? ($($arg: $type),*) $(-> $result)? {
                    portable $(::<$($generic),+>)? ($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c,bmi2,sse4.1,pclmulqdq")]
                fn avx512 $(<$($generic: $bound),+>)? ($($arg: $type),*) $(-> $result)? {
                    portable $(::<$($generic),+>)? ($($arg),*)
                }
                match $crate::cpu::dispatch() {
                    // SAFETY: `dispatch` returns a level only if the machine has all of its instructions.
                    $crate::cpu::Dispatch::Avx512 => return unsafe { avx512 $(::<$($generic),+>)? ($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::Dispatch::Avx2 => return unsafe { avx2 $(::<$($generic),+>)? ($($arg),*) },
                    $crate::cpu::Dispatch::Portable => {}
                }
            }
            portable $(::<$($generic),+>)? ($($arg),*)
        }
    };
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Runs `check` once at every level that this machine has, one test at a time.
    pub(crate) fn at_every_level(mut check: impl FnMut(Dispatch)) {
        static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _guard = LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for level in Dispatch::ALL.into_iter().filter(|level| *level <= best()) {
            assert_eq!(set_dispatch(level), level);
            check(level);
        }
    }

    /// xorshift64*: random enough, and the same on every machine.
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        pub(crate) fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        pub(crate) fn bytes(&mut self, n_bytes: usize) -> Vec<u8> {
            (0..n_bytes).map(|_| (self.next() >> 56) as u8).collect()
        }
    }

    #[test]
    fn levels_are_clamped_and_named() {
        for level in Dispatch::ALL {
            assert_eq!(Dispatch::from_name(level.name()), Some(level));
        }
        assert_eq!(Dispatch::from_name("sse9"), None);
        at_every_level(|level| assert_eq!(dispatch(), level));
    }
}
