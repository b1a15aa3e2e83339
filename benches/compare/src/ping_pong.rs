//! `ping_pong_one_driver` and `ping_pong_two_drivers` by the peers.

use std::{error::Error, hint};

use mproc_benches::{
    check::END,
    harness::{Answer, Workload},
    ping_pong::{ONE_DRIVER, Player, TWO_DRIVERS, measure, measure_threads},
};
use tokio::runtime::{Builder, Handle};

use crate::executors::{ActixThreads, TokioThread};

pub(crate) fn workloads() -> Vec<Workload> {
    let one = |who, n, run| Workload {
        question: &ONE_DRIVER,
        who,
        variant: "one_thread",
        n,
        run,
    };
    let two = |who, variant, n, run| Workload {
        question: &TWO_DRIVERS,
        who,
        variant,
        n,
        run,
    };
    vec![
        one("tokio", 1_000_000, |n| on_one_thread(n, tokio)),
        one("kameo", 400_000, |n| on_one_thread(n, kameo)),
        one("ractor", 400_000, |n| on_one_thread(n, ractor)),
        one("actix", 1_000_000, |n| actix(n, 1)),
        two("limit", "spinning", 1_500_000, limit_spinning),
        two("crossbeam", "spinning", 800_000, crossbeam_spinning),
        two("std", "spinning", 800_000, std_spinning),
        two("kanal", "spinning", 800_000, kanal_spinning),
        two("flume", "spinning", 800_000, flume_spinning),
        two("limit", "spin_then_park", 1_500_000, |n| {
            limit_parking(n, limit::SPINS)
        }),
        two("crossbeam", "spin_then_park", 300_000, crossbeam),
        two("kanal", "spin_then_park", 300_000, kanal),
        two("limit", "parked", 5_000, |n| limit_parking(n, 0)),
        two("std", "parked", 5_000, std),
        two("flume", "parked", 5_000, flume),
        two("tokio", "parked", 5_000, |n| on_two_threads(n, tokio)),
        two("kameo", "parked", 5_000, |n| on_two_threads(n, kameo)),
        two("ractor", "parked", 5_000, |n| on_two_threads(n, ractor)),
        two("actix", "parked", 5_000, |n| actix(n, 2)),
        two("tokio", "pool", 500_000, |n| on_two_workers(n, tokio)),
        two("kameo", "pool", 200_000, |n| on_two_workers(n, kameo)),
        two("ractor", "pool", 200_000, |n| on_two_workers(n, ractor)),
    ]
}

/// The bare hand-over between two threads: a word each way, and nothing else.
pub(crate) mod limit {
    use std::{
        hint,
        sync::{
            Arc, OnceLock,
            atomic::{AtomicU64, Ordering},
        },
        thread::{self, Thread},
    };

    use mproc_benches::check::END;

    /// How often a side looks before it parks: about as long as the other side needs to answer.
    pub(crate) const SPINS: u32 = 300;

    /// No number, which is also what lies there at first.
    const EMPTY: u64 = u64::MAX - 1;

    /// What one side reads. Alone on its cache lines, and on the neighbour that is fetched with them.
    #[repr(align(128))]
    #[derive(Debug)]
    struct Place {
        number: AtomicU64,
        reader: OnceLock<Thread>,
    }

    /// One side of the hand-over.
    #[derive(Debug, Clone)]
    pub(crate) struct Side {
        mine: Arc<Place>,
        theirs: Arc<Place>,
        spins: u32,
    }

    /// Makes the two sides, which look this often before they park.
    pub(crate) fn table(spins: u32) -> (Side, Side) {
        let [one, other] = [(), ()].map(|()| {
            Arc::new(Place {
                number: AtomicU64::new(EMPTY),
                reader: OnceLock::new(),
            })
        });
        let here = Side {
            mine: one.clone(),
            theirs: other.clone(),
            spins,
        };
        let there = Side {
            mine: other,
            theirs: one,
            spins,
        };
        (here, there)
    }

    impl Side {
        /// Hands over a number. `unpark` makes no system call unless the other side sleeps.
        #[inline]
        pub(crate) fn put(&self, number: u64) {
            self.theirs.number.store(number, Ordering::Release);
            // The reader says who it is before it looks for the first time, so this waits only then.
            self.theirs.reader.wait().unpark();
        }

        /// Tells the other side that it is over.
        pub(crate) fn end(&self) {
            self.put(END);
        }

