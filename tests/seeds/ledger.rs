//! The ledger: what is known of every message, and what must be true of it when nothing goes on any more.

use crate::worker::{Ask, Work, Worker};
use mproc::prelude::*;
use mproc::{CallError, DropCause};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What is known of every message, by its number, and what was seen that must never be.
#[derive(Default)]
pub(super) struct Ledger {
    entries: Mutex<Vec<Entry>>,
    wrong: Mutex<Vec<String>>,
    pub(super) beats: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Sent: an error gives it back.
    Message,
    /// A call, or one that was handed on: its fate shows in the call's result.
    Call,
}

/// What whoever handled a call has done about its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// It was not handled, or its handler has not got so far.
    Panic,
    Reply,
    Fault,
    /// Its token was dropped, or still is kept.
    NoReply,
    /// The message of this number decides.
    Forwarded(usize),
}

#[derive(Debug)]
pub(super) struct Entry {
    what: What,
    by: usize,
    pub(super) handled: u32,
    pub(super) returned: u32,
    dead: u32,
    dropped: u32,
    /// How often the caller's continuation ran, and how often it was dropped unused.
    resolved: u32,
    abandoned: u32,
    pub(super) owed: Owed,
    /// When that was decided, if that is known.
    decided: Option<Instant>,
    result: Option<Result<u64, CallError>>,
    /// How long the caller wanted to wait.
    until: Option<Instant>,
}

impl Entry {
    pub(super) fn decide(&mut self, owed: Owed, now: Instant) {
        self.owed = owed;
        self.decided = Some(now);
    }
}

impl Ledger {
    pub(super) fn enter(self: &Arc<Self>, what: What, by: usize) -> Tracked {
        let mut entries = self.entries.lock().unwrap();
        entries.push(Entry {
            what,
            by,
            handled: 0,
            returned: 0,
            dead: 0,
            dropped: 0,
            resolved: 0,
            abandoned: 0,
            owed: Owed::Panic,
            decided: None,
            result: None,
            until: None,
        });
        Tracked {
            id: entries.len() - 1,
            ledger: self.clone(),
        }
    }

    pub(super) fn note(&self, id: usize, note: impl FnOnce(&mut Entry)) {
        note(&mut self.entries.lock().unwrap()[id]);
    }

    pub(super) fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

/// A message's place in the ledger, which notes that it was dropped.
pub(super) struct Tracked {
    pub(super) id: usize,
    pub(super) ledger: Arc<Ledger>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.ledger.note(self.id, |e| e.dropped += 1);
    }
}

/// What waits for a call's result: it comes once, or the waiting is given up, once.
pub(super) struct Waits {
    pub(super) id: usize,
    pub(super) until: Instant,
    /// Inside a handler, whose thread sleeps meanwhile.
    pub(super) blocks: bool,
    pub(super) resolved: bool,
    pub(super) ledger: Arc<Ledger>,
}

impl Waits {
    pub(super) fn resolve(mut self, result: Result<u64, CallError>, now: Instant) {
        self.resolved = true;
        if matches!(result, Err(CallError::Timeout)) && now < self.until {
            self.ledger.wrong(format!("call {}: too early", self.id));
        }
        if matches!(result, Err(CallError::Deadlock(_))) && !self.blocks {
            self.ledger.wrong(format!("call {}: nobody waits", self.id));
        }
        self.ledger.note(self.id, |e| {
            e.resolved += 1;
            e.result = Some(result);
            e.until = Some(self.until);
        });
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if !self.resolved {
            self.ledger.note(self.id, |e| e.abandoned += 1);
        }
    }
}

