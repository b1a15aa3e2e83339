//! The readiness descriptor: readable exactly while a spin would run something.

use super::*;
use mproc::{DomainOptions, ReadyFd, Spun, TryRecvError, closure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::mpsc::channel;

/// What `poll` says, without waiting.
#[track_caller]
pub(crate) fn is_readable(fd: &ReadyFd) -> bool {
    ask(fd, Duration::ZERO)
}

/// What `poll` says, waiting for it at most `limit`.
#[track_caller]
fn ask(fd: &ReadyFd, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).unwrap();
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let count = poll(&mut fds, Some(&limit)).unwrap();
    assert!(count == 0 || fds[0].revents() == PollFlags::IN, "{fds:?}");
    count == 1
}

#[test]
fn it_is_readable_exactly_while_something_can_be_run() {
    let node = simulated();
    let mut script = listener(&node);
    let fd = script.ready_fd().unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    assert!(!is_readable(&fd));
    for n in 0..3 {
        numbers.publish(n).unwrap();
        assert!(is_readable(&fd));
    }
    for left in (0..3).rev() {
        assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Ran);
        assert_eq!(is_readable(&fd), left > 0, "{left} are left");
        assert_eq!(script.is_ready(), left > 0);
    }
    // It stood on a list with nothing to do, and was not put there again for the next.
    for n in 3..6 {
        numbers.publish(n).unwrap();
        assert!(is_readable(&fd));
        assert_eq!(handled(script.spin_some(1)), 1);
        assert!(!is_readable(&fd));
    }
    let sink = closure(|_: u32, _: &mut Cx<'_, mproc::Closure<u32, ()>>| ());
    let sink = script.spawn("sink", sink).unwrap();
    for n in 0..3 {
        sink.send(n).unwrap();
        assert!(is_readable(&fd));
        assert_eq!(handled(script.spin_some(1)), 1);
        assert!(!is_readable(&fd));
    }
    numbers.publish(6).unwrap();
    numbers.publish(7).unwrap();
    assert_eq!(handled(script.spin_some(1)), 1);
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd));
    assert_eq!(seen(&mut script), (0..8).collect::<Vec<_>>());
}

#[test]
fn it_says_what_was_there_before_it_was_asked_for() {
    let node = simulated();
    let mut script = listener(&node);
    node.publisher(&NUMBERS).unwrap().publish(1).unwrap();
    let fd = script.ready_fd().unwrap();
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd));
}

/// Each of them is one more way in which something can come, or go, without a spin.
#[test]
fn no_action_elsewhere_makes_it_forget() {
    let node = simulated();
    let mut script = listener(&node);
    let fd = script.ready_fd().unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let pulled = node.subscription(&NUMBERS).unwrap();
    let member = script.spawn("member", closure(|(): (), _| ())).unwrap();
    assert!(is_readable(&fd), "it is to be started");
    script.spin_some(10).unwrap();
    assert!(!is_readable(&fd));
    numbers.publish(1).unwrap();
    member.send(()).unwrap();
    // Somebody else takes what he has; somebody looks at counters, at the state, at the level itself.
    assert_eq!(*pulled.try_recv().unwrap(), 1);
    assert!(matches!(pulled.try_recv(), Err(TryRecvError::Empty)));
    let _snapshot = node.snapshot();
    assert_eq!(seen(&mut script), []);
    assert!(script.is_ready());
    for _ in 0..3 {
        assert!(is_readable(&fd));
        #[cfg(target_os = "linux")]
        rustix::io::read(&fd, &mut [0; 8]).unwrap_err();
    }
    // A second script of the thread is another matter.
    let mut other = node.script().unwrap();
    other.spin_some(10).unwrap();
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 2);
    assert!(!is_readable(&fd));
}

