//! `call_three_ways` by the peers. None of them goes on in the handler that asked, so there is no `then`.

use std::thread;

use kameo::actor::Spawn as _;
use mproc_benches::{
    call::{measure, reply_to},
    call_ways::{THREE_WAYS, measure_async},
    harness::{Answer, Workload},
};
use tokio::sync::{mpsc, oneshot};

use crate::executors::{TokioThread, here};

pub(crate) fn workloads() -> Vec<Workload> {
    let by = |who, variant, n, run| Workload {
        question: &THREE_WAYS,
        who,
        variant,
        n,
        run,
    };
    vec![
        by("tokio", "wait", 5_000, tokio_wait),
        by("tokio", "await", 5_000, tokio_await),
        by("flume", "wait", 5_000, flume_wait),
        by("flume", "await", 5_000, flume_await),
        by("kanal", "wait", 200_000, kanal_wait),
        by("kanal", "await", 5_000, kanal_await),
        by("kameo", "wait", 5_000, kameo_wait),
        by("kameo", "await", 5_000, kameo_await),
    ]
}

type Asked = (u64, oneshot::Sender<u64>);

/// A task, and a `oneshot` in each request: the form of tokio's own tutorial.
fn tokio_server() -> (TokioThread, mpsc::UnboundedSender<Asked>) {
    let there = TokioThread::start();
    let (sender, mut receiver) = mpsc::unbounded_channel::<Asked>();
    there.handle().spawn(async move {
        while let Some((request, back)) = receiver.recv().await {
            back.send(reply_to(request)).expect("the caller waits");
        }
    });
    (there, sender)
}

fn tokio_wait(n: u64) -> Answer {
    let (_there, sender) = tokio_server();
    measure(n, |request| {
        let (back, reply) = oneshot::channel();
        sender.send((request, back)).expect("the task is there");
        reply.blocking_recv()
    })
}

fn tokio_await(n: u64) -> Answer {
    let (_there, sender) = tokio_server();
    here().block_on(measure_async(n, async |request| {
        let (back, reply) = oneshot::channel();
        sender.send((request, back)).expect("the task is there");
        reply.await
    }))
}

/// The way back is a channel that the caller keeps and clones into each request.
fn flume_wait(n: u64) -> Answer {
    flume_by(n, |n, sender, back, replies| {
        measure(n, |request| {
            sender
                .send((request, back.clone()))
                .expect("the server is there");
            replies.recv()
        })
    })
}

fn flume_await(n: u64) -> Answer {
    flume_by(n, |n, sender, back, replies| {
        here().block_on(measure_async(n, async |request| {
            sender
                .send((request, back.clone()))
                .expect("the server is there");
            replies.recv_async().await
        }))
    })
}

type FlumeAsked = (u64, flume::Sender<u64>);

fn flume_by(
    n: u64,
    ask: impl FnOnce(
        u64,
        &flume::Sender<FlumeAsked>,
        &flume::Sender<u64>,
        &flume::Receiver<u64>,
    ) -> Answer,
) -> Answer {
    let (sender, receiver) = flume::unbounded::<FlumeAsked>();
    let server = thread::spawn(move || {
        for (request, back) in receiver {
            back.send(reply_to(request)).expect("the caller waits");
        }
    });
    let (back, replies) = flume::bounded(1);
    let measured = ask(n, &sender, &back, &replies);
    drop(sender);
    server.join().map_err(|_| "the server panicked")?;
    measured
}

/// As for flume.
fn kanal_wait(n: u64) -> Answer {
    kanal_by(n, |n, sender, back, replies| {
        measure(n, |request| {
            sender
                .send((request, back.clone()))
                .expect("the server is there");
            replies.recv()
        })
    })
}

fn kanal_await(n: u64) -> Answer {
    kanal_by(n, |n, sender, back, replies| {
        let replies = replies.clone_async();
        here().block_on(measure_async(n, async |request| {
            sender
                .send((request, back.clone()))
                .expect("the server is there");
            replies.recv().await
        }))
    })
}

type KanalAsked = (u64, kanal::Sender<u64>);

fn kanal_by(
    n: u64,
    ask: impl FnOnce(
        u64,
        &kanal::Sender<KanalAsked>,
        &kanal::Sender<u64>,
        &kanal::Receiver<u64>,
    ) -> Answer,
) -> Answer {
    let (sender, receiver) = kanal::unbounded::<KanalAsked>();
    let server = thread::spawn(move || {
        for (request, back) in receiver {
            back.send(reply_to(request)).expect("the caller waits");
        }
    });
    let (back, replies) = kanal::bounded(1);
    let measured = ask(n, &sender, &back, &replies);
    drop(sender);
    server.join().map_err(|_| "the server panicked")?;
    measured
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

fn kameo_server() -> (TokioThread, kameo::actor::ActorRef<Server>) {
    let there = TokioThread::start();
    let actor = {
        let _on = there.handle().enter();
        Server::spawn(Server)
    };
    (there, actor)
}

fn kameo_wait(n: u64) -> Answer {
    let (_there, actor) = kameo_server();
    measure(n, |request| {
        let reply = actor.ask(Request(request)).blocking_send();
        reply.map_err(|error| error.to_string())
    })
}

fn kameo_await(n: u64) -> Answer {
    let (_there, actor) = kameo_server();
    here().block_on(measure_async(n, async |request| {
        let reply = actor.ask(Request(request)).await;
        reply.map_err(|error| error.to_string())
    }))
}
