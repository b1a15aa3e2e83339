//! `ring` by the peers.

use std::error::Error;

use mproc_benches::{
    harness::{Answer, Workload},
    ring::{Member, ONE_THREAD, POOL, RING, SIZE, measure},
};
use tokio::runtime::Handle;

use crate::executors::{ActixThreads, TokioThread, at_once, two_workers};

pub(crate) fn workloads() -> Vec<Workload> {
    let by = |who, variant, n, run| Workload {
        question: &RING,
        who,
        variant,
        n,
        run,
    };
    vec![
        by("tokio", POOL, 1_000_000, |n| on_two_workers(n, tokio)),
        by("actix", POOL, 1_000_000, |n| actix(n, 2)),
        by("kameo", POOL, 200_000, |n| on_two_workers(n, kameo)),
        by("ractor", POOL, 200_000, |n| on_two_workers(n, ractor)),
        by("xtra", POOL, 200_000, |n| on_two_workers(n, xtra)),
        by("tokio", ONE_THREAD, 1_000_000, |n| on_one_thread(n, tokio)),
        by("actix", ONE_THREAD, 1_000_000, |n| actix(n, 1)),
        by("kameo", ONE_THREAD, 200_000, |n| on_one_thread(n, kameo)),
        by("ractor", ONE_THREAD, 200_000, |n| on_one_thread(n, ractor)),
        by("xtra", ONE_THREAD, 200_000, |n| on_one_thread(n, xtra)),
    ]
}

type Way = fn(u64, &Handle) -> Answer;

fn on_one_thread(n: u64, way: Way) -> Answer {
    let there = TokioThread::start();
    way(n, there.handle())
}

fn on_two_workers(n: u64, way: Way) -> Answer {
    let runtime = two_workers()?;
    way(n, runtime.handle())
}

fn tokio(n: u64, on: &Handle) -> Answer {
    use tokio::sync::mpsc::unbounded_channel;

    let (members, outcome) = Member::ring(n);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..SIZE).map(|_| unbounded_channel()).unzip();
    let nexts = senders.clone().into_iter().cycle().skip(1);
    for ((mut member, mut receiver), next) in members.into_iter().zip(receivers).zip(nexts) {
        on.spawn(async move {
            while let Some(hop) = receiver.recv().await {
                if let Some(hop) = member.take(hop) {
                    next.send(hop).expect("the next member is there");
                }
            }
        });
    }
    measure(&outcome, || {
        senders[0].send(0).expect("the first member is there");
    })
}

/// A member that learns from a message who the next one is.
struct Seat<A> {
    member: Member,
    next: Option<A>,
}

impl<A> Seat<A> {
    fn new(member: Member) -> Self {
        Self { member, next: None }
    }
}

struct Hop(u64);

struct Meet<A>(A);

/// Each with the one after it, the last with the first.
fn pairs<A>(seats: &[A]) -> impl Iterator<Item = (&A, &A)> {
    seats.iter().zip(seats.iter().cycle().skip(1))
}

mod kameo_seat {
    use kameo::{
        Actor,
        actor::ActorRef,
        error::Infallible,
        message::{Context, Message},
    };

    use super::{Hop, Meet, Seat};

    pub(super) struct KameoSeat(pub(super) Seat<ActorRef<Self>>);

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
            self.0.next = Some(meet.0);
        }
    }

    impl Message<Hop> for KameoSeat {
        type Reply = ();

        async fn handle(&mut self, Hop(hop): Hop, _: &mut Context<Self, ()>) {
            if let (Some(hop), Some(next)) = (self.0.member.take(hop), &self.0.next) {
                let sent = next.tell(Hop(hop)).try_send();
                sent.expect("the next member is there");
            }
        }
    }
}

fn kameo(n: u64, on: &Handle) -> Answer {
    use kameo::{actor::Spawn as _, mailbox};
    use kameo_seat::KameoSeat;

    let _on = on.enter();
    let (members, outcome) = Member::ring(n);
    let seats: Vec<_> = members
        .into_iter()
        .map(|member| {
            KameoSeat::spawn_with_mailbox(KameoSeat(Seat::new(member)), mailbox::unbounded())
        })
        .collect();
    for (seat, next) in pairs(&seats) {
        seat.ask(Meet(next.clone())).blocking_send()?;
    }
    let measured = measure(&outcome, || {
        let sent = seats[0].tell(Hop(0)).try_send();
        sent.expect("the first member is there");
    });
    // They hold each other's address, so none would end by itself.
    seats.iter().for_each(|seat| seat.kill());
    measured
}

mod ractor_seat {
    use mproc_benches::ring::Member;
    use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

    use super::Seat;

    pub(super) struct RactorSeat;

    pub(super) enum Message {
        Meet(ActorRef<Message>, RpcReplyPort<()>),
        Hop(u64),
    }

    impl Actor for RactorSeat {
        type Msg = Message;
        type State = Seat<ActorRef<Message>>;
        type Arguments = Member;

