//! Random programs, one per seed, in the simulated world. `MPROC_SEEDS=n` runs more of them, `MPROC_SEED=n` one.

use mproc::prelude::*;
use mproc::{AfterPanic, SendError, TrySendError};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What the test itself counts.
#[derive(Default)]
struct Tally {
    accepted: AtomicU64,
    refused: AtomicU64,
    handled: AtomicU64,
    out_of_order: Mutex<Vec<String>>,
}

/// Who sends: numbers what it sends, by target and lane.
struct Sender {
    who: usize,
    numbers: BTreeMap<(usize, bool), u64>,
    random: Random,
    tally: Arc<Tally>,
}

struct Work {
    from: usize,
    high: bool,
    number: u64,
    left: u32,
}

struct Poke;

struct Worker {
    goes_on: bool,
    sender: Sender,
    peers: Vec<Address<Worker>>,
    last: BTreeMap<(usize, bool), u64>,
}

impl Sender {
    fn send_somewhere(&mut self, peers: &[Address<Worker>], left: u32) {
        let to = self.random.below(peers.len() as u64) as usize;
        let high = self.random.one_in(5);
        let number = self.numbers.entry((to, high)).or_default();
        *number += 1;
        let work = Work {
            from: self.who,
            high,
            number: *number,
            left,
        };
        let address = if high {
            peers[to].high()
        } else {
            peers[to].clone()
        };
        let ok = match self.random.below(4) {
            0 => match address.try_send(work) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
            },
            1 => {
                let limit = Duration::from_millis(self.random.below(20));
                address.send_timeout(work, limit).is_ok()
            }
            _ => match address.send(work) {
                Ok(()) => true,
                Err(SendError::Deadlock(_)) => panic!("no send here may be a deadlock"),
                Err(_) => false,
            },
        };
        let counter = if ok {
            &self.tally.accepted
        } else {
            &self.tally.refused
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Processor for Worker {
    fn on_panic(&mut self, _: &str) -> AfterPanic {
        if self.goes_on {
            AfterPanic::GoOn
        } else {
            AfterPanic::End
        }
    }
}

impl Handle<Work> for Worker {
    type Reply = ();
    fn handle(&mut self, work: Work, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.sender.tally.handled.fetch_add(1, Ordering::Relaxed);
        let last = self.last.entry((work.from, work.high)).or_default();
        if work.number <= *last {
            let text = format!(
                "{} -> {}: {} after {last}",
                work.from,
                cx.name(),
                work.number
            );
            self.sender.tally.out_of_order.lock().unwrap().push(text);
        }
        *last = work.number;
        if work.left > 0 {
            for _ in 0..self.sender.random.below(4) {
                self.sender.send_somewhere(&self.peers, work.left - 1);
            }
        }
        let random = &mut self.sender.random;
        match random.below(120) {
            0..3 => panic!("on purpose"),
            3 => cx.stop(),
            4 | 5 => {
                let peer = &self.peers[random.below(self.peers.len() as u64) as usize];
                match random.below(3) {
                    0 => peer.stop(),
                    1 => peer.drain(),
                    _ => peer.kill(),
                }
            }
            6..12 => {
                let delay = Duration::from_millis(random.below(50));
                let _timer = cx.after(delay, Poke);
            }
            12..20 => {
                let node = cx.runtime();
                let until = node.now() + Duration::from_millis(random.below(30));
                while node.now() < until {
                    node.park(Some(until));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Handle<Poke> for Worker {
    type Reply = ();
    fn handle(&mut self, _: Poke, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.sender.send_somewhere(&self.peers, 1);
        Ok(())
    }
}

/// Runs one program. Returns the node's fingerprint, or what is wrong.
fn run(seed: u64) -> Result<(u64, u64), String> {
    let node = Node::simulated(seed);
    let mut random = Random(seed);
    let tally = Arc::new(Tally::default());
    let drivers: Vec<_> = (0..2)
        .map(|n| node.driver(&format!("driver {n}")).unwrap())
        .collect();
    let count = 2 + random.below(5) as usize;
    let sender = |who, random: &mut Random| Sender {
        who,
        numbers: BTreeMap::new(),
        random: Random(random.below(u64::MAX)),
        tally: tally.clone(),
    };
    let mut peers = Vec::new();
    for who in 0..count {
        let policy = match random.below(7) {
            0 => WhenFull::DropOldest,
            1 => WhenFull::DropNewest,
            2 => WhenFull::Fail,
            _ => WhenFull::Wait,
        };
        let options = MailboxOptions::bounded(1 + random.below(4) as usize).when_full(policy);
        let worker = Worker {
            goes_on: random.one_in(2),
            sender: sender(who, &mut random),
            peers: Vec::new(),
            last: BTreeMap::new(),
        };
        let name = format!("worker {who}");
        let place = random.below(4) as usize;
        let address = match drivers.get(place) {
            Some(driver) => driver.spawn_with(&name, options, worker),
            None => node.spawn_thread_with(&name, options, worker),
        };
        peers.push(address.map_err(|e| e.to_string())?);
    }
    for peer in &peers {
        let all = peers.clone();
        peer.with_processor(move |me, _| me.peers = all).unwrap();
    }
    node.settle();
    let mut script = sender(count, &mut random);
    for _ in 0..30 {
        script.send_somewhere(&peers, 4);
        if random.one_in(5) {
            node.advance(Duration::from_millis(random.below(40)));
        }
    }
    // Longer than all limits together may take.
    node.advance(Duration::from_secs(600));

    let (t, fingerprint) = (node.snapshot().runtime.totals, node.fingerprint().unwrap());
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (accepted, refused) = (get(&tally.accepted), get(&tally.refused));
    let mut wrong = tally.out_of_order.lock().unwrap().clone();
    let mut check = |what: &str, left: u64, right: u64| {
        if left != right {
            wrong.push(format!("{what}: {left} != {right}"));
        }
    };
    check("queued", t.queued, 0);
    check("outbox", t.outbox, 0);
    check("handled, by the test", get(&tally.handled), t.handled);
    check(
        "received",
        t.received,
        t.handled + t.dropped.total() + t.queued,
    );
    check(
        "accepted",
        accepted,
        t.received + t.outbox + t.outbox_dropped,
    );
    check("refused", refused, t.returned);
    let dropped = t.dropped.total() + t.outbox_dropped;
    check("dead letters", node.dead_letters().count(), dropped);
    let each: u64 = peers.iter().map(|p| p.snapshot().returned).sum();
    check("refused, by processor", refused, each);
    if wrong.is_empty() {
        Ok(fingerprint)
    } else {
        Err(wrong.join("; "))
    }
}

/// Fails if a run takes longer than any should.
fn run_or_hang(seed: u64) -> Result<(u64, u64), String> {
    let (done, result) = mpsc::channel();
    let _thread = std::thread::spawn(move || done.send(run(seed)));
    match result.recv_timeout(Duration::from_secs(20)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err("hangs".to_owned()),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("the test itself panicked".to_owned()),
    }
}

fn without_the_noise_of_panics_on_purpose() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&"on purpose") {
            before(info);
        }
    }));
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {value:?}")),
    )
}

#[test]
fn random_programs_keep_every_message_and_its_order_and_end() {
    without_the_noise_of_panics_on_purpose();
    let seeds = match setting("MPROC_SEED") {
        Some(one) => one..one + 1,
        None => 0..setting("MPROC_SEEDS").unwrap_or(300),
    };
    let mut failed = Vec::new();
    for seed in seeds {
        if let Err(wrong) = run_or_hang(seed) {
            eprintln!("MPROC_SEED={seed}: {wrong}");
            failed.push(seed);
            if wrong == "hangs" || failed.len() == 10 {
                break;
            }
        }
    }
    assert!(failed.is_empty(), "failed with MPROC_SEED = {failed:?}");
}

#[test]
fn equal_seeds_run_equally_and_different_ones_do_not() {
    without_the_noise_of_panics_on_purpose();
    // A seed that does not pass is the other test's matter.
    let first: Vec<_> = (1000..1010).map(run_or_hang).collect();
    let again: Vec<_> = (1000..1010).map(run_or_hang).collect();
    assert_eq!(first, again);
    let mut different: Vec<_> = first.iter().flatten().collect();
    assert!(different.len() > 1, "too few passed: {first:?}");
    let count = different.len();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), count);
}