/// Compares the ledger with what the node says, when nothing goes on any more.
pub(super) fn audit(
    node: &Node,
    ledger: &Arc<Ledger>,
    peers: &[Address<Worker>],
    is_faulty: bool,
) -> Vec<String> {
    let t = node.snapshot().runtime.totals;
    let letters = node.dead_letters().count();
    let mut empty_letters = 0;
    for letter in node.dead_letters().take() {
        let at = letter.header.at;
        let id = match letter.into_message::<Work>() {
            Ok(Work(stamp)) => Some(stamp.tracked.id),
            Err(letter) => match letter.into_message::<Ask>() {
                Ok(Ask(_, stamp)) => Some(stamp.tracked.id),
                // A call that was taken back while it was queued.
                Err(_) => None,
            },
        };
        match id {
            Some(id) => ledger.note(id, |e| {
                e.dead += 1;
                e.decided = Some(at);
            }),
            None => empty_letters += 1,
        }
    }
    let mut wrong = std::mem::take(&mut *ledger.wrong.lock().unwrap());
    let entries = ledger.entries.lock().unwrap();
    // Messages that came back; calls without a trace, which came back, were taken back, or were struck by a fault; those among
    // them of which it is not known whether they were ever queued; messages that were struck.
    let (mut returned, mut traceless, mut unknown, mut struck) = (0, 0, 0, 0);
    for (id, e) in entries.iter().enumerate() {
        returned += u64::from(e.returned);
        let fates = e.handled + e.returned + e.dead;
        let is_traceless = e.what == What::Call && fates == 0;
        if is_traceless {
            traceless += 1;
            let from_outside = e.by == peers.len();
            let gave_up = !matches!(e.result, Some(Err(CallError::Full | CallError::Stopped(_))));
            // A wait that is refused at once may not even have begun.
            let refused = matches!(e.result, Some(Err(CallError::Deadlock(_))));
            unknown += u64::from((from_outside && gave_up) || refused);
        }
        let is_struck = is_faulty && e.what == What::Message && fates == 0;
        struck += u64::from(is_struck);
        let once = fates == 1 || is_traceless || is_struck;
        if !once || e.dropped != 1 {
            wrong.push(format!("message {id}: {e:?}"));
        }
    }
    for (id, e) in entries.iter().enumerate() {
        if e.what != What::Call || e.resolved + e.abandoned == 0 {
            let is_forwarded = entries.iter().any(|o| o.owed == Owed::Forwarded(id));
            if e.what == What::Call && !is_forwarded {
                wrong.push(format!("call {id} has no end: {e:?}"));
            }
            continue;
        }
        let is_over = |p: &Address<Worker>| p.exit().is_some() || p.snapshot().restarts > 0;
        let may_be_abandoned = peers.get(e.by).is_none_or(is_over);
        let once = e.resolved + e.abandoned == 1 && (e.abandoned == 0 || may_be_abandoned);
        let fits = |result| fits(&entries, id, result, is_faulty);
        if !once || e.result.as_ref().is_some_and(|r| !fits(r)) {
            wrong.push(format!("call {id}: {e:?}"));
        }
    }
    let mut check = |what: &str, left: u64, right: u64| {
        if left != right {
            wrong.push(format!("{what}: {left} != {right}"));
        }
    };
    let handled: u64 = entries.iter().map(|e| u64::from(e.handled)).sum();
    let panics = node.fault_counts().unwrap().panics;
    let cancelled = t.dropped.by(DropCause::Cancelled);
    let dropped = t.dropped.total() + t.outbox_dropped;
    check("queued", t.queued, 0);
    check("outbox", t.outbox, 0);
    check("handled, by the ledger", handled + panics, t.handled);
    check("received", t.received, t.handled + t.dropped.total());
    check("dead letters", letters + cancelled, dropped);
    let each: u64 = peers.iter().map(|p| p.snapshot().returned).sum();
    check("returned, by processor", each, t.returned);
    // Of the calls without a trace those that were queued were taken back, and all others came back.
    let struck_calls = panics.checked_sub(struck);
    let elsewhere = struck_calls.map(|n| n + empty_letters + cancelled);
    let came_back = elsewhere.and_then(|n| (returned + traceless).checked_sub(n));
    if !came_back.is_some_and(|n| t.returned <= n && n <= t.returned + unknown) {
        wrong.push(format!(
            "returned: {} and {came_back:?}, {unknown} unknown",
            t.returned
        ));
    }
    wrong
}

/// True if a call may have this result, by what became of its message.
fn fits(entries: &[Entry], id: usize, result: &Result<u64, CallError>, is_faulty: bool) -> bool {
    let mut at = id;
    while let (1, Owed::Forwarded(next)) = (entries[at].handled, entries[at].owed) {
        at = next;
    }
    let e = &entries[at];
    match result {
        // That it did not come too early has been checked. A reply that is sent in time may come late by a fault.
        Err(CallError::Timeout) => {
            is_faulty || e.decided.is_none_or(|at| Some(at) >= entries[id].until)
        }
        Ok(answered_by) => (e.handled, e.owed) == (1, Owed::Reply) && *answered_by == at as u64,
        Err(CallError::Faulted(_)) => (e.handled, e.owed) == (1, Owed::Fault),
        // A message that is struck by a fault is not seen by its handler.
        Err(CallError::Panicked(_)) if is_faulty && e.handled == 0 => e.returned + e.dead == 0,
        Err(CallError::Panicked(_)) => (e.handled, e.owed) == (1, Owed::Panic),
        // It was promised for later.
        Err(CallError::Restarted) => (e.handled, e.owed) == (1, Owed::NoReply),
        // That somebody waits has been checked. The others in the circle go on, so anything may become of the message.
        Err(CallError::Deadlock(_)) => true,
        Err(CallError::NoReply) => (e.handled, e.owed) == (1, Owed::NoReply),
        Err(CallError::Dropped) => e.dead == 1,
        Err(CallError::Stopped(_)) => e.handled == 0,
        Err(CallError::Full) => e.handled + e.dead == 0,
        Err(_) => false,
    }
}
