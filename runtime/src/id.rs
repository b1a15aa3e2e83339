//! Ids: never reused while the program runs.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// The next id. Ids grow, so a smaller id is an older one.
            pub(crate) fn next() -> Self {
                static NEXT: AtomicU64 = AtomicU64::new(1);
                // Relaxed: only uniqueness is wanted, and a fetch_add gives that alone.
                let id = NEXT.fetch_add(1, Ordering::Relaxed);
                Self(NonZeroU64::new(id).expect("2^64 ids are never used up"))
            }

            /// The number itself, for logs and for sending to other programs.
            pub fn get(self) -> u64 {
                self.0.get()
            }

            /// The id with this number; `None` for 0.
            ///
            /// Nothing says that something with this id exists.
            pub fn from_number(number: u64) -> Option<Self> {
                NonZeroU64::new(number).map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

id!(
    /// Which processor: unique in this program for as long as it runs, also after the processor has ended.
    ProcessorId,
    "p"
);
id!(
    /// Which driver: unique in this program for as long as it runs.
    DriverId,
    "d"
);
