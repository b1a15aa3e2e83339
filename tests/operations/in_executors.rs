//! Blocking a thread of an async executor: refused, reported or allowed, as the node was told.

use crate::{NUMBERS, real, squares};
use mproc::prelude::*;
use mproc::{CallError, InExecutor, Options, RecvError, ReserveError};
use std::process::Command;

fn on_tokio() -> bool {
    tokio::runtime::Handle::try_current().is_ok()
}

#[test]
fn a_wait_inside_an_executor_is_refused_where_the_node_was_told_to_and_starts_nothing() {
    let options = Options::default()
        .blocking_in_executor(InExecutor::Refuse)
        .inside_executor(on_tokio);
    let node = Node::with_options(options);
    let squares = squares(&node);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let one_thread = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    one_thread.block_on(async {
        assert!(matches!(squares.call(1).wait(), Err(CallError::InExecutor)));
        assert_eq!(numbers.recv().wait().unwrap_err(), RecvError::InExecutor);
        assert_eq!(
            squares.reserve().wait().unwrap_err(),
            ReserveError::InExecutor
        );
        let started = squares.call(2).start();
        assert!(matches!(started.wait(), Err(CallError::InExecutor)));
        // Looking is not waiting, and neither is awaiting.
        assert_eq!(
            numbers.recv().wait_timeout(Duration::ZERO).unwrap_err(),
            RecvError::Timeout
        );
        assert_eq!(squares.call(3).await.unwrap(), 9);
    });
    assert_eq!(squares.call(4).wait().unwrap(), 16);
    assert_eq!(
        node.snapshot().totals.handled + node.snapshot().totals.dropped.total(),
        3
    );
}

#[test]
fn a_wait_inside_a_future_that_this_library_polls_is_seen_without_being_told() {
    let options = Options::default().blocking_in_executor(InExecutor::Refuse);
    let node = Node::with_options(options);
    let squares = squares(&node);
    let refused = node.run(async { squares.call(1).wait() }).unwrap();
    assert!(matches!(refused, Err(CallError::InExecutor)));
    assert_eq!(squares.call(2).wait().unwrap(), 4);
}

const TOLD: &str = "OPERATIONS_TELL_OF_BLOCKING";

/// Run by the test below, in a process of its own.
#[test]
fn blocks_in_an_executor() {
    if std::env::var_os(TOLD).is_none() {
        return;
    }
    let node = Node::with_options(Options::default().inside_executor(on_tokio));
    let squares = squares(&node);
    let one_thread = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    one_thread.block_on(async {
        for n in 0..3 {
            assert_eq!(squares.call(n).wait().unwrap(), n * n);
        }
    });
    assert_eq!(real().run(async { 1 }).unwrap(), 1);
}

#[test]
fn a_wait_inside_an_executor_is_reported_once_and_in_its_awaited_form() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "in_executors::blocks_in_an_executor",
            "--nocapture",
        ])
        .env(TOLD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let told = String::from_utf8(child.stderr).unwrap();
    let warning =
        "mproc: `call(..).wait()` blocks a thread of an async executor; write `call(..).await`";
    // With the feature `tracing` and nobody who listens it is the same.
    assert_eq!(told.matches(warning).count(), 1, "{told}");
}
