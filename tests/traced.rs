//! With the feature `tracing`, what happens is told through that crate, with the processor's name.
#![cfg(feature = "tracing")]

use mproc::prelude::*;
use mproc::{AfterPanic, Closure, Fault, Options, TrySendError};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// An event: its level and its fields, as text.
#[derive(Clone, Debug)]
struct Told {
    level: Level,
    fields: BTreeMap<&'static str, String>,
}

/// Keeps every event of the process: handlers run on threads of their own, so there is one for all tests.
#[derive(Clone, Default)]
struct Listener(Arc<(Mutex<Vec<Told>>, Condvar)>);

static LISTENER: LazyLock<Listener> = LazyLock::new(|| {
    let listener = Listener::default();
    tracing::subscriber::set_global_default(listener.clone()).unwrap();
    listener
});

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut told = Told {
            level: *event.metadata().level(),
            fields: BTreeMap::new(),
        };
        event.record(&mut told);
        self.0.0.lock().unwrap().push(told);
        self.0.1.notify_all();
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").unwrap();
        self.fields.insert(field.name(), text);
    }
}

impl Told {
    fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

impl Listener {
    /// What was told with this message of the processor of this name, once there is any.
    fn wait_for(&self, message: &str, name: &str) -> Vec<Told> {
        let (told, came) = &*self.0;
        let is_it = |t: &&Told| {
            t.get("message") == message && [t.get("processor"), t.get("receiver")].contains(&name)
        };
        let limit = Duration::from_secs(30);
        let told = told.lock().unwrap();
        let waits = |told: &mut Vec<Told>| !told.iter().any(|t| is_it(&t));
        let (told, _) = came.wait_timeout_while(told, limit, waits).unwrap();
        let found: Vec<_> = told.iter().filter(is_it).cloned().collect();
        assert!(!found.is_empty(), "nobody told {message:?} of {name:?}");
        found
    }
}

struct Fragile;
impl Processor for Fragile {
    fn on_panic(&mut self, _: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
}
impl Handle<&'static str> for Fragile {
    type Reply = ();
    fn handle(&mut self, what: &'static str, _: &mut Cx<'_, Self>) -> Outcome<()> {
        match what {
            "panic" => panic!("on purpose"),
            _ => Err(Fault::new("a fault")),
        }
    }
}

#[test]
fn a_panic_is_told_with_the_name_the_message_type_and_the_text() {
    let node = Node::simulated_with(1, Options::default());
    LazyLock::force(&LISTENER);
    let fragile = node.spawn_thread("panics", Fragile).unwrap();
    fragile.send("panic").unwrap();
    node.settle();
    let told = LISTENER.wait_for("handler panicked", "panics");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].level, Level::ERROR);
    assert_eq!(told[0].get("message_type"), "&str");
    assert_eq!(told[0].get("panic"), "on purpose");
}

#[test]
fn a_fault_is_told_with_the_name_the_message_type_and_the_text() {
    let node = Node::simulated_with(1, Options::default());
    LazyLock::force(&LISTENER);
    let fragile = node.spawn_thread("fails", Fragile).unwrap();
    fragile.send("fault").unwrap();
    node.settle();
    let told = LISTENER.wait_for("handler failed", "fails");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].level, Level::ERROR);
    assert_eq!(told[0].get("message_type"), "&str");
    assert_eq!(told[0].get("fault"), "a fault");
}

#[test]
fn a_handler_of_more_than_a_second_is_told_with_the_name_and_its_time() {
    LazyLock::force(&LISTENER);
    let node = Node::with_options(Options::default());
    // Sleeps: in virtual time no handler is long.
    let slow = closure(|ms: u64, _cx| std::thread::sleep(Duration::from_millis(ms)));
    let slow: Address<Closure<u64, ()>> = node.spawn_thread("slow", slow).unwrap();
    let quick = closure(|(): (), _cx| ());
    let quick = node.spawn_thread("quick", quick).unwrap();
    quick.send(()).unwrap();
    slow.send(1100).unwrap();
    let told = LISTENER.wait_for("long handler", "slow");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].level, Level::WARN);
    assert_eq!(told[0].get("message_type"), "u64");
    let ns: u64 = told[0].get("ns").parse().unwrap();
    assert!((1_000_000_000..30_000_000_000).contains(&ns), "{ns}");
    let all = LISTENER.0.0.lock().unwrap();
    assert!(!all.iter().any(|t| t.get("processor") == "quick"));
}

#[test]
fn a_drop_is_told_with_the_receiver_the_message_type_and_the_cause() {
    LazyLock::force(&LISTENER);
    let node = Node::simulated_with(1, Options::default());
    for (name, policy, cause) in [
        ("keeps the newest", WhenFull::DropOldest, "Evicted"),
        ("keeps the oldest", WhenFull::DropNewest, "NoRoom"),
        ("is stopped", WhenFull::Wait, "Stopped"),
    ] {
        let options = MailboxOptions::bounded(1).when_full(policy);
        let sink = closure(|_: u32, _cx| ());
        let sink = node.spawn_thread_with(name, options, sink).unwrap();
        sink.send(1).unwrap();
        match sink.try_send(2) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => sink.stop(),
            Err(error) => panic!("{error}"),
        }
        node.settle();
        let told = LISTENER.wait_for("dropped", name);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].level, Level::DEBUG);
        assert_eq!(told[0].get("message_type"), "u32");
        assert_eq!(told[0].get("cause"), cause);
    }
}

#[test]
fn a_sample_that_is_dropped_is_told_with_its_topic() {
    const NUMBERS: Topic<u32> = Topic::new("traced/numbers");
    LazyLock::force(&LISTENER);
    let node = Node::simulated_with(1, Options::default());
    let options = SubscriptionOptions::new().when_full(WhenFull::Latest);
    let latest = node.subscription_with(&NUMBERS, options).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    (0..2).for_each(|n| drop(numbers.publish(n).unwrap()));
    let told = LISTENER.wait_for("dropped", "traced/numbers");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].get("cause"), "Evicted");
    drop(latest);
}

#[test]
fn an_end_is_told_with_the_name_and_why() {
    LazyLock::force(&LISTENER);
    let node = Node::simulated_with(1, Options::default());
    let sink = closure(|_: u32, _cx| ());
    let sink: Address<Closure<u32, ()>> = node.spawn_thread("is killed", sink).unwrap();
    sink.kill();
    node.settle();
    let told = LISTENER.wait_for("ended", "is killed");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].get("exit"), "killed");
}
