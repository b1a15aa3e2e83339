//! Values that are followed, and publishes that wait for room, in handlers and scripts.

use mproc::prelude::*;
use mproc::{ErrorKind, Options, PublishError, PublisherOptions, Released};
use std::sync::mpsc::{Receiver, Sender, channel};

const NUMBERS: Topic<u64> = Topic::new("numbers");

fn node() -> Node {
    Node::simulated_with(1, Options::default())
}

fn capacity<T: ?Sized>(capacity: usize) -> SubscriptionOptions<T> {
    SubscriptionOptions::new().capacity(capacity)
}

#[test]
fn waiting_for_a_callback_of_the_own_script_is_refused_and_spinning_is_not() {
    let node = node();
    let mut script = node.script().unwrap().with(0);
    script.on(&NUMBERS, |sum, n, _| *sum += *n).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let refused = numbers.publish_tracked(1).unwrap().wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Deadlock);
    assert!(refused.to_string().contains("numbers"), "{refused}");
    let mut released = numbers.publish_tracked(2).unwrap();
    script
        .spin_until(&mut released, Duration::from_secs(5))
        .unwrap();
    assert_eq!(script.state(|sum| *sum).unwrap(), 3);
    // And a publish that waits for room there.
    let one = script.on_with(&NUMBERS, capacity(1), |_, _, _| ()).unwrap();
    numbers.publish(3).unwrap();
    match numbers.publish_async(4).wait() {
        Err(PublishError::Deadlock { value: 4, .. }) => {}
        other => panic!("{other:?}"),
    }
    let mut waits = numbers.publish_async(4);
    assert_eq!(
        script
            .spin_until(&mut waits, Duration::from_secs(5))
            .unwrap()
            .count,
        2
    );
    one.unsubscribe();
}

#[test]
fn a_value_that_nobody_wants_is_back_at_once() {
    let node = node();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let released = numbers.publish_tracked(1).unwrap();
    assert_eq!(
        released.wait_timeout(Duration::ZERO).unwrap(),
        Released::default()
    );
}

/// Publishes without an outbox, and says what it handles and what was published.
struct Patient(Sender<String>);

