//! What the members of the storm do, and the threads that send to them from outside.

use super::ledger::{Ledger, Tracked, What};
use super::*;
use mproc::prelude::*;
use mproc::{CallError, Driver, Fault, Pool, ProcessorId, ReplyToken, SendError};
use std::collections::HashMap;

/// How long a call waits for its reply.
const CALL_LIMIT: Duration = Duration::from_millis(50);

/// What every member and every injector knows.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) ledger: Arc<Ledger>,
    /// Who was spawned last at each seat.
    seats: Arc<[Mutex<Option<Address<Member>>>]>,
    /// Nothing new begins any more.
    calm: Arc<AtomicBool>,
    /// Gives each sender a number of its own.
    senders: Arc<AtomicU64>,
}

impl Shared {
    fn at(&self, seat: usize) -> Option<Address<Member>> {
        self.seats[seat].lock().unwrap().clone()
    }
}

/// The node, and the places in it.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) node: Node,
    pub(crate) ledger: Arc<Ledger>,
    shared: Shared,
    drivers: [Driver; 2],
    pools: Arc<Mutex<[Pool; 2]>>,
}

/// Where a member is spawned.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// On a thread of its own.
    Own,
    /// On one of the shared drivers.
    Shared(usize),
    /// On one of the pools.
    Pool(usize),
}

impl Program {
    pub(crate) fn new(node: &Node, ledger: Arc<Ledger>, seats: usize) -> Self {
        let driver = |n: usize| node.driver(&format!("driver {n}")).unwrap();
        let pool = |n: usize| node.pool(&format!("pool {n}"), 1 + n).unwrap();
        Self {
            node: node.clone(),
            shared: Shared {
                ledger: ledger.clone(),
                seats: (0..seats).map(|_| Mutex::new(None)).collect(),
                calm: Arc::default(),
                senders: Arc::default(),
            },
            ledger,
            drivers: [driver(0), driver(1)],
            pools: Arc::new(Mutex::new([pool(0), pool(1)])),
        }
    }

    pub(crate) fn at(&self, seat: usize) -> Option<Address<Member>> {
        self.shared.at(seat)
    }

    pub(crate) fn pool(&self, at: usize) -> Pool {
        self.pools.lock().unwrap()[at].clone()
    }

    pub(crate) fn set_pool(&self, at: usize, pool: Pool) {
        self.pools.lock().unwrap()[at] = pool;
    }

    /// From now on messages lead to no further ones.
    pub(crate) fn calm(&self) {
        self.shared.calm.store(true, Relaxed);
    }

    /// Spawns a member under the name of its seat. False if the one before has not quite ended.
    pub(crate) fn spawn(&self, seat: usize, place: Place, seed: u64) -> bool {
        let mut random = Random(seed);
        let policy = match random.below(8) {
            0 => WhenFull::DropOldest,
            1 => WhenFull::DropNewest,
            2 => WhenFull::Fail,
            _ => WhenFull::Wait,
        };
        let room = MailboxOptions::bounded(1 + random.below(64) as usize).when_full(policy);
        let name = format!("seat {seat}");
        let member = Member::new(&self.shared, random);
        let address = match place {
            Place::Own => self.node.spawn_thread_with(&name, room, member),
            Place::Shared(n) => self.drivers[n].spawn_with(&name, room, member),
            Place::Pool(n) => self.pool(n).spawn_with(&name, room, member),
        };
        match address {
            Ok(address) => {
                *self.shared.seats[seat].lock().unwrap() = Some(address);
                true
            }
            Err(mproc::SpawnError::NameTaken(_) | mproc::SpawnError::Closed(_)) => false,
            Err(error) => {
                self.ledger
                    .never(format!("{name} was not spawned: {error}"));
                false
            }
        }
    }
}

/// Calls a member. The error says that it neither answered nor ended.
pub(crate) fn is_alive(
    program: &Program,
    member: &Address<Member>,
    limit: Duration,
) -> Result<(), String> {
    let (ask, waits) = ask(&program.ledger, 0);
    let result = member.call(ask).wait_timeout(limit);
    let silent = matches!(result, Err(CallError::Timeout | CallError::Deadlock(_)));
    let text = format!("{result:?}");
    waits.resolve(&program.ledger, result);
    if silent { Err(text) } else { Ok(()) }
}

// ---------------------------------------------------------------------------------------------- messages

/// A message whose order counts.
pub(crate) struct Work {
    tracked: Tracked,
    from: u64,
    high: bool,
    number: u64,
    /// How many more it may lead to, one after the other.
    left: u32,
}

