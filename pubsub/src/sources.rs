//! What comes to one subscription from other nodes: a source for each link.
//!
//! Whoever receives takes from the link itself, on its own thread; there is no queue between. Sources take turns.

use crate::codec::CodecError;
use crate::reader::Reader;
use crate::sample::Body;
use crate::transport::{Ending, Inlet, Lease, Stamp, Took};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Of how many publishers of one source it is reported that their values make no sense.
const REPORTED_MAX: usize = 64;

/// One source, and how its bytes become values.
pub(crate) struct Source<T: ?Sized + 'static> {
    inlet: Box<dyn Inlet>,
    reader: Arc<dyn Reader<T>>,
    number: u64,
    /// What was lost before samples that the filter did not let pass: it counts for the next that passes.
    carried_gap: u64,
    /// The subscription drains: so many more are taken.
    rest: Option<usize>,
    /// Publishers of which it was reported that their values make no sense.
    reported: BTreeSet<u64>,
}

/// The sources of a subscription.
pub(crate) struct Sources<T: ?Sized + 'static> {
    copies_first: bool,
    /// False while there are none. Written under the lock.
    any: AtomicBool,
    state: Mutex<State<T>>,
}

struct State<T: ?Sized + 'static> {
    list: Vec<Source<T>>,
    /// Whose turn it is.
    next: usize,
    opened: u64,
    /// A link was full whose policy is to close the subscription then, and that was not said yet.
    overflowed: bool,
    /// Sources that have ended, to be dropped without the lock: that may do a lot.
    ended: Vec<Source<T>>,
    /// No more are opened.
    closed: bool,
}

/// What was taken from a source.
pub(crate) enum Arrival<T: ?Sized + 'static> {
    /// Not decoded yet: that is the user's code, and is done without a lock.
    Sample(Undecoded<T>),
    Nothing,
    /// Nothing, because as many leases are held as may be.
    LeaseLimit,
    /// Nothing. A link was full whose policy is to close the subscription then.
    Overflowed,
}

pub(crate) struct Undecoded<T: ?Sized + 'static> {
    lease: Box<dyn Lease>,
    reader: Arc<dyn Reader<T>>,
    source: u64,
    gap: u64,
    copies_first: bool,
}

/// A sample of which a copy is read. Its memory stays leased all the same: whoever waits for it to come back waits for the
/// handler.
struct Copied {
    bytes: Vec<u8>,
    lease: Box<dyn Lease>,
}

impl Lease for Copied {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn copied(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    fn stamp(&self) -> &Stamp {
        self.lease.stamp()
    }
}

impl<T: ?Sized + 'static> Sources<T> {
    /// None yet. With `copies_first` bytes are copied before they are looked at.
    pub(crate) fn new(copies_first: bool) -> Self {
        Self {
            copies_first,
            any: AtomicBool::new(false),
            state: Mutex::new(State {
                list: Vec::new(),
                next: 0,
                opened: 0,
                overflowed: false,
                ended: Vec::new(),
                closed: false,
            }),
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Sources<T> {
    /// True if there are any.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        // Acquire pairs with the Release in `open`; what is behind it has a lock anyway.
        self.any.load(Ordering::Acquire)
    }

    /// One more. Gives it back if no more are opened.
    pub(crate) fn open(
        &self,
        inlet: Box<dyn Inlet>,
        reader: Arc<dyn Reader<T>>,
    ) -> Result<(), Box<dyn Inlet>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(inlet);
        }
        let number = state.opened;
        state.opened += 1;
        state.list.push(Source {
            inlet,
            reader,
            number,
            carried_gap: 0,
            rest: None,
            reported: BTreeSet::new(),
        });
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    /// True if [`take`](Self::take) may have something to say that it has not said.
    pub(crate) fn have_news(&self) -> bool {
        self.any() && {
            let state = self.state.lock();
            state.overflowed || state.list.iter().any(Source::has_news)
        }
    }

    /// How many takes will bring something, but for samples that are revoked or cannot be decoded: one for each sample that
    /// waits. News of other kinds are dealt with here.
    pub(crate) fn available(&self) -> usize {
        if !self.any() {
            return 0;
        }
        let (available, ended) = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let mut i = 0;
            while i < state.list.len() {
                let source = &mut state.list[i];
                if source.has_news()
                    && source.queued() == 0
                    && let Some(why) = source.inlet.settle()
                {
                    state.end(i, &why);
                } else {
                    i += 1;
                }
            }
            self.any.store(
                !state.list.is_empty() || state.overflowed,
                Ordering::Release,
            );
            let with_news = state.list.iter().filter(|source| source.has_news());
            let samples: usize = with_news.map(Source::queued).sum();
            let available = samples + usize::from(state.overflowed);
            (available, std::mem::take(&mut state.ended))
        };
        drop(ended);
        available
    }