        async fn pre_start(
            &self,
            _: ActorRef<Message>,
            member: Member,
        ) -> Result<Self::State, ActorProcessingErr> {
            Ok(Seat::new(member))
        }

        async fn handle(
            &self,
            _: ActorRef<Message>,
            message: Message,
            seat: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            match message {
                Message::Meet(next, reply) => {
                    seat.next = Some(next);
                    reply.send(())?;
                }
                Message::Hop(hop) => {
                    if let (Some(hop), Some(next)) = (seat.member.take(hop), &seat.next) {
                        next.cast(Message::Hop(hop))?;
                    }
                }
            }
            Ok(())
        }
    }
}

fn ractor(n: u64, on: &Handle) -> Answer {
    use ractor::Actor as _;
    use ractor_seat::{Message, RactorSeat};

    let (members, outcome) = Member::ring(n);
    let seats = on.block_on(async {
        let mut seats = Vec::new();
        for member in members {
            seats.push(RactorSeat::spawn(None, RactorSeat, member).await?.0);
        }
        for (seat, next) in pairs(&seats) {
            seat.call(|reply| Message::Meet(next.clone(), reply), None)
                .await?;
        }
        Ok::<_, Box<dyn Error>>(seats)
    })?;
    let measured = measure(&outcome, || {
        seats[0]
            .cast(Message::Hop(0))
            .expect("the first member is there");
    });
    seats.iter().for_each(|seat| seat.kill());
    measured
}

mod xtra_seat {
    use xtra::{Actor, Address, Context, Handler};

    use super::{Hop, Meet, Seat};

    pub(super) struct XtraSeat(pub(super) Seat<Address<Self>>);

    impl Actor for XtraSeat {
        type Stop = ();

        async fn stopped(self) {}
    }

    impl Handler<Meet<Address<Self>>> for XtraSeat {
        type Return = ();

        async fn handle(&mut self, meet: Meet<Address<Self>>, _: &mut Context<Self>) {
            self.0.next = Some(meet.0);
        }
    }

    impl Handler<Hop> for XtraSeat {
        type Return = ();

        async fn handle(&mut self, Hop(hop): Hop, _: &mut Context<Self>) {
            if let (Some(hop), Some(next)) = (self.0.member.take(hop), &self.0.next) {
                let sent = next.send(Hop(hop)).detach().await;
                let _ = sent.expect("the next member is there");
            }
        }
    }
}

fn xtra(n: u64, on: &Handle) -> Answer {
    use xtra::Mailbox;
    use xtra_seat::XtraSeat;

    let _on = on.enter();
    let (members, outcome) = Member::ring(n);
    let seats: Vec<_> = members
        .into_iter()
        .map(|member| xtra::spawn_tokio(XtraSeat(Seat::new(member)), Mailbox::unbounded()))
        .collect();
    for (seat, next) in pairs(&seats) {
        on.block_on(seat.send(Meet(next.clone())))?;
    }
    measure(&outcome, || {
        let sent = at_once(seats[0].send(Hop(0)).detach());
        let _ = sent.expect("the first member is there");
    })
}

mod actix_seat {
    use actix::{Actor, Addr, Context, Handler, Message};

    use super::{Hop, Meet, Seat};

    pub(super) struct ActixSeat(pub(super) Seat<Addr<Self>>);

    impl Actor for ActixSeat {
        type Context = Context<Self>;
    }

    impl Message for Hop {
        type Result = ();
    }

    impl Message for Meet<Addr<ActixSeat>> {
        type Result = ();
    }

    impl Handler<Meet<Addr<Self>>> for ActixSeat {
        type Result = ();

        fn handle(&mut self, meet: Meet<Addr<Self>>, _: &mut Context<Self>) {
            self.0.next = Some(meet.0);
        }
    }

    impl Handler<Hop> for ActixSeat {
        type Result = ();

        fn handle(&mut self, Hop(hop): Hop, _: &mut Context<Self>) {
            if let (Some(hop), Some(next)) = (self.0.member.take(hop), &self.0.next) {
                next.do_send(Hop(hop));
            }
        }
    }
}

/// Its actors stay on their arbiter, so of two arbiters each has one half of the ring: the token crosses twice a round.
fn actix(n: u64, arbiters: usize) -> Answer {
    use actix::Actor as _;
    use actix_seat::ActixSeat;

    let there = ActixThreads::start(arbiters);
    let (members, outcome) = Member::ring(n);
    let share = members.len().div_ceil(arbiters);
    let seats: Vec<_> = members
        .into_iter()
        .enumerate()
        .map(|(index, member)| {
            ActixSeat::start_in_arbiter(there.arbiter(index / share), |_| {
                ActixSeat(Seat::new(member))
            })
        })
        .collect();
    let waiter = TokioThread::start();
    for (seat, next) in pairs(&seats) {
        waiter.handle().block_on(seat.send(Meet(next.clone())))?;
    }
    measure(&outcome, || seats[0].do_send(Hop(0)))
}
