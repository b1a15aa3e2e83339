//! With the feature `spans`: what a processor handles runs in a span of the crate `tracing`, and follows from whoever sent it.
//!
//! Spans are made, entered and dropped with no lock held: a subscriber is the program's code.

use crate::name::Name;
use std::sync::Arc;
use tracing::level_filters::LevelFilter;
use tracing::span::{Entered, EnteredSpan};
use tracing::{Level, Span};

/// The target of all spans, for filters.
const TARGET: &str = "mproc_spans";

/// False if no subscriber takes spans like ours: one load, since this is asked for each message, twice. What follows a true is
/// kept out of its way.
#[inline(always)]
fn may_be_wanted() -> bool {
    LevelFilter::current() >= Level::INFO
}

/// True if a subscriber takes spans like ours.
fn is_wanted() -> bool {
    tracing::span_enabled!(target: TARGET, Level::INFO, "handle")
}

/// The span in which something was sent, on its way with that. It is kept open: a layer may look only at spans that are.
///
/// One word, and empty unless somebody is interested in spans.
#[derive(Clone, Debug, Default)]
pub struct Cause(Option<Arc<Span>>);

impl Cause {
    /// The span that this thread is in.
    #[inline]
    pub fn here() -> Self {
        if may_be_wanted() {
            Self::look()
        } else {
            Self(None)
        }
    }

    #[inline(never)]
    fn look() -> Self {
        let span = is_wanted().then(Span::current);
        Self(span.filter(|span| !span.is_none()).map(Arc::new))
    }

    /// What nobody has sent: a timer's tick, a value from another process.
    #[inline]
    pub fn none() -> Self {
        Self(None)
    }
}

/// This thread is in a handler's span until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it leaves the span"]
pub struct Handling(#[expect(dead_code, reason = "only its drop matters")] Option<EnteredSpan>);

/// Something is about to be handled by `processor`.
#[inline]
pub fn handling(processor: &Name, message_type: &'static str, cause: Cause) -> Handling {
    if may_be_wanted() {
        Handling(Some(handle(processor, message_type, cause).entered()))
    } else {
        Handling(None)
    }
}

#[inline(never)]
fn handle(processor: &Name, message_type: &'static str, cause: Cause) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "handle",
        processor = processor.as_str(),
        message_type
    );
    if let Cause(Some(sender)) = cause {
        span.follows_from(sender.id());
    }
    span
}

/// The span of a future, entered at each poll and at its drop.
#[derive(Clone, Debug)]
pub(crate) struct FutureSpan(Span);

impl FutureSpan {
    /// Of one that goes on with what is being handled.
    pub(crate) fn here() -> Self {
        Self(if is_wanted() {
            Span::current()
        } else {
            Span::none()
        })
    }

    /// Of one that was spawned here.
    pub(crate) fn spawned(processor: &Name) -> Self {
        Self(handle(processor, "task", Cause::here()))
    }

    pub(crate) fn enter(&self) -> Entered<'_> {
        self.0.enter()
    }
}
