//! What all parts of a membership share.

use super::bells::{Bells, Home};
use super::clock::Clock;
use super::control::{Command, Control};
use super::inspector::Inspector;
use super::reports::Reports;
use super::surveying::UnmetNodes;
use crate::id::SubscriptionId;
use crate::transport::Neighbourhood;
use mproc_runtime::{Error, ErrorKind};
use mproc_shm::{
    Bell, ConnectError, GreetingError, MeetingError, NodeId, Origin, Rendezvous, SLOTS_MAX,
    SegmentError, SegmentErrorKind, WatchHandle,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How a node joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Which domain: what `MPROC_DOMAIN` says, or `default`.
    pub(crate) domain: Option<String>,
    /// Where domains have their directories: `XDG_RUNTIME_DIR`, or a directory of the user in `/tmp`.
    pub(crate) base: Option<PathBuf>,
    /// How many bytes of shared memory the samples of one topic may have: 256 MiB. Taken as it is needed.
    pub(crate) bytes_max: u64,
    /// How many samples of one topic may be out at a time, in whatever queue: 4096. Each link has 8 bytes for each of them.
    pub(crate) slots_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            domain: None,
            base: None,
            bytes_max: 256 << 20,
            slots_max: 4096,
        }
    }
}

impl Options {
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::new(ErrorKind::InvalidSetting, text));
        if self.bytes_max == 0 {
            return wrong("a topic's shared memory has 1 byte or more, not 0".into());
        }
        if self.slots_max == 0 || self.slots_max > SLOTS_MAX {
            return wrong(format!(
                "1 to {SLOTS_MAX} samples of a topic can be out, not {}",
                self.slots_max
            ));
        }
        Ok(())
    }
}

/// How long after the first refusal for want of memory or descriptors a link is asked for again; each time it is doubled.
const AGAIN_FIRST: Duration = Duration::from_millis(100);

/// The longest time between two of these.
const AGAIN_LAST: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Again {
    at: Option<Instant>,
    /// How often it was asked since a link was given.
    failures: u32,
}

pub(super) struct Core {
    pub(super) options: Options,
    pub(super) node: NodeId,
    pub(super) neighbourhood: Weak<dyn Neighbourhood>,
    pub(super) origin: Origin,
    pub(super) clock: Clock,
    pub(super) bells: Bells,
    pub(super) reports: Reports,
    pub(super) watch: WatchHandle,
    pub(super) rendezvous: Mutex<Option<Arc<Rendezvous>>>,
    /// How many peers publish a topic.
    pub(super) publishers: Mutex<BTreeMap<u64, usize>>,
    /// Who looks at each subscription.
    pub(super) homes: Mutex<HashMap<SubscriptionId, Arc<Home>>>,
    pub(super) closed: AtomicBool,
    /// Why nodes were not met, of those that were not met since.
    pub(super) unmet: Mutex<UnmetNodes>,
    /// When the first survey has to be finished.
    pub(super) survey_due: Mutex<Option<Instant>>,
    pub(super) inspector: Inspector,
    commands: Mutex<Vec<Command>>,
    has_commands: AtomicBool,
    /// When links are asked for again that were refused because memory or descriptors were short.
    again: Mutex<Again>,
    /// Out while the watch's thread works with it.
    control: Mutex<Option<Box<Control>>>,
}

impl Core {
    pub(super) fn new(
        options: Options,
        (node, neighbourhood): (NodeId, Weak<dyn Neighbourhood>),
        watch: &WatchHandle,
        origin: Origin,
    ) -> Result<(Arc<Self>, Arc<Bell>), SegmentError> {
        let (bells, bell) = Bells::new(node.to_bytes(), origin)?;
        let core = Arc::new(Self {
            options,
            node,
            neighbourhood,
            origin,
            clock: Clock::new(),
            bells,
            reports: Reports::default(),
            watch: watch.clone(),
            rendezvous: Mutex::new(None),
            publishers: Mutex::default(),
            homes: Mutex::default(),
            closed: AtomicBool::new(false),
            unmet: Mutex::default(),
            survey_due: Mutex::new(None),
            inspector: Inspector::default(),
            commands: Mutex::default(),
            again: Mutex::default(),
            has_commands: AtomicBool::new(false),
            control: Mutex::new(None),
        });
        *core.control.lock() = Some(Box::new(Control::new(&core)));
        Ok((core, bell))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    /// Leaves a command for the watch's thread. From any thread, and under any lock.
    pub(super) fn post(&self, command: Command) {
        if self.is_closed() {
            return;
        }
        self.commands.lock().push(command);
        self.has_commands.store(true, Release);
        self.watch.wake();
    }

    /// Something was short, here or at a peer, which passes without anybody saying so: what subscriptions want is asked for
    /// again, after a time that is doubled as long as this goes on. On the watch's thread, or with a wake of it.
    pub(super) fn ask_again(&self) {
        let mut again = self.again.lock();
        if again.at.is_none() {
            let factor = 2_u32.saturating_pow(again.failures);
            again.failures = again.failures.saturating_add(1);
            again.at = Some(Instant::now() + AGAIN_FIRST.saturating_mul(factor).min(AGAIN_LAST));
        }
    }

    /// When [`take_again`](Self::take_again) will say so.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again.lock().at
    }

