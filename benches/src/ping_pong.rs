//! `ping_pong_one_driver` and `ping_pong_two_drivers`: how long is a message under way?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Several messages are in flight*, and throughput is measured: there is one ball. It carries its
//!   number, and each side checks that it is the one that is due.
//! - *Two tasks on one executor seldom cross cores*, and their figure would pass for one of two
//!   threads: where a peer has an executor of two workers, that is the variant `pool`, which
//!   is compared with nothing else. In the other variants each side has its own thread.
//! - *Sleeping and spinning are different questions*: waking a thread costs many times the hand-over.
//!   So `spinning` never sleeps, `parked` sleeps at once, and `spin_then_park` is in between; the
//!   CPU time tells who bought speed with a busy core.

use std::{error::Error, thread};

use mproc::{Address, Cx, Handle, Idle, Node, Options, Processor};

use crate::{
    check::{END, Gate, Outcome, Report, report},
    harness::{Answer, Question, Stopwatch, Workload},
    report::MPROC,
};

/// Both sides on one thread.
pub const ONE_DRIVER: Question = Question {
    name: "ping_pong_one_driver",
    about: "2 processors on 1 thread bounce a message; ns per round trip",
};

/// Each side on a thread of its own.
pub const TWO_DRIVERS: Question = Question {
    name: "ping_pong_two_drivers",
    about: "2 processors on 2 threads bounce a message; ns per round trip",
};

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    vec![
        Workload {
            question: &ONE_DRIVER,
            who: MPROC,
            variant: "one_thread",
            n: 1_000_000,
            run: on_one_driver,
        },
        Workload {
            question: &TWO_DRIVERS,
            who: MPROC,
            variant: "spin_then_park",
            n: 300_000,
            run: |n| on_two_drivers(n, Idle::SpinThenPark),
        },
        Workload {
            question: &TWO_DRIVERS,
            who: MPROC,
            variant: "spinning",
            n: 300_000,
            run: |n| on_two_drivers(n, Idle::Spin),
        },
        Workload {
            question: &TWO_DRIVERS,
            who: MPROC,
            variant: "parked",
            n: 5_000,
            run: |n| on_two_drivers(n, Idle::Park),
        },
        Workload {
            question: &TWO_DRIVERS,
            who: MPROC,
            variant: "pool",
            n: 500_000,
            run: on_a_pool,
        },
    ]
}

/// A player that learns from the first message who the other one is.
struct Seat {
    player: Player,
    other: Option<Address<Self>>,
}

struct Meet(Address<Seat>);

impl Processor for Seat {}

impl Handle<Meet> for Seat {
    type Reply = ();

    fn handle(&mut self, Meet(other): Meet, _: &mut Cx<'_, Self>) -> mproc::Outcome<()> {
        self.other = Some(other);
        Ok(())
    }
}

impl Handle<u64> for Seat {
    type Reply = ();

    fn handle(&mut self, ball: u64, _: &mut Cx<'_, Self>) -> mproc::Outcome<()> {
        if let (Some(ball), Some(other)) = (self.player.hit(ball), &self.other) {
            other.send(ball).expect("the other player is there");
        }
        Ok(())
    }
}

/// Both on one shared driver.
fn on_one_driver(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let driver = node.driver("table")?;
    let (first, second, outcome) = seats(n);
    play(
        &driver.spawn("first", first)?,
        &driver.spawn("second", second)?,
        &outcome,
    )
}

/// Each on a thread of its own.
fn on_two_drivers(n: u64, idle: Idle) -> Answer {
    let node = Node::with_options(Options::default().idle(idle));
    let (first, second, outcome) = seats(n);
    play(
        &node.spawn_thread("first", first)?,
        &node.spawn_thread("second", second)?,
        &outcome,
    )
}

/// Both where a pool of two threads thinks best.
fn on_a_pool(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let pool = node.pool("table", 2)?;
    let (first, second, outcome) = seats(n);
    play(
        &pool.spawn("first", first)?,
        &pool.spawn("second", second)?,
        &outcome,
    )
}

