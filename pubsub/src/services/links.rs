//! Services as a transport sees them: one topic that each node publishes and subscribes to, of which every link is used for
//! itself. It is no topic of the graph: no program can declare it, and no snapshot shows it.

use super::registry::Registry;
use crate::codec::CodecKind;
use crate::id::{SubscriptionId, TopicId};
use crate::transport::{Inlet, Offered, OutLink, Remote, Sought, Terms, TopicKey};
use mproc_runtime::{Error, ErrorKind, LaneBell, WhenFull};
use std::sync::{Arc, Weak};

/// Names under `mproc/` are the library's own.
const NAME: &str = "mproc/calls";

/// What frames mean. Another number is another language.
const VERSION: u64 = 1;

/// How many frames a link has room for.
const CAPACITY: usize = 256;

pub(crate) struct Links {
    registry: Weak<Registry>,
    key: TopicKey,
    id: SubscriptionId,
}

impl Links {
    pub(crate) fn new(registry: &Weak<Registry>) -> Arc<Self> {
        Arc::new(Self {
            registry: registry.clone(),
            key: TopicKey {
                id: Self::topic(),
                name: NAME.to_owned(),
                type_name: format!("frames about services, version {VERSION}"),
                type_hash: VERSION,
                codec: CodecKind::Serde,
            },
            id: SubscriptionId::next(),
        })
    }

    pub(crate) fn topic() -> TopicId {
        TopicId::from_name(NAME)
    }
}

impl Offered for Links {
    fn key(&self) -> &TopicKey {
        &self.key
    }

    fn join(&self, link: Arc<dyn OutLink>) -> Result<SubscriptionId, Error> {
        match self.registry.upgrade() {
            Some(registry) => registry.joined(&link),
            None => Err(Error::new(ErrorKind::Closed, "the node has ended")),
        }
    }

    fn leave(&self, id: SubscriptionId) {
        if let Some(registry) = self.registry.upgrade() {
            registry.left(id);
        }
    }
}

impl Sought for Links {
    fn id(&self) -> SubscriptionId {
        self.id
    }

    fn wants(&self, key: &TopicKey) -> Result<bool, Error> {
        if key.id != self.key.id || key.name != self.key.name {
            return Ok(false);
        }
        if key.type_hash == self.key.type_hash {
            return Ok(true);
        }
        let text = format!(
            "it speaks of {}, and this node of {}",
            key.type_name, self.key.type_name
        );
        Err(Error::new(ErrorKind::TypeConflict, text))
    }

    fn terms(&self) -> Terms {
        Terms {
            is_tap: false,
            capacity: CAPACITY,
            when_full: WhenFull::Wait,
            max_leases: CAPACITY,
        }
    }

    fn bell(&self) -> Option<LaneBell> {
        None
    }

    fn open(&self, from: &Remote, _: &TopicKey, inlet: Box<dyn Inlet>) -> bool {
        match self.registry.upgrade() {
            Some(registry) => registry.opened(from, inlet),
            None => false,
        }
    }

    fn look(&self) -> bool {
        self.registry
            .upgrade()
            .is_some_and(|registry| registry.look())
    }
}
