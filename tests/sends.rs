//! Who sends to whom: what counts, as whose, and while whom.

use mproc::prelude::*;
use mproc::{
    AsyncProcessor, CallError, Exit, HandleAsync, Options, Permit, SendWatch, TrySendError,
    WhenFull,
};
use std::collections::BTreeMap;

fn node(seed: u64) -> Node {
    Node::simulated_with(seed, Options::default())
}

/// `a -> b` and how often; the program has no name.
fn sends(watch: &SendWatch) -> BTreeMap<String, u64> {
    let sends = watch.sends().into_iter();
    sends
        .map(|send| {
            let from = send.from.unwrap_or_default();
            (format!("{from} -> {}", send.to), send.count)
        })
        .collect()
}

fn wanted<const N: usize>(edges: [(&str, u64); N]) -> BTreeMap<String, u64> {
    edges.map(|(edge, count)| (edge.to_owned(), count)).into()
}

/// Takes numbers and gives them back.
struct Sink;

impl Processor for Sink {}

impl Handle<u8> for Sink {
    type Reply = u8;

    fn handle(&mut self, n: u8, _: &mut Cx<'_, Self, u8>) -> Outcome<u8> {
        Ok(n)
    }
}

/// Sends to a sink, in the ways that it is told.
struct Worker(Address<Sink>);

enum Do {
    Send(usize),
    TrySend,
    High,
    Permit(Permit<Sink>),
    Call,
    CallAndWait,
    Timer,
    ToItself,
}

impl Processor for Worker {}

impl Handle<Do> for Worker {
    type Reply = ();

    fn handle(&mut self, what: Do, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let sink = &self.0;
        match what {
            Do::Send(n) => (0..n).try_for_each(|_| sink.send(0))?,
            Do::TrySend => sink.try_send(0)?,
            Do::High => sink.high().send(0)?,
            Do::Permit(permit) => permit.send(0)?,
            Do::Call => sink.call(0).then(cx, |_, reply, _| {
                reply?;
                Ok(())
            }),
            Do::CallAndWait => drop(sink.call(0).wait()?),
            Do::Timer => drop(cx.after(Duration::from_secs(1), Do::Send(1))),
            Do::ToItself => cx.me().send(Do::Send(0))?,
        }
        Ok(())
    }
}

/// Hands on what comes.
struct Forwarder(Address<Sink>);

impl Processor for Forwarder {}

impl Handle<u8> for Forwarder {
    type Reply = u8;

    fn handle(&mut self, n: u8, cx: &mut Cx<'_, Self, u8>) -> Outcome<u8> {
        cx.forward(&self.0, n)
    }
}

#[test]
fn what_a_handler_sends_counts_once_by_each_way() {
    for on_pool in [false, true] {
        for seed in 0..10 {
            let node = node(seed);
            let sink = node.spawn_thread("sink", Sink).unwrap();
            let worker = Worker(sink.clone());
            let worker = match on_pool {
                true => node.spawn("worker", worker).unwrap(),
                false => node.spawn_thread("worker", worker).unwrap(),
            };
            let watch = node.watch_sends();
            let ways = [
                (Do::Send(3), 3),
                (Do::TrySend, 1),
                (Do::High, 1),
                (Do::Permit(sink.reserve().wait().unwrap()), 1),
                (Do::Call, 1),
                (Do::CallAndWait, 1),
                (Do::Timer, 1),
            ];
            let mut total = 0;
            for (n, (way, count)) in (1..).zip(ways) {
                worker.send(way).unwrap();
                node.advance(Duration::from_secs(2));
                total += count;
                let wanted = wanted([(" -> worker", n), ("worker -> sink", total)]);
                assert_eq!(sends(&watch), wanted);
            }
            assert_eq!(sink.snapshot().received, total);
            worker.send(Do::ToItself).unwrap();
            node.settle();
            assert_eq!(sends(&watch)["worker -> worker"], 1);
        }
    }
}

#[test]
fn what_is_sent_outside_of_handlers_is_the_programs() {
    let node = node(1);
    let options = MailboxOptions::bounded(2);
    let sink = node.spawn_thread_with("sink", options, Sink).unwrap();
    let watch = node.watch_sends();
    // The third waits for room.
    for _ in 0..3 {
        sink.send(0).unwrap();
    }
    sink.call(0).wait().unwrap();
    // These stand in line by themselves.
    let tickets: Vec<_> = (0..5).map(|_| sink.call(0).start()).collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    sink.reserve().wait().unwrap().send(0).unwrap();
    sink.send_timeout(0, Duration::from_secs(1)).unwrap();
    node.settle();
    assert_eq!(sends(&watch), wanted([(" -> sink", 11)]));
    assert_eq!(sink.snapshot().received, 11);
}