        /// Takes the number that the other side put there, or `None` at the end.
        #[inline]
        pub(crate) fn take(&self) -> Option<u64> {
            self.mine.reader.get_or_init(thread::current);
            let mut looks = 0;
            loop {
                let number = self.mine.number.load(Ordering::Acquire);
                if number != EMPTY {
                    // The other side puts no second one before it has seen the answer to this.
                    self.mine.number.store(EMPTY, Ordering::Relaxed);
                    return (number != END).then_some(number);
                }
                if looks < self.spins {
                    looks += 1;
                    hint::spin_loop();
                } else {
                    thread::park();
                }
            }
        }

        /// Hands over a number to a side that never sleeps.
        #[inline]
        pub(crate) fn put_spinning(&self, number: u64) {
            self.theirs.number.store(number, Ordering::Release);
        }

        /// Takes a number without ever sleeping.
        #[inline]
        pub(crate) fn take_spinning(&self) -> u64 {
            loop {
                let number = self.mine.number.load(Ordering::Acquire);
                if number != EMPTY {
                    self.mine.number.store(EMPTY, Ordering::Relaxed);
                    return number;
                }
                hint::spin_loop();
            }
        }
    }
}

fn limit_spinning(n: u64) -> Answer {
    let (here, there) = limit::table(0);
    let back = there.clone();
    measure_threads(
        n,
        |ball| here.put_spinning(ball),
        || Ok::<_, String>(here.take_spinning()),
        move |ball| back.put_spinning(ball),
        move || Ok(there.take_spinning()),
    )
}

/// With 0 spins this is the bare parked hand-over.
fn limit_parking(n: u64, spins: u32) -> Answer {
    let (here, there) = limit::table(spins);
    let back = there.clone();
    measure_threads(
        n,
        |ball| here.put(ball),
        || here.take().ok_or("the other side ended"),
        move |ball| back.put(ball),
        move || Ok(there.take().unwrap_or(END)),
    )
}

/// Asks `look` until it has a number.
fn spin<E: Error + 'static>(
    mut look: impl FnMut() -> Result<Option<u64>, E>,
) -> Result<u64, Box<dyn Error>> {
    loop {
        if let Some(number) = look()? {
            return Ok(number);
        }
        hint::spin_loop();
    }
}

/// `recv` of crossbeam looks for a while, then gives up its time slice, then parks.
fn crossbeam(n: u64) -> Answer {
    let (there, from_here) = crossbeam_channel::unbounded();
    let (back, from_there) = crossbeam_channel::unbounded();
    measure_threads(
        n,
        |ball| there.send(ball).expect("the other side is there"),
        || from_there.recv(),
        move |ball| back.send(ball).expect("the caller is there"),
        move || from_here.recv(),
    )
}

fn crossbeam_spinning(n: u64) -> Answer {
    use crossbeam_channel::{Receiver, TryRecvError, unbounded};

    let (there, from_here) = unbounded();
    let (back, from_there) = unbounded();
    let look = |receiver: &Receiver<u64>| match receiver.try_recv() {
        Err(TryRecvError::Empty) => Ok(None),
        other => other.map(Some),
    };
    measure_threads(
        n,
        |ball| there.send(ball).expect("the other side is there"),
        || spin(|| look(&from_there)),
        move |ball| back.send(ball).expect("the caller is there"),
        move || spin(|| look(&from_here)),
    )
}

/// `std`'s channel descends from crossbeam's, but measured as one that parks at once: its time and CPU
/// time are those of the parked limit.
fn std(n: u64) -> Answer {
    let (there, from_here) = std::sync::mpsc::channel();
    let (back, from_there) = std::sync::mpsc::channel();
    measure_threads(
        n,
        |ball| there.send(ball).expect("the other side is there"),
        || from_there.recv(),
        move |ball| back.send(ball).expect("the caller is there"),
        move || from_here.recv(),
    )
}

fn std_spinning(n: u64) -> Answer {
    use std::sync::mpsc::{Receiver, TryRecvError, channel};

    let (there, from_here) = channel();
    let (back, from_there) = channel();
    let look = |receiver: &Receiver<u64>| match receiver.try_recv() {
        Err(TryRecvError::Empty) => Ok(None),
        other => other.map(Some),
    };
    measure_threads(
        n,
        |ball| there.send(ball).expect("the other side is there"),
        || spin(|| look(&from_there)),
        move |ball| back.send(ball).expect("the caller is there"),
        move || spin(|| look(&from_here)),
    )
}

