//! A processor with messages, a call with a reply, and a topic that tells of every change.

use mproc::prelude::*;

const CHANGED: Topic<i64> = Topic::new("counter/changed");

struct Counter {
    total: i64,
}
struct Add(i64);
struct Get;

impl Processor for Counter {}
impl Handle<Add> for Counter {
    type Reply = ();
    fn handle(&mut self, Add(n): Add, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.total += n;
        cx.publish(&CHANGED, self.total)?;
        Ok(())
    }
}
impl Handle<Get> for Counter {
    type Reply = i64;
    fn handle(&mut self, _: Get, _: &mut Cx<'_, Self, i64>) -> Outcome<i64> {
        Ok(self.total)
    }
}

fn main() -> mproc::Result<()> {
    let node = Node::new()?;
    let changes = node.subscription(&CHANGED)?;
    let counter = node.spawn_thread("counter", Counter { total: 0 })?;
    for n in 1..=3 {
        counter.send(Add(n))?;
    }
    println!("total {}", counter.call(Get).wait()?);
    for change in changes.try_iter() {
        println!("change {}: {}", change.sequence(), *change);
    }
    Ok(())
}