#[test]
fn what_is_given_back_does_not_count_and_what_is_dropped_does() {
    let node = node(1);
    let newest = MailboxOptions::bounded(1).when_full(WhenFull::DropNewest);
    let drops = node.spawn_thread_with("drops", newest, Sink).unwrap();
    let oldest = MailboxOptions::bounded(1).when_full(WhenFull::DropOldest);
    let evicts = node.spawn_thread_with("evicts", oldest, Sink).unwrap();
    let full = MailboxOptions::bounded(1).when_full(WhenFull::Fail);
    let full = node.spawn_thread_with("full", full, Sink).unwrap();
    let gone = node.spawn_thread("gone", Sink).unwrap();
    gone.stop();
    node.settle();
    let watch = node.watch_sends();
    for sink in [&drops, &evicts] {
        for _ in 0..3 {
            sink.send(0).unwrap();
        }
    }
    full.send(0).unwrap();
    assert!(full.send(0).is_err());
    assert!(matches!(full.try_send(0), Err(TrySendError::Full(0))));
    assert!(gone.send(0).is_err());
    assert!(matches!(gone.call(0).wait(), Err(CallError::Stopped(_))));
    drop(full.reserve());
    let all = [(" -> drops", 3), (" -> evicts", 3), (" -> full", 1)];
    assert_eq!(sends(&watch), wanted(all));
    node.settle();
    assert_eq!(sends(&watch), wanted(all));
}

#[test]
fn what_found_no_room_counts_as_its_senders_when_it_is_delivered() {
    for seed in 0..20 {
        let node = node(seed);
        let options = MailboxOptions::bounded(1);
        let sink = node.spawn_thread_with("sink", options, Sink).unwrap();
        let worker = node.spawn_thread("worker", Worker(sink.clone())).unwrap();
        let watch = node.watch_sends();
        worker.send(Do::Send(9)).unwrap();
        worker.send(Do::Call).unwrap();
        node.settle();
        let wanted = wanted([(" -> worker", 2), ("worker -> sink", 10)]);
        assert_eq!(sends(&watch), wanted);
    }
}

/// The thread of a stalled processor may be in the handler of its neighbour, and delivers from there.
#[test]
fn what_a_neighbours_handler_delivers_is_not_the_neighbours() {
    for seed in 0..40 {
        let node = node(seed);
        let options = MailboxOptions::bounded(1);
        let sink = node.spawn_thread_with("sink", options, Sink).unwrap();
        let driver = node.driver("driver").unwrap();
        let a = driver.spawn("a", Worker(sink.clone())).unwrap();
        let b = driver.spawn("b", Worker(sink.clone())).unwrap();
        let watch = node.watch_sends();
        a.send(Do::Send(5)).unwrap();
        b.send(Do::CallAndWait).unwrap();
        node.settle();
        let wanted = wanted([
            (" -> a", 1),
            (" -> b", 1),
            ("a -> sink", 5),
            ("b -> sink", 1),
        ]);
        assert_eq!(sends(&watch), wanted, "seed {seed}");
    }
}

#[test]
fn whoever_forwards_is_the_sender_and_replies_are_no_messages() {
    let node = node(1);
    let sink = node.spawn_thread("sink", Sink).unwrap();
    let forwarder = node.spawn_thread("forwarder", Forwarder(sink)).unwrap();
    let watch = node.watch_sends();
    assert_eq!(forwarder.call(7).wait().unwrap(), 7);
    forwarder.send(7).unwrap();
    node.settle();
    let wanted = wanted([(" -> forwarder", 2), ("forwarder -> sink", 2)]);
    assert_eq!(sends(&watch), wanted);
}

/// Sets its state from a future.
struct Late(u8, Address<Sink>);

impl Processor for Late {}

impl AsyncProcessor for Late {}

impl HandleAsync<u8> for Late {
    type Reply = ();

    fn handle_async(
        &mut self,
        n: u8,
        cx: &mut Cx<'_, Self>,
    ) -> impl Future<Output = Outcome<()>> + Send + 'static {
        let me = cx.async_handle();
        async move {
            me.update(move |late, _| late.0 += n).await?;
            Ok(())
        }
    }
}

impl HandleAsync<()> for Late {
    type Reply = u8;

    fn handle_async(
        &mut self,
        (): (),
        _: &mut Cx<'_, Self, u8>,
    ) -> impl Future<Output = Outcome<u8>> + Send + 'static {
        let sink = self.1.clone();
        async move { Ok(sink.call(3).await?) }
    }
}

