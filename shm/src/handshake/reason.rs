//! Why a publisher gives no link, and why a link ends.

use std::fmt;

/// Why a publisher gives no link. Numbers that a later version gives are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RefuseReason(pub u16);

impl RefuseReason {
    /// It does not publish the topic, or no longer.
    pub const NO_TOPIC: Self = Self(1);
    /// The topic has another type.
    pub const TYPE: Self = Self(2);
    /// The topic has another codec.
    pub const CODEC: Self = Self(3);
    /// Two topics have one id.
    pub const CLASH: Self = Self(4);
    /// The queue asked for is too deep, or has no place.
    pub const DEPTH: Self = Self(5);
    /// So many leases cannot be given.
    pub const LEASES: Self = Self(6);
    /// The memory it may use does not suffice.
    pub const MEMORY: Self = Self(7);
    /// It has no descriptor left. Ask again later.
    pub const DESCRIPTORS: Self = Self(8);
    /// It does not know the policy.
    pub const WHEN_FULL: Self = Self(9);

    fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::NO_TOPIC => "the topic is not published there",
            Self::TYPE => "the topic has another type",
            Self::CODEC => "the topic has another codec",
            Self::CLASH => "two topics have one id",
            Self::DEPTH => "no queue of this depth",
            Self::LEASES => "not so many leases",
            Self::MEMORY => "not enough memory",
            Self::DESCRIPTORS => "no descriptor left",
            Self::WHEN_FULL => "the policy is not known",
            _ => return None,
        })
    }
}

/// Why a link ends. Numbers that a later version gives are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DetachReason(pub u16);

impl DetachReason {
    /// The subscription has ended.
    pub const SUBSCRIPTION_ENDED: Self = Self(1);
    /// The publisher has ended.
    pub const PUBLISHER_ENDED: Self = Self(2);
    /// The node leaves the domain.
    pub const LEAVING: Self = Self(3);
    /// The queue was full, and this is its policy.
    pub const QUEUE_FULL: Self = Self(4);
    /// What the other side wrote or sent makes no sense.
    pub const NONSENSE: Self = Self(5);
    /// Somebody told the publisher to be rid of it.
    pub const EVICTED: Self = Self(6);

    fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::SUBSCRIPTION_ENDED => "the subscription has ended",
            Self::PUBLISHER_ENDED => "the publisher has ended",
            Self::LEAVING => "the node leaves the domain",
            Self::QUEUE_FULL => "the queue was full",
            Self::NONSENSE => "what the other side wrote makes no sense",
            Self::EVICTED => "it was evicted",
            _ => return None,
        })
    }
}

macro_rules! reason {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.text() {
                    Some(text) => f.write_str(text),
                    None => write!(f, "reason {}, which this build does not know", self.0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}, {self})", stringify!($name), self.0)
            }
        }
    )*};
}

reason!(RefuseReason, DetachReason);
