//! What people build on processors again and again: one idea a file.
//!
//! Nothing here has a thread of its own but [`Probe`], and nothing knows how a processor is run: these files stand on
//! addresses, recipients, watches, timers and parcels.

mod behaviour;
mod broadcast;
mod group;
mod keyed;
mod pool_address;
mod pool_call;
mod probe;
mod stash;
mod test_cx;

pub use self::behaviour::{Behaviour, behaviour};
pub use self::broadcast::BroadcastError;
pub use self::group::{Group, GroupChange, GroupEvent};
pub use self::keyed::{Keyed, KeyedError};
pub use self::pool_address::PoolAddress;
pub use self::probe::{Probe, Recorder, Sent};
pub use self::stash::StashFull;
pub use self::test_cx::TestCx;
