//! With the feature `spans`, what a processor handles runs in a span, and follows from where it was sent.
#![cfg(feature = "spans")]

mod recorder;

use mproc::prelude::*;
use mproc::{AfterPanic, Closure, Fault, Options};
use recorder::{Recorded, Recorder};
use std::future::Future;
use std::sync::LazyLock;
use tracing::info_span;
use tracing_subscriber::prelude::*;

static RECORDER: LazyLock<Recorder> = LazyLock::new(|| {
    let recorder = Recorder::default();
    tracing_subscriber::registry().with(recorder.clone()).init();
    recorder
});

fn node() -> Node {
    LazyLock::force(&RECORDER);
    Node::simulated_with(1, Options::default())
}

/// It was entered, left as often, and is over.
fn is_over(span: &Recorded) -> bool {
    span.closed && span.entered > 0 && span.entered == span.exited
}

#[test]
fn a_sent_message_is_handled_in_a_span_that_follows_from_the_senders() {
    let node = node();
    let sink = closure(|_: u8, _cx| tracing::info!("inside of sent"));
    let sink: Address<Closure<u8, ()>> = node.spawn_thread("sent", sink).unwrap();
    info_span!("sender_of_sent").in_scope(|| sink.send(1).unwrap());
    node.settle();

    let handled = RECORDER.one("sent", "u8");
    let sender = RECORDER.own("sender_of_sent");
    assert_eq!(handled.follows, [sender.index]);
    assert_eq!(handled.parent, None);
    assert_eq!(handled.entered, 1);
    assert!(
        is_over(&handled) && is_over(&sender),
        "{handled:?} {sender:?}"
    );
    let inside = RECORDER.span_of_event("inside of sent").unwrap();
    assert_eq!(inside.index, handled.index);
}

#[test]
fn what_is_sent_in_no_span_follows_from_none() {
    let node = node();
    let sink = closure(|_: u8, _cx| ());
    let sink: Address<Closure<u8, ()>> = node.spawn_thread("unspanned", sink).unwrap();
    sink.send(1).unwrap();
    node.settle();
    assert_eq!(RECORDER.one("unspanned", "u8").follows, [0; 0]);
}

#[test]
fn every_way_to_send_follows() {
    let node = node();
    let one = MailboxOptions::bounded(1);
    let sink = closure(|_: u16, _cx| ());
    let sink: Address<Closure<u16, ()>> = node.spawn_thread_with("ways", one, sink).unwrap();
    type Way = fn(&Address<Closure<u16, ()>>);
    let ways: [Way; 6] = [
        |sink| sink.send(1).unwrap(),
        |sink| sink.try_send(1).unwrap(),
        |sink| sink.high().send(1).unwrap(),
        |sink| sink.reserve().wait().unwrap().send(1).unwrap(),
        |sink| sink.call(1).wait().unwrap(),
        |sink| {
            let recipient: mproc::Recipient<u16> = sink.clone().into();
            recipient.send(1).unwrap();
        },
    ];
    for way in ways {
        info_span!("way").in_scope(|| way(&sink));
        node.settle();
    }
    let handled = RECORDER.of_type("ways", "u16");
    let mut senders = RECORDER.all();
    senders.retain(|span| span.name == "way");
    assert_eq!(handled.len(), ways.len());
    for (handled, sender) in handled.iter().zip(&senders) {
        assert_eq!(handled.follows, [sender.index]);
        assert!(is_over(handled) && is_over(sender));
    }
}

struct Relay {
    to: Address<Closure<u32, ()>>,
}

impl Processor for Relay {}

impl Handle<u32> for Relay {
    type Reply = ();
    fn handle(&mut self, n: u32, _: &mut Cx<'_, Self>) -> Outcome<()> {
        // Three more than there is room for: they go by the outbox.
        (0..4).try_for_each(|_| self.to.send(n))?;
        Ok(())
    }
}

#[test]
fn a_message_of_the_outbox_follows_from_the_handler_that_sent_it() {
    let node = node();
    let one = MailboxOptions::bounded(1);
    let last = closure(|_: u32, _cx| ());
    let last: Address<Closure<u32, ()>> = node.spawn_thread_with("chain/last", one, last).unwrap();
    let first = node
        .spawn_thread("chain/first", Relay { to: last })
        .unwrap();
    info_span!("chain_root").in_scope(|| first.send(7).unwrap());
    node.settle();

    let first = RECORDER.one("chain/first", "u32");
    assert_eq!(first.follows, [RECORDER.own("chain_root").index]);
    let last = RECORDER.of_type("chain/last", "u32");
    assert_eq!(last.len(), 4);
    for span in &last {
        // Of its sender, and not of whoever sent it that.
        assert_eq!(span.follows, [first.index]);
        assert!(is_over(span));
    }
    assert!(is_over(&first));
}

