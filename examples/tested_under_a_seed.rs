//! The same processors under many seeds, in virtual time: each seed is another order of handlers, and replays.

use mproc::prelude::*;

struct Light {
    switched: u32,
}
struct Switch;
struct Count;

impl Processor for Light {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.every(Duration::from_secs(60), |_tick| Switch);
        Ok(())
    }
}
impl Handle<Switch> for Light {
    type Reply = ();
    fn handle(&mut self, _: Switch, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.switched += 1;
        Ok(())
    }
}
impl Handle<Count> for Light {
    type Reply = u32;
    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        Ok(self.switched)
    }
}

/// A day of a house with three lights; what it was like is in the number that is returned.
fn a_day(seed: u64) -> mproc::Result<Option<(u64, u64)>> {
    let node = Node::simulated(seed);
    for name in ["kitchen", "hall", "attic"] {
        node.spawn_thread(name, Light { switched: 0 })?;
    }
    node.advance(Duration::from_secs(24 * 60 * 60));
    let hall = node.lookup::<Light>("hall")?;
    assert_eq!(hall.call(Count).wait()?, 24 * 60, "seed {seed}");
    Ok(node.fingerprint())
}

fn main() -> mproc::Result<()> {
    for seed in 0..5 {
        let day = a_day(seed)?;
        assert_eq!(day, a_day(seed)?, "seed {seed} replays");
        println!("seed {seed}: {day:?}");
    }
    Ok(())
}
