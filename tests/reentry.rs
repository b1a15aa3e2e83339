//! Code that comes back into a script while the script is at work: handlers that drop it, drops that reach into it, panics.

use mproc::prelude::*;
use mproc::{ErrorKind, Exit, Fault, MailboxOptions, Options, Spun, Topics, local_closure};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

const NUMBERS: Topic<u32> = Topic::new("numbers");
const SECOND: Duration = Duration::from_secs(1);

/// Tells, when it is dropped, whether the handler that holds it was running.
struct Witness {
    running: Cell<bool>,
    dropped_while_running: Rc<Cell<Option<bool>>>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.dropped_while_running.set(Some(self.running.get()));
    }
}

/// The script ended at once and dropped all that lived on it, the processor whose handler was running included.
#[test]
fn a_script_dropped_in_a_handler_of_its_own_ends_after_the_handler() {
    let node = Node::simulated(1);
    let mut script = node.script().unwrap();
    let dropped = Rc::new(Cell::new(None));
    let witness = Witness {
        running: Cell::new(false),
        dropped_while_running: dropped.clone(),
    };
    let place = Rc::new(RefCell::new(None));
    let inside = place.clone();
    let drops = local_closure(move |(): (), _cx| {
        witness.running.set(true);
        let script: Option<Script<()>> = inside.take();
        assert!(script.is_some());
        drop(script);
        witness.running.set(false);
    });
    let drops = script.spawn("drops", drops).unwrap();
    drops.send(()).unwrap();
    place.replace(Some(script));
    // Serves the scripts of this thread.
    let report = node.shutdown(SECOND);
    assert_eq!(dropped.get(), Some(false));
    assert!(report.is_clean());
    assert_eq!(drops.snapshot().handled, 1);
}

/// The thread counted as inside the script for ever: every later spin was refused.
#[test]
fn a_script_can_be_spun_after_a_panic_in_state() {
    let mut script = Node::simulated(1).script().unwrap().with(0_u32);
    script.after(SECOND, |count, _| *count += 1).unwrap();
    let look = AssertUnwindSafe(|| script.state(|_| panic!("wanted")));
    assert!(catch_unwind(look).is_err());
    assert_eq!(script.spin_once(SECOND * 2).unwrap(), Spun::Ran);
    assert_eq!(script.state(|count| *count).unwrap(), 1);
}

/// The script, which the panic dropped on its way out, met its own processor as still entered.
#[test]
fn a_panic_in_state_ends_the_script_that_it_unwinds_through() {
    let node = Node::simulated(1);
    let mut member = None;
    let unwinds = AssertUnwindSafe(|| {
        let mut script = node.script().unwrap();
        member = Some(script.spawn("member", closure(|(): (), _cx| ())).unwrap());
        script.state(|()| panic!("wanted")).unwrap();
    });
    let payload = catch_unwind(unwinds).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"wanted"));
    assert!(member.unwrap().is_closed());
    assert!(node.shutdown(SECOND).is_clean());
}

/// Looking at the state gave up what the stalled script had sent, and with it cancelled what would have woken the script: what
/// had come meanwhile was never handled.
#[test]
fn what_came_during_a_stall_is_handled_if_the_stall_ends_between_two_spins() {
    let node = Node::simulated_with(1, Options::default());
    // Never spun, so that the only place of its processor stays taken.
    let idle = node.manual("idle").unwrap();
    let sink = closure(|_: u32, _cx| ());
    let sink = idle.spawn("sink", MailboxOptions::bounded(1), sink);
    let sink = sink.unwrap();
    let mut script = node.script().unwrap().with(Vec::new());
    script
        .on(&NUMBERS, move |seen: &mut Vec<u32>, n, _cx| {
            seen.push(*n);
            if *n == 0 {
                sink.send(0)?;
                sink.send_timeout(0, SECOND)?;
            }
            Ok::<_, mproc::SendError<u32>>(())
        })
        .unwrap();
    let numbers = script.publisher(&NUMBERS).unwrap();
    numbers.publish(0).unwrap();
    assert_eq!(script.spin_some(10).unwrap().handled, 1);
    // The limit passes while the script does not spin.
    node.advance(SECOND * 2);
    script.state(|_| ()).unwrap();
    numbers.publish(1).unwrap();
    script.spin_some(10).unwrap();
    assert_eq!(script.state(std::mem::take).unwrap(), [0, 1]);
}

type Call = Box<dyn FnOnce()>;

/// Calls what was put into `call` when it is dropped.
#[derive(Default)]
struct OnDrop {
    call: Rc<RefCell<Option<Call>>>,
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        let call = self.call.take();
        call.into_iter().for_each(|call| call());
    }
}

/// What a processor that does not start has made before, and drops at its end.
#[derive(Clone, Copy, Debug)]
enum Made {
    Timer,
    Subscription,
}

/// A processor that does not start.
struct NeverStarts(Made, Option<OnDrop>);
impl Processor for NeverStarts {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let held = self.1.take();
        match self.0 {
            Made::Timer => {
                cx.after_with_local(SECOND, move |_, _| drop(held));
            }
            Made::Subscription => {
                let call = move |_: &mut Self, _: Sample<u32>, _: &mut Cx<'_, Self>| {
                    let _held = &held;
                    Ok(())
                };
                cx.subscribe(&NUMBERS).call_local(call)?;
                cx.subscribe(&NUMBERS).call(|_, _, _| Ok(()))?;
            }
        }
        Err(Fault::new("wanted"))
    }
}

/// The processor that was being ended was given out a second time, and its list of subscriptions grew while it was walked.
#[test]
fn a_drop_at_the_end_of_a_processor_that_did_not_start_cannot_enter_it_again() {
    for made in [Made::Timer, Made::Subscription] {
        let node = Node::simulated_with(1, Options::default());
        let manual = Rc::new(node.manual("manual").unwrap());
        let held = OnDrop::default();
        let call = held.call.clone();
        let fails = NeverStarts(made, Some(held));
        let fails = manual
            .spawn("fails", MailboxOptions::default(), fails)
            .unwrap();
        let again = Rc::new(Cell::new(None));
        let (inner, to, result) = (Rc::downgrade(&manual), fails.clone(), again.clone());
        call.replace(Some(Box::new(move || {
            let entered = inner.upgrade().unwrap().enter(&to, |_, cx| {
                for _ in 0..64 {
                    cx.subscribe(&NUMBERS).call(|_, _, _| Ok(())).unwrap();
                }
            });
            result.set(Some(entered.map_err(|error| error.kind())));
        })));
        let error = manual.enter(&fails, |_, _| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{made:?}");
        assert_eq!(again.get(), Some(Err(ErrorKind::Refused)), "{made:?}");
        assert!(matches!(fails.exit(), Some(Exit::Faulted(_))), "{made:?}");
    }
}
