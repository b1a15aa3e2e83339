//! The same handles on one executor after the other, and on a plain thread. None of them is ours.

use crate::{LONG, NUMBERS, Squares, real, squares};
use mproc::prelude::*;
use mproc::{CallError, Options, Publisher, RecvError};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};

/// What stays the same while executors change.
struct Handles {
    squares: Squares,
    numbers: Arc<Subscription<u32>>,
    publisher: Publisher<u32>,
}

impl Handles {
    fn new(node: &Node) -> Self {
        Self {
            squares: squares(node),
            numbers: Arc::new(node.subscription(&NUMBERS).unwrap()),
            publisher: node.publisher(&NUMBERS).unwrap(),
        }
    }

    /// Uses each kind of operation, so that it has to wait.
    async fn work(&self) -> u32 {
        let waits = self.numbers.recv().limit(LONG).start();
        let answer = self.squares.call(3).limit(LONG).await.unwrap();
        self.publisher.publish(answer).unwrap();
        let received = *waits.await.unwrap();
        let permit = self.squares.reserve().limit(LONG).await.unwrap();
        permit.send(1).unwrap();
        let started: Vec<_> = (1..=4)
            .map(|n| self.squares.call(n).limit(LONG).start())
            .collect();
        let mut sum = received;
        for ticket in started {
            sum += ticket.await.unwrap();
        }
        sum
    }

    /// Waits on a task of its own until `publish` is called.
    fn receive(&self) -> impl Future<Output = Result<u32, RecvError>> + Send + 'static {
        let numbers = self.numbers.clone();
        async move { Ok(*numbers.recv().limit(LONG).await?) }
    }
}

const SUM: u32 = 9 + 1 + 4 + 9 + 16;

/// A hand-written executor of one thread: tasks in a queue, and a channel that wakes them.
struct Hand {
    tasks: RefCell<VecDeque<Pin<Box<dyn Future<Output = ()>>>>>,
}

struct Bell(mpsc::Sender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _over = self.0.send(());
    }
}

impl Hand {
    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let (ring, rung) = mpsc::channel();
        let waker = Waker::from(Arc::new(Bell(ring)));
        let hand = Self {
            tasks: RefCell::default(),
        };
        let output = Rc::new(RefCell::new(None));
        let theirs = output.clone();
        hand.tasks.borrow_mut().push_back(Box::pin(async move {
            *theirs.borrow_mut() = Some(future.await);
        }));
        loop {
            let waiting = std::mem::take(&mut *hand.tasks.borrow_mut());
            for mut task in waiting {
                if task
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
                {
                    hand.tasks.borrow_mut().push_back(task);
                }
            }
            if let Some(output) = output.borrow_mut().take() {
                return output;
            }
            rung.recv_timeout(LONG).expect("something wakes it");
        }
    }
}

#[test]
fn the_same_handles_work_on_one_executor_after_the_other_and_on_a_plain_thread() {
    let node = real();
    let handles = Arc::new(Handles::new(&node));

    let one_thread = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    assert_eq!(one_thread.block_on(handles.work()), SUM);

    let theirs = handles.clone();
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let task = threads.spawn(async move { theirs.work().await });
    assert_eq!(threads.block_on(task).unwrap(), SUM);

    assert_eq!(smol::block_on(handles.work()), SUM);
    let theirs = handles.clone();
    assert_eq!(
        smol::block_on(smol::spawn(async move { theirs.work().await })),
        SUM
    );

    let theirs = handles.clone();
    assert_eq!(Hand::run(async move { theirs.work().await }), SUM);

    assert_eq!(node.run(handles.work()).unwrap(), SUM);

    assert_eq!(handles.squares.call(3).wait().unwrap(), 9);
    handles.publisher.publish(5).unwrap();
    assert_eq!(*handles.numbers.recv().wait().unwrap(), 5);
}

/// Between executors, too: who waits on one is woken by what happens on another, or on a plain thread.
#[test]
fn tasks_of_several_executors_wait_at_once_and_each_sample_goes_to_one() {
    let node = real();
    let handles = Handles::new(&node);
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let on_tokio = threads.spawn(handles.receive());
    let on_smol = smol::spawn(handles.receive());
    let by_hand = handles.receive();
    let by_hand = std::thread::spawn(move || Hand::run(by_hand));
    for n in [1, 2, 4] {
        handles.publisher.publish(n).unwrap();
    }
    let sum = threads.block_on(on_tokio).unwrap().unwrap()
        + smol::block_on(on_smol).unwrap()
        + by_hand.join().unwrap().unwrap();
    assert_eq!(sum, 7);
}

/// Whatever runs around the caller: waiting and awaiting are chosen in words, and both can be used anywhere.
#[test]
fn a_call_can_be_blocked_for_inside_an_executor_that_allows_it() {
    let options = Options::default().blocking_in_executor(mproc::InExecutor::Allow);
    let node = Node::with_options(options);
    let squares = squares(&node);
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let theirs = squares.clone();
    let task = threads.spawn(async move { theirs.call(4).wait() });
    assert_eq!(threads.block_on(task).unwrap().unwrap(), 16);
}

#[test]
fn a_task_that_is_aborted_takes_its_queued_call_back() {
    let node = Node::simulated_with(1, Options::default());
    let squares = squares(&node);
    let mut call = Box::pin(async move { squares.call(3).await });
    let waker = Waker::noop();
    assert!(
        call.as_mut()
            .poll(&mut Context::from_waker(waker))
            .is_pending()
    );
    drop(call);
    node.settle();
    assert_eq!(node.snapshot().totals.handled, 0);
}

#[test]
fn an_awaited_call_ends_with_the_processor_and_with_its_limit() {
    let node = real();
    let slow = node.spawn_thread("slow", crate::Slow).unwrap();
    let limit = Duration::from_millis(1);
    let late = smol::block_on(slow.call(1).limit(limit));
    assert!(matches!(late, Err(CallError::Timeout)));
    let ticket = slow.call(1).limit(LONG).start();
    slow.kill();
    let ended = smol::block_on(ticket);
    // By chance it was handled before, and what had promised the reply is gone.
    assert!(matches!(
        ended,
        Err(CallError::Stopped(_) | CallError::NoReply)
    ));
}