const NUMBERS: Topic<u64> = Topic::new("numbers");
const KEPT: Topic<u64> = Topic::new("kept");

#[test]
fn a_sample_is_handled_in_a_span_that_follows_from_the_publishers() {
    let node = node();
    for name in ["sample/a", "sample/b"] {
        let handler = closure(|_: Sample<u64>, _cx| ());
        let to: Address<Closure<Sample<u64>, ()>> = node.spawn_thread(name, handler).unwrap();
        to.with_processor(|_, cx| {
            cx.subscribe(&NUMBERS).samples().unwrap();
        })
        .unwrap();
    }
    node.settle();
    let publisher = node.publisher(&NUMBERS).unwrap();
    info_span!("publishes").in_scope(|| publisher.publish(3).unwrap());
    node.settle();
    let sender = RECORDER.own("publishes");
    for name in ["sample/a", "sample/b"] {
        let spans = RECORDER.of(name);
        let span = spans
            .iter()
            .find(|s| s.message_type.contains("Sample<u64>"));
        let span = span.unwrap_or_else(|| panic!("{spans:?}"));
        assert_eq!(span.follows, [sender.index]);
        assert!(is_over(span));
    }
    assert!(is_over(&sender));
}

#[test]
fn history_keeps_no_span_open() {
    let node = node();
    let publisher = node
        .publisher_with(&KEPT, mproc::PublisherOptions::default().history(1))
        .unwrap();
    info_span!("publishes_history").in_scope(|| publisher.publish(3).unwrap());
    node.settle();
    assert!(is_over(&RECORDER.own("publishes_history")));
    let late = node.subscription(&KEPT).unwrap();
    assert_eq!(*late.recv().wait().unwrap(), 3);
}

struct Timed;

impl Processor for Timed {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.after(Duration::from_secs(1), ());
        cx.after_with(Duration::from_secs(2), |_, _| {
            tracing::info!("timer's closure")
        });
        tracing::info!("begins");
        Ok(())
    }
}

impl Handle<()> for Timed {
    type Reply = ();
    fn handle(&mut self, (): (), _: &mut Cx<'_, Self>) -> Outcome<()> {
        tracing::info!("timer's message");
        Ok(())
    }
}

#[test]
fn timers_run_in_a_span_each_and_follow_from_nothing() {
    let node = node();
    info_span!("spawns_timed").in_scope(|| node.spawn_thread("timed", Timed).unwrap());
    node.advance(Duration::from_secs(3));
    let spans = RECORDER.of("timed");
    let types: Vec<_> = spans.iter().map(|s| s.message_type.as_str()).collect();
    assert_eq!(types, ["started", "timer", "timer"]);
    let events = ["begins", "timer's message", "timer's closure"];
    for (span, event) in spans.iter().zip(events) {
        assert_eq!(RECORDER.span_of_event(event).unwrap().index, span.index);
        assert_eq!(span.follows, [0; 0]);
        assert!(is_over(span));
    }
}

struct Asks {
    whom: Address<Closure<i8, i8>>,
}

impl Processor for Asks {}

impl Handle<()> for Asks {
    type Reply = ();
    fn handle(&mut self, (): (), cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.whom.call(2).then(cx, |_, reply, _| {
            assert_eq!(reply?, 4);
            tracing::info!("goes on");
            Ok(())
        });
        Ok(())
    }
}

#[test]
fn a_continuation_follows_from_the_handler_that_asked() {
    let node = node();
    let square = closure(|n: i8, _cx| Ok::<_, std::fmt::Error>(n * n));
    let whom = node.spawn_thread("square", square).unwrap();
    let asks = node.spawn_thread("asks", Asks { whom }).unwrap();
    asks.send(()).unwrap();
    node.settle();
    let asked = RECORDER.one("asks", "()");
    assert_eq!(RECORDER.one("square", "i8").follows, [asked.index]);
    let went_on = RECORDER.one("asks", "continuation");
    assert_eq!(went_on.follows, [asked.index]);
    assert_eq!(
        RECORDER.span_of_event("goes on").unwrap().index,
        went_on.index
    );
    assert!(is_over(&asked) && is_over(&went_on));
}

struct Awaits {
    whom: Address<Closure<i16, i16>>,
    spawned: bool,
}

impl Processor for Awaits {}
impl mproc::AsyncProcessor for Awaits {}

impl HandleAsync<()> for Awaits {
    type Reply = i16;
    fn handle_async(
        &mut self,
        (): (),
        cx: &mut Cx<'_, Self, i16>,
    ) -> impl Future<Output = Outcome<i16>> + Send + 'static {
        let (me, whom) = (cx.async_handle(), self.whom.clone());
        async move {
            let n = whom.call(3).await?;
            tracing::info!("after the await");
            me.update(|me, cx| {
                me.spawned = true;
                tracing::info!("in the update");
                cx.spawn(async { tracing::info!("in the spawned") });
            })
            .await?;
            Ok(n)
        }
    }
}

