//! Tools for tests of handlers.

use super::{MILLI, SECOND, real, simulated};
use mproc::prelude::*;
use mproc::{CallError, Exit, Probe, Recipient, SendError, TestCx};
use std::cell::Cell;
use std::rc::Rc;

struct Alarm {
    out: Recipient<&'static str>,
    rings: u32,
    // It need not be `Send`.
    faults: Rc<Cell<u32>>,
}
struct Ring;
struct Late;
struct Fail;
struct End;

impl Processor for Alarm {
    fn on_error(&mut self, _: mproc::Fault, _: &mut Cx<'_, Self>) {
        self.faults.set(self.faults.get() + 1);
    }
}
impl Handle<Ring> for Alarm {
    type Reply = u32;
    fn handle(&mut self, _: Ring, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        self.rings += 1;
        self.out.send("ring")?;
        cx.after_with(SECOND, |me, _| {
            let _gone = me.out.send("still ringing");
        });
        Ok(self.rings)
    }
}
impl Handle<Late> for Alarm {
    type Reply = &'static str;
    fn handle(&mut self, _: Late, cx: &mut Cx<'_, Self, &'static str>) -> Outcome<&'static str> {
        let mut promised = None;
        let later = cx.reply_later(|token| promised = Some(token));
        cx.after_with(SECOND, |_, _| {
            if let Some(token) = promised {
                token.send("late");
            }
        });
        later
    }
}
impl Handle<Fail> for Alarm {
    type Reply = ();
    fn handle(&mut self, _: Fail, _: &mut Cx<'_, Self>) -> Outcome<()> {
        Err(std::fmt::Error.into())
    }
}
impl Handle<End> for Alarm {
    type Reply = ();
    fn handle(&mut self, _: End, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.stop();
        Ok(())
    }
}

#[test]
fn a_handler_runs_without_a_node_and_what_it_sends_is_seen() {
    let node = simulated(1);
    let probe = Probe::new(&node, "probe").unwrap();
    let faults = Rc::new(Cell::new(0));
    let alarm = Alarm {
        out: probe.recipient(),
        rings: 0,
        faults: faults.clone(),
    };
    let mut t = TestCx::in_node(&node, alarm);
    assert_eq!(t.handle(Ring).unwrap(), 1);
    assert_eq!(t.handle(Ring).unwrap(), 2);
    let sent = t.sent();
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter()
            .all(|s| s.to.as_str() == "probe" && s.message_type == "&str")
    );
    assert_eq!(probe.take_all(), ["ring", "ring"]);
    t.advance(SECOND - MILLI);
    probe.expect_none();
    let before = t.node().now();
    t.advance(MILLI);
    assert_eq!(t.node().now() - before, MILLI);
    assert_eq!(probe.take_all(), ["still ringing"; 2]);
    assert_eq!(t.sent().len(), 2);

    assert!(t.handle(Fail).is_err());
    assert_eq!((t.faults(), faults.get()), (1, 1));
    assert_eq!(t.call(Late).unwrap(), "late");
    assert_eq!(
        t.handle(Late).unwrap_err().to_string(),
        "the reply comes later"
    );
    t.with(|alarm, _cx| alarm.rings = 10);
    t.address().send(Ring).unwrap();
    assert_eq!(t.handle(Ring).unwrap(), 11);
    assert_eq!(t.with(|alarm, _cx| alarm.rings), 12);

    t.handle(End).unwrap();
    assert!(matches!(t.exit(), Some(Exit::Stopped)));
    assert!(
        t.handle(Ring)
            .unwrap_err()
            .to_string()
            .contains("has ended")
    );
    assert!(matches!(t.call(Ring), Err(CallError::Stopped(_))));
}

#[test]
fn a_probe_waits_in_virtual_and_in_real_time() {
    for node in [simulated(1), real()] {
        let probe = Probe::<u32>::new(&node, "probe").unwrap();
        let out = probe.recipient();
        let later = closure(move |n: u32, cx: &mut Cx<'_, _>| {
            let out = out.clone();
            cx.after_with(MILLI, move |_, _| out.send(n).unwrap());
        });
        let later = node.spawn_thread("later", later).unwrap();
        later.send(5).unwrap();
        assert_eq!(probe.recv(SECOND * 5), Some(5));
        let before = node.now();
        assert_eq!(probe.recv(MILLI * 3), None);
        assert!(node.now() - before >= MILLI * 3);
        probe.expect_none();
        let to = probe.address();
        to.send(1).unwrap();
        to.call(2).wait().unwrap();
        assert_eq!(probe.take_all(), [1, 2]);
        drop(probe);
        to.ended().wait().unwrap();
        assert!(matches!(to.send(3), Err(SendError::Closed(3))));
    }
}

#[test]
#[should_panic(expected = "messages that probe \"probe\" was not to get")]
fn a_probe_says_that_something_came() {
    let node = simulated(1);
    let probe = Probe::new(&node, "probe").unwrap();
    probe.recipient().send(1_u8).unwrap();
    probe.expect_none();
}

/// Time stands still between two steps of a test, and equal tests run equally.
#[test]
fn timers_come_in_order_and_only_when_time_goes_by() {
    struct Counts(Vec<u32>);
    impl Processor for Counts {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            for (n, delay) in [(3, 30), (1, 10), (2, 20)] {
                cx.after(MILLI * delay, n);
            }
            Ok(())
        }
    }
    impl Handle<u32> for Counts {
        type Reply = ();
        fn handle(&mut self, n: u32, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.push(n);
            Ok(())
        }
    }
    let mut t = TestCx::new(Counts(Vec::new()));
    t.handle(0).unwrap();
    t.advance(MILLI * 25);
    assert_eq!(t.with(|counts, _cx| counts.0.clone()), [0, 1, 2]);
    t.advance(MILLI * 5);
    assert_eq!(t.with(|counts, _cx| counts.0.clone()), [0, 1, 2, 3]);
}