/// `recv` of kanal gives up its time slice up to 256 times and then parks.
fn kanal(n: u64) -> Answer {
    let (there, from_here) = kanal::unbounded();
    let (back, from_there) = kanal::unbounded();
    measure_threads(
        n,
        |ball| there.send(ball).expect("the other side is there"),
        || from_there.recv(),
        move |ball| back.send(ball).expect("the caller is there"),
        move || from_here.recv(),
    )
}

fn kanal_spinning(n: u64) -> Answer {
    let (there, from_here) = kanal::unbounded();
    let (back, from_there) = kanal::unbounded();
    measure_threads(
        n,
        |ball| there.send(ball).expect("the other side is there"),
        || spin(|| from_there.try_recv()),
        move |ball| back.send(ball).expect("the caller is there"),
        move || spin(|| from_here.try_recv()),
    )
}

/// `recv` of flume parks at once.
fn flume(n: u64) -> Answer {
    let (there, from_here) = flume::unbounded();
    let (back, from_there) = flume::unbounded();
    measure_threads(
        n,
        |ball| there.send(ball).expect("the other side is there"),
        || from_there.recv(),
        move |ball| back.send(ball).expect("the caller is there"),
        move || from_here.recv(),
    )
}

fn flume_spinning(n: u64) -> Answer {
    use flume::{Receiver, TryRecvError, unbounded};

    let (there, from_here) = unbounded();
    let (back, from_there) = unbounded();
    let look = |receiver: &Receiver<u64>| match receiver.try_recv() {
        Err(TryRecvError::Empty) => Ok(None),
        other => other.map(Some),
    };
    measure_threads(
        n,
        |ball| there.send(ball).expect("the other side is there"),
        || spin(|| look(&from_there)),
        move |ball| back.send(ball).expect("the caller is there"),
        move || spin(|| look(&from_here)),
    )
}

/// A game between the executors with these handles.
type Game = fn(u64, &Handle, &Handle) -> Answer;

/// Both players on one thread.
fn on_one_thread(n: u64, game: Game) -> Answer {
    let there = TokioThread::start();
    game(n, there.handle(), there.handle())
}

/// Each player on a thread of its own.
fn on_two_threads(n: u64, game: Game) -> Answer {
    let (there, elsewhere) = (TokioThread::start(), TokioThread::start());
    game(n, there.handle(), elsewhere.handle())
}

/// Both players where an executor of two workers thinks best.
fn on_two_workers(n: u64, game: Game) -> Answer {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    game(n, runtime.handle(), runtime.handle())
}

fn tokio(n: u64, on: &Handle, other: &Handle) -> Answer {
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    async fn play(
        mut player: Player,
        mut receiver: UnboundedReceiver<u64>,
        sender: UnboundedSender<u64>,
    ) {
        while let Some(ball) = receiver.recv().await {
            match player.hit(ball) {
                Some(ball) => sender.send(ball).expect("the other player is there"),
                None => return,
            }
        }
    }

    let (first, second, outcome) = Player::pair(n);
    let (to_first, at_first) = unbounded_channel();
    let (to_second, at_second) = unbounded_channel();
    on.spawn(play(first, at_first, to_second));
    other.spawn(play(second, at_second, to_first.clone()));
    measure(&outcome, || {
        to_first.send(0).expect("the first player is there");
    })
}

/// A player that learns from the first message who the other one is.
struct Seat<A> {
    player: Player,
    other: Option<A>,
}

struct Ball(u64);

struct Meet<A>(A);

mod kameo_seat {
    use kameo::{
        Actor,
        actor::ActorRef,
        error::Infallible,
        message::{Context, Message},
    };

    use super::{Ball, Meet, Seat};

    pub(super) struct KameoSeat(pub(super) Seat<ActorRef<KameoSeat>>);

    impl Actor for KameoSeat {
        type Args = Self;
        type Error = Infallible;

        async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
            Ok(args)
        }
    }

    impl Message<Meet<ActorRef<Self>>> for KameoSeat {
        type Reply = ();

        async fn handle(&mut self, meet: Meet<ActorRef<Self>>, _: &mut Context<Self, ()>) {
            self.0.other = Some(meet.0);
        }
    }

    impl Message<Ball> for KameoSeat {
        type Reply = ();

        async fn handle(&mut self, Ball(ball): Ball, _: &mut Context<Self, ()>) {
            if let (Some(ball), Some(other)) = (self.0.player.hit(ball), &self.0.other) {
                other
                    .tell(Ball(ball))
                    .try_send()
                    .expect("the other player is there");
            }
        }
    }
}

