//! What stands in for `processes` on systems where there is no transport to other processes: topics stay in their process, and
//! whoever wants to join a domain is told so.

use crate::transport::{Neighbourhood, Transport};
use mproc_runtime::{Error, ErrorKind};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// The longest name of a domain, in bytes, as in `mproc_shm`.
const DOMAIN_BYTES_MAX: usize = 64;

/// See [`DomainOptions::is_available`](crate::DomainOptions::is_available).
pub(crate) const IS_AVAILABLE: bool = false;

/// The process in which a handle was made. Without a domain nobody is told of forks: see `forked.rs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin;

#[cfg_attr(any(target_os = "linux", target_os = "macos"), expect(dead_code))]
impl Origin {
    pub(crate) fn now() -> Self {
        Self
    }

    pub(crate) fn is_here(self) -> bool {
        true
    }

    pub(crate) fn check(self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// What a node would join with. The numbers are those of `processes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessesOptions {
    pub(crate) domain: Option<String>,
    pub(crate) base: Option<PathBuf>,
    pub(crate) bytes_max: u64,
    pub(crate) slots_max: u32,
}

impl Default for ProcessesOptions {
    fn default() -> Self {
        Self {
            domain: None,
            base: None,
            bytes_max: 256 << 20,
            slots_max: 4096,
        }
    }
}

/// There is no directory.
#[cfg_attr(any(target_os = "linux", target_os = "macos"), expect(dead_code))]
pub(crate) fn domain_path(_name: &str, _base: Option<&Path>) -> Option<PathBuf> {
    None
}

/// Checks the name by the rules of `mproc_shm`: a program learns of a wrong name wherever it runs.
pub(crate) fn check_domain(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_valid = !name.is_empty()
        && name.len() <= DOMAIN_BYTES_MAX
        && !name.starts_with('.')
        && name.chars().all(allowed);
    if is_valid {
        return Ok(());
    }
    let name: String = name.chars().take(DOMAIN_BYTES_MAX).collect();
    let text = format!(
        "domain {name:?} is not 1 to {DOMAIN_BYTES_MAX} letters, digits, '-', '_' and '.', not starting with a dot"
    );
    Err(Error::new(ErrorKind::InvalidSetting, text))
}

/// No membership: there is no value of this type.
#[derive(Debug)]
pub(crate) enum Processes {}

impl Processes {
    /// Refuses.
    ///
    /// # Errors
    ///
    /// `Refused`, always.
    pub(crate) fn join(
        options: ProcessesOptions,
        _node: Weak<dyn Neighbourhood>,
    ) -> Result<Arc<dyn Transport>, Error> {
        let ProcessesOptions {
            domain,
            base,
            bytes_max: _,
            slots_max: _,
        } = options;
        let domain = domain.unwrap_or_default();
        let place = base.map(|base| format!(" in {base:?}")).unwrap_or_default();
        let text = format!(
            "cannot join domain {domain:?}{place}: processes share topics on Linux only, so far"
        );
        Err(Error::new(ErrorKind::Refused, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TopicId;
    use crate::inspect::SendsSnapshot;
    use mproc_runtime::SendWatch;

    struct Nobody;

    impl Neighbourhood for Nobody {
        fn publishers_changed(&self, _: TopicId) {}
        fn report(&self, _: Option<SendsSnapshot>) -> Result<Vec<u8>, String> {
            Err("nobody is asked".into())
        }
        fn watch_sends(&self) -> Option<SendWatch> {
            None
        }
    }

    #[test]
    fn where_there_is_no_transport_joining_is_refused_and_says_why() {
        let node: Weak<dyn Neighbourhood> = Weak::<Nobody>::new();
        let options = ProcessesOptions {
            domain: Some("lab".into()),
            ..ProcessesOptions::default()
        };
        let error = Processes::join(options, node).err().unwrap();
        const { assert!(!IS_AVAILABLE) };
        assert_eq!(error.kind(), ErrorKind::Refused);
        let text = r#"cannot join domain "lab": processes share topics on Linux only, so far"#;
        assert_eq!(error.to_string(), text);
    }

    #[cfg(any(target_os = "linux", target_os = "macos"))]
    #[test]
    fn names_and_numbers_are_those_of_the_transport() {
        let long = "x".repeat(DOMAIN_BYTES_MAX);
        let longer = format!("{long}x");
        for name in [
            "lab-2_a.b",
            "",
            ".lab",
            "../etc",
            "a b",
            "\u{e9}",
            &long,
            &longer,
        ] {
            let here = check_domain(name).is_ok();
            assert_eq!(
                here,
                crate::processes::check_domain(name).is_ok(),
                "{name:?}"
            );
        }
        let theirs = crate::processes::ProcessesOptions::default();
        let ours = ProcessesOptions::default();
        assert_eq!(ours.bytes_max, theirs.bytes_max);
        assert_eq!(ours.slots_max, theirs.slots_max);
    }
}
