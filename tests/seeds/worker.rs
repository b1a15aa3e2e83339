//! The program: what processors do, drawn by chance, and the order that they watch over.

use crate::Random;
use crate::ledger::{Ledger, Owed, Tracked, Waits, What};
use mproc::prelude::*;
use mproc::{
    AfterPanic, CallError, Fault, Pending, Permit, ReplyToken, SendError, Tick, TimerId,
    TrySendError,
};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

/// A line in which order is kept: to whom, high or not, and by permit or not. Whoever has a permit has its place already,
/// and may come before what still waits for one.
type Line = (usize, bool, bool);

/// The number of what may come at any time.
const NO_ORDER: u64 = 0;

/// Who sends: numbers what it sends, by line.
pub(super) struct Sender {
    pub(super) who: usize,
    pub(super) numbers: BTreeMap<Line, u64>,
    pub(super) random: Random,
    pub(super) ledger: Arc<Ledger>,
}

pub(super) struct Stamp {
    pub(super) tracked: Tracked,
    from: usize,
    high: bool,
    by_permit: bool,
    number: u64,
    left: u32,
}

pub(super) struct Work(pub(super) Stamp);

/// A call: whose result it decides, and the rest.
pub(super) struct Ask(pub(super) usize, pub(super) Stamp);

struct Poke;

struct Beat(u64, Tick);

struct Beating {
    timer: TimerId,
    series: u64,
    last: Instant,
    period: Duration,
    left: u64,
}

pub(super) type Kept = (usize, bool, Permit<Worker>);

/// All workers, once there are all.
pub(super) type Peers = Arc<OnceLock<Vec<Address<Worker>>>>;

/// What of a worker outlives its incarnations: its mailbox does, too, and order is kept over them.
pub(super) struct Memory {
    pub(super) sender: Sender,
    pub(super) peers: Peers,
    pub(super) last: BTreeMap<Line, u64>,
    pub(super) series: u64,
}

/// Where a worker's memory is while there is no incarnation.
pub(super) type Home = Arc<Mutex<Option<Memory>>>;

pub(super) struct Worker {
    goes_on: bool,
    memory: Remembered,
    tokens: Vec<(usize, ReplyToken<u64>)>,
    permits: Vec<Kept>,
    beating: Option<Beating>,
}

/// An incarnation's memory, which goes home when that is dropped.
struct Remembered(Option<Memory>, Home);

impl Drop for Remembered {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.1.lock().unwrap(), self.0.take());
        assert!(before.is_none(), "two incarnations at once");
    }
}

impl Deref for Remembered {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Remembered {
    fn deref_mut(&mut self) -> &mut Memory {
        self.0.as_mut().unwrap()
    }
}

impl Sender {
    pub(super) fn somebody(&mut self, peers: &[Address<Worker>]) -> (usize, bool, Address<Worker>) {
        let to = self.random.below(peers.len() as u64) as usize;
        let high = self.random.one_in(5);
        let address = if high {
            peers[to].high()
        } else {
            peers[to].clone()
        };
        (to, high, address)
    }

    fn stamp(&mut self, what: What, (to, high, by_permit): Line, left: u32) -> Stamp {
        let number = self.numbers.entry((to, high, by_permit)).or_default();
        *number += 1;
        Stamp {
            tracked: self.ledger.enter(what, self.who),
            from: self.who,
            high,
            by_permit,
            number: *number,
            left,
        }
    }

    fn is_back(&self, Work(stamp): Work) {
        self.ledger.note(stamp.tracked.id, |e| e.returned += 1);
    }

    pub(super) fn send_somewhere(&mut self, peers: &[Address<Worker>], left: u32) {
        let (to, high, address) = self.somebody(peers);
        let work = Work(self.stamp(What::Message, (to, high, false), left));
        match self.random.below(4) {
            0 => match address.try_send(work) {
                Ok(()) => {}
                Err(TrySendError::Full(m) | TrySendError::Closed(m)) => self.is_back(m),
            },
            1 => {
                let limit = self.random.ms(20);
                if let Err(error) = address.send_timeout(work, limit) {
                    self.is_back(error.into_inner());
                }
            }
            _ => match address.send(work) {
                Ok(()) => {}
                Err(SendError::Deadlock(_)) => panic!("no send here may be a deadlock"),
                Err(error) => self.is_back(error.into_inner()),
            },
        }
    }

    pub(super) fn use_permit(&mut self, (to, high, permit): Kept, left: u32) {
        if self.random.one_in(3) {
            return;
        }
        let work = Work(self.stamp(What::Message, (to, high, true), left));
        match permit.send(work) {
            Ok(()) => {}
            Err(TrySendError::Closed(m)) => self.is_back(m),
            Err(TrySendError::Full(m)) => {
                self.ledger.wrong("a permit found no room".to_owned());
                self.is_back(m);
            }
        }
    }