/// A call.
pub(crate) struct Ask {
    tracked: Tracked,
    left: u32,
}

/// What a timer brings.
struct Due {
    tracked: Tracked,
    left: u32,
}

/// A call, and what waits for its result.
fn ask(ledger: &Arc<Ledger>, left: u32) -> (Ask, Waits) {
    let tracked = ledger.born(What::Called);
    ledger.calls().made.fetch_add(1, Relaxed);
    let waits = Waits {
        number: tracked.number(),
        resolved: false,
        ledger: ledger.clone(),
    };
    (Ask { tracked, left }, waits)
}

/// What waits for a call's result: it comes once, or the waiting is given up.
struct Waits {
    number: u64,
    resolved: bool,
    ledger: Arc<Ledger>,
}

impl Waits {
    fn resolve(mut self, ledger: &Ledger, result: Result<u64, CallError>) {
        self.resolved = true;
        match result {
            Ok(number) => {
                ledger.calls().answered.fetch_add(1, Relaxed);
                if number != self.number {
                    ledger.never(format!("call {} got the reply of {number}", self.number));
                }
            }
            Err(_) => {
                ledger.calls().failed.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if !self.resolved {
            self.ledger.calls().abandoned.fetch_add(1, Relaxed);
        }
    }
}

/// Sends, and numbers what it sends, for each target and lane.
struct Sender {
    me: u64,
    numbers: HashMap<(ProcessorId, bool), u64>,
    random: Random,
    shared: Shared,
}

impl Sender {
    fn new(shared: &Shared, random: Random) -> Self {
        Self {
            me: shared.senders.fetch_add(1, Relaxed),
            numbers: HashMap::new(),
            random,
            shared: shared.clone(),
        }
    }

    /// Who sits at some seat, perhaps no longer. Some seats are asked for more than others.
    fn somebody(&mut self) -> Option<Address<Member>> {
        let seats = self.shared.seats.len() as u64;
        let bound = 1 + self.random.below(seats);
        self.shared.at(self.random.below(bound) as usize)
    }

    fn send(&mut self, to: &Address<Member>, left: u32) {
        let high = self.random.one_in(8);
        let number = self.numbers.entry((to.id(), high)).or_default();
        *number += 1;
        let work = Work {
            tracked: self.shared.ledger.born(What::Sent),
            from: self.me,
            high,
            number: *number,
            left,
        };
        let sent = if high {
            to.high().send(work)
        } else {
            to.send(work)
        };
        if let Err(error) = sent {
            if matches!(error, SendError::Deadlock(_)) {
                self.shared
                    .ledger
                    .never("a send was refused as a deadlock".into());
            }
            error.into_inner().tracked.returned();
        }
    }
}

// ---------------------------------------------------------------------------------------------- members

pub(crate) struct Member {
    sender: Sender,
    /// The last number of each sender and lane.
    last: HashMap<(u64, bool), u64>,
    /// Replies that are owed, with the number of the call.
    owed: Vec<(ReplyToken<u64>, u64)>,
    goes_on: bool,
    inside: AtomicBool,
}

impl Member {
    fn new(shared: &Shared, mut random: Random) -> Self {
        shared.ledger.state_made();
        Self {
            goes_on: random.one_in(2),
            sender: Sender::new(shared, random),
            last: HashMap::new(),
            owed: Vec::new(),
            inside: AtomicBool::new(false),
        }
    }

    /// Nobody else may be inside.
    fn enter(&self) {
        if self.inside.swap(true, Relaxed) {
            self.ledger()
                .never("a processor was entered twice at once".into());
        }
    }

    fn leave(&self) {
        self.inside.store(false, Relaxed);
    }

    fn ledger(&self) -> Arc<Ledger> {
        self.sender.shared.ledger.clone()
    }

    /// Anything, now and then something bad. It must leave before a panic, which is no way out that `leave` sees.
    fn act<R: 'static>(&mut self, left: u32, cx: &mut Cx<'_, Self, R>) -> Outcome<()> {
        if left == 0 || self.sender.shared.calm.load(Relaxed) {
            return Ok(());
        }
        let left = left - 1;
        match self.sender.random.below(2000) {
            0 | 1 => {
                self.leave();
                std::panic::panic_any(ON_PURPOSE);
            }
            2..6 => return Err(Fault::new("on purpose")),
            6 => cx.stop(),
            // Longer than the monitor thinks good, and with or without saying so.
            7 => {
                let long = self.sender.random.micros(40_000);
                thread::sleep(long);
            }
            8 | 9 => {
                let long = self.sender.random.micros(20_000);
                cx.block(|| thread::sleep(long));
            }
            10..60 => {
                let delay = self.sender.random.micros(5_000);
                let tracked = self.ledger().born(What::Timed);
                cx.after(delay, Due { tracked, left });
            }
            60..160 => self.call(left, cx),
            160..180 => self.call_and_wait(left),
            180..220 => self.owed.clear(),
            220..500 => {
                for (token, number) in self.owed.drain(..) {
                    token.send(number);
                }
            }
            _ => {
                for _ in 0..1 + self.sender.random.below(2) {
                    if let Some(to) = self.sender.somebody() {
                        self.sender.send(&to, left);
                    }
                }
            }
        }
        Ok(())
    }

    fn call<R: 'static>(&mut self, left: u32, cx: &mut Cx<'_, Self, R>) {
        let Some(to) = self.sender.somebody() else {
            return;
        };
        let (ask, waits) = ask(&self.ledger(), left);
        let call = to.call(ask).limit(CALL_LIMIT);
        call.then(cx, move |me: &mut Self, result, cx| {
            me.enter();
            waits.resolve(&me.ledger(), result);
            let done = me.act(left, cx);
            me.leave();
            done
        });
    }

