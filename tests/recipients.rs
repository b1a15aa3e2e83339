//! `Recipient`: whoever takes messages of one type, and what it can do.

use mproc::prelude::*;
use mproc::{CallError, Recipient, RecipientPermit, ReserveError, TrySendError};

fn doubles(n: u32, _: &mut Cx<'_, mproc::Closure<u32, u32>, u32>) -> Result<u32, std::fmt::Error> {
    if n == 0 {
        Err(std::fmt::Error)
    } else {
        Ok(2 * n)
    }
}

/// A recipient could be sent to, but neither called nor asked for a place.
#[test]
fn a_recipient_is_called_with_and_without_the_reply() {
    let node = Node::simulated(1);
    let doubles = node.spawn_thread("doubles", closure(doubles)).unwrap();
    let plain: Recipient<u32> = doubles.recipient();
    let replying: Recipient<u32, u32> = doubles.recipient_with_reply();
    assert_eq!(plain.call(1).wait().unwrap(), ());
    assert_eq!(replying.call(2).wait().unwrap(), 4);
    assert!(matches!(
        replying.call(0).wait(),
        Err(CallError::Faulted(_))
    ));
    assert!(matches!(plain.call(0).wait(), Err(CallError::Faulted(_))));
    doubles.stop();
    node.settle();
    assert!(matches!(plain.call(1).wait(), Err(CallError::Stopped(_))));
    assert_eq!(doubles.snapshot().handled, 4);
}

#[test]
fn a_call_by_a_recipient_that_is_dropped_takes_its_message_back() {
    let node = Node::simulated(1);
    let doubles = node.spawn_thread("doubles", closure(doubles)).unwrap();
    let mut call = Recipient::from(doubles.clone()).call(1);
    call.begin();
    drop(call);
    node.settle();
    assert_eq!(doubles.snapshot().handled, 0);
    assert_eq!(doubles.snapshot().dropped.total(), 1);
}

#[test]
fn a_place_reserved_by_a_recipient_is_kept_used_and_given_back() {
    let node = Node::simulated(1);
    let one = MailboxOptions::bounded(1);
    let sink = node.spawn_thread_with("sink", one, closure(|_: u32, _cx| ()));
    let sink = sink.unwrap().recipient::<u32>();
    let permit: RecipientPermit<u32> = sink.reserve().wait().unwrap();
    assert!(matches!(sink.try_send(1), Err(TrySendError::Full(1))));
    let waits = sink.reserve().wait_timeout(Duration::from_secs(1));
    assert_eq!(waits.unwrap_err(), ReserveError::Timeout);
    permit.send(2).unwrap();
    node.settle();
    drop(sink.reserve().wait().unwrap());
    sink.try_send(3).unwrap();
    node.settle();
    assert_eq!(node.snapshot().totals.handled, 2);
}
