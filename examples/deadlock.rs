//! Two processors that call each other, each waiting for the other's answer inside its handler. The call that closes the
//! circle is refused at once, with a message that names it, and both go on.

use mproc::{CallError, prelude::*};

/// Has a partner to ask.
#[derive(Default)]
struct Clerk {
    partner: Option<Address<Clerk>>,
}

/// "What does this form need?" The answer is on the partner's desk, unless nothing is left to ask for.
struct Ask {
    rounds: u32,
}

struct Meet(Address<Clerk>);

impl Processor for Clerk {}

impl Handle<Meet> for Clerk {
    type Reply = ();
    fn handle(&mut self, Meet(partner): Meet, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.partner = Some(partner);
        Ok(())
    }
}

impl Handle<Ask> for Clerk {
    type Reply = String;
    fn handle(&mut self, ask: Ask, cx: &mut Cx<'_, Self, String>) -> Outcome<String> {
        let (Some(partner), Some(rounds)) = (&self.partner, ask.rounds.checked_sub(1)) else {
            return Ok(format!("{} signs", cx.name()));
        };
        // Blocks this thread: nothing else is handled here until the partner has answered.
        match partner.call(Ask { rounds }).wait() {
            Ok(answer) => Ok(format!("{answer}, so {} signs", cx.name())),
            Err(error @ CallError::Deadlock(_)) => {
                println!("{} was refused: {error}", cx.name());
                Ok(format!("{} signs unasked", cx.name()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn main() -> mproc::Result<()> {
    let node = Node::new()?;
    let ann = node.spawn_thread("ann", Clerk::default())?;
    let bob = node.spawn_thread("bob", Clerk::default())?;
    ann.send(Meet(bob.clone()))?;
    bob.send(Meet(ann.clone()))?;

    // Ann asks Bob, who answers.
    println!("{}", ann.call(Ask { rounds: 1 }).wait()?);
    // Ann asks Bob, who would ask Ann, who waits for Bob: of the two, whoever is last to wait is refused.
    println!("{}", ann.call(Ask { rounds: 2 }).wait()?);
    // Both go on.
    println!("{}", bob.call(Ask { rounds: 1 }).wait()?);
    Ok(())
}
