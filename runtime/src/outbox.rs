//! Messages that a handler sent and that found no room. While any are left their sender is stalled.
//!
//! There is one line per target, so that what waits for one target does not hold up another, and the order within a
//! line is the order sent. An entry leaves by delivery, when its limit passes, when its target ends, or when its
//! sender is killed; in the last three cases as a dead letter, with the cause.

use crate::current;
use crate::dead_letters::DropCause;
use crate::error::Fault;
use crate::id::ProcessorId;
use crate::waits_for::Keeper;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Instant;

/// The most entries of one outbox. What is sent beyond comes back as full.
pub const OUTBOX_CAPACITY: usize = 1024;

/// Something that could not be delivered at once, and knows how to try again.
pub trait Undelivered: Send {
    /// Tries again. If it is blocked, `waker` is woken when another attempt is worth while.
    fn attempt(&mut self, waker: &Waker) -> Attempt;

    /// Ends it without delivery: what it held becomes a dead letter. The fault, if any, is for the sender's
    /// [`on_error`](crate::Processor::on_error).
    fn give_up(self: Box<Self>, cause: DropCause) -> Option<Fault>;
}

/// What came of an [`Undelivered::attempt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is delivered.
    Delivered,
    /// There is no room at this processor, or nobody knows whose it is.
    Blocked(Option<Keeper>),
    /// It can never be delivered.
    Ended,
}

/// Which line of an outbox: what has one key is delivered in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxKey {
    /// A lane of a processor: 0 normal, 1 high.
    Mailbox(ProcessorId, u8),
    /// A publisher, by its number.
    Publisher(u64),
}

struct Entry {
    what: Box<dyn Undelivered>,
    deadline: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct Outbox {
    lines: Vec<(OutboxKey, VecDeque<Entry>)>,
    count: usize,
}

/// Where an outbox stands after a flush.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    /// Whose room it waits for.
    pub(crate) blocked_on: Vec<Keeper>,
    /// When the next entry's limit passes.
    pub(crate) deadline: Option<Instant>,
    /// How many entries were given up, by cause.
    pub(crate) given_up: Vec<(DropCause, Option<Fault>)>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// For how many lines there is room without more memory.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.lines.capacity()
    }

    pub(crate) fn holds(&self, key: OutboxKey) -> bool {
        self.count > 0 && self.lines.iter().any(|(k, _)| *k == key)
    }

    pub(crate) fn push(
        &mut self,
        key: OutboxKey,
        what: Box<dyn Undelivered>,
        deadline: Option<Instant>,
    ) {
        let entry = Entry { what, deadline };
        self.count += 1;
        match self.lines.iter_mut().find(|(k, _)| *k == key) {
            Some((_, line)) => line.push_back(entry),
            None => self.lines.push((key, VecDeque::from([entry]))),
        }
    }

    /// Puts what was sent later behind.
    pub(crate) fn append(&mut self, later: Self) {
        for (key, line) in later.lines {
            for entry in line {
                self.push(key, entry.what, entry.deadline);
            }
        }
    }

    /// Delivers what can be delivered, and gives up what is past its limit by `now`.
    pub(crate) fn flush(&mut self, waker: &Waker, now: Option<Instant>) -> Flushed {
        let mut flushed = Flushed::default();
        for (_, line) in &mut self.lines {
            while let Some(front) = line.front_mut() {
                let cause = match front.what.attempt(waker) {
                    Attempt::Delivered => {
                        current::count_delivered();
                        line.pop_front();
                        continue;
                    }
                    Attempt::Ended => DropCause::TargetEnded,
                    Attempt::Blocked(on) => {
                        if is_past(front.deadline, now) {
                            DropCause::Timeout
                        } else {
                            flushed.blocked_on.extend(on);
                            break;
                        }
                    }
                };
                if let Some(entry) = line.pop_front() {
                    flushed.given_up.push((cause, entry.what.give_up(cause)));
                }
            }
            // Those behind a blocked one have limits of their own.
            let mut i = 1;
            while i < line.len() {
                if is_past(line[i].deadline, now)
                    && let Some(entry) = line.remove(i)
                {
                    let fault = entry.what.give_up(DropCause::Timeout);
                    flushed.given_up.push((DropCause::Timeout, fault));
                } else {
                    i += 1;
                }
            }
            let nearest = line.iter().filter_map(|e| e.deadline).min();
            flushed.deadline = match (flushed.deadline, nearest) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        self.lines.retain(|(_, line)| !line.is_empty());
        self.count = self.lines.iter().map(|(_, line)| line.len()).sum();
        flushed
    }

    /// Delivers what can be delivered, and leaves everything else as it is. Notes whose room it waits for.
    pub(crate) fn deliver(&mut self, waker: &Waker, blocked_on: &mut Vec<Keeper>) {
        for (_, line) in &mut self.lines {
            while let Some(front) = line.front_mut() {
                match front.what.attempt(waker) {
                    Attempt::Delivered => {
                        current::count_delivered();
                        self.count -= 1;
                        line.pop_front();
                    }
                    Attempt::Ended => break,
                    Attempt::Blocked(on) => {
                        blocked_on.extend(on);
                        break;
                    }
                }
            }
        }
        self.lines.retain(|(_, line)| !line.is_empty());
    }

    /// Gives everything up. Returns how many there were.
    pub(crate) fn abandon(&mut self, cause: DropCause) -> usize {
        let lines = std::mem::take(&mut self.lines);
        let count = std::mem::take(&mut self.count);
        for entry in lines.into_iter().flat_map(|(_, line)| line) {
            // The sender has ended: nobody is left to be told of a fault. A message's drop that panics must not keep the
            // others from their end.
            let give_up = AssertUnwindSafe(|| drop(entry.what.give_up(cause)));
            if let Err(payload) = catch_unwind(give_up) {
                let message = crate::cell::panic_message(&*payload);
                eprintln!("mproc: a message that was given up panicked: {message}");
            }
        }
        count
    }
}

