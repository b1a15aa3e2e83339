//! The one place through which the runtime tells what happens.
//!
//! With the feature `tracing` these are events of that crate. Without it, or while no subscriber is installed, panics and
//! faults go to standard error, because they must not pass unseen, and the rest is empty.
//!
//! With the feature `spans` handlers run in spans, too: `spans.rs`. Without it `no_spans.rs` takes its place, and is empty.

#[cfg_attr(not(feature = "spans"), path = "hook/no_spans.rs")]
mod spans;

pub(crate) use self::spans::FutureSpan;
pub use self::spans::{Cause, Handling, handling};

use crate::dead_letters::DropCause;
use crate::error::Fault;
use crate::exit::Exit;
use crate::name::Name;

#[cfg(feature = "tracing")]
fn nobody_listens() -> bool {
    !tracing::dispatcher::has_been_set()
}

#[cfg(not(feature = "tracing"))]
fn nobody_listens() -> bool {
    true
}

pub(crate) fn panic(processor: &Name, message_type: &str, panic: &str) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        processor = processor.as_str(),
        message_type,
        panic,
        "handler panicked"
    );
    if nobody_listens() {
        eprintln!("mproc: processor {processor:?} panicked while handling {message_type}: {panic}");
    }
}

pub(crate) fn fault(processor: &Name, message_type: &str, fault: &Fault) {
    #[cfg(feature = "tracing")]
    tracing::error!(processor = processor.as_str(), message_type, %fault, "handler failed");
    if nobody_listens() {
        eprintln!("mproc: processor {processor:?} failed while handling {message_type}: {fault}");
    }
}

pub(crate) fn long_handler(processor: &Name, message_type: &str, ns: u64) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        processor = processor.as_str(),
        message_type,
        ns,
        "long handler"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (processor, message_type, ns);
}

/// A handler that has not returned for more than a second.
pub(crate) fn handler_takes_long(processor: &Name, message_type: &str, ns: u64) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        processor = processor.as_str(),
        message_type,
        ns,
        "handler takes long"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (processor, message_type, ns);
}

/// A pool has no thread left: its members wait until one of `blocked` goes on.
pub(crate) fn no_spare_thread(pool: &Name, why: &str, blocked: &[Name]) {
    #[cfg(feature = "tracing")]
    tracing::error!(pool = pool.as_str(), why, ?blocked, "no spare thread");
    if nobody_listens() {
        eprintln!(
            "mproc: pool {pool:?} has no thread left ({why}); its members wait for one of {blocked:?} to go on"
        );
    }
}

/// For queues built on the runtime, too.
pub fn dropped(receiver: &Name, message_type: &str, cause: DropCause) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        receiver = receiver.as_str(),
        message_type,
        ?cause,
        "dropped"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (receiver, message_type, cause);
}

/// For links to other processes: something that is no error of this program and must not pass unseen.
pub fn remote(what: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(what, "other process");
    if nobody_listens() {
        eprintln!("mproc: {what}");
    }
}

/// A thread of an async executor is about to block. Told once for each node.
pub(crate) fn blocks_in_executor(what: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(what, "a thread of an async executor blocks");
    if nobody_listens() {
        eprintln!(
            "mproc: `{what}(..).wait()` blocks a thread of an async executor; write `{what}(..).await`"
        );
    }
}

pub(crate) fn ended(processor: &Name, exit: &Exit) {
    #[cfg(feature = "tracing")]
    tracing::debug!(processor = processor.as_str(), %exit, "ended");
    #[cfg(not(feature = "tracing"))]
    let _ = (processor, exit);
}

pub(crate) fn fell(processor: &Name, exit: &Exit) {
    #[cfg(feature = "tracing")]
    tracing::warn!(processor = processor.as_str(), %exit, "is to be restarted");
    #[cfg(not(feature = "tracing"))]
    let _ = (processor, exit);
}

pub(crate) fn restarted(processor: &Name, restarts: u64) {
    #[cfg(feature = "tracing")]
    tracing::info!(processor = processor.as_str(), restarts, "restarted");
    #[cfg(not(feature = "tracing"))]
    let _ = (processor, restarts);
}

/// A supervisor has no hope left: this must not pass unseen.
pub(crate) fn gave_up(supervisor: &Name, exit: &Exit) {
    #[cfg(feature = "tracing")]
    tracing::error!(supervisor = supervisor.as_str(), %exit, "supervisor gave up");
    if nobody_listens() {
        eprintln!("mproc: supervisor {supervisor:?} {exit}");
    }
}