    pub(super) fn call_somewhere(
        &mut self,
        peers: &[Address<Worker>],
        left: u32,
        now: Instant,
        in_order: bool,
    ) -> (Pending<u64>, Duration, Waits) {
        let (to, high, address) = self.somebody(peers);
        let mut stamp = self.stamp(What::Call, (to, high, false), left);
        if !in_order {
            stamp.number = NO_ORDER;
        }
        let limit = match self.random.below(4) {
            0 => Duration::ZERO,
            1 => self.random.ms(100),
            _ => Duration::from_secs(5),
        };
        let waits = Waits {
            id: stamp.tracked.id,
            until: now + limit,
            blocks: false,
            resolved: false,
            ledger: self.ledger.clone(),
        };
        (address.call(Ask(waits.id, stamp)), limit, waits)
    }
}

impl Worker {
    /// `None` if there is another incarnation.
    pub(super) fn remembers(home: &Home, goes_on: bool) -> Option<Self> {
        let memory = home.lock().unwrap().take()?;
        Some(Self {
            goes_on,
            memory: Remembered(Some(memory), home.clone()),
            tokens: Vec::new(),
            permits: Vec::new(),
            beating: None,
        })
    }

    /// Notes that a message has come, in its turn.
    fn arrived(&mut self, stamp: &Stamp, name: &str) {
        let Memory { sender, last, .. } = &mut *self.memory;
        let ledger = &sender.ledger;
        ledger.note(stamp.tracked.id, |e| e.handled += 1);
        let line = (stamp.from, stamp.high, stamp.by_permit);
        if stamp.number == NO_ORDER {
            return;
        }
        let last = last.entry(line).or_default();
        if stamp.number <= *last {
            ledger.wrong(format!("{line:?} -> {name}: {} after {last}", stamp.number));
        }
        *last = stamp.number;
    }

    /// What a handler does beside what its message asks for.
    fn act<R: 'static>(&mut self, left: u32, cx: &mut Cx<'_, Self, R>) {
        let Self {
            memory,
            tokens,
            permits,
            ..
        } = self;
        let Memory { sender, peers, .. } = &mut **memory;
        let peers = peers.get().unwrap();
        if left > 0 {
            for _ in 0..sender.random.below(4) {
                sender.send_somewhere(peers, left - 1);
            }
            if sender.random.one_in(6) {
                let (call, limit, waits) = sender.call_somewhere(peers, left - 1, cx.now(), true);
                call.limit(limit)
                    .then(cx, move |me: &mut Self, result, cx| {
                        waits.resolve(result, cx.now());
                        me.memory.sender.maybe_panic();
                        Ok(())
                    });
            }
            if sender.random.one_in(9) {
                let call = sender.call_somewhere(peers, left - 1, cx.now(), true);
                let (call, limit, mut waits) = call;
                waits.blocks = true;
                let result = call.wait_timeout(limit);
                if let Err(CallError::Deadlock(circle)) = &result
                    && circle.first() != Some(cx.name())
                {
                    sender.ledger.wrong(format!("{}: in {circle:?}", cx.name()));
                }
                waits.resolve(result, cx.now());
            }
            if sender.random.one_in(8) {
                let (to, high, address) = sender.somebody(peers);
                let limit = sender.random.ms(100);
                let reserve = address.reserve().limit(limit);
                reserve.then(cx, move |me: &mut Self, permit, _| {
                    let Ok(permit) = permit else { return Ok(()) };
                    if me.memory.sender.random.one_in(3) {
                        me.permits.push((to, high, permit));
                    } else {
                        me.memory.sender.use_permit((to, high, permit), left - 1);
                    }
                    Ok(())
                });
            }
        }
        if !permits.is_empty() && sender.random.one_in(2) {
            let kept = permits.swap_remove(0);
            sender.use_permit(kept, left.min(1));
        }
        if !tokens.is_empty() && sender.random.one_in(2) {
            let (id, token) = tokens.swap_remove(0);
            let owed = [Owed::Reply, Owed::Fault, Owed::NoReply][sender.random.below(3) as usize];
            sender.ledger.note(id, |e| e.decide(owed, cx.now()));
            match owed {
                Owed::Reply => token.send(id as u64),
                Owed::Fault => token.fail(Fault::new("later")),
                _ => drop(token),
            }
        }
        let random = &mut sender.random;
        match random.below(120) {
            0 => cx.stop(),
            1 | 2 => {
                let peer = &peers[random.below(peers.len() as u64) as usize];
                match random.below(3) {
                    0 => peer.stop(),
                    1 => peer.drain(),
                    _ => peer.kill(),
                }
            }
            3..9 => {
                let delay = random.ms(50);
                let _timer = cx.after(delay, Poke);
            }
            9..17 => {
                let node = cx.runtime();
                let until = node.now() + random.ms(30);
                let sleep = || {
                    while node.now() < until {
                        node.park(Some(until));
                    }
                };
                if random.one_in(2) {
                    cx.block(sleep);
                } else {
                    sleep();
                }
            }
            17..23 => self.start_or_change_the_beat(cx),
            _ => {}
        }
        self.memory.sender.maybe_panic();
    }

