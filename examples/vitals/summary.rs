//! The end: stops what publishes by the clock, waits until nothing moves any more, and checks that for each receiver
//! sent = handled + dropped + left.
//!
//! In a process that has all parts, what was sent is what the publishers have counted. When the parts have a process each, it is
//! what has come to the receiver's node, and what the receiver was told that it missed: such samples were dropped on the
//! publisher's side. What was dropped there after the last that came is in nobody's account.

use std::time::Duration;

use mproc::{Error, Pending, Recipient, Result, Snapshot, Spun, prelude::*};

use crate::{
    callbacks::Main,
    display::{self, Account, Size},
    policies::policy_rows,
    topics::{Count, Finish, LIMIT, Ledger},
};

/// Waits for a reply while the callbacks of the display go on: others may be waiting for them.
pub(crate) fn ask<T: 'static>(script: &mut Main, mut pending: Pending<T>) -> Result<T> {
    script.spin_until(&mut pending, LIMIT)
}

/// A processor's name and what it has counted.
pub(crate) type Counted = (String, Ledger);

/// A processor of this process, as the end needs it.
pub(crate) struct Part {
    count: Recipient<Count, Ledger>,
    /// Of one that publishes by the clock.
    finish: Option<Recipient<Finish>>,
}

impl Part {
    pub(crate) fn counting<P: Handle<Count, Reply = Ledger>>(address: &Address<P>) -> Self {
        Self {
            count: address.recipient_with_reply(),
            finish: None,
        }
    }

    pub(crate) fn finishing<P>(address: &Address<P>) -> Self
    where
        P: Handle<Count, Reply = Ledger> + Handle<Finish>,
    {
        Self {
            finish: Some(address.recipient()),
            ..Self::counting(address)
        }
    }
}

/// Asks each for its ledger.
pub(crate) fn count(script: &mut Main, parts: &[Part]) -> Result<Vec<Counted>> {
    let mut ledgers = Vec::new();
    for Part { count, .. } in parts {
        let name = count.name().as_str();
        let ledger = ask(script, count.call(Count)).map_err(|error| {
            Error::new(error.kind(), format!("{name:?} does not answer: {error}"))
        })?;
        ledgers.push((name.to_owned(), ledger));
    }
    Ok(ledgers)
}

/// Stops everything that publishes by the clock.
pub(crate) fn finish(script: &mut Main, parts: &[Part]) -> Result<()> {
    for finish in parts.iter().filter_map(|part| part.finish.as_ref()) {
        ask(script, finish.call(Finish))?;
    }
    Ok(())
}

/// Spins until nothing is queued, in an outbox or in a handler, and nothing changes any more. False if that takes too long.
pub(crate) fn settle(script: &mut Main) -> Result<bool> {
    let deadline = script.now() + LIMIT;
    let mut before = None;
    while script.now() < deadline {
        let pause = script.now() + Duration::from_millis(50);
        while script.now() < pause {
            let rest = pause.saturating_duration_since(script.now());
            if script.spin_once(rest)? == Spun::Shutdown {
                return Ok(false);
            }
        }
        let Snapshot {
            topics, runtime, ..
        } = script.snapshot();
        let mut subscriptions = topics.iter().flat_map(|topic| &topic.subscriptions);
        let quiet = subscriptions.all(|subscription| subscription.queued == 0)
            && runtime
                .processors
                .iter()
                .all(|p| p.outbox == 0 && p.queued == 0 && p.handling_ns.is_none());
        // A snapshot is not taken of all at one moment, so it takes two that are alike.
        if quiet && before.as_ref() == Some(&topics) {
            return Ok(true);
        }
        before = quiet.then_some(topics);
    }
    Ok(false)
}

/// Prints what became of everything. Returns whether it adds up.
pub(crate) fn report(
    script: &mut Main,
    ledgers: &[Counted],
    display_name: Option<&str>,
) -> Result<bool> {
    let snapshot = script.snapshot();
    let is_split = script.domain().is_some();
    let mut accounts = Vec::new();
    let mut notes = Vec::new();
    for (owner, ledger) in ledgers {
        if let Some(failed) = &ledger.failed {
            notes.push(format!("{owner} could not publish: {failed}"));
        }
        if is_split {
            for (topic, count) in &ledger.published {
                notes.push(format!("{owner} published {count} on {topic}"));
            }
        }
        for (&topic, &handled) in &ledger.handled {
            let mut sent: u64 = ledgers
                .iter()
                .filter_map(|(_, ledger)| ledger.published.get(topic))
                .sum();
            let known = snapshot
                .topics
                .iter()
                .filter(|known| known.name == topic)
                .flat_map(|known| &known.subscriptions)
                .find(|known| known.owner.as_ref() == Some(owner));
            let name = match display_name {
                Some(display) if display == owner => "display",
                _ => owner,
            };
            let Some(known) = known else {
                // Then nobody can say what was dropped, and the account does not hold unless nothing was.
                accounts.push(Account {
                    name: format!("{name}: {topic}"),
                    sent,
                    handled,
                    ..Account::default()
                });
                continue;
            };
            if is_split {
                sent = known.offered + known.lost;
            } else if known.closed {
                // Its last sample was the one that found it full: the publisher was told so then.
                let refused = format!("{owner:?} on ");
                let last = ledgers.iter().find_map(|(_, ledger)| {
                    let mut told = ledger.last_refused.iter();
                    told.find(|(who, _)| who.starts_with(&refused))
                });
                if let Some((_, &until)) = last {
                    let after = sent.saturating_sub(until);
                    notes.push(format!("{name} was closed when it was full; {after} samples came later and were not sent to it"));
                    sent = until;
                }
            }
            let mut dropped: Vec<(String, u64)> = known
                .dropped
                .iter()
                .map(|(cause, count)| (cause.to_string(), count))
                .collect();
            dropped.push(("refused".to_owned(), known.refused));
            if is_split {
                dropped.push(("gap".to_owned(), known.lost));
            }
            accounts.push(Account {
                name: format!("{name}: {topic} ({:?})", known.when_full),
                sent,
                handled,
                dropped,
                left: known.queued,
            });
        }
    }
    let (holds, verdict) = display::verdict(&accounts);
    let rows = policy_rows(&snapshot);
    script.state(|display| {
        let width = display.terminal.then(|| Size::of_terminal().width);
        let colour = display.colour;
        display.print("");
        if !rows.is_empty() {
            let policies = display::policy_table(&rows, width, colour);
            display.print(&policies.to_string());
        }
        if !accounts.is_empty() {
            let table = display::account_table(&accounts, width, colour);
            display.print(&table.to_string());
        }
        for note in notes {
            display.print(&note);
        }
        if display.view.troubles() > 0 {
            let troubles = display.view.troubles();
            display.print(&format!("{troubles} readings failed"));
        }
        if !accounts.is_empty() {
            display.print(&verdict);
        }
    })?;
    Ok(holds)
}
