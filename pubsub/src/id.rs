//! Ids of topics, publishers and subscriptions.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which topic. It comes from a name, or from the pair (`mid`, `cmd`) of the ancestor's protocols.
///
/// Ids of names have their highest bit set; ids of pairs have it clear as long as `mid` is below 2^31. Two topics that
/// would get one id are refused when they are declared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(u64);

const NAMED: u64 = 1 << 63;

impl TopicId {
    /// The topic of a message id and a command.
    pub const fn new(mid: u32, cmd: u32) -> Self {
        Self((mid as u64) << 32 | cmd as u64)
    }

    /// The topic of a name: its 64-bit FNV-1a hash (Fowler, Noll, Vo, 1991).
    pub const fn from_name(name: &str) -> Self {
        let bytes = name.as_bytes();
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        let mut i = 0;
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u64).wrapping_mul(0x100_0000_01B3);
            i += 1;
        }
        Self(hash | NAMED)
    }

    /// The message id, for an id that was made from a pair.
    pub const fn mid(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The command, for an id that was made from a pair.
    pub const fn cmd(self) -> u32 {
        self.0 as u32
    }

    /// True if it was made from a name.
    pub const fn is_named(self) -> bool {
        self.0 & NAMED != 0
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_named() {
            write!(f, "#{:016x}", self.0)
        } else {
            write!(f, "{}:{}", self.mid(), self.cmd())
        }
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which publisher: unique in this program for as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublisherId(u64);

/// Which subscription: unique in this program for as long as it runs. A smaller one is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubscriptionId(u64);

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only uniqueness is wanted.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl PublisherId {
    pub(crate) fn next() -> Self {
        Self(next())
    }

    /// The number itself.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl SubscriptionId {
    /// Of no subscription: what a filter of dynamic messages sees.
    pub(crate) const fn none() -> Self {
        Self(0)
    }

    pub(crate) fn next() -> Self {
        Self(next())
    }

    /// The number itself.
    pub fn get(self) -> u64 {
        self.0
    }
}
