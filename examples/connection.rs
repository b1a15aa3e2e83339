//! One client with a lasting connection to a server, written once as asynchronous code, and used in three ways.
//!
//! ```text
//! cargo run --example connection
//! ```
//!
//! The server is a small store of keys and values: a program of its own that knows nothing of mproc (`connection/server.rs`). It
//! answers when it can, not in the order of the requests. The client (`connection/client.rs`) is a processor that owns the
//! connection. Its operations are blocked for by a script, awaited on tokio, and started by the hundred. Then the server is
//! killed while a request waits, and started again.

#[path = "connection/client.rs"]
mod client;
#[path = "connection/server.rs"]
mod server;

use client::{Store, StoreError};
use mproc::prelude::*;
use mproc::{Options, replies};
use server::Server;
use std::error::Error;

/// How many jobs are taken at once.
const JOBS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(server::ROLE) {
        return Ok(server::run(arguments.next().as_deref())?);
    }
    let server = Server::start(None)?;

    // The client's futures use the sockets and timers of this runtime. They are polled by the node's drivers all the same.
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let handle = tokio.handle().clone();
    let options = Options::from_environment()?.polls_inside(move |poll| {
        let _inside = handle.enter();
        poll();
    });
    let node = Node::builder().options(options).build()?;
    // Makes this thread a script's.
    let script = node.script()?;
    let store = Store::connect(&node, server.address())?;

    blocking(&store)?;
    tokio.block_on(awaited(&store))?;
    many_at_once(&store)?;
    restarted(&store, server)?;

    println!("connected {} times", store.connections().wait()?);
    drop(script);
    let report = node.shutdown(Duration::from_secs(5));
    println!("{report}");
    Ok(())
}

/// A script does one thing after the other.
fn blocking(store: &Store) -> Result<(), StoreError> {
    store.set("apple", "red").wait()?;
    println!("blocking: apple is {}", store.get("apple").wait()?);
    match store.get("pear").wait() {
        Err(StoreError::Refused(why)) => println!("blocking: pear: {why}"),
        other => println!("blocking: pear: {other:?}"),
    }
    Ok(())
}

/// The same operations on an executor. `take` waits at the server until somebody sets the key: it is asked for first, and
/// answered last.
async fn awaited(store: &Store) -> Result<(), StoreError> {
    println!("awaited: apple is {}", store.get("apple").await?);
    let take = async {
        let parcel = store.take("parcel").await?;
        println!("awaited: took {parcel}");
        Ok(())
    };
    let set = async {
        println!("awaited: apple is still {}", store.get("apple").await?);
        store.set("parcel", "a book").await
    };
    tokio::try_join!(take, set).map(|((), ())| ())
}

/// All are under way at once, over one connection, and no thread waits for each of them.
fn many_at_once(store: &Store) -> Result<(), StoreError> {
    let before = store.overtaken().wait()?;
    let takes: Vec<_> = (0..JOBS)
        .map(|n| store.take(&format!("job-{n}")).start())
        .collect();
    // They are given in the opposite order, 32 at a time.
    let sets = (0..JOBS)
        .rev()
        .map(|n| store.set(&format!("job-{n}"), &n.to_string()));
    for set in replies(sets).prefetch(31) {
        set?;
    }
    let mut in_order = 0;
    for (n, take) in takes.into_iter().enumerate() {
        in_order += usize::from(take.wait()? == n.to_string());
    }
    let overtaken = store.overtaken().wait()? - before;
    println!("many: {in_order} of {JOBS} jobs are what was asked for");
    println!("many: answers were overtaken: {}", overtaken > 0);
    Ok(())
}

/// What was under way when the server died is lost, and says so at once. What is asked meanwhile waits for the next connection.
fn restarted(store: &Store, server: Server) -> Result<(), Box<dyn Error>> {
    let never = store.take("never").start();
    // Requests are read in order: when this is answered, the server has that.
    store.get("apple").wait()?;
    let address = server.address();
    server.kill()?;
    match never.wait() {
        Err(StoreError::Lost(_)) => println!("restarted: the request under way is lost"),
        other => println!("restarted: {other:?}"),
    }
    let early = store.set("apple", "green").start();
    let _server = Server::start(Some(address))?;
    early.wait()?;
    println!("restarted: apple is {}", store.get("apple").wait()?);
    Ok(())
}
