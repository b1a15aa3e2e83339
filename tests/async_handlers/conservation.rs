//! Random programs whose handlers await, one per seed, in the simulated world: over all kinds of drivers, with stops, kills,
//! drains, panics and restarts in mid future, every message meets one fate, and every call one result. `MPROC_SEED=n` runs one.

use crate::support::{Clock, LONG, Sleep, quiet_panics};
use mproc::prelude::*;
use mproc::{AfterPanic, AsyncHandle, CallError, Fault, Options};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};

/// Splitmix64.
#[derive(Clone)]
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

#[derive(Clone, Default)]
struct Fate {
    is_call: bool,
    handled: u32,
    returned: u32,
    dead: u32,
    dropped: u32,
}

/// What became of each job, and what is counted beside.
#[derive(Default)]
struct Ledger {
    fates: Mutex<Vec<Fate>>,
    wrong: Mutex<Vec<String>>,
    calls: AtomicU64,
    results: AtomicU64,
    given_up: AtomicU64,
    /// Updates of spawned futures that were run: these are messages.
    updates: AtomicU64,
    /// Updates of handlers, which are not.
    entries: AtomicU64,
    dropped_in_mid_future: AtomicU64,
}

impl Ledger {
    fn job(self: &Arc<Self>, is_call: bool, depth: u32) -> Job {
        let mut fates = self.fates.lock().unwrap();
        fates.push(Fate {
            is_call,
            ..Fate::default()
        });
        let id = fates.len() - 1;
        Job {
            id,
            depth,
            ledger: self.clone(),
        }
    }

