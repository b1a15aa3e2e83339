//! The directory of a domain: where processes of one user on one host find each other's sockets.
//!
//! ```text
//! $XDG_RUNTIME_DIR/mproc/<domain>/<pid>-<node>.sock     if the variable is set
//! /tmp/mproc-<uid>/<domain>/<pid>-<node>.sock           else
//! ```
//!
//! Each folder that is ours (not the base) is opened without following a link, must belong to us, and must be closed
//! to everybody else. After that all is done relative to the open directory, so nobody can exchange it under our feet;
//! sockets are named through `/proc/self/fd`, which also keeps long paths out of their 108 bytes. (macOS has no such way: there
//! sockets are named by the whole path, of 103 bytes at most.)
//!
//! # How a socket comes and goes
//!
//! A socket under its final name always listens, or its process has ended:
//!
//! 1. [`Directory::bind`] binds under a hidden name, listens, and renames. Whoever is refused at a final name knows that
//!    the process is dead, and node ids are never used twice, so a name that was dead once stays dead.
//! 2. The holder of [`OwnEntry`] removes it at drop. One that was killed leaves it, and then whoever meets it calls
//!    [`Directory::remove_stale`], which takes a lock on the directory, connects once more, and removes it if nobody
//!    answers.
//! 3. A process killed between bind and rename leaves a hidden name. Each `bind` removes those, under the same lock,
//!    which those between bind and rename share.
//!
//! Nobody waits for the lock: its holder may be stopped. Who cleans and does not get it leaves the work to the holder or
//! to the next. Who binds goes on without it: if its hidden name is removed, the rename fails and it starts again.

use crate::fork::{Forked, Origin};
use crate::process::NodeId;
use crate::socket::{BindError, ConnectError, Connection, Listener};
use crate::sys::{self, Observer, Sighting};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, mkdirat,
    openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::env;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest name of a domain, in bytes.
const DOMAIN_BYTES_MAX: usize = 64;

/// A valid name of a domain: 1 to 64 ASCII letters, digits, `-`, `_` and `.`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain(Box<str>);

impl Domain {
    /// Checks `name`.
    ///
    /// # Errors
    ///
    /// [`DomainError`] says what is wrong with it and where.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_shm::Domain;
    ///
    /// assert_eq!(Domain::new("lab-2")?.as_str(), "lab-2");
    /// assert_eq!(
    ///     Domain::new("../etc").unwrap_err().to_string(),
    ///     r#"domain "../etc" starts with a dot"#
    /// );
    /// # Ok::<(), mproc_shm::DomainError>(())
    /// ```
    pub fn new(name: &str) -> Result<Self, DomainError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let wrong = if name.is_empty() {
            WrongName::Empty
        } else if name.starts_with('.') {
            WrongName::Dot
        } else if let Some((at, c)) = name.char_indices().find(|&(_, c)| !allowed(c)) {
            WrongName::Character { at, c }
        } else if name.len() > DOMAIN_BYTES_MAX {
            WrongName::TooLong
        } else {
            return Ok(Self(name.into()));
        };
        let name: String = name.chars().take(DOMAIN_BYTES_MAX).collect();
        Err(DomainError {
            name,
            wrong,
            is_from_environment: false,
        })
    }

    /// The one in the environment variable `MPROC_DOMAIN`, or `default`.
    ///
    /// # Errors
    ///
    /// The variable is set to something that is not a domain's name.
    pub fn from_environment() -> Result<Self, DomainError> {
        match env::var_os("MPROC_DOMAIN") {
            None => Ok(Self("default".into())),
            Some(name) => Self::new(&name.to_string_lossy()).map_err(|error| DomainError {
                is_from_environment: true,
                ..error
            }),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum WrongName {
    Empty,
    TooLong,
    Dot,
    Character { at: usize, c: char },
}

/// Why the name of a domain was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainError {
    name: String,
    wrong: WrongName,
    is_from_environment: bool,
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_from_environment {
            f.write_str("MPROC_DOMAIN: ")?;
        }
        let name = &self.name;
        match self.wrong {
            WrongName::Empty => f.write_str("domain has an empty name"),
            WrongName::TooLong => {
                write!(
                    f,
                    "domain {name:?}... has more than {DOMAIN_BYTES_MAX} bytes"
                )
            }
            WrongName::Dot => write!(f, "domain {name:?} starts with a dot"),
            WrongName::Character { at, c } => write!(
                f,
                "domain {name:?} has {c:?} at byte {at}; letters, digits, '-', '_' and '.' are allowed"
            ),
        }
    }
}

