//! Operations that were started: [`Ticket`].

use crate::{HALF, LONG, NUMBERS, SECOND, Slow, Woken, poll, real, simulated, squares};
use mproc::prelude::*;
use mproc::{CallError, DropCause, Fault, RecvError, ReserveError, Ticket, TryRecvError};
use std::sync::mpsc;
use std::task::Poll;

#[test]
fn a_hundred_started_operations_take_as_long_as_one_and_blocking_ones_are_sequential() {
    let node = simulated(1);
    let slow = node.spawn_thread("slow", Slow).unwrap();
    let before = node.now();
    let tickets: Vec<_> = (0..100).map(|n| slow.call(n).start()).collect();
    let results: Vec<_> = tickets.into_iter().map(|t| t.wait().unwrap()).collect();
    assert_eq!(results, (0..100).collect::<Vec<_>>());
    assert!(node.now() - before < SECOND);

    let before = node.now();
    for n in 0..10 {
        assert_eq!(slow.call(n).wait().unwrap(), n);
    }
    assert!(node.now() - before >= HALF * 10);
}

#[test]
fn a_started_call_is_handled_though_nobody_waits_for_it() {
    let node = simulated(1);
    let (tell, told) = mpsc::channel();
    let sink = closure(move |n: u32, _cx| tell.send(n));
    let sink = node.spawn_thread("sink", sink).unwrap();
    let ticket = sink.call(7).start();
    assert!(!ticket.is_done());
    node.settle();
    assert_eq!(told.try_recv(), Ok(7));
    assert!(ticket.is_done());
    ticket.wait().unwrap();
}

/// It stands in line with a waker of its own: whoever makes room puts it into the mailbox.
#[test]
fn a_started_call_takes_its_place_when_room_comes_though_nobody_polls_it() {
    for seed in 0..20 {
        let node = simulated(seed);
        let (tell, told) = mpsc::channel();
        let sink = closure(move |n: u32, _cx| tell.send(n));
        let one = MailboxOptions::bounded(1);
        let sink = node.spawn_thread_with("sink", one, sink).unwrap();
        let tickets: Vec<_> = (0..10).map(|n| sink.call(n).start()).collect();
        node.settle();
        assert_eq!(
            told.try_iter().collect::<Vec<_>>(),
            (0..10).collect::<Vec<_>>()
        );
        assert!(tickets.iter().all(Ticket::is_done));
    }
}