    /// Blocks its thread, and may do so in a circle: then the call is refused, or its limit ends it.
    fn call_and_wait(&mut self, left: u32) {
        let Some(to) = self.sender.somebody() else {
            return;
        };
        let (ask, waits) = ask(&self.ledger(), left);
        let result = to.call(ask).wait_timeout(CALL_LIMIT);
        waits.resolve(&self.ledger(), result);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.sender.shared.ledger.state_dropped();
    }
}

impl Processor for Member {
    fn on_panic(&mut self, _: &str) -> AfterPanic {
        if self.goes_on {
            AfterPanic::GoOn
        } else {
            AfterPanic::End
        }
    }
}

impl Handle<Work> for Member {
    type Reply = ();

    fn handle(&mut self, mut work: Work, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.enter();
        work.tracked.handled();
        let last = self.last.entry((work.from, work.high)).or_default();
        if work.number <= *last {
            let (number, last) = (work.number, *last);
            self.ledger()
                .never(format!("message {number} of a sender came after {last}"));
        } else {
            *last = work.number;
        }
        let done = self.act(work.left, cx);
        self.leave();
        done
    }
}

impl Handle<Ask> for Member {
    type Reply = u64;

    fn handle(&mut self, mut ask: Ask, cx: &mut Cx<'_, Self, u64>) -> Outcome<u64> {
        self.enter();
        ask.tracked.handled();
        let number = ask.tracked.number();
        let done = self.act(ask.left, cx);
        // The chief wants an answer at once.
        let later = ask.left > 0 && self.sender.random.one_in(4);
        self.leave();
        done?;
        if later {
            let owed = &mut self.owed;
            return cx.reply_later(|token| owed.push((token, number)));
        }
        Ok(number)
    }
}

impl Handle<Due> for Member {
    type Reply = ();

    fn handle(&mut self, mut due: Due, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.enter();
        due.tracked.handled();
        let done = self.act(due.left, cx);
        self.leave();
        done
    }
}

// ---------------------------------------------------------------------------------------------- injectors

/// A plain thread that sends and calls.
pub(crate) struct Injector {
    sender: Sender,
    program: Program,
}

impl Injector {
    pub(crate) fn new(program: Program, seed: u64) -> Self {
        Self {
            sender: Sender::new(&program.shared, Random(seed)),
            program,
        }
    }

    pub(crate) fn act(&mut self) {
        let left = self.sender.random.below(8) as u32;
        let to = if self.sender.random.one_in(4) {
            // By name: whoever has it now.
            let seat = self.sender.random.below(MEMBERS as u64);
            self.program
                .node
                .lookup::<Member>(&format!("seat {seat}"))
                .ok()
        } else {
            self.sender.somebody()
        };
        let Some(to) = to else { return };
        if self.sender.random.one_in(10) {
            let (ask, waits) = ask(&self.program.ledger, left);
            let call = to.call(ask);
            // Sometimes it is given up before it is begun.
            if self.sender.random.one_in(20) {
                return;
            }
            let result = call.wait_timeout(CALL_LIMIT);
            waits.resolve(&self.program.ledger, result);
        } else {
            self.sender.send(&to, left);
        }
    }
}
