//! The first packet of each side, and what two sides have in common.

use crate::process::Identity;
use std::fmt;

/// Versions of the protocol that a build speaks, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

/// Who speaks, and which language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions it speaks.
    pub protocols: Protocols,
    /// What it can do beyond that, a bit each.
    pub features: u64,
    /// A hash of what two programs must have in common before they share memory: the processor, and every number that
    /// the layout of the shared words depends on.
    pub abi: u64,
    /// Which process and node it is, by its own word.
    pub identity: Identity,
}

/// What two sides have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The highest version that both speak.
    pub protocol: u16,
    /// The features that both have.
    pub features: u64,
}

/// Why two processes cannot work together. Each variant has both sides' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// They speak no version in common. Build both from versions that do.
    Protocol {
        /// What the peer speaks.
        theirs: Protocols,
        /// What we speak.
        ours: Protocols,
    },
    /// They would see different things in the same memory. Build both for one architecture with one version.
    Abi {
        /// The peer's hash.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol { theirs, ours } => {
                write!(
                    f,
                    "the peer speaks protocol {theirs}, this build speaks {ours}"
                )
            }
            Self::Abi { theirs, ours } => write!(
                f,
                "the peer has ABI {theirs:016x}, this build has {ours:016x}: \
                 build both for one architecture with one version"
            ),
        }
    }
}

impl std::error::Error for Mismatch {}

impl Hello {
    /// What both have in common.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] names both values. The peer comes to the same answer.
    pub fn agree(&self, theirs: &Self) -> Result<Agreed, Mismatch> {
        let (ours, other) = (self.protocols, theirs.protocols);
        let protocol = ours.max.min(other.max);
        if protocol < ours.min || protocol < other.min {
            return Err(Mismatch::Protocol {
                theirs: other,
                ours,
            });
        }
        if self.abi != theirs.abi {
            return Err(Mismatch::Abi {
                theirs: theirs.abi,
                ours: self.abi,
            });
        }
        Ok(Agreed {
            protocol,
            features: self.features & theirs.features,
        })
    }
}