#[test]
fn a_detached_call_goes_on_also_from_the_line_for_room() {
    let node = simulated(1);
    let (tell, told) = mpsc::channel();
    let sink = closure(move |n: u32, _cx| tell.send(n));
    let one = MailboxOptions::bounded(1);
    let sink = node.spawn_thread_with("sink", one, sink).unwrap();
    (0..5).for_each(|n| sink.call(n).start().detach());
    node.settle();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_cancelled_ticket_is_done_and_its_queued_message_is_taken_back() {
    let node = simulated(1);
    let squares = squares(&node);
    let mut ticket = squares.call(3).start();
    assert!(ticket.cancel());
    assert!(ticket.is_done());
    assert!(matches!(
        ticket.wait_timeout(LONG),
        Err(CallError::Cancelled)
    ));
    assert!(matches!(ticket.wait(), Err(CallError::Cancelled)));
    node.settle();
    let snapshot = node.snapshot();
    assert_eq!(snapshot.totals.handled, 0);
    assert_eq!(snapshot.totals.dropped.by(DropCause::Cancelled), 1);
}

#[test]
fn a_cancel_in_the_line_for_room_gives_the_place_to_the_next() {
    let node = simulated(1);
    let (tell, told) = mpsc::channel();
    let sink = closure(move |n: u32, _cx| tell.send(n));
    let one = MailboxOptions::bounded(1);
    let sink = node.spawn_thread_with("sink", one, sink).unwrap();
    let queued = sink.call(0).start();
    let mut first = sink.call(1).start();
    let second = sink.call(2).start();
    assert!(first.cancel());
    assert!(first.is_done() && !second.is_done());
    second.wait().unwrap();
    queued.wait().unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_cancel_that_comes_too_late_leaves_the_result() {
    let node = simulated(1);
    let squares = squares(&node);
    let mut ticket = squares.call(3).start();
    node.settle();
    assert!(!ticket.cancel());
    assert!(ticket.cancel_and_wait(Duration::ZERO));
    assert_eq!(ticket.wait().unwrap(), 9);
}

#[test]
fn a_result_is_given_once() {
    let node = simulated(1);
    let squares = squares(&node);
    let mut ticket = squares.call(3).start();
    assert_eq!(ticket.wait_timeout(LONG).unwrap(), 9);
    assert!(ticket.is_done());
    let before = node.now();
    assert!(matches!(ticket.wait(), Err(CallError::Cancelled)));
    assert_eq!(node.now(), before);
}

#[test]
fn a_wait_that_times_out_leaves_a_ticket_under_way() {
    let node = simulated(1);
    let slow = node.spawn_thread("slow", Slow).unwrap();
    let mut ticket = slow.call(7).start();
    let early = ticket.wait_timeout(HALF / 5);
    assert!(matches!(early, Err(CallError::Timeout)));
    assert_eq!(ticket.wait().unwrap(), 7);
}

/// The handler of a call that is cancelled goes on. `cancel_and_wait` says when it has returned, or that it has not.
#[test]
fn cancel_and_wait_waits_for_a_handler_that_runs_at_most_its_limit() {
    let node = simulated(1);
    let nothing = node.subscription(&NUMBERS).unwrap();
    let busy = closure(move |(): (), _cx| {
        // A handler that takes half a second.
        let _timeout = nothing.recv_timeout(HALF);
        Ok::<_, Fault>(())
    });
    let busy = node.spawn_thread("busy", busy).unwrap();
    for (limit, is_over) in [(HALF / 5, false), (SECOND, true)] {
        let mut ticket = busy.call(()).start();
        node.settle(); // The handler has begun.
        let before = node.now();
        assert_eq!(ticket.cancel_and_wait(limit), is_over);
        assert_eq!(node.now() - before, limit.min(HALF));
        assert!(matches!(ticket.wait(), Err(CallError::Cancelled)));
        node.advance(SECOND);
    }
    // What is queued is taken back, and nothing of it goes on.
    let running = busy.call(()).start();
    node.settle();
    let mut queued = busy.call(()).start();
    let before = node.now();
    assert!(queued.cancel_and_wait(SECOND));
    assert_eq!(node.now(), before);
    running.wait().unwrap();
}

#[test]
fn a_ticket_is_awaited_like_its_operation() {
    let node = simulated(1);
    let squares = squares(&node);
    let tickets: Vec<_> = (1..=3).map(|n| squares.call(n).start()).collect();
    let sum = node.run(async {
        let mut sum = 0;
        for ticket in tickets {
            sum += ticket.await?;
        }
        Ok::<_, CallError>(sum)
    });
    assert_eq!(sum.unwrap().unwrap(), 14);
}

#[test]
fn an_awaited_ticket_ends_at_its_limit() {
    let node = simulated(1);
    let slow = node.spawn_thread("slow", Slow).unwrap();
    let before = node.now();
    let result = node.run(slow.call(1).limit(HALF / 2).start()).unwrap();
    assert!(matches!(result, Err(CallError::Timeout)));
    assert_eq!(node.now() - before, HALF / 2);
}

#[test]
fn a_ticket_of_a_full_mailbox_that_never_waits_is_refused_and_done() {
    let node = simulated(1);
    let fails = MailboxOptions::bounded(1).when_full(WhenFull::Fail);
    let sink = closure(|_: u32, _cx| Ok::<_, Fault>(()));
    let sink = node.spawn_thread_with("sink", fails, sink).unwrap();
    let _queued = sink.call(1).start();
    let mut refused = sink.call(2).start();
    assert!(refused.is_done() && !refused.cancel());
    assert!(matches!(refused.wait(), Err(CallError::Full)));
}

#[test]
fn the_end_of_a_processor_ends_started_calls_wherever_they_stand() {
    let node = simulated(1);
    let one = MailboxOptions::bounded(1);
    let slow = node.spawn_thread_with("slow", one, Slow).unwrap();
    let tickets: Vec<_> = (0..4).map(|n| slow.call(n).start()).collect();
    slow.kill();
    for ticket in tickets {
        assert!(matches!(ticket.wait(), Err(CallError::Stopped(_))));
    }
}

// ---- receives and reservations

#[test]
fn a_sample_is_kept_for_a_started_receive_and_leaves_the_queue_when_it_is_collected() {
    let node = simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    let ticket = numbers.recv().start();
    assert!(!ticket.is_done());
    publisher.publish(1).unwrap();
    assert!(ticket.is_done());
    // It is not for those who come later, and still queued.
    assert_eq!(numbers.try_recv().unwrap_err(), TryRecvError::Empty);
    assert_eq!(numbers.snapshot().queued, 1);
    assert_eq!(*ticket.wait().unwrap(), 1);
    assert_eq!(numbers.snapshot().queued, 0);
}

#[test]
fn started_receives_are_served_in_the_order_in_which_they_were_started() {
    let node = simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    publisher.publish(0).unwrap();
    let tickets: Vec<_> = (0..3).map(|_| numbers.recv().start()).collect();
    assert_eq!(
        tickets.iter().map(Ticket::is_done).collect::<Vec<_>>(),
        [true, false, false]
    );
    publisher.publish(1).unwrap();
    publisher.publish(2).unwrap();
    publisher.publish(3).unwrap();
    // One is for whoever comes. Samples leave the queue in order, whoever collects first.
    assert_eq!(*numbers.try_recv().unwrap(), 0);
    assert_eq!(numbers.try_recv().unwrap_err(), TryRecvError::Empty);
    for (i, ticket) in tickets.into_iter().rev().enumerate() {
        assert_eq!(*ticket.wait().unwrap(), i as u32 + 1);
    }
}

#[test]
fn a_cancelled_receive_consumes_nothing_whenever_it_is_cancelled() {
    // 0: before anything was published. 1: between wake and poll. 2: when it is known to be done.
    for moment in 0..3 {
        let node = simulated(moment);
        let numbers = node.subscription(&NUMBERS).unwrap();
        let publisher = node.publisher(&NUMBERS).unwrap();
        let mut ticket = numbers.recv().start();
        let (woken, waker) = Woken::new();
        assert!(poll(&mut ticket, &waker).is_pending());
        if moment > 0 {
            publisher.publish(1).unwrap();
            assert_eq!(woken.count(), 1);
        }
        if moment > 1 {
            assert!(ticket.is_done());
        }
        assert!(ticket.cancel());
        if moment == 0 {
            publisher.publish(1).unwrap();
        }
        assert_eq!(*numbers.try_recv().unwrap(), 1);
        assert!(ticket.is_done());
        assert_eq!(ticket.wait().unwrap_err(), RecvError::Cancelled);
    }
}

/// The same for one that was never started, and for streams: dropped with its waker woken, and not polled since.
#[test]
fn a_dropped_receive_passes_its_wake_on() {
    for seed in 0..8 {
        let node = simulated(seed);
        let numbers = node.subscription(&NUMBERS).unwrap();
        let publisher = node.publisher(&NUMBERS).unwrap();
        let (mut first, mut second) = (numbers.recv(), numbers.recv());
        let ((woken_first, w1), (woken_second, w2)) = (Woken::new(), Woken::new());
        assert!(poll(&mut first, &w1).is_pending());
        assert!(poll(&mut second, &w2).is_pending());
        publisher.publish(1).unwrap();
        assert_eq!((woken_first.count(), woken_second.count()), (1, 0));
        drop(first);
        assert_eq!(woken_second.count(), 1);
        match poll(&mut second, &w2) {
            Poll::Ready(Ok(sample)) => assert_eq!(*sample, 1),
            other => panic!("{other:?}"),
        }
    }
}

/// A second receiver that takes a message must not leave the first asleep beside later ones.
#[test]
fn a_receiver_is_woken_for_what_comes_after_another_has_taken() {
    let node = simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    let mut first = numbers.recv();
    let (woken, waker) = Woken::new();
    assert!(poll(&mut first, &waker).is_pending());
    publisher.publish(1).unwrap();
    publisher.publish(2).unwrap();
    // Behind the first in line: there are two, and one is for it.
    assert_eq!(*numbers.recv().wait().unwrap(), 1);
    assert_eq!(woken.count(), 1);
    match poll(&mut first, &waker) {
        Poll::Ready(Ok(sample)) => assert_eq!(*sample, 2),
        other => panic!("{other:?}"),
    }
    publisher.publish(3).unwrap();
    assert_eq!(*numbers.recv().wait().unwrap(), 3);
}

#[test]
fn closing_ends_those_who_wait_with_closed() {
    let node = simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let started = numbers.recv().start();
    let mut polled = numbers.recv();
    let (woken, waker) = Woken::new();
    assert!(poll(&mut polled, &waker).is_pending());
    drop(numbers);
    assert_eq!(woken.count(), 1);
    assert!(started.is_done());
    assert_eq!(started.wait().unwrap_err(), RecvError::Closed);
    assert_eq!(polled.wait().unwrap_err(), RecvError::Closed);
}

#[test]
fn a_started_reservation_holds_its_place_and_a_cancel_gives_it_back() {
    let node = simulated(1);
    let one = MailboxOptions::bounded(1);
    let sink = closure(|_: u32, _cx| Ok::<_, Fault>(()));
    let sink = node.spawn_thread_with("sink", one, sink).unwrap();
    let mut granted = sink.reserve().start();
    let mut waits = sink.reserve().start();
    let behind = sink.reserve().start();
    assert!(granted.is_done() && !waits.is_done());
    assert!(granted.cancel());
    assert!(waits.is_done() && !behind.is_done());
    assert!(waits.cancel());
    assert_eq!(waits.wait().unwrap_err(), ReserveError::Cancelled);
    behind.wait().unwrap().send(1).unwrap();
    node.settle();
    assert_eq!(node.snapshot().totals.handled, 1);
}

// ---- deadlocks

#[test]
fn a_wait_that_only_its_own_thread_could_end_is_refused_also_through_a_ticket() {
    let node = simulated(1);
    let io = node.driver("io").unwrap();
    let target = io.spawn("target", Slow).unwrap();
    let (tell, told) = mpsc::channel();
    let caller = closure(move |(): (), _cx| {
        let direct = target.call(1).wait();
        let mut ticket = target.call(2).start();
        let by_ticket = ticket.wait_timeout(SECOND);
        tell.send((direct, by_ticket))
            .map_err(|_| Fault::new("nobody listens"))?;
        ticket.detach();
        Ok::<_, Fault>(())
    });
    let caller = io.spawn("caller", caller).unwrap();
    let before = node.now();
    caller.send(()).unwrap();
    node.settle();
    assert_eq!(node.now(), before);
    let (direct, by_ticket) = told.try_recv().unwrap();
    for refused in [direct, by_ticket] {
        match refused {
            Err(CallError::Deadlock(names)) => {
                let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                assert_eq!(names, ["caller", "target"]);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Hands a call on to the next, waiting for the answer by a ticket.
struct Relay(Option<Address<Relay>>);

impl Processor for Relay {}

impl Handle<Address<Relay>> for Relay {
    type Reply = ();
    fn handle(&mut self, next: Address<Relay>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0 = Some(next);
        Ok(())
    }
}

impl Handle<()> for Relay {
    type Reply = Result<(), Vec<String>>;
    fn handle(&mut self, (): (), _: &mut Cx<'_, Self, Self::Reply>) -> Outcome<Self::Reply> {
        let Some(next) = &self.0 else {
            return Ok(Ok(()));
        };
        Ok(match next.call(()).start().wait() {
            Ok(result) => result,
            Err(CallError::Deadlock(names)) => {
                Err(names.iter().map(|name| name.as_str().to_owned()).collect())
            }
            Err(other) => return Err(other.into()),
        })
    }
}

#[test]
fn a_circle_of_started_calls_over_two_or_three_drivers_is_refused() {
    for length in [2, 3] {
        let node = simulated(1);
        let names: Vec<_> = (0..length).map(|i| format!("relay-{i}")).collect();
        let spawn = |name: &String| node.spawn_thread(name, Relay(None)).unwrap();
        let relays: Vec<_> = names.iter().map(spawn).collect();
        for i in 0..length {
            relays[i]
                .call(relays[(i + 1) % length].clone())
                .wait()
                .unwrap();
        }
        let before = node.now();
        let mut circle = relays[0].call(()).wait().unwrap().unwrap_err();
        circle.sort();
        assert_eq!(circle, names);
        assert_eq!(node.now(), before);
    }
}

/// On real threads: room comes on the driver's thread, inside handlers of others, while tickets are cancelled and dropped.
#[test]
fn started_calls_are_answered_or_taken_back_whatever_happens_to_their_tickets() {
    let node = real();
    let (tell, told) = mpsc::channel();
    let sink = closure(move |n: u32, _cx| {
        tell.send(n).map_err(|_| Fault::new("nobody listens"))?;
        Ok::<_, Fault>(n)
    });
    let one = MailboxOptions::bounded(1);
    let sink = node.spawn_thread_with("sink", one, sink).unwrap();
    let mut answered = 0;
    let mut kept = Vec::new();
    for n in 0..3_000 {
        let mut ticket = sink.call(n).start();
        match n % 5 {
            0 => kept.push((n, ticket)),
            1 => drop(ticket),
            2 => ticket.detach(),
            3 => assert!(ticket.cancel_and_wait(LONG)),
            _ => match ticket.cancel() {
                true => assert!(ticket.is_done()),
                false => answered += u32::from(ticket.wait().unwrap() == n),
            },
        }
    }
    for (n, ticket) in kept {
        assert_eq!(ticket.wait().unwrap(), n);
    }
    assert!(node.shutdown(LONG).is_clean());
    let handled: Vec<_> = told.try_iter().collect();
    assert!(handled.is_sorted());
    // What was waited for or let go is all there.
    let sure = handled.iter().filter(|n| matches!(*n % 5, 0 | 2)).count();
    assert_eq!(sure, 1_200);
    let maybe = handled.iter().filter(|n| *n % 5 == 4).count();
    assert!(maybe >= answered as usize);
}

/// Why it was refused is known, and it waits for nobody: that this thread could not wait for it is beside the point.
#[test]
fn a_refused_ticket_says_why_where_waiting_would_be_refused_too() {
    let node = simulated(1);
    let manual = node.manual("loop").unwrap();
    let one = MailboxOptions::bounded(1).when_full(mproc::WhenFull::Fail);
    let sink = closure(|_: u32, _: &mut Cx<'_, mproc::Closure<u32, ()>>| ());
    let sink = manual.spawn("sink", one, sink).unwrap();
    sink.send(1).unwrap();
    let ticket = sink.call(2).start();
    assert!(ticket.is_done());
    assert!(matches!(ticket.wait(), Err(CallError::Full)));
    let mut begun = sink.call(3);
    begun.begin();
    assert!(matches!(begun.wait(), Err(CallError::Full)));
    assert_eq!(manual.spin_some(10).unwrap().handled, 1);
}