#[test]
fn after_a_panic_in_a_callback_it_is_readable_while_something_is_left_and_that_still_comes() {
    let node = simulated();
    let mut script = node.script().unwrap().with(Vec::new());
    script
        .on(&NUMBERS, |seen: &mut Vec<u32>, n, _| {
            assert_ne!(*n, 0, "wanted");
            seen.push(*n);
        })
        .unwrap();
    script.spin_some(10).unwrap();
    let fd = script.ready_fd().unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    (0..3).for_each(|n| drop(numbers.publish(n).unwrap()));
    assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Ran);
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 2);
    assert!(!is_readable(&fd));
    assert_eq!(seen(&mut script), [1, 2]);
    // The same where the program's own code panics, between two spins.
    let panics = std::panic::AssertUnwindSafe(|| {
        script.state(|_| {
            numbers.publish(3).unwrap();
            panic!("wanted");
        })
    });
    let _panic = std::panic::catch_unwind(panics).unwrap_err();
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd));
}

#[test]
fn what_is_sent_while_the_state_is_looked_at_makes_it_readable() {
    let node = simulated();
    let mut script = listener(&node);
    let fd = script.ready_fd().unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    script
        .state(|_| numbers.publish(1).map(drop))
        .unwrap()
        .unwrap();
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd));
}

#[test]
fn it_is_readable_when_a_timer_is_due_and_not_before() {
    let node = simulated();
    let mut script = listener(&node);
    let fd = script.ready_fd().unwrap();
    let timer = script.every(SECOND, |seen, _| seen.push(7)).unwrap();
    for _ in 0..2 {
        assert!(!is_readable(&fd));
        node.advance(SECOND * 3 / 4);
        assert!(!is_readable(&fd));
        node.advance(SECOND / 4);
        assert!(is_readable(&fd));
        assert_eq!(handled(script.spin_some(10)), 1);
    }
    node.advance(SECOND);
    assert!(is_readable(&fd));
    assert!(script.cancel(timer).unwrap());
    // What was due may be looked for once more; then there is nothing.
    assert_eq!(handled(script.spin_some(10)), 0);
    assert!(!is_readable(&fd));
    node.advance(SECOND * 5);
    assert!(!is_readable(&fd));
    assert_eq!(seen(&mut script), [7, 7]);
}

#[test]
fn one_poll_wakes_for_a_timer_and_for_what_other_threads_send() {
    let node = real();
    let mut script = listener(&node);
    let fd = script.ready_fd().unwrap();
    script
        .after(Duration::from_millis(5), |seen, _| seen.push(1))
        .unwrap();
    assert!(ask(&fd, LONG));
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd));
    let numbers = node.publisher(&NUMBERS).unwrap();
    let sender = std::thread::spawn(move || numbers.publish(2).map(drop));
    assert!(ask(&fd, LONG));
    sender.join().unwrap().unwrap();
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd));
    assert_eq!(seen(&mut script), [1, 2]);
}

/// The subscription may be there before the descriptor is asked for, or come after it.
#[test]
fn samples_of_other_processes_make_it_readable() {
    if !DomainOptions::is_available() {
        return;
    }
    for asked_first in [false, true] {
        let directory = tempfile::TempDir::new().unwrap();
        let node = || {
            let domain = DomainOptions::new("spinning").unwrap();
            let builder = Node::builder().options(Options::default());
            let builder = builder.domain_with(domain.directory(directory.path()));
            builder.build().unwrap()
        };
        let (theirs, ours) = (node(), node());
        let mut script = ours.script().unwrap().with(Vec::new());
        let early = asked_first.then(|| script.ready_fd().unwrap());
        script.on(&NUMBERS, |seen, n, _| seen.push(*n)).unwrap();
        let numbers = theirs.publisher(&NUMBERS).unwrap();
        numbers.wait_for_subscribers(1, LONG).unwrap();
        script.spin_some(10).unwrap();
        let fd = early.unwrap_or_else(|| script.ready_fd().unwrap());
        for n in 0..20 {
            numbers.publish(n).unwrap();
            assert!(ask(&fd, LONG), "sample {n} makes it readable");
            // It is taken out of memory by the turn that looks there.
            while seen(&mut script) != [n] {
                assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
            }
        }
        assert!(!is_readable(&fd));
        // A blocking spin is woken, too.
        let sender = std::thread::spawn(move || numbers.publish(99).map(|_| numbers));
        assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
        assert_eq!(seen(&mut script), [99]);
        let _numbers = sender.join().unwrap().unwrap();
    }
}

