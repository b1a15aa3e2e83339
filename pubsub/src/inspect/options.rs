//! What a survey is to bring.

use std::time::Duration;

/// How a node asks the others of its domain (`Node::survey_with`).
///
/// # Examples
///
/// ```
/// use mproc_pubsub::SurveyOptions;
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// let options = SurveyOptions::new().limit(second).watch_sends(second);
/// assert_ne!(options, SurveyOptions::new());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct SurveyOptions {
    limit: Duration,
    watch_sends: Duration,
}

impl SurveyOptions {
    /// Nodes have 2 seconds to answer, and do not watch who sends to whom.
    pub fn new() -> Self {
        Self {
            limit: Duration::from_secs(2),
            watch_sends: Duration::ZERO,
        }
    }

    /// For how long nodes that have not answered are waited for, beyond the time that they are asked to watch.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Asks each node to watch for so long who sends messages to whom, before it answers: [`Snapshot::sends`]. At most 60
    /// seconds; with zero, as by default, it does not watch.
    ///
    /// Meanwhile each message costs the watched programs more: 40 to 160 nanoseconds on a busy machine. A node carries out at most
    /// 8 watches at a time, and 2 for one other node; it answers more at once, without. So does one of an earlier version.
    ///
    /// [`Snapshot::sends`]: crate::Snapshot::sends
    pub fn watch_sends(mut self, time: Duration) -> Self {
        self.watch_sends = time;
        self
    }

    /// What nodes are asked for.
    pub(super) fn watch(&self) -> Duration {
        self.watch_sends.min(WATCH_MAX)
    }

    pub(super) fn limit_of_answers(&self) -> Duration {
        self.limit
    }
}

impl Default for SurveyOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The longest time for which a node watches for another.
pub(crate) const WATCH_MAX: Duration = Duration::from_secs(60);
