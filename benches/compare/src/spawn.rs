//! `spawn` by the peers. Their actors have no names.

use std::error::Error;

use mproc_benches::{
    alone,
    harness::{Answer, Workload},
    processes::Side,
    spawn::{
        HUNDRED_K, HUNDRED_K_NAME, MILLION, MILLION_NAME, One, SPAWN, TO_END_NAME, Until, measure,
    },
};

use crate::executors::{ActixThreads, at_once, two_workers};

/// Who answers, by which function, and the names of its two processes.
macro_rules! peers {
    ($($who:ident $million:literal)*) => {
        /// kameo and ractor need 7 GB and more for a million, so they are asked for the tenth of it only.
        pub(crate) fn workloads() -> Vec<Workload> {
            let mut all = Vec::new();
            $({
                let by = |variant, n, run| Workload {
                    question: &SPAWN,
                    who: stringify!($who),
                    variant,
                    n,
                    run,
                };
                all.push(by(HUNDRED_K_NAME, HUNDRED_K, |n| {
                    alone::ask(concat!(stringify!($who), "/spawn"), n)
                }));
                if $million {
                    all.push(by(MILLION_NAME, MILLION, |n| {
                        alone::ask(concat!(stringify!($who), "/spawn"), n)
                    }));
                }
                all.push(by(TO_END_NAME, HUNDRED_K, |n| {
                    alone::ask(concat!(stringify!($who), "/spawn_to_end"), n)
                }));
            })*
            all
        }

        pub(crate) fn sides() -> Vec<Side> {
            vec![$(
                Side {
                    name: concat!(stringify!($who), "/spawn"),
                    run: |here| alone::answer(here, |n| $who(n, Until::Handled)),
                },
                Side {
                    name: concat!(stringify!($who), "/spawn_to_end"),
                    run: |here| alone::answer(here, |n| $who(n, Until::Ended)),
                },
            )*]
        }
    };
}

peers! {
    tokio true
    actix true
    xtra true
    kameo false
    ractor false
}

/// A task that takes from its channel until nobody can send to it.
fn tokio(n: u64, until: Until) -> Answer {
    let runtime = two_workers()?;
    measure(
        n,
        until,
        || {
            Ok((0..n)
                .map(|number| {
                    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
                    runtime.spawn(async move {
                        let mut one = One::new(number);
                        while let Some(number) = receiver.recv().await {
                            one.take(number);
                        }
                    });
                    sender
                })
                .collect())
        },
        |sender, number| Ok(sender.send(number)?),
        drop,
    )
}

struct Number(u64);

/// Wraps [`One`], since each crate wants a type of this one.
struct Actor(One);

mod actix_one {
    use actix::{Context, Handler, Message};

    use super::{Actor, Number};

    impl actix::Actor for Actor {
        type Context = Context<Self>;
    }

    impl Message for Number {
        type Result = ();
    }

    impl Handler<Number> for Actor {
        type Result = ();

        fn handle(&mut self, Number(number): Number, _: &mut Context<Self>) {
            self.0.take(number);
        }
    }
}

/// Each of two arbiters starts one half by itself, which was faster than asking it for each. An actor stops when it has no
/// address any more.
fn actix(n: u64, until: Until) -> Answer {
    use actix::Actor as _;

    let there = ActixThreads::start(2);
    measure(
        n,
        until,
        || {
            let halves = [0..n / 2, n / 2..n].into_iter().enumerate();
            let halves: Vec<_> = halves
                .map(|(arbiter, numbers)| {
                    let (give, take) = std::sync::mpsc::channel();
                    there.arbiter(arbiter).spawn_fn(move || {
                        let start = |number| Actor(One::new(number)).start();
                        let _ = give.send(numbers.map(start).collect::<Vec<_>>());
                    });
                    take
                })
                .collect();
            let mut all = Vec::new();
            for half in halves {
                all.append(&mut half.recv()?);
            }
            Ok(all)
        },
        |address, number| {
            address.do_send(Number(number));
            Ok(())
        },
        drop,
    )
}

mod xtra_one {
    use xtra::{Context, Handler};

    use super::{Actor, Number};

    impl xtra::Actor for Actor {
        type Stop = ();

        async fn stopped(self) {}
    }

    impl Handler<Number> for Actor {
        type Return = ();

        async fn handle(&mut self, Number(number): Number, _: &mut Context<Self>) {
            self.0.take(number);
        }
    }
}

fn xtra(n: u64, until: Until) -> Answer {
    let runtime = two_workers()?;
    let _on = runtime.enter();
    measure(
        n,
        until,
        || {
            let spawn =
                |number| xtra::spawn_tokio(Actor(One::new(number)), xtra::Mailbox::unbounded());
            Ok((0..n).map(spawn).collect())
        },
        |address, number| {
            let _reply = at_once(address.send(Number(number)).detach())?;
            Ok(())
        },
        drop,
    )
}

mod kameo_one {
    use kameo::{
        actor::ActorRef,
        error::Infallible,
        message::{Context, Message},
    };

    use super::{Actor, Number};

    impl kameo::Actor for Actor {
        type Args = Self;
        type Error = Infallible;

        async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
            Ok(args)
        }
    }

    impl Message<Number> for Actor {
        type Reply = ();

        async fn handle(&mut self, Number(number): Number, _: &mut Context<Self, ()>) {
            self.0.take(number);
        }
    }
}

fn kameo(n: u64, until: Until) -> Answer {
    use kameo::{actor::Spawn as _, mailbox};

    let runtime = two_workers()?;
    let _on = runtime.enter();
    measure(
        n,
        until,
        || {
            let spawn =
                |number| Actor::spawn_with_mailbox(Actor(One::new(number)), mailbox::unbounded());
            Ok((0..n).map(spawn).collect())
        },
        |actor, number| {
            actor
                .tell(Number(number))
                .try_send()
                .map_err(|error| error.to_string())?;
            Ok(())
        },
        |actor| actor.kill(),
    )
}

mod ractor_one {
    use mproc_benches::spawn::One;
    use ractor::{Actor, ActorProcessingErr, ActorRef};

    pub(super) struct RactorOne;

    impl Actor for RactorOne {
        type Msg = u64;
        type State = One;
        type Arguments = One;

        async fn pre_start(&self, _: ActorRef<u64>, one: One) -> Result<One, ActorProcessingErr> {
            Ok(one)
        }

        async fn handle(
            &self,
            _: ActorRef<u64>,
            number: u64,
            one: &mut One,
        ) -> Result<(), ActorProcessingErr> {
            one.take(number);
            Ok(())
        }
    }
}

fn ractor(n: u64, until: Until) -> Answer {
    use ractor::Actor as _;
    use ractor_one::RactorOne;

    let runtime = two_workers()?;
    measure(
        n,
        until,
        || {
            runtime.block_on(async {
                let mut all = Vec::new();
                for number in 0..n {
                    all.push(RactorOne::spawn(None, RactorOne, One::new(number)).await?.0);
                }
                Ok::<_, Box<dyn Error>>(all)
            })
        },
        |actor, number| Ok(actor.cast(number)?),
        |actor| actor.stop(None),
    )
}