#[test]
fn a_handler_that_awaits_has_one_span_entered_at_each_poll() {
    let node = node();
    let square = closure(|n: i16, _cx| Ok::<_, std::fmt::Error>(n * n));
    let whom = node.spawn_thread("awaited", square).unwrap();
    let spawned = false;
    let awaits = node
        .spawn_thread("awaits", Awaits { whom, spawned })
        .unwrap();
    let reply = info_span!("calls_awaits").in_scope(|| awaits.call(()).wait());
    assert_eq!(reply.unwrap(), 9);
    node.settle();
    let handled = RECORDER.one("awaits", "()");
    assert_eq!(handled.follows, [RECORDER.own("calls_awaits").index]);
    // The handler itself, and at least two polls.
    assert!(handled.entered >= 3, "{handled:?}");
    assert!(is_over(&handled));
    for event in ["after the await", "in the update"] {
        assert_eq!(RECORDER.span_of_event(event).unwrap().index, handled.index);
    }
    let asked = RECORDER.one("awaited", "i16");
    assert_eq!((asked.follows, asked.parent), (vec![handled.index], None));
    // What it leaves behind has a span of its own, so that the handler's can end.
    let task = RECORDER.one("awaits", "task");
    assert_eq!(task.follows, [handled.index]);
    assert_eq!(
        RECORDER.span_of_event("in the spawned").unwrap().index,
        task.index
    );
    assert!(is_over(&task));
}

struct Forever;
impl Processor for Forever {}
impl Handle<()> for Forever {
    type Reply = ();
    fn handle(&mut self, (): (), cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.spawn(async {
            let _told = Farewell;
            std::future::pending::<()>().await;
        });
        Ok(())
    }
}

struct Farewell;
impl Drop for Farewell {
    fn drop(&mut self) {
        tracing::info!("future dropped");
    }
}

#[test]
fn a_future_is_dropped_in_its_span() {
    let node = node();
    let forever = node.spawn_thread("forever", Forever).unwrap();
    forever.send(()).unwrap();
    node.settle();
    let task = RECORDER.one("forever", "task");
    assert!(!task.closed && task.entered == task.exited, "{task:?}");
    forever.stop();
    node.settle();
    assert_eq!(
        RECORDER.span_of_event("future dropped").unwrap().index,
        task.index
    );
    assert!(is_over(&RECORDER.one("forever", "task")));
}

struct Fragile;
impl Processor for Fragile {
    fn on_panic(&mut self, _: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
}
impl Handle<u128> for Fragile {
    type Reply = ();
    fn handle(&mut self, n: u128, _: &mut Cx<'_, Self>) -> Outcome<()> {
        let _own = info_span!("inner").entered();
        match n {
            0 => panic!("on purpose"),
            _ => Err(Fault::new("a fault")),
        }
    }
}

#[test]
fn a_panic_ends_the_span_and_the_next_message_is_not_inside_of_it() {
    let node = node();
    let fragile = node.spawn_thread("fragile", Fragile).unwrap();
    fragile.send(0).unwrap();
    fragile.send(1).unwrap();
    node.settle();
    let handled = RECORDER.of_type("fragile", "u128");
    assert_eq!(handled.len(), 2);
    for span in handled {
        assert!(is_over(&span), "{span:?}");
        assert_eq!((span.parent, span.entered), (None, 1));
        let all = RECORDER.all();
        let inner = all.iter().filter(|s| s.parent == Some(span.index));
        assert_eq!(inner.map(|s| s.name).collect::<Vec<_>>(), ["inner"]);
    }
    // A fault is told inside of the span, as what the handler tells itself.
    let told = RECORDER.span_of_event("handler failed").unwrap();
    assert_eq!(told.processor, "fragile");
}

#[test]
fn callbacks_of_a_script_that_spins_in_a_span_are_inside_of_it() {
    const TOLD: Topic<u64> = Topic::new("told");
    let mut script = node().script().unwrap().with(0_u64);
    script
        .on(&TOLD, |seen, n, _| {
            *seen += *n;
            tracing::info!("in the script");
        })
        .unwrap();
    let told = script.publisher(&TOLD).unwrap();
    info_span!("publishes_told").in_scope(|| told.publish(5).unwrap());
    info_span!("spins").in_scope(|| script.spin_some(10).unwrap());
    assert_eq!(script.state(|seen| *seen).unwrap(), 5);
    let callback = RECORDER.span_of_event("in the script").unwrap();
    assert_eq!(callback.name, "handle");
    assert_eq!(callback.parent, Some(RECORDER.own("spins").index));
    assert_eq!(callback.follows, [RECORDER.own("publishes_told").index]);
}
