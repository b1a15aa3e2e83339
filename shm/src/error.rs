//! What can go wrong.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// Why a segment could not be made or mapped.
#[derive(Debug)]
pub struct SegmentError {
    doing: &'static str,
    what: &'static str,
    kind: SegmentErrorKind,
}

/// The reason in a [`SegmentError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum SegmentErrorKind {
    /// The host, the memory cgroup or a limit of the process has no room for it. What exists already keeps working.
    OutOfSharedMemory,
    /// The file could change its length, or be written to by readers: whoever sent it runs something else.
    Unsealed,
    /// The file is not as long as the geometry says.
    Size {
        /// What the geometry says, in bytes.
        agreed: u64,
        /// What the file has.
        found: u64,
    },
    /// The numbers that describe the segment are out of range; says which.
    Geometry(&'static str),
    /// The operating system refused for another reason.
    Io(io::Error),
}

impl SegmentError {
    pub(crate) fn new(doing: &'static str, what: &'static str, kind: SegmentErrorKind) -> Self {
        Self { doing, what, kind }
    }

    pub(crate) fn overlap() -> Self {
        let kind = SegmentErrorKind::Geometry("the index of the first slot");
        Self::new("add", "data segment", kind)
    }

    /// The reason.
    pub fn kind(&self) -> &SegmentErrorKind {
        &self.kind
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: ", self.doing, self.what)?;
        match &self.kind {
            SegmentErrorKind::OutOfSharedMemory => f.write_str("out of shared memory"),
            SegmentErrorKind::Unsealed => f.write_str("it is not sealed"),
            SegmentErrorKind::Size { agreed, found } => {
                write!(f, "it has {found} bytes, {agreed} were agreed")
            }
            SegmentErrorKind::Geometry(which) => write!(f, "{which} is out of range"),
            SegmentErrorKind::Io(e) => write!(f, "{e}"),
        }
    }
}

impl StdError for SegmentError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.kind {
            SegmentErrorKind::Io(e) => Some(e),
            _ => None,
        }
    }
}

/// A peer that does not keep to the protocol. Its link is not used any more; other links are not touched by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// `tail` went back, or further ahead than any publisher can be.
    Tail,
    /// An entry of the ring has a sequence that nobody can have written there.
    Entry,
    /// An entry of the ring names a slot that the link does not have.
    Slot,
    /// An entry's place in the subscription's numbering does not fit the ones before.
    Offered,
    /// A lease cell holds a stamp or a state that does not follow from the one before.
    Cell,
    /// A slot says that it holds more bytes than fit into it.
    Length,
    /// `state` holds a number that means nothing.
    State,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Tail => "the tail of its ring",
            Self::Entry => "the sequence of a ring entry",
            Self::Slot => "the slot of a ring entry",
            Self::Offered => "the number of a sample",
            Self::Cell => "a lease cell",
            Self::Length => "the length of a payload",
            Self::State => "the state of its link",
        };
        write!(f, "peer broke the protocol: {what} makes no sense")
    }
}

impl StdError for Violation {}