    fn note(&self, id: usize, note: impl FnOnce(&mut Fate)) {
        note(&mut self.fates.lock().unwrap()[id]);
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

struct Job {
    id: usize,
    depth: u32,
    ledger: Arc<Ledger>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.ledger.note(self.id, |fate| fate.dropped += 1);
    }
}

/// A call that is waited for.
struct Waits {
    id: usize,
    ledger: Arc<Ledger>,
    done: bool,
}

impl Waits {
    fn resolve(mut self, result: &Result<usize, CallError>) {
        self.done = true;
        self.ledger.results.fetch_add(1, SeqCst);
        let handled = self.ledger.fates.lock().unwrap()[self.id].handled;
        let fits = match result {
            Ok(by) => handled == 1 && *by == self.id,
            Err(CallError::Faulted(_) | CallError::Panicked(_) | CallError::Restarted) => {
                handled == 1
            }
            Err(CallError::Dropped | CallError::Full) => handled == 0,
            // Before the handler, or in its future.
            Err(CallError::Stopped(_) | CallError::Timeout) => true,
            Err(_) => false,
        };
        if !fits {
            self.ledger.wrong(format!(
                "call {}: {result:?}, handled {handled} times",
                self.id
            ));
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if !self.done {
            self.ledger.given_up.fetch_add(1, SeqCst);
        }
    }
}

/// Says that a handler is inside, from its entry to the end of its future.
struct Inside(Arc<AtomicBool>, Arc<Ledger>, bool);

impl Inside {
    fn enter(inside: &Arc<AtomicBool>, ledger: &Arc<Ledger>) -> Self {
        if inside.swap(true, SeqCst) {
            ledger.wrong("two handlers are inside".to_owned());
        }
        Self(inside.clone(), ledger.clone(), false)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if !self.0.swap(false, SeqCst) {
            self.1.wrong("a handler left twice".to_owned());
        }
        self.1
            .dropped_in_mid_future
            .fetch_add(u64::from(!self.2), SeqCst);
    }
}

type Peers = Arc<OnceLock<Vec<Address<Member>>>>;

#[derive(Clone)]
struct Member {
    peers: Peers,
    clock: Address<Clock>,
    random: Random,
    ledger: Arc<Ledger>,
    inside: Arc<AtomicBool>,
}

impl Member {
    fn peer(&mut self) -> Option<Address<Member>> {
        let peers = self.peers.get()?;
        Some(peers[self.random.below(peers.len() as u64) as usize].clone())
    }
}

impl Processor for Member {
    fn on_panic(&mut self, _: &str) -> AfterPanic {
        if self.random.one_in(3) {
            AfterPanic::End
        } else {
            AfterPanic::GoOn
        }
    }
}

impl AsyncProcessor for Member {}

impl HandleAsync<Job> for Member {
    type Reply = usize;
    fn handle_async(
        &mut self,
        job: Job,
        cx: &mut Cx<'_, Self, usize>,
    ) -> impl Future<Output = Outcome<usize>> + Send + 'static {
        let mut inside = Inside::enter(&self.inside, &self.ledger);
        self.ledger.note(job.id, |fate| fate.handled += 1);
        let seed = self.random.below(u64::MAX);
        let (me, context) = (cx.async_handle(), self.clone());
        async move {
            let result = acts(job, me, context, Random(seed)).await;
            inside.2 = true;
            drop(inside);
            result
        }
    }
}

async fn acts(
    job: Job,
    me: AsyncHandle<Member>,
    mut all: Member,
    mut random: Random,
) -> Outcome<usize> {
    let ledger = all.ledger.clone();
    for _ in 0..random.below(5) {
        match random.below(20) {
            0..6 => {
                let time = Duration::from_millis(random.below(20));
                all.clock.call(Sleep(time)).limit(LONG).await?;
            }
            6..11 => {
                let ledger = ledger.clone();
                let panics = random.one_in(12);
                let stops = random.one_in(20);
                me.update(move |member, cx| {
                    ledger.entries.fetch_add(1, SeqCst);
                    if !member.inside.load(SeqCst) {
                        ledger.wrong("an update of a handler that is not inside".to_owned());
                    }
                    if stops {
                        cx.stop();
                    }
                    if panics {
                        std::panic::panic_any("on purpose");
                    }
                })
                .await?;
            }
            11..16 => {
                if let (Some(peer), 1..) = (all.peer(), job.depth) {
                    let limit = Duration::from_millis(random.below(100));
                    calls(&ledger, &peer, job.depth - 1, limit).await;
                }
            }
            16 => {
                if let (Some(peer), 1..) = (all.peer(), job.depth) {
                    sends(&ledger, &peer, job.depth - 1);
                }
            }
            17 => {
                let (inner, depth, seed) = (me.clone(), job.depth, random.below(u64::MAX));
                let context = all.clone();
                me.update(move |_, cx| {
                    let task = cx.spawn(beside(inner, context, depth, Random(seed)));
                    if seed % 5 == 0 {
                        task.cancel();
                    }
                })
                .await?;
                ledger.entries.fetch_add(1, SeqCst);
            }
            18 if random.one_in(2) => std::panic::panic_any("on purpose"),
            18 => return Err(Fault::from(std::fmt::Error)),
            _ => {
                if let Some(peer) = all.peer() {
                    end(&mut random, &peer);
                }
            }
        }
    }
    Ok(job.id)
}

/// A future beside the messages.
async fn beside(
    me: AsyncHandle<Member>,
    mut all: Member,
    depth: u32,
    mut random: Random,
) -> Result<(), Fault> {
    for _ in 0..random.below(4) {
        let time = Duration::from_millis(random.below(20));
        all.clock.call(Sleep(time)).limit(LONG).await?;
        let panics = random.one_in(15);
        let update = me.update(move |member, _| {
            member.ledger.updates.fetch_add(1, SeqCst);
            if member.inside.load(SeqCst) {
                member
                    .ledger
                    .wrong("an update while a handler is inside".to_owned());
            }
            if panics {
                std::panic::panic_any("on purpose");
            }
        });
        // Some are given up.
        let limit = Duration::from_millis(random.below(60));
        let _result = update.limit(limit).await;
        if let (Some(peer), 1..) = (all.peer(), depth) {
            calls(&all.ledger, &peer, depth - 1, limit).await;
        }
    }
    Ok(())
}

async fn calls(ledger: &Arc<Ledger>, peer: &Address<Member>, depth: u32, limit: Duration) {
    let job = ledger.job(true, depth);
    ledger.calls.fetch_add(1, SeqCst);
    let waits = Waits {
        id: job.id,
        ledger: ledger.clone(),
        done: false,
    };
    let result = peer.call(job).limit(limit).await;
    waits.resolve(&result);
}

fn sends(ledger: &Arc<Ledger>, peer: &Address<Member>, depth: u32) {
    let job = ledger.job(false, depth);
    let id = job.id;
    if let Err(refused) = peer.send(job) {
        assert_eq!(refused.into_inner().id, id);
        ledger.note(id, |fate| fate.returned += 1);
    }
}

fn end(random: &mut Random, peer: &Address<Member>) {
    match random.below(6) {
        0 => peer.stop(),
        1 => peer.kill(),
        2 => peer.drain(),
        _ => {}
    }
}

/// What was seen in all runs together, so that a program that does nothing would not pass.
#[derive(Default)]
struct Seen {
    jobs: u64,
    entries: u64,
    updates: u64,
    dropped_in_mid_future: u64,
    panics: u64,
    restarts: u64,
}

fn run(seed: u64, seen: &mut Seen) -> Result<(u64, u64), String> {
    let mut random = Random(seed);
    let options = Options::default().dead_letters(100_000);
    let node = Node::simulated_with(seed, options);
    let clock = node.spawn_thread("clock", Clock).unwrap();
    let ledger = Arc::new(Ledger::default());
    let peers = Peers::default();
    let shared = node.driver("shared").unwrap();
    let pool = node.pool("pool", 2).unwrap();
    let mut script = node.script().unwrap();
    let mut boss = node.supervisor("boss");
    let mut members = Vec::new();
    for who in 0..8 {
        let member = Member {
            peers: peers.clone(),
            clock: clock.clone(),
            random: Random(random.below(u64::MAX)),
            ledger: ledger.clone(),
            inside: Arc::default(),
        };
        let name = format!("member {who}");
        let room = if random.one_in(3) { 1 } else { 16 };
        let room = MailboxOptions::bounded(room);
        members.push(match random.below(5) {
            0 => Ok(node.spawn_thread_with(&name, room, member).unwrap()),
            1 => Ok(shared.spawn_with(&name, room, member).unwrap()),
            2 => Ok(pool.spawn_with(&name, room, member).unwrap()),
            3 => Ok(script.spawn(&name, member).unwrap()),
            _ => {
                boss = boss.child(Child::new(&name, move || member.clone()));
                Err(name)
            }
        });
    }
    let _boss = boss.start().unwrap();
    node.settle();
    let members: Vec<_> = members
        .into_iter()
        .map(|member| member.unwrap_or_else(|name| node.lookup(&name).unwrap()))
        .collect();
    peers
        .set(members.clone())
        .unwrap_or_else(|_| unreachable!("set once"));
    let mut outside = Vec::new();
    for _ in 0..40 {
        let peer = &members[random.below(8) as usize];
        if random.one_in(2) {
            let job = ledger.job(false, 3);
            let id = job.id;
            if let Err(refused) = peer.try_send(job) {
                drop(refused.into_inner());
                ledger.note(id, |fate| fate.returned += 1);
            }
        } else {
            let job = ledger.job(true, 3);
            ledger.calls.fetch_add(1, SeqCst);
            let waits = Waits {
                id: job.id,
                ledger: ledger.clone(),
                done: false,
            };
            let mut call = peer.call(job);
            call.begin();
            outside.push((call, waits));
        }
        if random.one_in(8) {
            end(&mut random, peer);
        }
        if random.one_in(3) {
            pass(&node, &mut script, Duration::from_millis(random.below(30)));
        }
    }
    // Longer than all limits together may take.
    pass(&node, &mut script, Duration::from_secs(600));
    for (mut call, waits) in outside {
        match script.spin_until(&mut call, Duration::ZERO) {
            _ if random.one_in(2) => drop((call, waits)),
            Ok(by) => waits.resolve(&Ok(by)),
            // Which it was is told as a node's error; that there was one is what counts.
            Err(_) => {
                let mut waits = waits;
                waits.done = true;
                ledger.results.fetch_add(1, SeqCst);
            }
        }
    }
    pass(&node, &mut script, Duration::from_secs(60));
    audit(&node, &ledger, &members, seen)?;
    Ok(node.fingerprint().unwrap())
}

/// Lets time go by, serving the script.
fn pass(node: &Node, script: &mut Script<()>, time: Duration) {
    let until = node.now() + time;
    loop {
        while script.spin_some(100).unwrap().handled > 0 {}
        node.settle();
        let left = until.saturating_duration_since(node.now());
        if left.is_zero() {
            return;
        }
        script.spin_once(left).unwrap();
    }
}

fn audit(
    node: &Node,
    ledger: &Arc<Ledger>,
    members: &[Address<Member>],
    seen: &mut Seen,
) -> Result<(), String> {
    for letter in node.dead_letters().take() {
        if let Ok(job) = letter.into_message::<Job>() {
            ledger.note(job.id, |fate| fate.dead += 1);
        }
    }
    let mut wrong = std::mem::take(&mut *ledger.wrong.lock().unwrap());
    let fates = ledger.fates.lock().unwrap().clone();
    for (id, f) in fates.iter().enumerate() {
        let known = f.handled + f.returned + f.dead;
        // A call that is given back, or taken back while it was queued, shows in its result.
        if f.dropped != 1 || known > 1 || (known == 0 && !f.is_call) {
            let (handled, returned, dead, dropped) = (f.handled, f.returned, f.dead, f.dropped);
            wrong.push(format!(
                "job {id}: {handled} {returned} {dead} {dropped} {}",
                f.is_call
            ));
        }
    }
    let mut check = |what: &str, left: u64, right: u64| {
        if left != right {
            wrong.push(format!("{what}: {left} != {right}"));
        }
    };
    let (mut handled, mut panics) = (0, 0);
    for member in members {
        let s = member.snapshot();
        check(&s.name, s.received, s.handled + s.dropped.total());
        check("queued", s.queued, 0);
        check("outbox", s.outbox, 0);
        check("stalled", u64::from(s.stalled && s.ended.is_none()), 0);
        (handled, panics) = (handled + s.handled, panics + s.panics);
        seen.restarts += s.restarts;
    }
    let by_ledger: u64 = fates.iter().map(|fate| u64::from(fate.handled)).sum();
    let count = |counter: &AtomicU64| counter.load(SeqCst);
    check("handled", handled, by_ledger + count(&ledger.updates));
    check(
        "calls",
        count(&ledger.calls),
        count(&ledger.results) + count(&ledger.given_up),
    );
    seen.jobs += fates.len() as u64;
    seen.panics += panics;
    seen.entries += count(&ledger.entries);
    seen.updates += count(&ledger.updates);
    seen.dropped_in_mid_future += count(&ledger.dropped_in_mid_future);
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

#[test]
fn messages_are_conserved_whatever_ends_in_mid_future() {
    quiet_panics();
    let seeds = match std::env::var("MPROC_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Some(one) => one..one + 1,
        None => 0..300_u64,
    };
    let all = seeds.end - seeds.start > 1;
    let (mut failed, mut seen) = (Vec::new(), Seen::default());
    for seed in seeds {
        if let Err(wrong) = run(seed, &mut seen) {
            eprintln!("MPROC_SEED={seed}: {wrong}");
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "failed with MPROC_SEED = {failed:?}");
    let least = [
        seen.jobs,
        seen.entries,
        seen.updates,
        seen.dropped_in_mid_future,
        seen.panics,
        seen.restarts,
    ];
    assert!(
        !all || least.iter().all(|n| *n > 100),
        "too little happened: {least:?}"
    );
}

#[test]
fn equal_seeds_run_equally_and_different_ones_do_not() {
    quiet_panics();
    let runs = || -> Vec<_> {
        let mut seen = Seen::default();
        (1000..1010)
            .map(|seed| run(seed, &mut seen).unwrap())
            .collect()
    };
    let (first, again) = (runs(), runs());
    assert_eq!(first, again);
    let mut different = first;
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 10);
}