#[test]
fn what_a_handlers_future_sends_is_its_processors() {
    let node = node(1);
    let sink = node.spawn_thread("sink", Sink).unwrap();
    let late = node.spawn_thread("late", Late(0, sink)).unwrap();
    let watch = node.watch_sends();
    assert_eq!(late.call(()).wait().unwrap(), 3);
    // Its update is part of the message.
    late.call(1).wait().unwrap();
    let wanted = wanted([(" -> late", 2), ("late -> sink", 1)]);
    assert_eq!(sends(&watch), wanted);
}

#[test]
fn members_of_one_driver_of_a_pool_and_of_a_group_are_told_apart() {
    let node = node(3);
    // The first members of a driver are kept otherwise than those that come later.
    let driver = node.driver("driver").unwrap();
    let spawn = |n| driver.spawn(&format!("sink {n}"), Sink).unwrap();
    let sinks: Vec<_> = (0..60).map(spawn).collect();
    let pool = node.pool("pool", 2).unwrap();
    let spawn = |n| pool.spawn(&format!("pooled {n}"), Sink).unwrap();
    let pooled: Vec<_> = (0..3).map(spawn).collect();
    let group = node.group::<u8>("all").unwrap();
    pooled.iter().for_each(|sink| assert!(group.join(sink)));
    let watch = node.watch_sends();
    for (n, sink) in (1..).zip(&sinks) {
        (0..n).for_each(|_| sink.send(0).unwrap());
        let worker = driver.spawn("worker", Worker(sink.clone())).unwrap();
        worker.call(Do::Send(n)).wait().unwrap();
        worker.stop();
        node.settle();
    }
    assert_eq!(group.broadcast(&7).unwrap(), 3);
    let any = node.pool_address(pooled);
    any.send(1).unwrap();
    any.call(1).wait().unwrap();
    node.settle();
    let sends = sends(&watch);
    for n in 1..=60 {
        let sink = format!("sink {}", n - 1);
        assert_eq!(sends[&format!(" -> {sink}")], n);
        assert_eq!(sends[&format!("worker -> {sink}")], n);
    }
    // There were sixty of that name.
    assert_eq!(sends[" -> worker"], 60);
    let pooled: u64 = (0..3).map(|n| sends[&format!(" -> pooled {n}")]).sum();
    assert_eq!((pooled, sends.len()), (5, 124));
}

#[test]
fn each_watch_counts_from_its_own_beginning_until_it_is_dropped() {
    let node = node(1);
    let sink = node.spawn_thread("sink", Sink).unwrap();
    sink.send(0).unwrap();
    let first = node.watch_sends();
    assert!(first.sends().is_empty());
    sink.send(0).unwrap();
    let second = node.watch_sends();
    sink.send(0).unwrap();
    assert_eq!(sends(&first), wanted([(" -> sink", 2)]));
    assert_eq!(sends(&second), wanted([(" -> sink", 1)]));
    drop(first);
    sink.send(0).unwrap();
    assert_eq!(sends(&second), wanted([(" -> sink", 2)]));
    drop(second);
    sink.send(0).unwrap();
    let third = node.watch_sends();
    node.advance(Duration::from_secs(3));
    assert!(third.sends().is_empty());
    assert_eq!((third.window(), third.more()), (Duration::from_secs(3), 0));
    // Another node's messages are not this one's.
    let other = Node::simulated_with(1, Options::default());
    other.spawn_thread("sink", Sink).unwrap().send(0).unwrap();
    other.settle();
    assert!(third.sends().is_empty());
}

#[test]
fn what_is_made_while_somebody_watches_is_watched() {
    let node = node(1);
    let watch = node.watch_sends();
    let again = node.watch_sends();
    drop(watch);
    let own = node.spawn_thread("own", Sink).unwrap();
    let shared = node.driver("driver").unwrap().spawn("shared", Sink);
    let pooled = node.spawn("pooled", Sink);
    let mut script = node.script().unwrap();
    let scripts = script.spawn("scripts", Sink);
    for sink in [own, shared.unwrap(), pooled.unwrap(), scripts.unwrap()] {
        sink.send(0).unwrap();
    }
    let all = [
        (" -> own", 1),
        (" -> pooled", 1),
        (" -> scripts", 1),
        (" -> shared", 1),
    ];
    assert_eq!(sends(&again), wanted(all));
}

