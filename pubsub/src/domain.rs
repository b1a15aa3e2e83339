//! Which other processes a node shares its topics with.

use crate::processes::{IS_AVAILABLE, ProcessesOptions, check_domain, domain_path};
use mproc_runtime::{Error, ErrorKind};
use std::path::PathBuf;

/// The domain that scripts belong to unless told otherwise.
pub const DEFAULT_DOMAIN: &str = "default";

/// A domain: a named set of processes of one user on one host that see each other's topics. And what a node may use of this
/// host's memory for it.
///
/// # Examples
///
/// ```
/// use mproc_pubsub::DomainOptions;
///
/// let lab = DomainOptions::new("lab")?.topic_bytes(64 << 20);
/// assert_eq!(lab.name(), "lab");
/// assert!(DomainOptions::new("../lab").is_err());
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing until a node joins with them"]
pub struct DomainOptions {
    name: String,
    base: Option<PathBuf>,
    topic_bytes: u64,
    topic_samples: u32,
}

impl DomainOptions {
    /// The domain `name`: 1 to 64 ASCII letters, digits, `-`, `_` and `.`, not starting with a dot.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidSetting`], saying what is wrong with the name and where.
    pub fn new(name: &str) -> Result<Self, Error> {
        check_domain(name)?;
        let defaults = ProcessesOptions::default();
        Ok(Self {
            name: name.to_owned(),
            base: None,
            topic_bytes: defaults.bytes_max,
            topic_samples: defaults.slots_max,
        })
    }

    /// The domain that the environment variable `MPROC_DOMAIN` names, if it is set.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), naming the variable.
    pub fn from_environment() -> Result<Option<Self>, Error> {
        let Some(value) = std::env::var_os("MPROC_DOMAIN") else {
            return Ok(None);
        };
        let name = value.to_str().ok_or_else(|| {
            let text = format!("MPROC_DOMAIN is {value:?}, which is not UTF-8");
            Error::new(ErrorKind::InvalidSetting, text)
        })?;
        Self::new(name).map(Some).map_err(|error| {
            let text = format!("MPROC_DOMAIN is no domain: {error}");
            Error::new(ErrorKind::InvalidSetting, text).with_source(error)
        })
    }

    /// True on systems where processes can share topics. On others a node that is told a domain is not built
    /// ([`ErrorKind::Refused`]), and one that gets it from the environment is told so when a topic is declared that could leave its
    /// process; a node without a domain has all that one process offers.
    pub fn is_available() -> bool {
        IS_AVAILABLE
    }

    /// How many bytes of shared memory the samples of one topic may have at this node: 256 MiB unless told otherwise. It is taken
    /// as it is needed. While all of it is out, publishing waits as for a full queue.
    ///
    /// It has places of the sizes that were published. When none of it is left for another size, what is not out is taken for that;
    /// publishing then waits for an answer of each subscribing process, also of one that is stopped.
    pub fn topic_bytes(mut self, bytes: u64) -> Self {
        self.topic_bytes = bytes;
        self
    }

    /// How many samples of one topic may be out at a time at this node, in whatever queue or hand: 4096 unless told otherwise. Each
    /// link to a subscription has 8 bytes for each of them.
    pub fn topic_samples(mut self, samples: u32) -> Self {
        self.topic_samples = samples;
        self
    }

    /// Where the domain has its directory: in `base` and not in what `XDG_RUNTIME_DIR` says. It must exist.
    pub fn directory(mut self, base: impl Into<PathBuf>) -> Self {
        self.base = Some(base.into());
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the directory with the sockets of its nodes is, also if it is not there yet: for tools that look into it. `None` on
    /// systems where there [can be none](Self::is_available).
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_pubsub::DomainOptions;
    ///
    /// let lab = DomainOptions::new("lab")?.directory("/run/user/1000");
    /// if let Some(path) = lab.path() {
    ///     assert_eq!(path.to_str(), Some("/run/user/1000/mproc/lab"));
    /// }
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn path(&self) -> Option<PathBuf> {
        domain_path(&self.name, self.base.as_deref())
    }

    pub(crate) fn processes(&self) -> ProcessesOptions {
        ProcessesOptions {
            domain: Some(self.name.clone()),
            base: self.base.clone(),
            bytes_max: self.topic_bytes,
            slots_max: self.topic_samples,
        }
    }
}
