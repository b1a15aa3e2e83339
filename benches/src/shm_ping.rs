//! `shm_ping` and `shm_ping_written`: how long is a message under way between two processes?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Both sides are in one process*: the program starts itself again as the other side.
//! - *Several messages are in flight*: there is one ball, as in `ping_pong`. It carries its number, and
//!   each side checks that it is the one that is due.
//! - *New memory is measured*: the first touch of a page costs more than copying it. The first
//!   [`WARM`] round trips of a run are played before the stopwatch starts.
//! - *A payload that nobody touches is free of any size*: that is what in-place hand-over is for, and
//!   `shm_ping` measures it: each side writes and reads the number in the first 8 bytes and nothing else.
//!   In `shm_ping_written` each side also writes every word and reads every word, and the sum is
//!   checked. Peers that copy do so in both, since that is how they are used.
//! - *Sleeping and spinning are different questions*: as in `ping_pong`. The CPU time is that of both
//!   processes.

use std::{error::Error, time::Duration};

use mproc::{
    Address, Cx, DomainOptions, Handle, Idle, Node, Options, Outcome, Processor, Publisher, Topic,
    Topics as _,
};

use crate::{
    check::{self, END, LIMIT, Report},
    harness::{Answer, Measured, Question, Stopwatch, Workload},
    payload::{self, Fill, Mode, Setting, Writer},
    processes::{Here, Place, Side, There},
    report::MPROC,
};

/// In-place hand-over.
pub const SHM_PING: Question = Question {
    name: "shm_ping",
    about: "2 processes bounce a message of which they touch 8 bytes; ns per round trip",
};

/// With all of the payload.
pub const SHM_PING_WRITTEN: Question = Question {
    name: "shm_ping_written",
    about: "2 processes bounce a message, write all of it and read all of it; ns per round trip",
};

/// Round trips before the stopwatch starts: enough to have touched all memory that takes turns.
pub const WARM: u64 = 32;

/// For how many messages there is room. One is under way.
pub const ROOM: usize = 4;

/// Makes the workloads of one who answers a question, in one mode, of each size.
///
/// The last two are paths of functions: how many operations a run has, and the run.
#[macro_export]
macro_rules! of_each_size {
    ($question:expr, $who:expr, $mode:path, $fill:path, $n:path, $run:path) => {
        $crate::of_each_size!(
            @ $question, $who, $mode, $fill, $n, $run;
            64, 4 << 10, 64 << 10, 1 << 20, 8 << 20
        )
    };
    (@ $question:expr, $who:expr, $mode:path, $fill:path, $n:path, $run:path; $($bytes:expr),*) => {
        [$($crate::harness::Workload {
            question: &$question,
            who: $who,
            variant: $crate::shm_ping::variant($mode, $bytes),
            n: $n($mode, $bytes),
            run: |n| $run(n, $crate::payload::Setting {
                bytes: $bytes,
                fill: $fill,
                mode: $mode,
                room: $crate::shm_ping::ROOM,
            }),
        }),*]
    };
}

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    let mut all = Vec::new();
    all.extend(of_each_size!(
        SHM_PING,
        MPROC,
        Mode::Spinning,
        Fill::Touched,
        in_place,
        mproc
    ));
    all.extend(of_each_size!(
        SHM_PING,
        MPROC,
        Mode::SpinThenPark,
        Fill::Touched,
        in_place,
        mproc
    ));
    all.extend(of_each_size!(
        SHM_PING,
        MPROC,
        Mode::Parked,
        Fill::Touched,
        in_place,
        mproc
    ));
    all.extend(of_each_size!(
        SHM_PING_WRITTEN,
        MPROC,
        Mode::Spinning,
        Fill::Written,
        written,
        mproc
    ));
    all.extend(of_each_size!(
        SHM_PING_WRITTEN,
        MPROC,
        Mode::SpinThenPark,
        Fill::Written,
        written,
        mproc
    ));
    all.extend(of_each_size!(
        SHM_PING_WRITTEN,
        MPROC,
        Mode::Parked,
        Fill::Written,
        written,
        mproc
    ));
    all
}

