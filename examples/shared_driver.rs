//! Two processors on one driver: never entered at once, so they share a table that is not `Send`, without a lock.

use mproc::{local_closure, prelude::*};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

fn main() -> mproc::Result<()> {
    let node = Node::new()?;
    let driver = node.driver("tables")?;
    let (words, counts) = driver.build(|on| {
        let table = Rc::new(RefCell::new(BTreeMap::<String, u32>::new()));
        let writes = table.clone();
        let words = local_closure(move |word: String, _cx| {
            *writes.borrow_mut().entry(word).or_default() += 1;
        });
        let counts = local_closure(move |word: String, _cx| {
            Ok::<_, std::fmt::Error>(table.borrow().get(&word).copied().unwrap_or(0))
        });
        Ok((on.spawn("words", words)?, on.spawn("counts", counts)?))
    })?;
    for word in "to be or not to be".split(' ') {
        words.call(word.to_owned()).wait()?;
    }
    for word in ["to", "be", "or", "nowhere"] {
        println!("{word}: {}", counts.call(word.to_owned()).wait()?);
    }
    Ok(())
}