impl std::error::Error for DomainError {}

/// What is wrong with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryProblem {
    /// It belongs to another user.
    OtherUser,
    /// Others may look into it or write to it.
    OpenPermissions,
    /// Its owner may not use it.
    OwnerShutOut,
    /// It is a symbolic link.
    Link,
    /// It is something else.
    NotADirectory,
    /// The base is a relative path.
    Relative,
    /// The base does not exist.
    Missing,
    /// The system refused.
    Io,
}

/// Why a directory cannot be used: which, what is wrong with it, and what to do.
#[derive(Debug)]
pub struct DirectoryError {
    path: PathBuf,
    problem: DirectoryProblem,
    /// The sentence after the path.
    text: String,
    source: Option<io::Error>,
}

impl DirectoryError {
    fn new(path: &Path, problem: DirectoryProblem, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem,
            text: text.into(),
            source: None,
        }
    }

    fn io(path: &Path, doing: &str, errno: Errno) -> Self {
        let source = io::Error::from(errno);
        Self {
            source: Some(source),
            ..Self::new(path, DirectoryProblem::Io, doing)
        }
    }

    /// What is wrong, for code that acts on it.
    pub fn problem(&self) -> DirectoryProblem {
        self.problem
    }

    /// Which directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use directory {:?}: {}", self.path, self.text)?;
        if let Some(error) = &self.source {
            write!(f, ": {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DirectoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| error as _)
    }
}

/// Who listens: one socket in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Its process, for people; numbers are used again, and differ between pid namespaces.
    pub pid: u32,
    /// Its node.
    pub node: NodeId,
}

impl Entry {
    fn file_name(&self) -> String {
        format!("{}-{}.sock", self.pid, self.node)
    }

    fn hidden_name(&self) -> String {
        format!(".{}-{}.new", self.pid, self.node)
    }

    fn parse(name: &[u8], start: &str, end: &str) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        let name = name.strip_prefix(start)?.strip_suffix(end)?;
        let (pid, node) = name.split_once('-')?;
        let entry = Self {
            pid: pid.parse().ok()?,
            node: node.parse().ok()?,
        };
        // Only the spelling we make: "+7" and "007" are numbers too.
        (entry.pid.to_string() == pid).then_some(entry)
    }

    fn from_file_name(name: &[u8]) -> Option<Self> {
        Self::parse(name, "", ".sock")
    }

    fn from_hidden_name(name: &[u8]) -> Option<Self> {
        Self::parse(name, ".", ".new")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (node {})", self.pid, self.node)
    }
}

/// What became of a socket that refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nobody listened, and it is removed, by us or somebody else.
    Removed,
    /// Somebody listens.
    Alive,
    /// Another process cleans the directory just now; it is left to that one.
    Busy,
}

/// The open directory of a domain.
#[derive(Clone, Debug)]
pub struct Directory {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    origin: Origin,
}

impl Directory {
    /// Opens that of `domain`, and makes it if need be.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] names the directory, what is wrong with it, and what to do.
    pub fn open(domain: &Domain) -> Result<Self, DirectoryError> {
        let runtime = env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
        match runtime {
            Some(base) => {
                let remedy = "mend or unset XDG_RUNTIME_DIR";
                Self::open_under(Path::new(&base), "mproc", domain, remedy)
            }
            None => {
                let folder = format!("mproc-{}", geteuid().as_raw());
                let remedy = "make it, or set XDG_RUNTIME_DIR";
                Self::open_under(Path::new("/tmp"), &folder, domain, remedy)
            }
        }
    }

