//! Topics and services whose Rust types a program does not have.

use crate::node::Node;
use mproc_pubsub::{
    PublisherOptions, Raw, RawClient, RawPublisher, Subscription, SubscriptionOptions, TypeInfo,
};
use mproc_runtime::Error;

impl Node {
    /// A subscription to pull from, to topics of any type, of this process and of others, now and later: values come as the
    /// bytes in which they travel. `pattern` is a name (`camera/frames`), a pattern (`robot/**`), or an id as text (`7:1`).
    /// Patterns leave out the library's own topics, under `mproc/`, unless they begin with `mproc/`.
    ///
    /// Publishers wait for it as for any subscription, unless its options say otherwise: with
    /// [`DropOldest`](crate::WhenFull::DropOldest) a tap that takes nothing holds nobody back.
    ///
    /// # Errors
    ///
    /// As [`Graph::tap`](crate::Graph::tap).
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    /// use mproc::Schema;
    ///
    /// const POINT: Topic<[f32; 2]> = Topic::plain("point");
    ///
    /// let node = Node::simulated(1);
    /// let tap = node.tap("point", SubscriptionOptions::new())?;
    /// node.publisher(&POINT)?.publish([0.5, 2.0])?;
    /// let sample = tap.recv().wait()?;
    /// let schema = Schema::of(sample.info()).expect("its type's name says it all");
    /// let point = schema.value(sample.bytes())?;
    /// assert_eq!(serde_json::to_string(&point)?, "[0.5,2.0]");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tap(
        &self,
        pattern: &str,
        options: SubscriptionOptions<Raw>,
    ) -> Result<Subscription<Raw>, Error> {
        self.graph().tap(self, pattern, options)
    }

    /// A publisher of bytes on the topic `name` (or the text of an id, `7:1`), which has values of the type that `info`
    /// describes. Typed subscribers of other processes whose type has this hash get them as values.
    ///
    /// # Errors
    ///
    /// As [`Graph::raw_publisher`](crate::Graph::raw_publisher).
    ///
    /// # Examples
    ///
    /// What one topic was heard to say, said again on another:
    ///
    /// ```
    /// use mproc::prelude::*;
    /// use mproc::PublisherOptions;
    ///
    /// const WORDS: Topic<String> = Topic::new("words");
    ///
    /// let node = Node::simulated(1);
    /// let heard = node.tap("words", SubscriptionOptions::new())?;
    /// let again = node.tap("again", SubscriptionOptions::new())?;
    /// node.publisher(&WORDS)?.publish("hello".into())?;
    ///
    /// let word = heard.recv().wait()?;
    /// let publisher = node.raw_publisher("again", word.info(), PublisherOptions::new())?;
    /// publisher.publish(word.bytes(), &[])?;
    /// assert_eq!(again.recv().wait()?.bytes(), b"\xa5hello");
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn raw_publisher(
        &self,
        name: &str,
        info: &TypeInfo,
        options: PublisherOptions,
    ) -> Result<RawPublisher, Error> {
        self.graph().raw_publisher(self, name, info, options)
    }

    /// A client of the service `name` that has none of its types: requests and replies are bytes of MessagePack.
    ///
    /// # Errors
    ///
    /// As [`Graph::raw_client`](crate::Graph::raw_client).
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::Node;
    ///
    /// let node = Node::simulated(1);
    /// let _server = node.serve("square", |n: u32| Ok(n * n))?;
    /// let reply = node.raw_client("square")?.call(vec![7]).wait()?;
    /// assert_eq!(reply, [49]); // small numbers are one byte
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn raw_client(&self, name: &str) -> Result<RawClient, Error> {
        self.graph().raw_client(self, name)
    }
}
