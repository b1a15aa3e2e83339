//! What spinning refuses, and what it leaves alone.

use super::*;
use mproc::{Address, Closure, ErrorKind, Spun, closure};
use std::cell::RefCell;
use std::rc::Rc;

/// Names of all processors and drivers, and of who subscribes.
fn membership(node: &Node) -> Vec<String> {
    let snapshot = node.snapshot();
    let names = snapshot.processors.iter().map(|p| p.name.clone());
    let drivers = snapshot.drivers.iter().map(|d| d.name.clone());
    let topics = snapshot.topics.iter().flat_map(|t| {
        let labels = t.subscriptions.iter().map(|s| s.owner.clone());
        labels.map(|label| format!("{} -> {label:?}", t.name))
    });
    names.chain(drivers).chain(topics).collect()
}

/// All the ways to spin, in a callback, of the script that is spun and of another one.
#[test]
fn spin_inside_a_callback_is_refused_and_nothing_is_unregistered_by_it() {
    let node = simulated();
    let outer = Rc::new(RefCell::new(listener(&node)));
    let inner = Rc::new(RefCell::new(listener(&node)));
    let numbers = node.publisher(&NUMBERS).unwrap();
    let never = closure(|(): (), cx: &mut Cx<'_, Closure<(), ()>, ()>| {
        cx.reply_later(std::mem::forget::<mproc::ReplyToken<()>>)
    });
    let never = node.spawn_thread("never", never).unwrap();
    let kinds = Rc::new(RefCell::new(Vec::new()));
    let (refused, spun) = (kinds.clone(), inner.clone());
    let mut call = never.call(());
    outer
        .borrow_mut()
        .after(Duration::ZERO, move |_, _| {
            let (mut kinds, mut inner) = (refused.borrow_mut(), spun.borrow_mut());
            kinds.push(inner.spin_once(SECOND).unwrap_err().kind());
            kinds.push(inner.spin_some(1).unwrap_err().kind());
            kinds.push(inner.spin_until(&mut call, SECOND).unwrap_err().kind());
            kinds.push(inner.spin().unwrap_err().kind());
            assert!(inner.is_ready(), "it has a number to handle");
        })
        .unwrap();
    numbers.publish(1).unwrap();
    let before = (membership(&node), node.now());
    assert_eq!(handled(outer.borrow_mut().spin_some(10)), 2);
    assert_eq!(*kinds.borrow(), [ErrorKind::Refused; 4]);
    assert_eq!((membership(&node), node.now()), before);
    numbers.publish(2).unwrap();
    assert_eq!(handled(outer.borrow_mut().spin_some(10)), 1);
    for script in [outer, inner.clone()] {
        script.borrow_mut().spin_some(10).unwrap();
        assert_eq!(seen(&mut script.borrow_mut()), [1, 2]);
    }
}

/// A script cannot be given to another thread, which the compiler says. Two scripts of one node, each on a thread of its
/// own, do not disturb each other.
///
/// Its own thread refuses while it is inside of any handler: one that spins in the handler of a processor with a thread.
#[test]
fn spin_inside_a_handler_of_a_driver_is_refused() {
    let node = real();
    let theirs = node.clone();
    let spins = closure(
        move |(): (), _: &mut Cx<'_, Closure<(), ErrorKind>, ErrorKind>| {
            let mut script = theirs.script()?;
            Ok::<_, mproc::Error>(script.spin_once(Duration::ZERO).unwrap_err().kind())
        },
    );
    let spins = node.spawn_thread("spins", spins).unwrap();
    assert_eq!(spins.call(()).wait().unwrap(), ErrorKind::Refused);
    assert_eq!(spins.call(()).wait().unwrap(), ErrorKind::Refused);
}