    fn start_or_change_the_beat<R: 'static>(&mut self, cx: &mut Cx<'_, Self, R>) {
        let Memory { sender, series, .. } = &mut *self.memory;
        let random = &mut sender.random;
        let period = Duration::from_millis(1 + random.below(60));
        let now = cx.now();
        let Some(beating) = &mut self.beating else {
            *series += 1;
            let series = *series;
            self.beating = Some(Beating {
                timer: cx.every(period, move |tick| Beat(series, tick)),
                series,
                last: now,
                period,
                left: 1 + random.below(8),
            });
            return;
        };
        let changed = match random.below(3) {
            0 => {
                let timer = beating.timer;
                self.beating = None;
                cx.cancel(timer)
            }
            1 => {
                beating.last = now;
                cx.reset(beating.timer)
            }
            _ => {
                (beating.last, beating.period) = (now, period);
                cx.set_period(beating.timer, period)
            }
        };
        if !changed {
            sender.ledger.wrong("a timer was lost".to_owned());
        }
    }
}

impl Sender {
    fn maybe_panic(&mut self) {
        if self.random.one_in(60) {
            panic!("on purpose");
        }
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
    fn handle(&mut self, Work(stamp): Work, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.arrived(&stamp, cx.name().as_str());
        self.act(stamp.left, cx);
        Ok(())
    }
}

impl Handle<Ask> for Worker {
    type Reply = u64;
    fn handle(&mut self, Ask(asked, stamp): Ask, cx: &mut Cx<'_, Self, u64>) -> Outcome<u64> {
        self.arrived(&stamp, cx.name().as_str());
        let (id, left) = (stamp.tracked.id, stamp.left);
        let ledger = self.memory.sender.ledger.clone();
        // Until the reply is given, or promised, a panic answers.
        let outcome = match self.memory.sender.random.below(6) {
            0 => {
                ledger.note(id, |e| e.owed = Owed::NoReply);
                cx.reply_later(|token| self.tokens.push((id, token)))
            }
            1 => {
                ledger.note(id, |e| e.decide(Owed::NoReply, cx.now()));
                cx.reply_later(drop)
            }
            2 if left > 0 => {
                let Memory { sender, peers, .. } = &mut *self.memory;
                let (to, high, address) = sender.somebody(peers.get().unwrap());
                let stamp = sender.stamp(What::Call, (to, high, false), left - 1);
                let on = Owed::Forwarded(stamp.tracked.id);
                ledger.note(id, |e| e.owed = on);
                cx.forward(&address, Ask(asked, stamp))
            }
            3 => Err(Fault::new("at once")),
            _ => Ok(id as u64),
        };
        self.act(left, cx);
        ledger.note(id, |e| {
            if e.owed == Owed::Panic {
                let is_ok = outcome.is_ok();
                e.decide(if is_ok { Owed::Reply } else { Owed::Fault }, cx.now());
            }
        });
        outcome
    }
}

impl Handle<Poke> for Worker {
    type Reply = ();
    fn handle(&mut self, _: Poke, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let Memory { sender, peers, .. } = &mut *self.memory;
        sender.send_somewhere(peers.get().unwrap(), 1);
        self.act(0, cx);
        Ok(())
    }
}

impl Handle<Beat> for Worker {
    type Reply = ();
    fn handle(&mut self, Beat(series, tick): Beat, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let ledger = self.memory.sender.ledger.clone();
        ledger.beats.fetch_add(1, Ordering::Relaxed);
        let Some(beating) = self.beating.as_mut().filter(|b| b.series == series) else {
            ledger.wrong(format!("beat {series} was seen after it was cancelled"));
            return Ok(());
        };
        let due = beating.last + beating.period * (1 + tick.skipped as u32);
        let in_time = tick.due <= cx.now() && cx.now() < tick.due + beating.period;
        if tick.due != due || !in_time {
            ledger.wrong(format!("{}: {tick:?} is off its grid", cx.name()));
        }
        beating.last = tick.due;
        beating.left -= 1;
        if beating.left == 0 {
            let timer = beating.timer;
            self.beating = None;
            cx.cancel(timer);
        }
        self.act(1, cx);
        Ok(())
    }
}
