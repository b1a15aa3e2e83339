//! Ctrl-C while a script waits. (What it does to one that spins: `tests/scripts.rs`.)

use super::*;
use mproc::{Address, CallError, Closure, ErrorKind, Fault, RecvError, Spun, closure};
use std::io::{BufRead, BufReader, Lines};
use std::pin::Pin;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};

type Never = Address<Closure<(), ()>>;

/// Takes calls, and answers none.
fn never(node: &Node) -> Never {
    let never = closure(|(): (), cx: &mut Cx<'_, Closure<(), ()>, ()>| {
        cx.reply_later(std::mem::forget::<mproc::ReplyToken<()>>)
    });
    node.spawn_thread("never", never).unwrap()
}

/// A processor that interrupts the node when the clock says so, while everybody else waits.
fn interrupts(node: &Node, after: Duration) {
    let later = closure(move |(): (), cx: &mut Cx<'_, Closure<(), ()>>| {
        cx.after_with(after, |_, cx| cx.runtime().interrupt());
    });
    let later = node.spawn_thread("interrupts", later).unwrap();
    later.send(()).unwrap();
}

/// Every blocking wait of the script's thread, and how it says that it was interrupted.
#[test]
fn a_wait_is_given_up_at_once_and_says_interrupted() {
    type Wait = fn(&Node, &Never) -> Option<ErrorKind>;
    let waits: [Wait; 6] = [
        |_, never| {
            let error = never.call(()).wait_timeout(LONG).unwrap_err();
            assert!(matches!(error, CallError::Interrupted), "{error}");
            Some(mproc::Error::from(error).kind())
        },
        |_, never| {
            let error = never.ended().wait_timeout(LONG).unwrap_err();
            Some(mproc::Error::from(error).kind())
        },
        |node, _| {
            let numbers = node.subscription(&NUMBERS).unwrap();
            let error = numbers.recv_timeout(LONG).unwrap_err();
            assert_eq!(error, RecvError::Interrupted);
            Some(mproc::Error::from(error).kind())
        },
        |node, _| {
            let numbers = node.subscription(&NUMBERS).unwrap();
            let error = mproc::select(&[&numbers], None, LONG).unwrap_err();
            Some(mproc::Error::from(error).kind())
        },
        |node, _| {
            let numbers = node.publisher(&NUMBERS).unwrap();
            let waited = numbers.wait_for_subscribers(1, LONG);
            waited.err().map(|error| error.kind())
        },
        |node, _| {
            let numbers = node.publisher(&NUMBERS).unwrap();
            let listener = node.subscription(&NUMBERS).unwrap();
            numbers.publish(1).unwrap();
            let flushed = numbers.flush(LONG);
            assert_eq!(*listener.recv().wait().unwrap(), 1);
            flushed.err().map(|error| error.kind())
        },
    ];
    for (n, wait) in waits.into_iter().enumerate() {
        let node = simulated();
        let _script = node.script().unwrap();
        // The clean-up of a call is waited for, a second at most, and this one's token is never gone. The others have none.
        let clean_up = [SECOND, Duration::ZERO][n.min(1)];
        let never = never(&node);
        interrupts(&node, SECOND);
        let before = node.now();
        assert_eq!(wait(&node, &never), Some(ErrorKind::Interrupted));
        assert_eq!(node.now() - before, SECOND + clean_up);
    }
}

/// On an executor of one's own, which runs the future on the script's thread.
#[test]
fn what_is_awaited_is_given_up_and_says_interrupted_too() {
    struct Unparks(std::thread::Thread);
    impl Wake for Unparks {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let block_on = |mut call: mproc::Pending<(), CallError>| {
        let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut call).poll(&mut context) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park(),
            }
        }
    };
    let node = real();
    let _script = node.script().unwrap();
    let never = never(&node);
    // Before the wait, and while it goes on (or before it, on a busy machine).
    node.interrupt();
    let error = block_on(never.call(()).limit(LONG)).unwrap_err();
    assert!(matches!(error, CallError::Interrupted), "{error}");
    interrupts(&node, Duration::from_millis(5));
    let error = block_on(never.call(()).limit(LONG)).unwrap_err();
    assert!(matches!(error, CallError::Interrupted), "{error}");
}

#[test]
fn spin_until_is_given_up_at_once_and_says_interrupted() {
    let node = simulated();
    let mut script = node.script().unwrap();
    let mut call = never(&node).call(());
    interrupts(&node, SECOND);
    let before = node.now();
    let error = script.spin_until(&mut call, LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(node.now() - before, SECOND);
}

#[test]
fn what_was_waited_for_is_cancelled_and_a_queued_message_taken_back() {
    let node = simulated();
    let mut script = node.script().unwrap();
    let (tell, told) = channel();
    let slow = closure(move |n: u32, cx: &mut Cx<'_, Closure<u32, ()>, ()>| {
        tell.send(n)?;
        let node = cx.runtime();
        let until = node.now() + SECOND * 5;
        while node.now() < until {
            node.park(Some(until));
        }
        Ok::<_, Fault>(())
    });
    let slow = node.spawn_thread("slow", slow).unwrap();
    interrupts(&node, SECOND);
    slow.send(1).unwrap();
    let error = slow.call(2).wait_timeout(LONG).unwrap_err();
    assert!(matches!(error, CallError::Interrupted), "{error}");
    node.advance(SECOND * 20);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [1]);
    assert_eq!(slow.snapshot().dropped.by(mproc::DropCause::Cancelled), 1);
    assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Idle);
}