    /// How many samples wait, as far as is known without looking at them.
    pub(crate) fn queued(&self) -> usize {
        if !self.any() {
            return 0;
        }
        let state = self.state.lock();
        state.list.iter().map(Source::queued).sum()
    }

    /// The next sample of the source whose turn it is.
    pub(crate) fn take(&self) -> Arrival<T> {
        let (taken, ended) = {
            let mut state = self.state.lock();
            let taken = state.take(self.copies_first);
            self.any.store(
                !state.list.is_empty() || state.overflowed,
                Ordering::Release,
            );
            (taken, std::mem::take(&mut state.ended))
        };
        drop(ended);
        taken
    }

    /// A sample was not handed on: what was lost before it, and perhaps itself, counts for the next.
    pub(crate) fn carry_gap(&self, source: u64, gap: u64) {
        let mut state = self.state.lock();
        let mut all = state.list.iter_mut();
        if let Some(source) = all.find(|s| s.number == source) {
            // Numbers of another process: any are possible.
            source.carried_gap = source.carried_gap.saturating_add(gap);
        }
    }

    /// True the first time for this publisher of this source.
    pub(crate) fn is_new_to_report(&self, source: u64, publisher: u64) -> bool {
        let mut state = self.state.lock();
        let mut all = state.list.iter_mut();
        all.find(|s| s.number == source)
            // Their numbers come from outside.
            .is_some_and(|s| s.reported.len() < REPORTED_MAX && s.reported.insert(publisher))
    }

    /// From now on only what waits is taken.
    pub(crate) fn drain(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for source in &mut state.list {
            let queued = source.queued();
            source.rest.get_or_insert(queued);
        }
    }

    /// No more is taken. Drop what it returns without a lock.
    pub(crate) fn close(&self) -> Vec<Source<T>> {
        let mut state = self.state.lock();
        state.closed = true;
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut state.list)
    }
}

impl<T: ?Sized + Send + Sync + 'static> State<T> {
    fn take(&mut self, copies_first: bool) -> Arrival<T> {
        let mut at_limit = false;
        let mut passed = 0;
        while passed < self.list.len() {
            let at = self.next % self.list.len();
            let source = &mut self.list[at];
            if source.has_news() {
                match source.inlet.take() {
                    Took::Sample { lease, gap } => {
                        if let Some(rest) = &mut source.rest {
                            *rest -= 1;
                        }
                        self.next = at + 1;
                        return Arrival::Sample(Undecoded {
                            lease,
                            reader: source.reader.clone(),
                            source: source.number,
                            copies_first,
                            gap: gap.saturating_add(std::mem::take(&mut source.carried_gap)),
                        });
                    }
                    Took::Nothing => {}
                    Took::LeaseLimit => at_limit = true,
                    Took::Ended(why) => {
                        self.end(at, &why);
                        // The next one stands here now.
                        continue;
                    }
                }
            }
            self.next = at + 1;
            passed += 1;
        }
        if std::mem::take(&mut self.overflowed) {
            Arrival::Overflowed
        } else if at_limit {
            Arrival::LeaseLimit
        } else {
            Arrival::Nothing
        }
    }

    fn end(&mut self, at: usize, why: &Ending) {
        self.overflowed |= matches!(why, Ending::Overflowed);
        self.ended.push(self.list.remove(at));
    }
}

impl<T: ?Sized> Source<T> {
    fn has_news(&self) -> bool {
        self.rest != Some(0) && self.inlet.has_news()
    }

    fn queued(&self) -> usize {
        let queued = self.inlet.queued();
        self.rest.map_or(queued, |rest| rest.min(queued))
    }
}

/// A sample of a source, as far as it could be decoded.
pub(crate) struct Taken<T: ?Sized + 'static> {
    pub(crate) source: u64,
    /// The publisher's number in its own node.
    pub(crate) publisher: u64,
    pub(crate) gap: u64,
    pub(crate) body: Result<Arc<dyn Body<T>>, CodecError>,
}

impl<T: ?Sized + Send + Sync + 'static> Undecoded<T> {
    /// Decodes it. No lock is held.
    pub(crate) fn decode(self) -> Taken<T> {
        let lease = if self.copies_first {
            let bytes = self.lease.copied();
            let lease = self.lease;
            Box::new(Copied { bytes, lease })
        } else {
            self.lease
        };
        Taken {
            source: self.source,
            publisher: lease.stamp().publisher,
            gap: self.gap,
            body: self.reader.read(lease),
        }
    }
}
