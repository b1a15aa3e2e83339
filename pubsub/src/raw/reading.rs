//! Bytes of other nodes, as they came.

use super::Raw;
use super::tap::{Names, SharedInfo};
use crate::codec::CodecError;
use crate::id::TopicId;
use crate::parts;
use crate::reader::{Reader, RemoteNode, header};
use crate::sample::{Body, Header};
use crate::topic;
use crate::transport::Lease;
use std::ops::Range;
use std::sync::Arc;

/// Reads values without their type: nothing is decoded, and nothing is copied.
pub(super) struct Bare {
    name: &'static str,
    id: TopicId,
    info: SharedInfo,
    from: Arc<RemoteNode>,
    names: Names,
}

impl Bare {
    pub(super) fn new(
        name: &'static str,
        id: TopicId,
        info: SharedInfo,
        from: Arc<RemoteNode>,
        names: Names,
    ) -> Self {
        Self {
            name,
            id,
            info,
            from,
            names,
        }
    }
}

impl Reader<Raw> for Bare {
    fn read(&self, lease: Box<dyn Lease>) -> Result<Arc<dyn Body<Raw>>, CodecError> {
        let stamp = *lease.stamp();
        let bytes = lease.bytes();
        let (range, parts) = if stamp.has_parts {
            parts::read(bytes)?
        } else {
            (0..bytes.len(), Vec::new())
        };
        let mut header = header(self.name, self.id, &stamp, &self.from);
        if stamp.topic != self.id {
            let names = self.names.lock();
            header.topic = names
                .get(&stamp.topic)
                .map_or("", |name| topic::intern(name));
        }
        let info = self.info.lock().clone();
        Ok(Arc::new(Came {
            header,
            raw: Raw::leased(&info, lease, range),
            parts,
        }))
    }
}

/// A value that came from another node, with its lease.
struct Came {
    header: Header,
    raw: Raw,
    parts: Vec<Range<usize>>,
}

impl Body<Raw> for Came {
    fn header(&self) -> &Header {
        &self.header
    }

    fn value(&self) -> &Raw {
        &self.raw
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        self.raw.encoded()
    }

    fn wire(&self) -> Option<&[u8]> {
        Some(self.raw.lease())
    }

    fn into_box(self: Arc<Self>) -> Result<Box<Raw>, Arc<dyn Body<Raw>>> {
        match Arc::try_unwrap(self) {
            Ok(body) => Ok(Box::new(body.raw)),
            Err(shared) => Err(shared),
        }
    }

    fn part_count(&self) -> usize {
        self.parts.len()
    }

    fn part(&self, index: usize) -> &[u8] {
        &self.raw.lease()[self.parts[index].clone()]
    }
}