#[test]
fn processors_that_have_ended_keep_their_names() {
    let node = node(1);
    let watch = node.watch_sends();
    let sink = node.spawn_thread("sink", Sink).unwrap();
    let worker = node.spawn_thread("worker", Worker(sink.clone())).unwrap();
    worker.call(Do::Send(2)).wait().unwrap();
    worker.stop();
    worker.ended().wait().unwrap();
    sink.stop();
    sink.ended().wait().unwrap();
    drop((worker, sink));
    node.settle();
    let wanted = wanted([(" -> worker", 1), ("worker -> sink", 2)]);
    assert_eq!(sends(&watch), wanted);
    assert!(node.shutdown(Duration::from_secs(1)).is_clean());
    assert_eq!(sends(&watch), wanted);
}

/// Sends its last messages in its farewell, and, when it is no processor any more, from its drop.
struct Last(Address<Sink>);

impl Processor for Last {
    fn stopped(&mut self, _: &Exit, _: &mut Cx<'_, Self>) {
        self.0.send(0).unwrap();
        self.0.send(0).unwrap();
    }
}

impl Handle<()> for Last {
    type Reply = ();

    fn handle(&mut self, (): (), cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.stop();
        Ok(())
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        self.0.send(0).unwrap();
    }
}

#[test]
fn a_processor_that_sends_while_it_ends_is_counted() {
    let node = node(1);
    let watch = node.watch_sends();
    let sink = node.spawn_thread("sink", Sink).unwrap();
    let last = node.spawn_thread("last", Last(sink)).unwrap();
    last.send(()).unwrap();
    last.ended().wait().unwrap();
    node.settle();
    let wanted = wanted([(" -> last", 1), (" -> sink", 1), ("last -> sink", 2)]);
    assert_eq!(sends(&watch), wanted);
}

#[test]
fn pairs_are_bounded_and_what_is_more_is_counted() {
    let node = node(1);
    let driver = node.driver("driver").unwrap();
    let sinks = (0..4100).map(|n| driver.spawn(&format!("sink {n:4}"), Sink).unwrap());
    let sinks: Vec<_> = sinks.collect();
    let watch = node.watch_sends();
    for _ in 0..2 {
        sinks.iter().for_each(|sink| sink.send(0).unwrap());
    }
    let sends = watch.sends();
    assert_eq!((sends.len(), watch.more()), (4096, 8));
    assert!(
        sends
            .iter()
            .all(|send| send.count == 2 && send.to < "sink 4096".into())
    );
    // Each watch has bounds of its own.
    let other = node.watch_sends();
    sinks[4099].send(0).unwrap();
    assert_eq!((other.sends().len(), other.more()), (1, 0));
    assert_eq!(watch.more(), 9);
}

/// Notes in which order what came was handled.
struct Notes(std::sync::mpsc::Sender<u8>);

impl Processor for Notes {}

impl Handle<u8> for Notes {
    type Reply = ();

    fn handle(&mut self, n: u8, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.send(n).unwrap();
        Ok(())
    }
}

#[test]
fn arrival_order_holds_before_while_and_after_somebody_watches() {
    let node = node(1);
    let driver = node.driver("driver").unwrap().arrival_order();
    let (notes, noted) = std::sync::mpsc::channel();
    let a = driver.spawn("a", Notes(notes.clone())).unwrap();
    let b = driver.spawn("b", Notes(notes)).unwrap();
    node.settle();
    let mut watch = None;
    for n in 0..6 {
        match n {
            2 => watch = Some(node.watch_sends()),
            4 => assert_eq!(sends(&watch.take().unwrap())[" -> a"], 10),
            _ => {}
        }
        for k in 0..10 {
            let to = if k % 2 == 0 { &b } else { &a };
            to.send(n * 10 + k).unwrap();
        }
    }
    node.settle();
    let wanted: Vec<_> = (0..60).collect();
    assert_eq!(noted.try_iter().collect::<Vec<_>>(), wanted);
}

/// With real threads: whoever watches from before the first to after the last message misses none, whoever else comes and goes.
#[test]
fn none_is_missed_while_others_begin_and_end_to_watch() {
    const MESSAGES: u64 = 20_000;
    let node = Node::with_options(Options::default());
    let sink = node.spawn("sink", Sink).unwrap();
    let watch = node.watch_sends();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..MESSAGES).for_each(|_| sink.send(0).unwrap()));
        }
        scope.spawn(|| {
            for _ in 0..500 {
                let other = node.watch_sends();
                let seen = other.sends();
                assert!(seen.iter().all(|send| send.to == "sink"));
            }
        });
    });
    assert_eq!(sends(&watch), wanted([(" -> sink", 3 * MESSAGES)]));
    assert_eq!(sink.snapshot().received, 3 * MESSAGES);
}