#[derive(Clone, Copy)]
enum Do {
    Later(u64),
    Note(&'static str),
}

impl Processor for Patient {}

impl Handle<Do> for Patient {
    type Reply = ();
    fn handle(&mut self, what: Do, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let numbers = cx.publisher(&NUMBERS)?;
        match what {
            Do::Later(n) => numbers.publish_async(n).then(cx, move |me, delivered, _| {
                let text = match delivered {
                    Ok(_) => format!("published {n}"),
                    Err(PublishError::Timeout { value, .. }) => format!("no room for {value}"),
                    Err(other) => format!("{other}"),
                };
                me.0.send(text)?;
                Ok(())
            }),
            Do::Note(text) => self.0.send(text.to_owned())?,
        }
        Ok(())
    }
}

fn said(told: &Receiver<String>) -> Vec<String> {
    told.try_iter().collect()
}

#[test]
fn a_publish_that_continues_does_not_hold_up_the_processor() {
    let node = node();
    let reader = node.subscription_with(&NUMBERS, capacity(1)).unwrap();
    let (tell, told) = channel();
    let patient = node.spawn_thread("patient", Patient(tell)).unwrap();
    for what in [Do::Later(1), Do::Later(2), Do::Note("went on")] {
        patient.send(what).unwrap();
    }
    node.settle();
    assert_eq!(said(&told), ["published 1", "went on"]);
    assert_eq!(*reader.try_recv().unwrap(), 1);
    node.settle();
    assert_eq!(said(&told), ["published 2"]);
    // At its limit the value comes back.
    patient.send(Do::Later(3)).unwrap();
    node.settle();
    node.advance(Duration::from_secs(6));
    assert_eq!(said(&told), ["no room for 3"]);
    assert_eq!(*reader.try_recv().unwrap(), 2);
}

#[test]
fn a_publish_that_continues_comes_after_what_the_outbox_holds() {
    let node = node();
    let reader = node.subscription_with(&NUMBERS, capacity(1)).unwrap();
    let (tell, told) = channel();

    struct Both(Sender<String>);
    impl Processor for Both {}
    impl Handle<()> for Both {
        type Reply = ();
        fn handle(&mut self, (): (), cx: &mut Cx<'_, Self>) -> Outcome<()> {
            let numbers = cx.publisher(&NUMBERS)?;
            numbers.publish(1)?;
            // No room: the outbox.
            assert!(numbers.publish(2)?.deferred);
            numbers.publish_async(3).then(cx, |me, delivered, _| {
                delivered?;
                me.0.send("published 3".to_owned())?;
                Ok(())
            });
            Ok(())
        }
    }
    let both = node.spawn_thread("both", Both(tell)).unwrap();
    both.send(()).unwrap();
    for n in 1..=3 {
        assert_eq!(*reader.recv().wait().unwrap(), n);
    }
    node.settle();
    assert_eq!(said(&told), ["published 3"]);
}

#[test]
fn a_publish_that_waits_blocks_a_handler_where_asked() {
    struct Blocks;
    impl Processor for Blocks {}
    impl Handle<u64> for Blocks {
        type Reply = u64;
        fn handle(&mut self, n: u64, cx: &mut Cx<'_, Self, u64>) -> Outcome<u64> {
            let numbers = cx.publisher(&NUMBERS)?;
            numbers.publish(n)?;
            let second = numbers.publish_async(n + 1).wait()?;
            Ok(second.count as u64)
        }
    }
    let node = node();
    let reader = node.subscription_with(&NUMBERS, capacity(1)).unwrap();
    let blocks = node.spawn_thread("blocks", Blocks).unwrap();
    let mut call = blocks.call(10);
    call.begin();
    assert_eq!(
        (
            *reader.recv().wait().unwrap(),
            *reader.recv().wait().unwrap()
        ),
        (10, 11)
    );
    assert_eq!(call.wait().unwrap(), 1);
}

#[test]
fn a_publish_that_was_not_waited_for_holds_nothing() {
    let node = node();
    let reader = node.subscription_with(&NUMBERS, capacity(1)).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let unused = numbers.publish_async(1);
    numbers.flush(Duration::from_millis(1)).unwrap();
    // Begun without room: nobody is there to use a place, and nothing is out.
    numbers.publish(2).unwrap();
    let mut begun = numbers.publish_async(3);
    begun.begin();
    assert_eq!(*reader.try_recv().unwrap(), 2);
    numbers.flush(Duration::from_millis(1)).unwrap();
    begun.wait().unwrap();
    assert_eq!(*reader.try_recv().unwrap(), 3);
    drop(unused);
    assert_eq!(numbers.snapshot().published, 2);
}

#[test]
fn a_handler_that_panics_gives_a_tracked_value_back() {
    struct Clumsy;
    impl Processor for Clumsy {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.subscribe(&NUMBERS).samples()?;
            Ok(())
        }
    }
    impl Handle<Sample<u64>> for Clumsy {
        type Reply = ();
        fn handle(&mut self, _: Sample<u64>, _: &mut Cx<'_, Self>) -> Outcome<()> {
            panic!("on purpose");
        }
    }
    let node = node();
    node.spawn_thread("clumsy", Clumsy).unwrap();
    node.settle();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let first = numbers.publish_tracked(1).unwrap();
    let second = numbers.publish_tracked(2).unwrap();
    // What is queued at a processor that ends is given back, too.
    first.wait().unwrap();
    second.wait().unwrap();
}

#[test]
fn who_waits_for_a_value_does_not_keep_its_publisher() {
    let node = node();
    let reader = node.subscription(&NUMBERS).unwrap();
    let numbers = node
        .publisher_with(&NUMBERS, PublisherOptions::new())
        .unwrap();
    let released = numbers.publish_tracked(1).unwrap();
    drop(numbers);
    assert_eq!(node.snapshot().topics[0].publishers.len(), 0);
    drop(reader.try_recv().unwrap());
    released.wait().unwrap();
}

/// Dropped when the publisher lets go of what it calls.
struct Told(Sender<&'static str>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.send("dropped").unwrap();
    }
}

#[test]
fn a_later_callback_replaces_the_one_before() {
    let node = node();
    let _reader = node.subscription(&NUMBERS).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let (tell, told) = channel();
    let first = Told(tell.clone());
    numbers.on_publish(move |_, _| first.0.send("first").unwrap());
    numbers.publish(1).unwrap();
    numbers.on_publish(move |_, _| tell.send("second").unwrap());
    numbers.publish(2).unwrap();
    assert_eq!(
        told.try_iter().collect::<Vec<_>>(),
        ["first", "dropped", "second"]
    );
}
