//! A waiter whose handler awaits the kitchen: it orders two things at once, and serves when both are there.
//!
//! No thread waits meanwhile. Waiter, kitchen and door share one driver; guests come in while the waiter awaits. Its next order
//! waits until the one before is served, so orders are served in the order in which they were given.

use mproc::{Fault, ReplyToken, prelude::*};

/// Cooks many things at once, each for a while.
struct Kitchen;
struct Cook(&'static str);

impl Processor for Kitchen {}
impl Handle<Cook> for Kitchen {
    type Reply = String;
    fn handle(&mut self, Cook(what): Cook, cx: &mut Cx<'_, Self, String>) -> Outcome<String> {
        let mut promised: Option<ReplyToken<String>> = None;
        let later = cx.reply_later(|token| promised = Some(token));
        cx.after_with(Duration::from_millis(20), move |_, _| {
            if let Some(token) = promised.take() {
                token.send(format!("hot {what}"));
            }
        });
        later
    }
}

struct Waiter {
    served: u32,
    kitchen: Address<Kitchen>,
}
/// For the table of this number.
struct Order(u32);

impl Processor for Waiter {}
impl AsyncProcessor for Waiter {}
impl HandleAsync<Order> for Waiter {
    type Reply = String;
    fn handle_async(
        &mut self,
        Order(table): Order,
        cx: &mut Cx<'_, Self, String>,
    ) -> impl Future<Output = Outcome<String>> + Send + 'static {
        println!("waiter: takes the order of table {table}");
        // The future holds nothing of the waiter's state. It takes along what it needs, and a way back in.
        let (me, kitchen) = (cx.async_handle(), self.kitchen.clone());
        async move {
            let mut soup = kitchen.call(Cook("soup"));
            let mut bread = kitchen.call(Cook("bread"));
            // Both are on their way before either is waited for.
            soup.begin();
            bread.begin();
            let meal = format!("{} and {}", soup.await?, bread.await?);
            let served = me.update(|waiter, _cx| {
                waiter.served += 1;
                waiter.served
            });
            println!("waiter: serves table {table}, number {}", served.await?);
            Ok(meal)
        }
    }
}

/// Lets guests in, one after the other, in a future beside its messages.
struct Door {
    guests: u32,
}
struct Guests;

impl Processor for Door {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let me = cx.async_handle();
        cx.spawn(async move {
            for _ in 0..3 {
                me.update(|door, _cx| door.guests += 1).await?;
                println!("door:   a guest comes in");
            }
            Ok::<(), Fault>(())
        });
        Ok(())
    }
}
impl Handle<Guests> for Door {
    type Reply = u32;
    fn handle(&mut self, _: Guests, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        Ok(self.guests)
    }
}

fn main() -> mproc::Result<()> {
    let node = Node::new()?;
    let restaurant = node.driver("restaurant")?;
    let kitchen = restaurant.spawn("kitchen", Kitchen)?;
    let waiter = restaurant.spawn("waiter", Waiter { served: 0, kitchen })?;
    let mut meals = Vec::new();
    for table in [1, 2] {
        meals.push(waiter.call(Order(table)).start());
    }
    let door = restaurant.spawn("door", Door { guests: 0 })?;
    // A task on the same driver, with a result.
    let last = waiter.clone();
    let task = restaurant.spawn_task(async move { last.call(Order(3)).await })?;
    for meal in meals {
        println!("table:  {}", meal.wait()?);
    }
    println!("table:  {}", task.wait()??);
    println!("door:   {} guests", door.call(Guests).wait()?);
    Ok(())
}
