//! The accounts of all messages: what was born, what became of it, and whether the runtime counted the same.
//!
//! A run has hundreds of millions of messages, so the ledger has no list of them. It has counts, and the sum of a hash of each
//! number, of those that were born and of those that met their fate. If the sums are equal and the counts are, no number is
//! missing and none is there twice.
//!
//! | a message is | when | the runtime counts it as |
//! |---|---|---|
//! | handled | its handler marks it | `handled` |
//! | returned | the send gives it back, to whoever sent it | `returned`, or nothing if it was refused before it reached a processor |
//! | dropped | it is dropped with no mark | `dropped`, by cause, or `outbox_dropped`; a call's may also come back to nobody |

use mproc::Totals;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// A good hash of a number (the end of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How a message goes on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Sent: what is not queued comes back.
    Sent,
    /// Called: what is not queued is dropped, and the result of the call says why.
    Called,
    /// Kept by a timer until it is due: no message until then, and afterwards a call of the handler without a mailbox.
    Timed,
}

const NAMES: [&str; 3] = ["sent", "called", "timed"];

#[derive(Default)]
struct Account {
    born: AtomicU64,
    handled: AtomicU64,
    returned: AtomicU64,
    dropped: AtomicU64,
    /// The sum of the hashes of those that were born, less those that have met their fate.
    balance: AtomicU64,
}

/// What is known of all messages.
#[derive(Default)]
pub(crate) struct Ledger {
    next: AtomicU64,
    accounts: [Account; 3],
    states: AtomicI64,
    calls: Calls,
    wrong: Mutex<Vec<String>>,
}

/// What became of calls: each has one result, or nobody waits for it any more.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) made: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) abandoned: AtomicU64,
}

impl Ledger {
    /// A message is born.
    pub(crate) fn born(self: &Arc<Self>, what: What) -> Tracked {
        let number = self.next.fetch_add(1, Relaxed);
        let account = &self.accounts[what as usize];
        account.born.fetch_add(1, Relaxed);
        account.balance.fetch_add(mix(number), Relaxed);
        Tracked {
            number,
            what,
            fate: None,
            ledger: self.clone(),
        }
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Something that must never be.
    pub(crate) fn never(&self, text: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < 20 {
            wrong.push(text);
        }
    }

    /// What must never be, and was, since the last look.
    pub(crate) fn wrong(&self) -> Vec<String> {
        std::mem::take(&mut *self.wrong.lock().unwrap())
    }

    pub(crate) fn handled(&self) -> u64 {
        self.accounts.iter().map(|a| a.handled.load(Relaxed)).sum()
    }

    /// Messages that have met no fate yet.
    pub(crate) fn alive(&self) -> u64 {
        self.accounts.iter().map(Account::alive).sum()
    }

    /// Calls that have no result yet, and are still waited for: those whose reply is owed have it when their limit is over.
    pub(crate) fn waiting(&self) -> u64 {
        let calls = &self.calls;
        let ended = [&calls.answered, &calls.failed, &calls.abandoned];
        let ended: u64 = ended.iter().map(|n| n.load(Relaxed)).sum();
        calls.made.load(Relaxed).saturating_sub(ended)
    }

    /// Members that have not been dropped.
    pub(crate) fn states(&self) -> u64 {
        self.states.load(Relaxed).unsigned_abs()
    }

    pub(crate) fn state_made(&self) {
        self.states.fetch_add(1, Relaxed);
    }

    pub(crate) fn state_dropped(&self) {
        self.states.fetch_sub(1, Relaxed);
    }

    /// Compares the accounts with the runtime's, at rest, and shows both.
    pub(crate) fn audit(&self, totals: &Totals) -> Vec<String> {
        let mut wrong = Vec::new();
        let get = |n: &AtomicU64| n.load(Relaxed);
        for (name, account) in NAMES.iter().zip(&self.accounts) {
            println!(
                "{name:11} {} = {} handled + {} returned + {} dropped + {} on their way",
                get(&account.born),
                get(&account.handled),
                get(&account.returned),
                get(&account.dropped),
                account.alive()
            );
            if get(&account.balance) != 0 {
                wrong.push(format!("{name}: a message is missing, or met two fates"));
            }
        }
        let calls = &self.calls;
        let (made, answered) = (get(&calls.made), get(&calls.answered));
        let (failed, abandoned) = (get(&calls.failed), get(&calls.abandoned));
        println!(
            "calls       {made} = {answered} answered + {failed} failed + {abandoned} no longer waited for"
        );
        println!(
            "the node    {} received = {} handled + {} dropped ({}) + {} queued; {} returned, {} given up in outboxes",
            totals.received,
            totals.handled,
            totals.dropped.total(),
            totals.dropped,
            totals.queued,
            totals.returned,
            totals.outbox_dropped
        );
        let mut equal = |what: &str, left: u64, right: u64| {
            if left != right {
                wrong.push(format!("{what}: {left} != {right}"));
            }
        };
        let [sent, called, timed] = &self.accounts;
        equal("results of calls", made, answered + failed + abandoned);
        equal(
            "received by the node",
            totals.received,
            totals.handled + totals.dropped.total() + totals.queued,
        );
        equal("queued", totals.queued, 0);
        equal("in outboxes", totals.outbox, 0);
        let handled = get(&sent.handled) + get(&called.handled);
        equal("handled", handled, totals.handled);
        equal("timers returned", get(&timed.returned), 0);
        // A message that was sent and dropped was dropped by the node, for a cause. So were those of calls, but for those that
        // were refused; and what was taken back while it was queued is no longer there when it is counted as cancelled.
        let dropped = totals.dropped.total() + totals.outbox_dropped;
        let least = get(&sent.dropped);
        let most = least + get(&called.dropped);
        if !(least..=most).contains(&dropped) {
            wrong.push(format!(
                "dropped: {dropped} by the node, by the ledger {least} to {most}"
            ));
        }
        wrong
    }
}

impl Account {
    fn alive(&self) -> u64 {
        let ended = [&self.handled, &self.returned, &self.dropped];
        let ended: u64 = ended.iter().map(|n| n.load(Relaxed)).sum();
        self.born.load(Relaxed).saturating_sub(ended)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Handled,
    Returned,
}

/// A message's place in the accounts. It is dropped with the message.
pub(crate) struct Tracked {
    number: u64,
    what: What,
    fate: Option<Fate>,
    ledger: Arc<Ledger>,
}

impl Tracked {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn handled(&mut self) {
        self.meet(Fate::Handled);
    }

    pub(crate) fn returned(&mut self) {
        self.meet(Fate::Returned);
    }

    fn meet(&mut self, fate: Fate) {
        if let Some(before) = self.fate.replace(fate) {
            let text = format!("message {} was {before:?} and then {fate:?}", self.number);
            self.ledger.never(text);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let account = &self.ledger.accounts[self.what as usize];
        let count = match self.fate {
            Some(Fate::Handled) => &account.handled,
            Some(Fate::Returned) => &account.returned,
            None => &account.dropped,
        };
        account.balance.fetch_sub(mix(self.number), Relaxed);
        count.fetch_add(1, Relaxed);
    }
}