fn seats(n: u64) -> (Seat, Seat, Outcome<Result<(), String>>) {
    let (first, second, outcome) = Player::pair(n);
    let seat = |player| Seat {
        player,
        other: None,
    };
    (seat(first), seat(second), outcome)
}

fn play(
    first: &Address<Seat>,
    second: &Address<Seat>,
    outcome: &Outcome<Result<(), String>>,
) -> Answer {
    // A reply says that the player has taken its seat, so that no start is counted.
    first.call(Meet(second.clone())).wait()?;
    second.call(Meet(first.clone())).wait()?;
    measure(outcome, || {
        first.send(0_u64).expect("the first player is there");
    })
}

/// The state of a processor that hits the ball back.
#[derive(Debug)]
pub struct Player {
    due: u64,
    last: u64,
    report: Report<Result<(), String>>,
}

impl Player {
    /// Makes the two players of a game of `n` round trips. The first one is served 0, and reports.
    pub fn pair(n: u64) -> (Self, Self, Outcome<Result<(), String>>) {
        let (report, outcome) = report();
        let player = |due| Self {
            due,
            last: 2 * n,
            report: report.clone(),
        };
        (player(0), player(1), outcome)
    }

    /// Takes the ball, and returns what to send to the other player, if the game goes on.
    #[inline]
    pub fn hit(&mut self, ball: u64) -> Option<u64> {
        if ball != self.due {
            let due = self.due;
            self.report.give(Err(format!("{ball} came, {due} was due")));
            return None;
        }
        if ball == self.last {
            self.report.give(Ok(()));
            return None;
        }
        self.due += 2;
        Some(ball + 1)
    }
}

/// Measures a game between two processors; `serve` sends 0 to the first one.
///
/// # Errors
///
/// If a ball was lost or came out of order.
pub fn measure(outcome: &Outcome<Result<(), String>>, serve: impl FnOnce()) -> Answer {
    let stopwatch = Stopwatch::start();
    serve();
    let game = outcome.wait()?;
    let measured = stopwatch.stop();
    game?;
    Ok(measured)
}

/// Measures a game of `n` round trips between the calling thread, which has the first pair of
/// functions, and another one, which has the second.
///
/// # Errors
///
/// If a ball was lost or came out of order.
pub fn measure_threads<E: Into<Box<dyn Error>>>(
    n: u64,
    mut send: impl FnMut(u64),
    mut receive: impl FnMut() -> Result<u64, E>,
    mut send_back: impl FnMut(u64) + Send + 'static,
    mut receive_there: impl FnMut() -> Result<u64, E> + Send + 'static,
) -> Answer {
    let gate = Gate::new(1);
    let other = {
        let gate = gate.clone();
        thread::spawn(move || {
            gate.pass();
            let mut count = 0;
            while let Ok(ball) = receive_there() {
                if ball == END {
                    break;
                }
                count += 1;
                send_back(ball + 1);
            }
            count
        })
    };

    let stopwatch = gate.open();
    for round in 0..n {
        send(2 * round);
        let ball = receive().map_err(Into::into)?;
        if ball != 2 * round + 1 {
            return Err(format!("{ball} came, {} was due", 2 * round + 1).into());
        }
    }
    let measured = stopwatch.stop();

    send(END);
    let count = other.join().map_err(|_| "the other side panicked")?;
    if count != n {
        return Err(format!("the other side saw {count} balls of {n}").into());
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn game_ends_after_n_round_trips() {
        let (mut first, mut second, outcome) = Player::pair(3);
        let mut ball = 0;
        let mut hits = 0;
        while let Some(to_second) = first.hit(ball) {
            ball = second.hit(to_second).unwrap();
            hits += 1;
        }
        assert_eq!(hits, 3);
        outcome.wait().unwrap().unwrap();
    }

    #[test]
    fn doubled_ball_is_found() {
        let (mut first, _, outcome) = Player::pair(3);
        first.hit(0);
        first.hit(0);
        assert!(outcome.wait().unwrap().is_err());
    }
}
