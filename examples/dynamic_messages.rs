//! Messages whose receiver, kind and data are decided at run time, and their answers. Whoever listens to a mid also hears
//! what typed topics of it publish.

use mproc::{Data, Msg, Place, TopicId, prelude::*};

const MATHS: u32 = 7;
const DOUBLE: u32 = 1;
const DOUBLED: Topic<i64> = Topic::with_id(TopicId::new(MATHS, 2));

struct Doubler;
impl Processor for Doubler {}
impl Handle<Msg> for Doubler {
    type Reply = ();
    fn handle(&mut self, msg: Msg, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let n = msg.data.downcast_ref::<i64>().copied().unwrap_or_default();
        cx.publish(&DOUBLED, n * 2)?;
        Node::from(&*cx).send(msg.reply(0, Data::shared(n * 2)))?;
        Ok(())
    }
}

struct Asker;
impl Processor for Asker {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.subscribe_mid(MATHS).call(|_, msg, _| {
            let n = msg.data.downcast_ref::<i64>();
            println!("to all, command {}: {n:?}", msg.cmd);
            Ok(())
        })?;
        Ok(())
    }
}
impl Handle<Msg> for Asker {
    type Reply = ();
    fn handle(&mut self, msg: Msg, _: &mut Cx<'_, Self>) -> Outcome<()> {
        let answer = msg.data.downcast_ref::<i64>();
        println!("answer {} from {:?}: {answer:?}", msg.tag, msg.src);
        Ok(())
    }
}

fn main() -> mproc::Result<()> {
    let node = Node::new()?;
    let doubler = node.accept_msgs(&node.spawn_thread("doubler", Doubler)?);
    let asker: Place = node.accept_msgs(&node.spawn_thread("asker", Asker)?);
    node.settle(); // the asker listens now
    let question = Msg::new(MATHS, DOUBLE)
        .from(asker)
        .data(Data::shared(21_i64));
    node.send(question.dup().to(doubler).tag(1))?;
    node.settle();
    node.send(question)?;
    node.settle();
    Ok(())
}