/// The other sides of `mproc`.
pub fn sides() -> Vec<Side> {
    vec![Side {
        name: MPROC_SIDE,
        run: mproc_there,
    }]
}

/// Round trips of a run if no time depends on the size.
pub fn in_place(mode: Mode, _bytes: usize) -> u64 {
    match mode {
        Mode::Spinning => 20_000,
        Mode::SpinThenPark => 5_000,
        Mode::Parked => 1_000,
    }
}

/// Round trips of a run if every byte costs.
pub fn written(mode: Mode, bytes: usize) -> u64 {
    let of_size = match bytes {
        0..1024 => 20_000,
        1024..0x8000 => 10_000,
        0x8000..0x8_0000 => 1_000,
        0x8_0000..0x40_0000 => 100,
        _ => 12,
    };
    of_size.min(in_place(mode, bytes))
}

/// The name of a variant. It is kept for as long as the program runs, like every workload.
pub fn variant(mode: Mode, bytes: usize) -> &'static str {
    format!("{mode} {}", payload::size(bytes)).leak()
}

/// How `mproc` waits in a mode.
pub fn idle(mode: Mode) -> Idle {
    match mode {
        Mode::Spinning => Idle::Spin,
        Mode::SpinThenPark => Idle::SpinThenPark,
        Mode::Parked => Idle::Park,
    }
}

/// A node that shares its topics with the other process.
///
/// # Errors
///
/// If it cannot.
pub fn node(place: &Place, mode: Mode) -> Result<Node, mproc::Error> {
    let domain = DomainOptions::new("bench")?.directory(place.directory());
    Node::builder()
        .options(Options::default().idle(idle(mode)))
        .domain_with(domain)
        .build()
}

const PING: Topic<[u8]> = Topic::slices("bench/ping");
const PONG: Topic<[u8]> = Topic::slices("bench/pong");
const MPROC_SIDE: &str = "mproc/ping";

/// What both players of `mproc` have: the way to the other one.
struct Bat {
    setting: Setting,
    writer: Writer,
    publisher: Publisher<[u8]>,
}

impl Bat {
    fn new(node: &Node, setting: Setting, topic: &Topic<[u8]>) -> Result<Self, mproc::Error> {
        Ok(Self {
            setting,
            writer: Writer::new(setting),
            publisher: node.publisher(topic)?,
        })
    }

    fn hit(&self, number: u64) -> Result<(), String> {
        let mut loan = self
            .publisher
            .loan(self.setting.bytes)
            .map_err(|error| error.to_string())?;
        self.writer.write(&mut loan, number);
        loan.publish().map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// The player that serves and measures, on a driver of its own.
struct First {
    bat: Bat,
    game: Game,
    report: Report<Result<Measured, String>>,
}

struct Serve;

impl First {
    fn play(&mut self, ball: Result<u64, String>) {
        let played = ball.and_then(|ball| match self.game.next(ball)? {
            Next::Hit(ball) => self.bat.hit(ball),
            Next::Over(measured) => {
                self.report.give(Ok(measured));
                self.bat.hit(END)
            }
        });
        if let Err(error) = played {
            self.report.give(Err(error));
        }
    }
}

impl Processor for First {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let setting = self.bat.setting;
        cx.subscribe(&PONG)
            .capacity(ROOM)
            .call(move |me, sample, _| {
                let ball = payload::read(setting, &sample);
                drop(sample);
                me.play(ball);
                Ok(())
            })?;
        Ok(())
    }
}

impl Handle<Serve> for First {
    type Reply = ();

