//! Evaluates expressions and executes layouts: the only code that reads, computes or writes payload.
//!
//! Memory is bounded by a budget, not by the payload or its largest tensor: work is cut into tiles (runs where a
//! tensor is read in order, N-dimensional boxes where it is not), each done whole by one thread.

#![forbid(unsafe_code)]

mod ask;
mod audit;
mod compare;
mod control;
pub mod disk;
mod eval;
mod exec;
pub mod io;
pub mod publish;
pub mod space;
mod stats;
mod tiling;

pub use ask::{answer, read_items};
pub use audit::{Audit, Fault, check_claims};
pub use compare::{Comparison, TensorDiff, Tolerance};
pub use control::{Control, Settings};
pub use eval::{Seen, Source};
pub use exec::{Part, Plan, Published, Staged, execute};
pub use modelferry_kernels::block::QuantStats;
pub use modelferry_kernels::cast::CastStats;
pub use stats::{Statistics, TensorStats};
