//! A server of this node: a processor that handles requests of one type.

use super::call::Called;
use super::error::ServiceError;
use super::serving::{Serving, ServingOf, Woken, encode};
use crate::codec::Codec;
use mproc_runtime::Pending;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The types of a service, within this process and for others.
#[derive(Clone, Debug)]
pub(crate) struct Types {
    pub(crate) request: TypeOf,
    pub(crate) reply: TypeOf,
}

#[derive(Clone, Debug)]
pub(crate) struct TypeOf {
    pub(crate) name: String,
    /// Equal for types that understand each other's bytes.
    pub(crate) hash: u64,
    /// `None` for another process's.
    id: Option<TypeId>,
    /// Fits all types: of a client that has the bytes only.
    is_any: bool,
}

impl TypeOf {
    fn of<T: Serialize + DeserializeOwned + 'static>() -> Self {
        Self {
            name: std::any::type_name::<T>().to_owned(),
            hash: const { &Codec::<T>::serde() }.hash(),
            id: Some(TypeId::of::<T>()),
            is_any: false,
        }
    }

    fn any() -> Self {
        Self {
            name: "any".to_owned(),
            hash: 0,
            id: None,
            is_any: true,
        }
    }

    fn fits(&self, other: &Self) -> bool {
        if self.is_any || other.is_any {
            return true;
        }
        match (self.id, other.id) {
            (Some(a), Some(b)) => a == b,
            _ => self.hash == other.hash,
        }
    }
}

impl Types {
    pub(crate) fn of<Q, R>() -> Self
    where
        Q: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        Self {
            request: TypeOf::of::<Q>(),
            reply: TypeOf::of::<R>(),
        }
    }

    /// Whatever a server has.
    pub(crate) fn any() -> Self {
        Self {
            request: TypeOf::any(),
            reply: TypeOf::any(),
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        self.request.is_any
    }

    pub(crate) fn elsewhere(request: (&str, u64), reply: (&str, u64)) -> Self {
        let of = |(name, hash): (&str, u64)| TypeOf {
            name: name.to_owned(),
            hash,
            id: None,
            is_any: false,
        };
        Self {
            request: of(request),
            reply: of(reply),
        }
    }

    pub(crate) fn fit(&self, other: &Self) -> bool {
        self.request.fits(&other.request) && self.reply.fits(&other.reply)
    }

    /// For people.
    pub(crate) fn label(&self) -> String {
        format!("{} -> {}", self.request.name, self.reply.name)
    }
}

/// How to call a server of this process.
pub(crate) struct LocalServer<Q, R> {
    pub(crate) call: Box<dyn Fn(Q) -> Pending<R> + Send + Sync>,
}

/// One whose types are not known.
pub(crate) trait AnyLocal: Any + Send + Sync {
    fn as_any(&self) -> &dyn Any;

    /// A request of this node of which only the bytes are known, and so is the reply.
    fn call_raw(&self, body: &[u8]) -> Called<RawReply>;

    /// A request of another node, of which `call` says the session and the number there.
    fn serve(
        &self,
        body: &[u8],
        woken: &Arc<Woken>,
        server: u64,
        call: (u64, u64),
    ) -> Result<Arc<dyn Serving>, ServiceError>;
}

/// A reply that is encoded where it is waited for, if that succeeds.
pub(crate) type RawReply = Result<Vec<u8>, ServiceError>;

impl<Q, R> AnyLocal for LocalServer<Q, R>
where
    Q: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn call_raw(&self, body: &[u8]) -> Called<RawReply> {
        let request = decode::<Q>(body, "request")?;
        let reply = (self.call)(request).map(|reply| {
            let codec = const { &Codec::<R>::serde() };
            encode(codec, &reply, "reply")
        });
        Ok(reply.into_operation())
    }

    fn serve(
        &self,
        body: &[u8],
        woken: &Arc<Woken>,
        server: u64,
        call: (u64, u64),
    ) -> Result<Arc<dyn Serving>, ServiceError> {
        let request = decode::<Q>(body, "request")?;
        let op = (self.call)(request).into_operation();
        Ok(ServingOf::new(op, woken, server, call))
    }
}

/// The value of a request's or a reply's bytes. What panics in it is the user's code.
pub(crate) fn decode<T: Serialize + DeserializeOwned + 'static>(
    body: &[u8],
    what: &str,
) -> Result<T, ServiceError> {
    let codec = const { &Codec::<T>::serde() };
    let type_name = std::any::type_name::<T>();
    match catch_unwind(AssertUnwindSafe(|| codec.decode(body))) {
        Ok(Ok(value)) => Ok(*value),
        Ok(Err(error)) => Err(ServiceError::Undecodable(format!(
            "the {what} is no {type_name}: {error}"
        ))),
        Err(_) => Err(ServiceError::Undecodable(format!(
            "decoding the {what} ({type_name}) panicked"
        ))),
    }
}
