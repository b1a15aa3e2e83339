//! The bare hand-over between two processes, and all that needs unsafe code in these benches.
//!
//! It is a package of its own so that unsafe code stays forbidden in the one beside it.

mod as_it_is;
mod limit;

pub use as_it_is::as_it_is;
pub use limit::{Ping, Ring};