    /// Opens `<base>/mproc/<domain>`, whatever the environment says. `base` exists.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn open_at(base: &Path, domain: &Domain) -> Result<Self, DirectoryError> {
        let remedy = "give a directory that exists, by its whole path";
        Self::open_under(base, "mproc", domain, remedy)
    }

    /// Where [`open`](Self::open) has that of `domain`. Nothing is made, and it need not be there.
    pub fn place(domain: &Domain) -> PathBuf {
        match env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
            Some(base) => Self::place_at(Path::new(&base), domain),
            None => {
                let folder = format!("mproc-{}", geteuid().as_raw());
                Path::new("/tmp").join(folder).join(domain.as_str())
            }
        }
    }

    /// Where [`open_at`](Self::open_at) has it.
    pub fn place_at(base: &Path, domain: &Domain) -> PathBuf {
        base.join("mproc").join(domain.as_str())
    }

    fn open_under(
        base: &Path,
        folder: &str,
        domain: &Domain,
        remedy: &str,
    ) -> Result<Self, DirectoryError> {
        if !base.is_absolute() {
            let text = format!("it is a relative path; {remedy}");
            return Err(DirectoryError::new(base, DirectoryProblem::Relative, text));
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let base_fd = openat(CWD, base, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => {
                let text = format!("it does not exist; {remedy}");
                DirectoryError::new(base, DirectoryProblem::Missing, text)
            }
            Errno::NOTDIR => {
                let text = format!("it is not a directory; {remedy}");
                DirectoryError::new(base, DirectoryProblem::NotADirectory, text)
            }
            errno => DirectoryError::io(base, "it cannot be opened", errno),
        })?;
        let above = base.join(folder);
        let above_fd = open_own(&base_fd, folder, &above)?;
        let path = above.join(domain.as_str());
        let fd = open_own(&above_fd, domain.as_str(), &path)?;
        let origin = Origin::here().map_err(|error| DirectoryError {
            source: Some(error),
            ..DirectoryError::new(&path, DirectoryProblem::Io, "forks cannot be watched")
        })?;
        Ok(Self {
            fd: Arc::new(fd),
            path,
            origin,
        })
    }

    /// Where it is, for people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn address(&self, name: &str) -> PathBuf {
        sys::address(self.fd.as_fd(), &self.path, name)
    }

    /// Listens as `node` of this process, an id that was never bound before. The entry is removed when the second value
    /// is dropped.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub fn bind(&self, node: NodeId) -> Result<(Listener, OwnEntry), BindError> {
        self.origin.check().map_err(|Forked| BindError::Forked)?;
        let entry = Entry {
            pid: std::process::id(),
            node,
        };
        self.remove_hidden()?;
        // Shared by all who are here; it keeps cleaners away, but see the module's last paragraph.
        let _lock = Lock::take(self, FlockOperation::NonBlockingLockShared)?;
        let (hidden, name) = (entry.hidden_name(), entry.file_name());
        let mut attempts_left = 8;
        loop {
            attempts_left -= 1;
            // Made first: it removes the hidden name if anything fails from here on.
            let mut own = OwnEntry {
                directory: self.clone(),
                entry,
                name: hidden.clone(),
            };
            let listener = Listener::at(&self.address(&hidden))?;
            match renameat(&self.fd, &hidden, &self.fd, &name) {
                Ok(()) => {
                    own.name = name;
                    return Ok((listener, own));
                }
                Err(Errno::NOENT) if attempts_left > 0 => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Connects to the one who listens at `entry`. Its greeting is still to come.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]. After [`Stale`](ConnectError::Stale), call [`remove_stale`](Self::remove_stale).
    pub fn connect(&self, entry: &Entry) -> Result<Connection, ConnectError> {
        self.origin.check().map_err(|Forked| ConnectError::Forked)?;
        match Connection::to(&self.address(&entry.file_name())) {
            Err(ConnectError::Stale) if !sys::is_dead_if_refused(entry.pid) => {
                Err(ConnectError::Busy)
            }
            result => result,
        }
    }

    /// Those who listen, ourselves among them, and stale entries too. Other files are passed over.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn list(&self) -> io::Result<Vec<Entry>> {
        self.origin.check().map_err(io::Error::other)?;
        let mut entries = Vec::new();
        self.each_name(|name| entries.extend(Entry::from_file_name(name)))?;
        Ok(entries)
    }

    fn each_name(&self, mut visit: impl FnMut(&[u8])) -> Result<(), Errno> {
        // Opens the directory anew, so that two who read it do not share a position.
        for file in Dir::read_from(&self.fd)? {
            visit(file?.file_name().to_bytes());
        }
        Ok(())
    }

    /// Removes the socket at `entry` if nobody listens there.
    ///
    /// # Errors
    ///
    /// The system refused. Nothing was removed.
    pub fn remove_stale(&self, entry: &Entry) -> io::Result<Removal> {
        self.origin.check().map_err(io::Error::other)?;
        let Some(_lock) = Lock::take(self, FlockOperation::NonBlockingLockExclusive)? else {
            return Ok(Removal::Busy);
        };
        // The refusal that brought us here is old. Under the lock nobody else removes, so what is found now is what
        // will be removed.
        match self.connect(entry) {
            Err(ConnectError::Stale) => {}
            Err(ConnectError::Gone) => return Ok(Removal::Removed),
            Ok(_) | Err(ConnectError::Busy | ConnectError::OtherUser { .. }) => {
                return Ok(Removal::Alive);
            }
            Err(ConnectError::Io(error)) => return Err(error),
            Err(error) => return Err(io::Error::other(error)),
        }
        self.remove_name(&entry.file_name())?;
        Ok(Removal::Removed)
    }

    fn remove_name(&self, name: &str) -> Result<(), Errno> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// Removes what those left who were killed between bind and rename.
    fn remove_hidden(&self) -> Result<(), Errno> {
        let mut names = Vec::new();
        let mut gather = |name: &[u8]| names.extend(Entry::from_hidden_name(name));
        self.each_name(&mut gather)?;
        if names.is_empty() {
            return Ok(());
        }
        // Nobody is between bind and rename while we have it, except one that found it taken; that one starts again.
        let Some(_lock) = Lock::take(self, FlockOperation::NonBlockingLockExclusive)? else {
            return Ok(());
        };
        for entry in names {
            self.remove_name(&entry.hidden_name())?;
        }
        Ok(())
    }

    /// Tells from now on who comes and goes. Start this first, and [`list`](Self::list) after it: then nobody is
    /// missed, and some may be seen twice.
    ///
    /// # Errors
    ///
    /// There is no descriptor left, or too many inotify instances of this user.
    pub fn changes(&self) -> io::Result<Changes> {
        self.origin.check().map_err(io::Error::other)?;
        let observer = Observer::new(self.fd.as_fd(), &self.path)?;
        Ok(Changes { observer })
    }
}

