//! `call_from_thread` by the peers.

use std::thread;

use kameo::actor::Spawn as _;
use mproc_benches::{
    call::{FROM_THREAD, measure, reply_to},
    harness::{Answer, Workload},
};

use crate::{
    executors::{ActixThreads, TokioThread},
    ping_pong::limit,
};

pub(crate) fn workloads() -> Vec<Workload> {
    let by = |who, variant, n, run| Workload {
        question: &FROM_THREAD,
        who,
        variant,
        n,
        run,
    };
    vec![
        by("limit", "default", 1_500_000, |n| {
            limit_call(n, limit::SPINS)
        }),
        by("crossbeam", "default", 200_000, crossbeam),
        by("std", "default", 5_000, std),
        by("kanal", "default", 200_000, kanal),
        by("flume", "default", 5_000, flume),
        by("tokio", "default", 5_000, tokio),
        by("kameo", "default", 5_000, kameo),
        by("ractor", "default", 5_000, ractor),
        by("actix", "default", 5_000, actix),
        by("limit", "parked", 5_000, |n| limit_call(n, 0)),
    ]
}

/// The bare hand-over: one word each way.
fn limit_call(n: u64, spins: u32) -> Answer {
    let (here, there) = limit::table(spins);
    let server = thread::spawn(move || {
        while let Some(request) = there.take() {
            there.put(reply_to(request));
        }
    });
    let measured = measure(n, |request| {
        here.put(request);
        here.take().ok_or("the other side is gone")
    });
    here.end();
    server.join().map_err(|_| "the other side panicked")?;
    measured
}

/// The way back is a channel that the caller keeps and clones into each request.
fn crossbeam(n: u64) -> Answer {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let server = thread::spawn(move || {
        for (request, back) in receiver {
            let back: crossbeam_channel::Sender<u64> = back;
            back.send(reply_to(request)).expect("the caller waits");
        }
    });
    let (back, replies) = crossbeam_channel::bounded(1);
    let measured = measure(n, |request| {
        sender
            .send((request, back.clone()))
            .expect("the server is there");
        replies.recv()
    });
    drop(sender);
    server.join().map_err(|_| "the server panicked")?;
    measured
}

/// As for crossbeam.
fn std(n: u64) -> Answer {
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = thread::spawn(move || {
        for (request, back) in receiver {
            let back: std::sync::mpsc::SyncSender<u64> = back;
            back.send(reply_to(request)).expect("the caller waits");
        }
    });
    let (back, replies) = std::sync::mpsc::sync_channel(1);
    let measured = measure(n, |request| {
        sender
            .send((request, back.clone()))
            .expect("the server is there");
        replies.recv()
    });
    drop(sender);
    server.join().map_err(|_| "the server panicked")?;
    measured
}

/// As for crossbeam.
fn kanal(n: u64) -> Answer {
    let (sender, receiver) = kanal::unbounded();
    let server = thread::spawn(move || {
        for (request, back) in receiver {
            let back: kanal::Sender<u64> = back;
            back.send(reply_to(request)).expect("the caller waits");
        }
    });
    let (back, replies) = kanal::bounded(1);
    let measured = measure(n, |request| {
        sender
            .send((request, back.clone()))
            .expect("the server is there");
        replies.recv()
    });
    drop(sender);
    server.join().map_err(|_| "the server panicked")?;
    measured
}

/// As for crossbeam.
fn flume(n: u64) -> Answer {
    let (sender, receiver) = flume::unbounded();
    let server = thread::spawn(move || {
        for (request, back) in receiver {
            let back: flume::Sender<u64> = back;
            back.send(reply_to(request)).expect("the caller waits");
        }
    });
    let (back, replies) = flume::bounded(1);
    let measured = measure(n, |request| {
        sender
            .send((request, back.clone()))
            .expect("the server is there");
        replies.recv()
    });
    drop(sender);
    server.join().map_err(|_| "the server panicked")?;
    measured
}

/// A task, and a `oneshot` in each request: the form of tokio's own tutorial.
fn tokio(n: u64) -> Answer {
    use tokio::sync::{mpsc, oneshot};

    let there = TokioThread::start();
    let (sender, mut receiver) = mpsc::unbounded_channel::<(u64, oneshot::Sender<u64>)>();
    there.handle().spawn(async move {
        while let Some((request, back)) = receiver.recv().await {
            back.send(reply_to(request)).expect("the caller waits");
        }
    });
    measure(n, |request| {
        let (back, reply) = oneshot::channel();
        sender.send((request, back)).expect("the task is there");
        reply.blocking_recv()
    })
}

struct Server;

struct Request(u64);

impl kameo::Actor for Server {
    type Args = Self;
    type Error = kameo::error::Infallible;

    async fn on_start(
        args: Self,
        _: kameo::actor::ActorRef<Self>,
    ) -> Result<Self, kameo::error::Infallible> {
        Ok(args)
    }
}

impl kameo::message::Message<Request> for Server {
    type Reply = u64;

    async fn handle(
        &mut self,
        Request(request): Request,
        _: &mut kameo::message::Context<Self, u64>,
    ) -> u64 {
        reply_to(request)
    }
}

fn kameo(n: u64) -> Answer {
    let there = TokioThread::start();
    let actor = {
        let _on = there.handle().enter();
        Server::spawn(Server)
    };
    measure(n, |request| {
        actor
            .ask(Request(request))
            .blocking_send()
            .map_err(|error| error.to_string())
    })
}

type RactorRequest = (u64, ractor::RpcReplyPort<u64>);

impl ractor::Actor for Server {
    type Msg = RactorRequest;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ractor::ActorRef<RactorRequest>,
        (): (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<RactorRequest>,
        (request, back): RactorRequest,
        (): &mut (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        back.send(reply_to(request))?;
        Ok(())
    }
}

/// ractor has no call for plain threads, so the thread waits for the future of `call`.
fn ractor(n: u64) -> Answer {
    let there = TokioThread::start();
    let handle = there.handle();
    let (actor, _) = handle.block_on(ractor::Actor::spawn(None, Server, ()))?;
    measure(n, |request| {
        handle
            .block_on(actor.call(|back| (request, back), None))
            .map_err(|error| error.to_string())?
            .success_or("no reply")
            .map_err(str::to_owned)
    })
}

impl actix::Message for Request {
    type Result = u64;
}

impl actix::Actor for Server {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Request> for Server {
    type Result = u64;

    fn handle(&mut self, Request(request): Request, _: &mut actix::Context<Self>) -> u64 {
        reply_to(request)
    }
}

/// actix has no call for plain threads, so the thread waits for the future of `send`.
fn actix(n: u64) -> Answer {
    use actix::Actor as _;

    let there = ActixThreads::start(1);
    let waiting = TokioThread::start();
    let actor = Server::start_in_arbiter(there.arbiter(0), |_| Server);
    measure(n, |request| {
        waiting.handle().block_on(actor.send(Request(request)))
    })
}