fn is_past(deadline: Option<Instant>, now: Option<Instant>) -> bool {
    matches!((deadline, now), (Some(deadline), Some(now)) if deadline <= now)
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({})", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waits_for::Domain;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Delivered once `room` says so; notes its number in `fate`.
    struct Item {
        room: Arc<AtomicUsize>,
        given_up: Arc<AtomicUsize>,
    }

    impl Undelivered for Item {
        fn attempt(&mut self, _: &Waker) -> Attempt {
            let room = self.room.load(Ordering::Relaxed);
            if room == 0 {
                let id = ProcessorId::from_number(1).unwrap();
                let domain = Domain::Cell(id);
                return Attempt::Blocked(Some(Keeper { id, domain }));
            }
            self.room.store(room - 1, Ordering::Relaxed);
            Attempt::Delivered
        }

        fn give_up(self: Box<Self>, _: DropCause) -> Option<Fault> {
            self.given_up.fetch_add(1, Ordering::Relaxed);
            None
        }
    }

    #[test]
    fn lines_move_on_their_own_and_limits_are_kept_behind_a_blocked_front() {
        let (a, b) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
        let given_up = Arc::new(AtomicUsize::new(0));
        let item = |room: &Arc<AtomicUsize>| {
            Box::new(Item {
                room: room.clone(),
                given_up: given_up.clone(),
            })
        };
        let now = Instant::now();
        let mut outbox = Outbox::default();
        outbox.push(OutboxKey::Publisher(1), item(&a), None);
        outbox.push(OutboxKey::Publisher(1), item(&a), Some(now));
        outbox.push(
            OutboxKey::Publisher(2),
            item(&b),
            Some(now + Duration::from_secs(1)),
        );
        let flushed = outbox.flush(Waker::noop(), Some(now));
        assert_eq!(given_up.load(Ordering::Relaxed), 1);
        assert_eq!(flushed.given_up.len(), 1);
        assert_eq!(flushed.blocked_on.len(), 1);
        assert!(outbox.holds(OutboxKey::Publisher(1)));
        assert!(!outbox.holds(OutboxKey::Publisher(2)));
        a.store(1, Ordering::Relaxed);
        assert!(outbox.flush(Waker::noop(), None).blocked_on.is_empty());
        assert!(outbox.is_empty());
    }
}