#[test]
fn the_end_of_the_node_makes_it_readable_for_ever() {
    for node in [simulated(), real()] {
        let mut script = listener(&node);
        let fd = script.ready_fd().unwrap();
        assert!(!is_readable(&fd));
        node.request_shutdown();
        assert!(is_readable(&fd));
        assert!(script.spin_some(10).unwrap().is_ending);
        assert!(is_readable(&fd));
        script.spin().unwrap();
        drop((script, node));
        assert!(is_readable(&fd));
    }
}

#[test]
fn the_end_of_the_script_makes_it_readable_for_ever() {
    let node = simulated();
    let script = listener(&node);
    let fd = script.ready_fd().unwrap();
    assert!(!is_readable(&fd));
    drop(script);
    assert!(is_readable(&fd));
    node.publisher(&NUMBERS).unwrap().publish(1).unwrap();
    assert!(is_readable(&fd));
}

#[test]
fn all_copies_are_one_descriptor() {
    use std::os::fd::AsRawFd;
    let script = listener(&simulated());
    let fd = script.ready_fd().unwrap();
    let again = script.ready_fd().unwrap();
    assert_eq!(fd.as_raw_fd(), again.as_raw_fd());
    assert_eq!(fd.as_raw_fd(), fd.clone().as_raw_fd());
}

/// Many threads send while one loop does nothing but poll and spin: none is slept over.
#[test]
fn a_loop_that_spins_only_when_it_is_readable_handles_all_that_threads_send() {
    const EACH: u32 = 2000;
    let node = real();
    let mut script = node.script().unwrap();
    let (tell, told) = channel();
    let sink = closure(move |n: u32, _: &mut Cx<'_, _>| tell.send(n));
    let sink = script.spawn("sink", sink).unwrap();
    let fd = script.ready_fd().unwrap();
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let sink = sink.clone();
            std::thread::spawn(move || (0..EACH).for_each(|n| sink.send(n).unwrap()))
        })
        .collect();
    let mut sum = 0;
    while sum < 3 * EACH {
        assert!(ask(&fd, LONG), "{sum} were handled");
        sum += handled(script.spin_some(7)) as u32;
    }
    senders.into_iter().for_each(|s| s.join().unwrap());
    assert!(!is_readable(&fd));
    assert_eq!(told.try_iter().count(), 3 * EACH as usize);
}

/// An interrupt has everybody look who waits for a limit. The alarm for the script's timer is one of those, and lost the one
/// whom it was to wake: its time came, and nobody was told.
#[test]
fn an_interrupt_does_not_make_it_forget_a_timer() {
    let node = simulated();
    let mut script = listener(&node);
    let fd = script.ready_fd().unwrap();
    script.after(SECOND, |seen, _| seen.push(7)).unwrap();
    for _ in 0..2 {
        node.interrupt();
        node.settle();
        assert!(!is_readable(&fd));
    }
    node.advance(SECOND);
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd));
    assert_eq!(seen(&mut script), [7]);
}

#[test]
fn a_timer_of_domain_time_makes_it_readable_whoever_drives_the_clock() {
    let node = simulated();
    let time = node.drive_time().unwrap();
    node.follow(&time.clock());
    let mut script = listener(&node);
    let fd = script.ready_fd().unwrap();
    script.every(SECOND, |seen, _| seen.push(7)).unwrap();
    node.advance(SECOND * 5);
    assert!(!is_readable(&fd));
    // By the script's own thread, by another, and as time goes by.
    time.step(SECOND).unwrap();
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd));
    let steps = closure(move |(): (), _cx| {
        time.step(SECOND)?;
        time.resume()
    });
    let steps = node.spawn_thread("steps", steps).unwrap();
    steps.call(()).wait().unwrap();
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd));
    node.interrupt();
    node.advance(SECOND);
    assert!(is_readable(&fd));
    assert_eq!(handled(script.spin_some(10)), 1);
    assert_eq!(seen(&mut script), [7, 7, 7]);
}