    fn handle(&mut self, _: Serve, _: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Err(error) = self.bat.hit(0) {
            self.report.give(Err(error));
        }
        Ok(())
    }
}

/// The player that answers, on a driver of its own in the other process.
struct Second {
    bat: Bat,
    answers: Answers,
    report: Report<Result<Measured, String>>,
}

impl Processor for Second {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let setting = self.bat.setting;
        cx.subscribe(&PING)
            .capacity(ROOM)
            .call(move |me, sample, _| {
                let ball = payload::read(setting, &sample);
                drop(sample);
                let played = ball.and_then(|ball| match me.answers.next(ball)? {
                    Next::Hit(ball) => me.bat.hit(ball),
                    Next::Over(measured) => {
                        me.report.give(Ok(measured));
                        Ok(())
                    }
                });
                if let Err(error) = played {
                    me.report.give(Err(error));
                }
                Ok(())
            })?;
        Ok(())
    }
}

/// Each process has a node with one processor on a driver of its own.
fn mproc(n: u64, setting: Setting) -> Answer {
    let mut there = There::start(MPROC_SIDE, &setting.arguments())?;
    let (report, outcome) = check::report();
    let node = node(there.place(), setting.mode)?;
    let bat = Bat::new(&node, setting, &PING)?;
    let publisher = bat.publisher.clone();
    let first: Address<First> = node.spawn_thread(
        "first",
        First {
            bat,
            game: Game::new(n),
            report,
        },
    )?;
    there.say("open")?;
    there.expect("ready")?;
    publisher.wait_for_subscribers(1, LIMIT)?;
    first.send(Serve)?;
    let measured = with_other_side(outcome.wait()??, &mut there)?;
    // Both are done with what they have in common before it is removed.
    drop(node);
    there.end()?;
    Ok(measured)
}

fn mproc_there(here: &mut Here) -> Result<(), Box<dyn Error>> {
    let setting = Setting::of(here)?;
    here.expect("open")?;
    let (report, outcome) = check::report();
    let node = node(here.place(), setting.mode)?;
    let bat = Bat::new(&node, setting, &PONG)?;
    let publisher = bat.publisher.clone();
    let _second = node.spawn_thread(
        "second",
        Second {
            bat,
            answers: Answers::default(),
            report,
        },
    )?;
    publisher.wait_for_subscribers(1, LIMIT)?;
    here.say("ready")?;
    tell(here, outcome.wait()??)?;
    here.expect("end")
}

/// What a player does with the ball.
#[derive(Debug)]
enum Next {
    Hit(u64),
    Over(Measured),
}

/// The first side of a game of `n` measured round trips. It serves 0.
#[derive(Debug)]
struct Game {
    due: u64,
    last: u64,
    stopwatch: Option<Stopwatch>,
}

impl Game {
    fn new(n: u64) -> Self {
        Self {
            due: 1,
            last: 2 * (WARM + n) - 1,
            stopwatch: None,
        }
    }

    #[inline]
    fn next(&mut self, ball: u64) -> Result<Next, String> {
        if ball != self.due {
            return Err(format!("{ball} came, {} was due", self.due));
        }
        if ball == self.last {
            let stopwatch = self.stopwatch.take().ok_or("the game was too short")?;
            return Ok(Next::Over(stopwatch.stop()));
        }
        if ball == 2 * WARM - 1 {
            self.stopwatch = Some(Stopwatch::start());
        }
        self.due += 2;
        Ok(Next::Hit(ball + 1))
    }
}

/// The other side: it answers until it is told that the game is over.
#[derive(Debug, Default)]
struct Answers {
    due: u64,
    stopwatch: Option<Stopwatch>,
}

impl Answers {
    #[inline]
    fn next(&mut self, ball: u64) -> Result<Next, String> {
        if ball != self.due {
            let stopwatch = self.stopwatch.take().filter(|_| ball == END);
            return match stopwatch {
                Some(stopwatch) => Ok(Next::Over(stopwatch.stop())),
                None => Err(format!("{ball} came, {} was due", self.due)),
            };
        }
        if ball == 2 * WARM {
            self.stopwatch = Some(Stopwatch::start());
        }
        self.due += 2;
        Ok(Next::Hit(ball + 1))
    }
}