/// One interrupt ends one wait: the one that goes on, or the next one.
#[test]
fn an_interrupt_between_two_waits_ends_the_next_and_no_other() {
    let node = simulated();
    let _script = node.script().unwrap();
    let echo = closure(|n: u32, _: &mut Cx<'_, Closure<u32, u32>, u32>| Ok::<_, Fault>(n));
    let echo = node.spawn_thread("echo", echo).unwrap();
    assert_eq!(echo.call(1).wait().unwrap(), 1);
    node.interrupt();
    node.interrupt();
    let error = echo.call(2).wait().unwrap_err();
    assert!(matches!(error, CallError::Interrupted), "{error}");
    assert_eq!(echo.call(3).wait().unwrap(), 3);
}

#[test]
fn a_thread_without_a_script_is_not_interrupted() {
    let node = real();
    let (begin, begins) = channel();
    let echo = closure(|n: u32, _: &mut Cx<'_, Closure<u32, u32>, u32>| Ok::<_, Fault>(n));
    let echo = node.spawn_thread("echo", echo).unwrap();
    let theirs = node.clone();
    let with_script = std::thread::spawn(move || {
        let _script = theirs.script().unwrap();
        theirs.interrupt();
        begin.send(()).unwrap();
        theirs.take_interrupt()
    });
    begins.recv_timeout(LONG).unwrap();
    assert_eq!(echo.call(1).wait_timeout(LONG).unwrap(), 1);
    assert!(!node.take_interrupt());
    assert!(with_script.join().unwrap());
}

/// It tells of the node's end, and what handlers wait for while that is carried out is not disturbed.
#[test]
fn a_spin_deals_with_the_interrupt() {
    struct Careful(Address<Closure<u32, u32>>, std::sync::mpsc::Sender<u32>);
    impl Processor for Careful {
        fn stopped(&mut self, _: &mproc::Exit, _: &mut Cx<'_, Self>) {
            let last = self.0.call(7).wait();
            self.1.send(last.unwrap_or(0)).unwrap();
        }
    }
    let node = simulated();
    let mut script = node.script().unwrap();
    let echo = closure(|n: u32, _: &mut Cx<'_, Closure<u32, u32>, u32>| Ok::<_, Fault>(n));
    let (tell, told) = channel();
    let careful = |echo| Careful(echo, tell);
    let echo = node.spawn_thread("echo", echo).unwrap();
    let careful = script.spawn("careful", careful(echo)).unwrap();
    careful.stop();
    node.request_shutdown();
    node.interrupt();
    script.spin().unwrap();
    assert!(!node.take_interrupt());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [7]);
}

/// This very test in a process of its own, which is sent signals.
pub(crate) struct Alone {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Alone {
    const MARK: &str = "MPROC_TEST_CHILD";

    pub(crate) fn is_here() -> bool {
        std::env::var_os(Self::MARK).is_some()
    }

    pub(crate) fn start(test: &str) -> Self {
        let domain = format!("spinning-{}", std::process::id());
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(Self::MARK, "1")
            .env("MPROC_DOMAIN", domain)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    #[track_caller]
    pub(crate) fn says(&mut self, line: &str) {
        let said = self.lines.any(|said| said.unwrap() == line);
        assert!(said, "it ended without saying {line:?}");
    }

    pub(crate) fn ends_well(mut self) {
        assert!(self.process.wait().unwrap().success());
    }

    fn interrupt(&self) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    }
}

#[test]
fn ctrl_c_while_a_call_is_waited_for_gives_it_up_and_then_the_script_ends_in_order() {
    if Alone::is_here() {
        let mut script = mproc::init().unwrap();
        let mine = script.node().clone();
        // It answers only to say that it was reached.
        let asks = closure(|(): (), cx: &mut Cx<'_, Closure<(), ()>, ()>| {
            println!("\nit was asked");
            cx.reply_later(std::mem::forget::<mproc::ReplyToken<()>>)
        });
        let asks = mine.spawn_thread("asks", asks).unwrap();
        let error = asks.call(()).wait_timeout(Duration::MAX).unwrap_err();
        println!("\n{error}");
        script.spin().unwrap();
        println!("\nit ended in order");
        return;
    }
    let mut child = Alone::start(
        "interrupts::ctrl_c_while_a_call_is_waited_for_gives_it_up_and_then_the_script_ends_in_order",
    );
    child.says("it was asked");
    child.interrupt();
    child.says("program was interrupted");
    child.says("it ended in order");
    child.ends_well();
}