/// A task that has woken itself has no message, and what is behind a handler that awaits cannot be run.
#[test]
fn it_is_readable_for_a_woken_task_and_not_for_what_waits_behind_a_handler_that_awaits() {
    use mproc::Fault;
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};
    use std::task::{Poll, Waker};

    let node = simulated();
    let mut script = listener(&node);
    let fd = script.ready_fd().unwrap();
    let mut polls = 0;
    let _task = script
        .spawn_task(poll_fn(move |context| {
            polls += 1;
            if polls < 3 {
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }))
        .unwrap();
    for left in (0..3).rev() {
        assert!(is_readable(&fd) && script.is_ready());
        assert_eq!(handled(script.spin_some(1)), 1);
        assert_eq!(is_readable(&fd), left > 0, "{left} are left");
        assert_eq!(script.is_ready(), left > 0, "{left} are left");
    }

    let kept = Arc::new(Mutex::new(None::<Waker>));
    let keeps = kept.clone();
    let awaits = closure(
        move |n: u32, cx: &mut Cx<'_, mproc::Closure<u32, ()>, ()>| {
            let (keeps, mut is_first) = (keeps.clone(), n == 1);
            cx.reply_async(poll_fn(move |context| {
                if std::mem::take(&mut is_first) {
                    *keeps.lock().unwrap() = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Ok::<(), Fault>(()))
            }))
        },
    );
    let awaits = script.spawn("awaits", awaits).unwrap();
    for n in 1..4 {
        awaits.send(n).unwrap();
    }
    // The message, and the first poll of its future.
    assert_eq!(handled(script.spin_some(1)), 1);
    assert!(is_readable(&fd) && script.is_ready());
    assert_eq!(handled(script.spin_some(1)), 1);
    assert!(!is_readable(&fd) && !script.is_ready());
    let waker = kept.lock().unwrap().take().unwrap();
    std::thread::spawn(move || waker.wake()).join().unwrap();
    assert!(is_readable(&fd) && script.is_ready());
    assert_eq!(handled(script.spin_some(1)), 1);
    assert!(is_readable(&fd) && script.is_ready());
    // Two messages with two polls.
    assert_eq!(handled(script.spin_some(10)), 4);
    assert!(!is_readable(&fd) && !script.is_ready());
}

/// Its messages wait for room elsewhere: no spin runs any of them before there is some.
#[test]
fn it_is_not_readable_for_what_waits_behind_a_full_outbox() {
    use mproc::Closure;
    let node = simulated();
    let elsewhere = node.manual("elsewhere").unwrap();
    let sink = closure(|_: u32, _: &mut Cx<'_, Closure<u32, ()>>| ());
    let sink = elsewhere.spawn("sink", MailboxOptions::bounded(1), sink);
    let sink = sink.unwrap();
    let mut script = listener(&node);
    let fd = script.ready_fd().unwrap();
    let sends = closure(move |n: u32, _: &mut Cx<'_, Closure<u32, ()>>| sink.send(n));
    let sends = script.spawn("sends", sends).unwrap();
    for n in 0..4 {
        sends.send(n).unwrap();
    }
    for left in [3, 2] {
        assert!(is_readable(&fd) && script.is_ready());
        assert_eq!(handled(script.spin_some(1)), 1);
        assert_eq!(sends.snapshot().queued, left);
    }
    // The second found no room.
    assert!(!is_readable(&fd) && !script.is_ready());
    assert_eq!(elsewhere.spin_some(1).unwrap().handled, 1);
    assert!(is_readable(&fd) && script.is_ready());
    assert_eq!(handled(script.spin_some(10)), 1);
    assert!(!is_readable(&fd) && !script.is_ready());
}
