//! What is not `Send` and stays on the thread of its driver. (What a pool says to it: `runtime/src/driver/pool_doors_tests.rs`.)

use mproc::prelude::*;
use mproc::{Fault, Options, local_closure};
use std::cell::RefCell;
use std::rc::Rc;

const NUMBERS: Topic<u32> = Topic::new("numbers");
const SECOND: Duration = Duration::from_secs(1);

/// Of all members of a driver.
type Log = Rc<RefCell<Vec<String>>>;

/// A message that is not `Send`: it can come from the processor's own timers and subscriptions only.
struct Note(Log, &'static str);

/// Keeps the log in everything that can keep something between two messages, and not in its state.
struct Member(Option<Log>);

impl Processor for Member {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let Some(log) = self.0.take() else {
            return Ok(());
        };
        let kept = log.clone();
        cx.every_local(SECOND * 4, move |_| Note(kept.clone(), "every"));
        let kept = log.clone();
        cx.every_with_local(SECOND * 5, move |_, _, _| {
            kept.borrow_mut().push("every with".into());
        });
        cx.after_local(SECOND, Note(log.clone(), "after"));
        let kept = log.clone();
        cx.after_with_local(SECOND * 2, move |_, _| {
            kept.borrow_mut().push("after with".into());
        });
        let kept = log.clone();
        let never = cx.me().ended().limit(SECOND * 3);
        never.then_local(cx, move |_, _, _| {
            kept.borrow_mut().push("then".into());
            Ok(())
        });
        let kept = log.clone();
        cx.subscribe(&NUMBERS)
            .map_local(move |_| Note(kept.clone(), "map"))?;
        cx.subscribe(&NUMBERS).call_local(move |_, n, _| {
            log.borrow_mut().push(format!("call {}", *n));
            Ok(())
        })?;
        Ok(())
    }
}

impl Handle<Note> for Member {
    type Reply = ();
    fn handle(&mut self, Note(log, what): Note, _: &mut Cx<'_, Self>) -> Outcome<()> {
        log.borrow_mut().push(what.into());
        Ok(())
    }
}

#[test]
fn a_member_of_a_driver_keeps_what_is_not_send_wherever_it_keeps_anything() {
    let node = Node::simulated_with(1, Options::default());
    let driver = node.driver("driver").unwrap();
    let read = driver
        .build(|on| {
            let log = Log::default();
            on.spawn("member", Member(Some(log.clone())))?;
            let read = local_closure(move |(): (), _cx| Ok::<_, Fault>(log.take()));
            Ok(on.spawn("read", read)?)
        })
        .unwrap();
    node.settle();
    node.publisher(&NUMBERS).unwrap().publish(7).unwrap();
    node.settle();
    let mut first = read.call(()).wait().unwrap();
    first.sort();
    assert_eq!(first, ["call 7", "map"]);
    node.advance(SECOND * 9 / 2);
    let then = read.call(()).wait().unwrap();
    assert_eq!(then, ["after", "after with", "then", "every"]);
    node.advance(SECOND);
    assert_eq!(read.call(()).wait().unwrap(), ["every with"]);
    assert!(node.shutdown(SECOND).is_clean());
}
