//! Models on their way across: a reader's to the program, and back where one holds another.

mod asked;
mod foreign;
mod give;
mod take;

pub use asked::Asked;
pub(crate) use foreign::{Foreign, blobs};
pub use give::give;
pub use take::{borrow, take};