/// One end of a peer's way between two processes: what a thread sends with and receives from.
pub trait End: Sized {
    /// Makes what the other process joins.
    ///
    /// # Errors
    ///
    /// If the peer does.
    fn create(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>>;

    /// Joins what the first process made.
    ///
    /// # Errors
    ///
    /// If the peer does.
    fn join(place: &Place, setting: Setting) -> Result<Self, Box<dyn Error>>;

    /// In the first process: the other one has joined.
    ///
    /// # Errors
    ///
    /// If the peer does.
    fn joined(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(())
    }

    /// Sends a payload of this number.
    ///
    /// # Errors
    ///
    /// If the peer does.
    fn send(&mut self, number: u64) -> Result<(), Box<dyn Error>>;

    /// Waits for a payload, checks it and returns its number.
    ///
    /// # Errors
    ///
    /// If the peer does, or the payload is wrong.
    fn receive(&mut self) -> Result<u64, Box<dyn Error>>;
}

/// Plays between the calling thread and one of the other process, which is the side of that name.
///
/// # Errors
///
/// If a ball was lost or came out of order.
pub fn play<E: End>(side: &str, n: u64, setting: Setting) -> Answer {
    let mut there = There::start(side, &setting.arguments())?;
    let mut end = E::create(there.place(), setting)?;
    there.say("open")?;
    there.expect("ready")?;
    end.joined()?;
    let mut game = Game::new(n);
    let mut ball = 0;
    let measured = loop {
        end.send(ball)?;
        match game.next(end.receive()?)? {
            Next::Hit(next) => ball = next,
            Next::Over(measured) => break measured,
        }
    };
    end.send(END)?;
    let measured = with_other_side(measured, &mut there)?;
    drop(end);
    there.end()?;
    Ok(measured)
}

/// The other side of [`play`].
///
/// # Errors
///
/// If a ball was lost or came out of order.
pub fn answer<E: End>(here: &mut Here) -> Result<(), Box<dyn Error>> {
    let setting = Setting::of(here)?;
    here.expect("open")?;
    let mut end = E::join(here.place(), setting)?;
    here.say("ready")?;
    let mut answers = Answers::default();
    let measured = loop {
        match answers.next(end.receive()?)? {
            Next::Hit(ball) => end.send(ball)?,
            Next::Over(measured) => break measured,
        }
    };
    tell(here, measured)?;
    here.expect("end")
}

/// Tells the first process that the game is over here as well.
fn tell(here: &Here, measured: Measured) -> Result<(), Box<dyn Error>> {
    Ok(here.say(measured.cpu.as_nanos())?)
}

/// Adds the CPU time of the other process.
fn with_other_side(mut measured: Measured, there: &mut There) -> Answer {
    // It saw the end after the last ball that was due there, or it would have failed: so it saw all of them.
    let [cpu_ns] = there.numbers()?;
    measured.cpu += Duration::from_nanos(cpu_ns);
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn game_ends_after_the_warm_and_the_measured_round_trips() {
        let (mut game, mut answers) = (Game::new(3), Answers::default());
        let mut ball = 0;
        let mut rounds = 0;
        loop {
            let Ok(Next::Hit(back)) = answers.next(ball) else {
                panic!("the other side answers each ball");
            };
            rounds += 1;
            match game.next(back).unwrap() {
                Next::Hit(next) => ball = next,
                Next::Over(_) => break,
            }
        }
        assert_eq!(rounds, WARM + 3);
        assert!(matches!(answers.next(END), Ok(Next::Over(_))));
    }

    #[test]
    fn lost_and_doubled_balls_are_found() {
        let mut answers = Answers::default();
        assert!(answers.next(2).is_err());
        assert!(answers.next(END).is_err());
        let mut game = Game::new(3);
        game.next(1).unwrap();
        assert!(game.next(1).is_err());
    }
}