fn kameo(n: u64, on: &Handle, other: &Handle) -> Answer {
    use kameo::{actor::Spawn as _, mailbox};
    use kameo_seat::KameoSeat;

    let (first, second, outcome) = Player::pair(n);
    let start = |on: &Handle, player| {
        let _on = on.enter();
        KameoSeat::spawn_with_mailbox(
            KameoSeat(Seat {
                player,
                other: None,
            }),
            mailbox::unbounded(),
        )
    };
    let (first, second) = (start(on, first), start(other, second));
    // `ask`, so that both know each other before the stopwatch starts.
    first.ask(Meet(second.clone())).blocking_send()?;
    second.ask(Meet(first.clone())).blocking_send()?;
    let measured = measure(&outcome, || {
        first
            .tell(Ball(0))
            .try_send()
            .expect("the first player is there");
    });
    // They hold each other's address, so neither would end by itself.
    first.kill();
    second.kill();
    measured
}

mod ractor_seat {
    use ractor::{Actor, ActorProcessingErr, ActorRef};

    use super::Seat;
    use mproc_benches::ping_pong::Player;

    pub(super) struct RactorSeat;

    pub(super) enum Message {
        Meet(ActorRef<Message>),
        Ball(u64),
    }

    impl Actor for RactorSeat {
        type Msg = Message;
        type State = Seat<ActorRef<Message>>;
        type Arguments = Player;

        async fn pre_start(
            &self,
            _: ActorRef<Message>,
            player: Player,
        ) -> Result<Self::State, ActorProcessingErr> {
            Ok(Seat {
                player,
                other: None,
            })
        }

        async fn handle(
            &self,
            _: ActorRef<Message>,
            message: Message,
            seat: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            match message {
                Message::Meet(other) => seat.other = Some(other),
                Message::Ball(ball) => {
                    if let (Some(ball), Some(other)) = (seat.player.hit(ball), &seat.other) {
                        other.cast(Message::Ball(ball))?;
                    }
                }
            }
            Ok(())
        }
    }
}

fn ractor(n: u64, on: &Handle, other: &Handle) -> Answer {
    use ractor::Actor as _;
    use ractor_seat::{Message, RactorSeat};

    let (first, second, outcome) = Player::pair(n);
    let (first, _) = on.block_on(RactorSeat::spawn(None, RactorSeat, first))?;
    let (second, _) = other.block_on(RactorSeat::spawn(None, RactorSeat, second))?;
    first.cast(Message::Meet(second.clone()))?;
    second.cast(Message::Meet(first.clone()))?;
    let measured = measure(&outcome, || {
        first
            .cast(Message::Ball(0))
            .expect("the first player is there");
    });
    first.kill();
    second.kill();
    measured
}

mod actix_seat {
    use actix::{Actor, Addr, Context, Handler, Message};

    use super::{Ball, Meet, Seat};

    pub(super) struct ActixSeat(pub(super) Seat<Addr<ActixSeat>>);

    impl Actor for ActixSeat {
        type Context = Context<Self>;
    }

    impl Message for Ball {
        type Result = ();
    }

    impl Message for Meet<Addr<ActixSeat>> {
        type Result = ();
    }

    impl Handler<Meet<Addr<Self>>> for ActixSeat {
        type Result = ();

        fn handle(&mut self, meet: Meet<Addr<Self>>, _: &mut Context<Self>) {
            self.0.other = Some(meet.0);
        }
    }

    impl Handler<Ball> for ActixSeat {
        type Result = ();

        fn handle(&mut self, Ball(ball): Ball, _: &mut Context<Self>) {
            if let (Some(ball), Some(other)) = (self.0.player.hit(ball), &self.0.other) {
                other.do_send(Ball(ball));
            }
        }
    }
}

fn actix(n: u64, arbiters: usize) -> Answer {
    use actix::Actor as _;
    use actix_seat::ActixSeat;

    let there = ActixThreads::start(arbiters);
    let (first, second, outcome) = Player::pair(n);
    let start = |arbiter, player| {
        ActixSeat::start_in_arbiter(there.arbiter(arbiter), |_| {
            ActixSeat(Seat {
                player,
                other: None,
            })
        })
    };
    let (first, second) = (start(0, first), start(arbiters - 1, second));
    first.do_send(Meet(second.clone()));
    second.do_send(Meet(first.clone()));
    measure(&outcome, || first.do_send(Ball(0)))
}