/// Opens the folder `name` of `above`, makes it if it is not there, and checks that it is ours alone.
fn open_own(above: &OwnedFd, name: &str, path: &Path) -> Result<OwnedFd, DirectoryError> {
    let made = match mkdirat(above, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(DirectoryError::io(path, "it cannot be made", errno)),
    };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let fd = match openat(above, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(errno) => return Err(why_not_opened(above, name, path, errno)),
    };
    let stat =
        fstat(&fd).map_err(|errno| DirectoryError::io(path, "it cannot be examined", errno))?;
    check_owner(path, stat.st_uid)?;
    let mode = Mode::from_raw_mode(stat.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
    if made && mode != Mode::RWXU {
        // The umask has taken something away from the owner.
        let set = fchmod(&fd, Mode::RWXU);
        set.map_err(|errno| DirectoryError::io(path, "its mode cannot be set", errno))?;
        return Ok(fd);
    }
    let problem = if mode.intersects(Mode::RWXG | Mode::RWXO) {
        DirectoryProblem::OpenPermissions
    } else if !mode.contains(Mode::RWXU) {
        DirectoryProblem::OwnerShutOut
    } else {
        return Ok(fd);
    };
    let text = format!(
        "its mode is {:04o}, not 0700; run chmod 700 on it",
        mode.bits()
    );
    Err(DirectoryError::new(path, problem, text))
}

fn check_owner(path: &Path, theirs: u32) -> Result<(), DirectoryError> {
    let ours = geteuid().as_raw();
    if theirs == ours {
        return Ok(());
    }
    let text = format!(
        "it belongs to user {theirs}, this process runs as user {ours}; \
         set XDG_RUNTIME_DIR to a directory of this user, or remove the other one"
    );
    Err(DirectoryError::new(path, DirectoryProblem::OtherUser, text))
}

/// One error number stands for several causes (a link and a file both are "not a directory"), so look again.
fn why_not_opened(above: &OwnedFd, name: &str, path: &Path, errno: Errno) -> DirectoryError {
    let unexplained = || DirectoryError::io(path, "it cannot be opened", errno);
    let Ok(stat) = statat(above, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return unexplained();
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => match check_owner(path, stat.st_uid) {
            Err(error) => error,
            Ok(()) if errno == Errno::ACCESS => {
                let text = "its owner may not read it; run chmod 700 on it";
                DirectoryError::new(path, DirectoryProblem::OwnerShutOut, text)
            }
            Ok(()) => unexplained(),
        },
        FileType::Symlink => {
            let text = "it is a symbolic link, which is not followed; remove it";
            DirectoryError::new(path, DirectoryProblem::Link, text)
        }
        _ => {
            let text = "it is not a directory; remove it";
            DirectoryError::new(path, DirectoryProblem::NotADirectory, text)
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A lock on the directory, given back at drop.
struct Lock(OwnedFd);

impl Lock {
    /// The lock belongs to an open file, so each needs one of its own. None if somebody has it.
    fn take(directory: &Directory, operation: FlockOperation) -> Result<Option<Self>, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd = openat(&directory.fd, ".", flags, Mode::empty())?;
        match flock(&fd, operation) {
            Ok(()) => Ok(Some(Self(fd))),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child that was forked meanwhile has a copy of the descriptor; closing ours would not give the lock back.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Our own socket's name in the directory. Removes it at drop, but not in a forked child.
#[derive(Debug)]
pub struct OwnEntry {
    directory: Directory,
    entry: Entry,
    name: String,
}

impl OwnEntry {
    /// What others see.
    pub fn entry(&self) -> Entry {
        self.entry
    }
}

impl Drop for OwnEntry {
    fn drop(&mut self) {
        if self.directory.origin.is_here() {
            // The directory may be gone, which serves as well.
            let _ = self.directory.remove_name(&self.name);
        }
    }
}

/// Who came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A socket appeared. It listens.
    Appeared(Entry),
    /// A socket is gone: its node leaves, or somebody found it dead.
    Gone(Entry),
    /// There were more changes than the system kept, or it does not say which there were: list the directory.
    Overflow,
    /// The directory itself was removed or moved. Those who start now do not find us any more.
    DirectoryGone,
}

/// Tells who comes and goes. Readable when somebody has.
#[derive(Debug)]
pub struct Changes {
    observer: Observer,
}

impl Changes {
    /// Reads what has happened, without waiting.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn read(&mut self) -> io::Result<Vec<Change>> {
        let origin = self.observer.origin();
        origin.check().map_err(io::Error::other)?;
        let mut changes = Vec::new();
        self.observer.read(|sighting| match sighting {
            Sighting::Came(name) => {
                changes.extend(Entry::from_file_name(name).map(Change::Appeared));
            }
            Sighting::Went(name) => {
                changes.extend(Entry::from_file_name(name).map(Change::Gone));
            }
            Sighting::Unknown => changes.push(Change::Overflow),
            Sighting::DirectoryGone => changes.push(Change::DirectoryGone),
        })?;
        Ok(changes)
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.observer.as_fd()
    }
}
