//! Waits that block inside a handler: what the handler has sent before is delivered first.

use mproc::prelude::*;
use mproc::{Error, Fault, select};
use std::sync::mpsc;

const NUMBERS: Topic<u32> = Topic::new("numbers");
const ANSWERS: Topic<u32> = Topic::new("answers");
const LIMIT: Duration = Duration::from_secs(1);

/// A handler sends a processor with one place two messages, and then does `wait`; the second message does `end_it`, which
/// is what ends the wait. Returns how the wait ended, and how long it took.
///
/// These waits used to sleep at once: the second message stood in the handler's outbox for as long as the handler waited.
fn wait_after_sending<T: Send + Sync + 'static>(
    node: &Node,
    mut end_it: impl FnMut(&Node) -> Result<(), Error> + Send + 'static,
    wait: impl Fn() -> T + Send + 'static,
) -> (T, Duration) {
    let partner = closure(move |second: bool, cx: &mut Cx<'_, _>| {
        if second {
            end_it(&Node::from(&*cx))?;
        }
        Ok::<_, Fault>(())
    });
    let one = MailboxOptions::bounded(1);
    let partner = node.spawn_thread_with("partner", one, partner).unwrap();
    let (tell, told) = mpsc::channel();
    let waits = closure(move |(): (), cx: &mut Cx<'_, _>| {
        partner.send(false)?;
        partner.send(true)?;
        let before = cx.now();
        let result = wait();
        tell.send((result, cx.now() - before))?;
        Ok::<_, Fault>(())
    });
    let waits = node.spawn_thread("waits", waits).unwrap();
    waits.send(()).unwrap();
    node.advance(LIMIT * 10);
    told.try_recv().unwrap()
}

#[test]
fn a_flush_delivers_what_its_handler_has_sent() {
    let node = Node::simulated(1);
    let numbers = node.publisher(&NUMBERS).unwrap();
    let heard = node.subscription(&NUMBERS).unwrap();
    numbers.publish(1).unwrap();
    let mut held = heard.try_recv().ok();
    let let_go = move |_: &Node| {
        drop(held.take());
        Ok(())
    };
    let (result, took) = wait_after_sending(&node, let_go, move || numbers.flush(LIMIT));
    result.unwrap();
    assert_eq!(took, Duration::ZERO);
}

#[test]
fn a_wait_for_subscribers_delivers_what_its_handler_has_sent() {
    let node = Node::simulated(1);
    let numbers = node.publisher(&NUMBERS).unwrap();
    let mut heard = Vec::new();
    let subscribe = move |node: &Node| {
        heard.push(node.subscription(&NUMBERS)?);
        Ok(())
    };
    let wait = move || numbers.wait_for_subscribers(1, LIMIT);
    let (result, took) = wait_after_sending(&node, subscribe, wait);
    result.unwrap();
    assert_eq!(took, Duration::ZERO);
}

#[test]
fn a_wait_for_publishers_delivers_what_its_handler_has_sent() {
    let node = Node::simulated(1);
    let heard = node.subscription(&NUMBERS).unwrap();
    let mut numbers = Vec::new();
    let publish = move |node: &Node| {
        numbers.push(node.publisher(&NUMBERS)?);
        Ok(())
    };
    let wait = move || heard.wait_for_publishers(1, LIMIT);
    let (result, took) = wait_after_sending(&node, publish, wait);
    result.unwrap();
    assert_eq!(took, Duration::ZERO);
}

#[test]
fn a_select_delivers_what_its_handler_has_sent() {
    let node = Node::simulated(1);
    let heard = node.subscription(&NUMBERS).unwrap();
    let publish = |node: &Node| Ok(node.publisher(&NUMBERS)?.publish(1).map(drop)?);
    let wait = move || select(&[&heard], None, LIMIT);
    let (result, took) = wait_after_sending(&node, publish, wait);
    assert_eq!((result, took), (Ok(0), Duration::ZERO));
}

/// A driver whose member stays in its handler until somebody publishes an answer.
fn busy_driver(node: &Node) -> mproc::Driver {
    let driver = node.driver("busy").unwrap();
    let answers = node.subscription(&ANSWERS).unwrap();
    let member = closure(move |(): (), _| answers.recv().wait().map(drop));
    driver.spawn("member", member).unwrap().send(()).unwrap();
    node.settle();
    driver
}

#[test]
fn building_on_a_driver_delivers_what_its_handler_has_sent() {
    let node = Node::simulated(1);
    let driver = busy_driver(&node);
    let answer = |node: &Node| Ok(node.publisher(&ANSWERS)?.publish(1).map(drop)?);
    let (result, took) = wait_after_sending(&node, answer, move || driver.build(|_| Ok(7)));
    assert_eq!((result.unwrap(), took), (7, Duration::ZERO));
}

#[test]
fn a_shutdown_of_a_driver_delivers_what_its_handler_has_sent() {
    let node = Node::simulated(1);
    let driver = busy_driver(&node);
    let answer = |node: &Node| Ok(node.publisher(&ANSWERS)?.publish(1).map(drop)?);
    let (report, took) = wait_after_sending(&node, answer, move || driver.shutdown(LIMIT));
    assert!(report.is_clean(), "{report}");
    assert_eq!(took, Duration::ZERO);
}

#[test]
fn a_member_gets_what_was_sent_to_it_before_its_driver_was_shut_down() {
    let node = Node::simulated(1);
    let driver = node.driver("driver").unwrap();
    let (tell, told) = mpsc::channel();
    let member = closure(move |n: u32, _| tell.send(n));
    let one = MailboxOptions::bounded(1);
    let member = driver.spawn_with("member", one, member).unwrap();
    let ends = closure(move |(): (), _| {
        for n in 0..3 {
            member.send(n)?;
        }
        assert!(driver.shutdown(LIMIT).is_clean());
        Ok::<_, Fault>(())
    });
    let ends = node.spawn_thread("ends", ends).unwrap();
    ends.call(()).wait().unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(node.snapshot().dead_letters, 0);
}