    /// True if it is time to ask again, once.
    pub(super) fn take_again(&self, now: Instant) -> bool {
        let mut again = self.again.lock();
        let is_due = again.at.is_some_and(|at| at <= now);
        if is_due {
            again.at = None;
        }
        is_due
    }

    /// A link was given: what was short is not any more.
    pub(super) fn has_enough(&self) {
        self.again.lock().failures = 0;
    }

    pub(super) fn has_commands(&self) -> bool {
        self.has_commands.load(Acquire)
    }

    pub(super) fn take_commands(&self) -> Vec<Command> {
        self.has_commands.store(false, Release);
        std::mem::take(&mut self.commands.lock())
    }

    /// Works with the control, on the watch's thread. `None` if the node has left, or `work` panicked.
    pub(super) fn with_control<R>(&self, work: impl FnOnce(&mut Control) -> R) -> Option<R> {
        /// Puts it back. If the node was told to leave meanwhile, by `work` itself, it leaves now.
        struct Out<'a>(&'a Core, Option<Box<Control>>);
        impl Drop for Out<'_> {
            fn drop(&mut self) {
                *self.0.control.lock() = self.1.take();
                if self.0.is_closed() {
                    self.0.leave();
                }
            }
        }
        let control = self.control.lock().take()?;
        let mut out = Out(self, Some(control));
        let control = out.1.as_deref_mut()?;
        // The panics of others end neither the watch's sources nor what the control knows.
        let done = catch_unwind(AssertUnwindSafe(|| work(control)));
        done.inspect_err(|_| {
            self.reports
                .tell("what a peer's frame or a command led to panicked")
        })
        .ok()
    }

    /// Tells the peers, and lets go of everything. Later calls do nothing.
    pub(super) fn leave(&self) {
        let control = self.control.lock().take();
        if let Some(mut control) = control {
            control.leave();
        }
        let left = (
            self.take_commands(),
            std::mem::take(&mut *self.homes.lock()),
            std::mem::take(&mut *self.publishers.lock()),
        );
        drop(left);
    }

    /// Somebody was not met. What passes by itself is not told.
    pub(super) fn not_met(&self, error: &MeetingError) {
        self.note_unmet(error);
        let passes = match error {
            MeetingError::Crowded | MeetingError::Watch(_) => true,
            MeetingError::Connect { error, .. } => {
                matches!(error, ConnectError::Stale | ConnectError::Gone)
            }
            MeetingError::Greeting { error, .. } => matches!(
                error,
                GreetingError::Late
                    | GreetingError::Closed
                    | GreetingError::Send(_)
                    | GreetingError::Recv(_)
            ),
            _ => false,
        };
        if !passes && !self.is_closed() {
            self.reports
                .tell_once(format!("a process was not met: {error}"));
        }
    }

    /// The rendezvous, to be used without its lock.
    pub(super) fn rendezvous(&self) -> Option<Arc<Rendezvous>> {
        self.rendezvous.lock().clone()
    }
}

/// True if the system may have room for it later.
pub(super) fn is_shortage(error: &SegmentError) -> bool {
    matches!(
        error.kind(),
        SegmentErrorKind::OutOfSharedMemory | SegmentErrorKind::Io(_)
    )
}

/// True if this process, or the system, has no descriptor left.
pub(super) fn is_out_of_descriptors(error: &SegmentError) -> bool {
    // EMFILE and ENFILE.
    let is_it = |error: &std::io::Error| matches!(error.raw_os_error(), Some(23 | 24));
    matches!(error.kind(), SegmentErrorKind::Io(error) if is_it(error))
}
