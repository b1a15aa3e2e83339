//! Why a processor ended, and the notice of it.

use crate::error::Fault;
use crate::id::ProcessorId;
use crate::name::Name;
use std::fmt;
use std::sync::Arc;

/// Why a processor ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Exit {
    /// It was told to stop, drained its mailbox, stopped itself, or its driver or node ended in order.
    Stopped,
    /// It was told to end at once; what was queued was dropped and counted.
    Killed,
    /// [`Processor::started`](crate::Processor::started) returned this fault.
    Faulted(Fault),
    /// A handler panicked, with this message, and [`Processor::on_panic`](crate::Processor::on_panic) did not let it
    /// go on.
    Panicked(Arc<str>),
    /// A processor that it is linked to ended otherwise than in order ([`Cx::link`](crate::Cx::link)).
    Linked {
        /// What that one was called.
        name: Name,
        /// Why that one ended.
        exit: Arc<Exit>,
    },
    /// It was a supervisor, and one of its children failed more often than it may.
    GaveUp {
        /// Which child it was.
        child: Name,
        /// How many restarts there had been within the time that the supervisor looks at.
        restarts: u32,
        /// How that child ended the last time.
        exit: Arc<Exit>,
    },
}

impl Exit {
    /// True if the processor ended because somebody asked for it, and not because it failed.
    pub fn is_orderly(&self) -> bool {
        matches!(self, Self::Stopped | Self::Killed)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Killed => f.write_str("killed"),
            Self::Faulted(fault) => write!(f, "did not start: {fault}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Linked { name, exit } => write!(f, "ended with {name:?}: {exit}"),
            Self::GaveUp {
                child,
                restarts,
                exit,
            } => write!(f, "gave up on {child:?} after {restarts} restarts: {exit}"),
        }
    }
}

/// The notice that a watched processor has ended. Each watch gives exactly one. One that is restarted by its supervisor has
/// not ended.
#[derive(Clone, Debug)]
pub struct Down {
    /// Which processor it was.
    pub id: ProcessorId,
    /// What it was called. The name may already belong to another processor.
    pub name: Name,
    /// Why it ended.
    pub exit: Exit,
}