#[test]
fn two_threads_spin_two_scripts_of_one_node_at_once() {
    let node = real();
    let spin = |node: &Node| {
        let node = node.clone();
        std::thread::spawn(move || {
            let mut script = node.script().unwrap().with(0);
            script.on(&NUMBERS, |sum, n, _| *sum += *n).unwrap();
            while script.state(|sum| *sum).unwrap() < 55 {
                assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
            }
        })
    };
    let both = [spin(&node), spin(&node)];
    let numbers = node.publisher(&NUMBERS).unwrap();
    numbers.wait_for_subscribers(2, LONG).unwrap();
    (1..=10).for_each(|n| drop(numbers.publish(n).unwrap()));
    both.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn node_membership_is_never_a_side_effect_of_spinning() {
    let node = simulated();
    let mut script = listener(&node);
    let member: Address<Closure<u32, ()>> =
        script.spawn("member", closure(|_: u32, _| ())).unwrap();
    let before = membership(&node);
    let numbers = node.publisher(&NUMBERS).unwrap();
    let mut call = member.call(1);
    numbers.publish(1).unwrap();
    script.spin_once(Duration::ZERO).unwrap();
    script.spin_some(0).unwrap();
    script.spin_some(10).unwrap();
    script.spin_until(&mut call, SECOND).unwrap();
    assert_eq!(membership(&node), before);
    assert_eq!(seen(&mut script), [1]);
}

#[test]
fn spin_some_handles_exactly_its_budget_also_of_what_its_callbacks_queue_and_discards_nothing() {
    let node = simulated();
    let mut script = node.script().unwrap().with(Vec::new());
    script
        .on(&NUMBERS, |seen: &mut Vec<u32>, n, cx| {
            seen.push(*n);
            if *n < 6 {
                cx.publish(&NUMBERS, *n + 1)?;
            }
            Ok::<_, mproc::Fault>(())
        })
        .unwrap();
    node.publisher(&NUMBERS).unwrap().publish(0).unwrap();
    let mut all = Vec::new();
    for (budget, ran) in [(0, 0), (3, 3), (1, 1), (0, 0), (10, 3), (10, 0)] {
        assert_eq!(handled(script.spin_some(budget)), ran);
        all.extend(seen(&mut script));
        assert_eq!(all.len(), all.last().map_or(0, |last| *last as usize + 1));
    }
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
}

/// Two go into a mailbox with one place: the second stands in the outbox until there is room for it.
#[test]
fn spin_some_counts_what_left_an_outbox() {
    let node = simulated();
    let one = MailboxOptions::bounded(1);
    let sink = closure(|_: u32, _: &mut Cx<'_, Closure<u32, ()>>| ());
    let sink = node.spawn_thread_with("sink", one, sink).unwrap();
    let mut script = node.script().unwrap();
    let sends = closure(move |(): (), _: &mut Cx<'_, Closure<(), ()>>| {
        (0..3).try_for_each(|n| sink.send(n))
    });
    let sends = script.spawn("sends", sends).unwrap();
    sends.send(()).unwrap();
    let mut reports = Vec::new();
    while reports
        .iter()
        .map(|r: &SpinReport| r.delivered)
        .sum::<usize>()
        < 2
    {
        // The sink runs while this thread waits.
        node.settle();
        reports.push(script.spin_some(10).unwrap());
        assert!(reports.len() < 10, "{reports:?}");
    }
    assert_eq!(reports.iter().map(|r| r.handled).sum::<usize>(), 1);
    assert_eq!(reports.iter().map(|r| r.delivered).sum::<usize>(), 2);
}

#[test]
fn everything_can_be_destroyed_while_it_is_being_spun_and_destroying_twice_is_harmless() {
    let node = simulated();
    let script = Rc::new(RefCell::new(None));
    let mut spun = node.script().unwrap();
    let mut other = listener(&node);
    let trigger = other.trigger(|_, _| ()).unwrap();
    other.on_ready(|| ()).unwrap();
    *script.borrow_mut() = Some(other);
    let (dropped, pulled) = (script.clone(), trigger.clone());
    let own = spun
        .trigger(|_, _| -> () { unreachable!("it was closed") })
        .unwrap();
    let ended = own.clone();
    spun.after(Duration::ZERO, move |(), _| {
        // Another script, with all that it has, and a trigger of this one that was pulled.
        drop(dropped.borrow_mut().take());
        pulled.pull();
        ended.pull();
        ended.close();
        ended.close();
    })
    .unwrap();
    assert_eq!(handled(spun.spin_some(10)), 1);
    assert!(trigger.is_closed());
    trigger.close();
    assert!(!own.pull());
    assert_eq!(
        node.publisher(&NUMBERS).unwrap().publish(1).unwrap().count,
        0
    );
}
