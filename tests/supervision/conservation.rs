//! Every message has one fate.

use crate::{MS, SECOND};
use mproc::prelude::*;
use mproc::{Backoff, CallError, Fault, Options, ReplyToken, Strategy};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

/// What became of each message, by number.
#[derive(Default)]
struct Fates(Mutex<BTreeMap<u32, Vec<&'static str>>>);

impl Fates {
    fn note(&self, number: u32, fate: &'static str) {
        let mut fates = self.0.lock().unwrap();
        fates.entry(number).or_default().push(fate);
    }
}

/// A message with a number. `panics`: its handler does.
struct Numbered {
    number: u32,
    panics: bool,
    /// Where it goes next, so often.
    hops: u32,
}

struct Hops {
    peers: Arc<Mutex<Vec<Address<Hops>>>>,
    fates: Arc<Fates>,
    kept: Vec<ReplyToken<u32>>,
    next: Arc<AtomicU32>,
    random: u64,
}

impl Hops {
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }
}

impl Processor for Hops {}
impl Handle<Numbered> for Hops {
    type Reply = u32;
    fn handle(&mut self, m: Numbered, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        self.fates.note(m.number, "handled");
        if m.hops > 0 {
            let peers = self.peers.lock().unwrap().clone();
            let to = self.below(peers.len() as u64) as usize;
            let next = Numbered {
                number: self.next.fetch_add(1, SeqCst),
                panics: self.below(8) == 0,
                hops: m.hops - 1,
            };
            self.fates.note(next.number, "made");
            let high = self.below(4) == 0;
            let to = if high {
                peers[to].high()
            } else {
                peers[to].clone()
            };
            if let Err(error) = to.send(next) {
                self.fates.note(error.into_inner().number, "returned");
            }
        }
        if m.panics {
            panic!("wanted");
        }
        match self.below(3) {
            0 => cx.reply_later(|token| self.kept.push(token)),
            1 => Err(Fault::new("wanted")),
            _ => Ok(m.number),
        }
    }
}

/// One run: every message that was made met one fate, and every call had one result.
fn conserves(seed: u64) -> (u64, u64) {
    let node = Node::simulated_with(seed, Options::default().dead_letters(100_000));
    let fates = Arc::new(Fates::default());
    let next = Arc::new(AtomicU32::new(0));
    let peers = Arc::new(Mutex::new(Vec::new()));
    // Two of four live on a thread of their own, and two with others: on one thread, on several, or on either.
    let driver = node.driver("shared").unwrap();
    let pool = node.pool("pool", 1 + seed as usize % 3).unwrap();
    let strategies = [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ];
    let mut spec = node
        .supervisor("plant")
        .strategy(strategies[seed as usize % 3])
        .backoff(Backoff::exponential(MS, 20 * MS))
        .restarts(if seed.is_multiple_of(5) { 3 } else { 1000 }, SECOND);
    for n in 0..4 {
        let (peers, fates, next) = (peers.clone(), fates.clone(), next.clone());
        let mut incarnations = 0;
        let child = Child::new(&format!("hops {n}"), move || {
            incarnations += 1;
            Hops {
                peers: peers.clone(),
                fates: fates.clone(),
                kept: Vec::new(),
                next: next.clone(),
                random: seed ^ (n << 32) ^ (incarnations << 48),
            }
        });
        let child = child.mailbox(MailboxOptions::bounded(1 + n as usize));
        let child = match (n, seed % 4) {
            (0, 0 | 1) | (2, 0 | 2) => child.on(&driver),
            (0 | 2, _) => child.on(&pool),
            _ => child,
        };
        spec = spec.child(if n == 3 { child.transient() } else { child });
    }
    let plant = spec.start().unwrap();
    let all: Vec<_> = (0..4)
        .map(|n| plant.address::<Hops>(&format!("hops {n}")).unwrap())
        .collect();
    *peers.lock().unwrap() = all.clone();
    let mut calls = Vec::new();
    for n in 0..40_u64 {
        let message = Numbered {
            number: next.fetch_add(1, SeqCst),
            panics: n % 5 == 4,
            hops: 4,
        };
        fates.note(message.number, "made");
        let to = &all[((seed >> 3) + n) as usize % 4];
        if n % 3 == 0 {
            let mut call = to.call(message);
            call.begin();
            calls.push((next.load(SeqCst) - 1, call));
        } else if let Err(error) = to.send(message) {
            fates.note(error.into_inner().number, "returned");
        }
        if seed % 4 == 1 && n == 20 {
            all[2].kill();
        }
        if n % 7 == 0 {
            node.advance(3 * MS);
        }
    }
    if seed % 4 == 2 {
        plant.stop();
    }
    node.advance(SECOND);
    let mut results = BTreeMap::new();
    for (number, call) in calls {
        results.insert(number, call.wait());
    }
    let report = node.shutdown(20 * SECOND);
    assert!(report.is_clean(), "{report}");
    for letter in node.dead_letters().take() {
        let message: Numbered = letter.into_message().unwrap();
        fates.note(message.number, "dead");
    }
    let totals = node.snapshot().totals.clone();
    assert_eq!(totals.queued, 0, "seed {seed}");
    assert_eq!(
        totals.received,
        totals.handled + totals.dropped.total(),
        "seed {seed}"
    );
    for (number, fate) in fates.0.lock().unwrap().iter() {
        let result = results.remove(number);
        let one_fate = match (&fate[..], &result) {
            (["made", "handled"], Some(Err(e))) => !matches!(e, CallError::Full),
            (["made", "handled" | "dead" | "returned"], None) => true,
            (["made", "handled"], Some(Ok(reply))) => reply == number,
            (["made", "dead"], Some(Err(e))) => matches!(e, CallError::Stopped(_)),
            // The call has kept its message. Nobody is stuck, so none times out in a queue.
            (["made"], Some(Err(e))) => matches!(e, CallError::Stopped(_)),
            _ => false,
        };
        assert!(one_fate, "seed {seed}, {number}: {fate:?} {result:?}");
    }
    let (_, fingerprint) = node.fingerprint().unwrap();
    (totals.restarts, fingerprint)
}

#[test]
fn every_message_has_one_fate_while_processors_are_restarted() {
    let seeds = std::env::var("MPROC_SEEDS").ok();
    let seeds = seeds.and_then(|n| n.parse().ok()).unwrap_or(150);
    let mut restarts = 0;
    for seed in 0..seeds {
        let (more, _) = conserves(seed);
        restarts += more;
    }
    assert!(restarts > 3 * seeds, "{restarts} restarts");
}

#[test]
fn a_seed_repeats_a_run_with_restarts() {
    for seed in [3, 10, 77] {
        assert_eq!(conserves(seed), conserves(seed));
    }
}
